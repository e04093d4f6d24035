// Package python has no Go but the test that runs those of the Python client.
package python

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"testing"
	"time"

	"accessor/internal/programtest"
)

func TestMain(m *testing.M) { programtest.Main(m) }

func TestClient(t *testing.T) {
	if err := exec.Command("python3", "-c", "import sys; sys.exit(sys.version_info < (3, 9))").Run(); err != nil {
		t.Skipf("there is no python3 of 3.9 or newer: %v", err)
	}
	if os.Getenv("CI") == "" {
		if err := reach(t.Context()); err != nil {
			t.Skipf("PyPI can't be reached for mypy and rocksdict: %v", err)
		}
	}
	cmd := exec.Command("../../scripts/python.sh")
	cmd.Env = append(os.Environ(), "ACCESSOR_BIN="+programtest.Path(t))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("scripts/python.sh: %v\n%s", err, out)
	}
	passed := regexp.MustCompile(`(?m)^==> \d+ tests passed.*$`).Find(out)
	if passed == nil {
		t.Fatalf("scripts/python.sh ran no tests:\n%s", out)
	}
	t.Logf("%s", passed)
}

// reach asks for what pip would.
func reach(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, "https://pypi.org/simple/mypy/", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
