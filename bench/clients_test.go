package bench

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"accessor/internal/programtest"
)

func TestMain(m *testing.M) { programtest.Main(m) }

// TestClients runs the benchmark small: the Go client in earnest, and a script that
// stands for the Python one. What isn't there is named.
func TestClients(t *testing.T) {
	p := ClientsDefaults
	p.Keys, p.ScanPairs, p.Requests, p.Dir = 2_000, 3_000, 40, t.TempDir()
	p.Program, p.Clients = programtest.Path(t), t.TempDir()
	script := filepath.Join(p.Clients, "python/bench.py")
	if err := os.Mkdir(filepath.Dir(script), 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`import os, sys
args = dict(zip(sys.argv[1::2], sys.argv[2::2]))
os.stat(args["--pin"] + "/CURRENT")
if len(open(args["--keys"]).read().split()) != 2000 or args["--requests"] != "40" or len(args["--block"] + args["--scan-block"]) != 128:
    sys.exit(str(args))
print('{"language":"python","read_us":14,"raw_us":10,"batch_ms":5,"scan_pairs":5,"scan_rss_bytes":65000000,"socket_reads":10,"direct_reads":100}')
`)
	res, err := Clients(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Figures) != 2 || res.Figures[0].ScanPairs != 5_000 || res.Figures[0].SocketReads <= 0 || len(res.Rows) != 7 {
		t.Fatalf("%+v", res)
	}
	for i, reached := range []bool{false, true, false, true} { // Python's
		if row := res.Rows[3+i]; row.Reached != reached || !strings.HasPrefix(row.What, "Python") {
			t.Errorf("%+v", row)
		}
	}
	if len(res.Missing) != 1 || !strings.HasPrefix(res.Missing[0], "Rust: ") {
		t.Errorf("missing: %q", res.Missing)
	}
	for _, bad := range []string{"print('{}')", "print('x')", "raise SystemExit(1)"} {
		write(bad)
		if res, err := Clients(context.Background(), p); err == nil {
			t.Errorf("%s: %+v", bad, res)
		}
	}
}
