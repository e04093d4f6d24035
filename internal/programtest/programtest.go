// Package programtest gives tests the program itself, for those that need it as a
// process of its own.
package programtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

var built string // the folder, once there is one

var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "accessor-program")
	if err != nil {
		return "", err
	}
	built = dir
	bin := filepath.Join(dir, "accessor")
	out, err := exec.Command("go", "build", "-o", bin, "accessor/cmd/accessor").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return bin, nil
})

// Main runs a package's tests, and removes the program that Path has built.
func Main(m *testing.M) {
	code := m.Run()
	if built != "" {
		os.RemoveAll(built)
	}
	os.Exit(code)
}

// Path gives the program's path: $ACCESSOR_BIN (make test sets it), or the program
// built from these sources, once.
func Path(tb testing.TB) string {
	tb.Helper()
	if bin := os.Getenv("ACCESSOR_BIN"); bin != "" {
		return bin
	}
	bin, err := build()
	if err != nil {
		tb.Fatal(err)
	}
	return bin
}
