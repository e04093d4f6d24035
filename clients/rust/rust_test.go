// Package rust runs the tests of the Rust client, so that make test has them.
package rust

import (
	"context"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
	"time"

	"accessor/internal/programtest"
)

func TestMain(m *testing.M) { programtest.Main(m) }

var passed = regexp.MustCompile(`(?m)^test result: ok\. (\d+) passed`)

// TestRust is scripts/rust.sh: the conformance scenarios with both of the crate's
// clients, its own tests, examples and documentation.
func TestRust(t *testing.T) {
	if _, err := exec.LookPath("cargo"); err != nil {
		t.Skip("no cargo command on the PATH: install Rust, https://rustup.rs/")
	}
	if os.Getenv("CI") == "" && !fetched(t) {
		t.Skip("crates.io can't be reached, and the crates that the client needs are not here")
	}
	cmd := exec.CommandContext(t.Context(), "../../scripts/rust.sh")
	cmd.Env = append(os.Environ(), "ACCESSOR_BIN="+programtest.Path(t), "RUST_BACKTRACE=0")
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatalf("scripts/rust.sh: %v", err)
	}
	total := 0
	for _, m := range passed.FindAllSubmatch(out, -1) {
		n, _ := strconv.Atoi(string(m[1]))
		total += n
	}
	if total == 0 {
		t.Fatal("no test ran")
	}
	t.Logf("%d Rust tests passed", total)
}

// fetched gets the crates, if they are not here, and says whether they are now.
func fetched(t *testing.T) bool {
	for _, flags := range [][]string{{"fetch", "--locked", "--offline"}, {"fetch", "--locked"}} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if exec.CommandContext(ctx, "cargo", flags...).Run() == nil {
			return true
		}
	}
	return false
}
