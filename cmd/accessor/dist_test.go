package main

import (
	"bytes"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"accessor/api/metrics"
	"accessor/cmd/accessor/config"
	"accessor/state"
)

// shipped reads a file that operators get.
func shipped(t *testing.T, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(append([]string{"..", "..", "dist"}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// unitValue gives a setting of a unit file.
func unitValue(t *testing.T, unit, name string) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + name + `=(.*)$`).FindStringSubmatch(unit)
	if m == nil {
		t.Fatalf("the unit has no %s=", name)
	}
	return m[1]
}

// TestSampleConfig: the sample loads, also with all that is commented out in it, and
// has the sockets that the units hand over.
func TestSampleConfig(t *testing.T) {
	path := filepath.Join("..", "..", "dist", "accessor.toml")
	c, err := config.Load(config.Input{File: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := checkServe(c); err != nil {
		t.Error(err)
	}
	for _, s := range c.Sockets {
		unit := shipped(t, "systemd", "accessor-"+s.Name+".socket")
		for name, want := range map[string]string{"ListenStream": s.Path, "FileDescriptorName": s.Name, "SocketMode": s.Mode} {
			if got := unitValue(t, unit, name); got != want {
				t.Errorf("%s: the unit says %s, the configuration %s", name, got, want)
			}
		}
		if !strings.Contains(shipped(t, "systemd", "accessor.service"), "Requires=accessor-node.socket accessor-readers.socket\n") {
			t.Error("the service doesn't need its sockets")
		}
	}
	whole := regexp.MustCompile(`(?m)^# ?([a-z_]+ = |\[)`).ReplaceAllString(shipped(t, "accessor.toml"), "$1")
	whole = strings.NewReplacer(`"validators"`, `"root"`).Replace(whole)
	full := filepath.Join(t.TempDir(), "full.toml")
	if err := os.WriteFile(full, []byte(whole), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err = config.Load(config.Input{File: full}); err != nil {
		t.Fatalf("with all that is commented out: %v\n%s", err, whole)
	}
	if len(c.TCP) != 1 || len(c.Clients) != 1 || !c.DA.Enabled || len(c.DA.Peers) != 1 || !c.Given("items.statistics") || c.Sockets[1].Group != "root" {
		t.Errorf("not all of it was taken: %s", whole)
	}
}

// TestUnit: the service's command line is one that the program takes.
func TestUnit(t *testing.T) {
	unit := shipped(t, "systemd", "accessor.service")
	words := strings.Fields(unitValue(t, unit, "ExecStart"))
	root := newRoot(&env{stdout: io.Discard, stderr: io.Discard})
	cmd, args, err := root.Find(words[1:])
	if err != nil || cmd.Name() != "serve" {
		t.Fatalf("%v, %v", cmd, err)
	}
	if err := cmd.ParseFlags(args); err != nil {
		t.Error(err)
	}
	if got := cmd.Flags().Lookup("config").Value.String(); got != "/etc/accessor/accessor.toml" {
		t.Errorf("configuration is %s", got)
	}
	if got := unitValue(t, unit, "RestartPreventExitStatus"); got != itoa(exitSetup) {
		t.Errorf("restarts are prevented by status %s", got)
	}
}

// TestDashboardAndRules: each metric that they name is there, and each of ours has
// its place on the dashboard.
func TestDashboardAndRules(t *testing.T) {
	m := metrics.New("v", "e")
	m.SetSource(metrics.Source{
		Stats:       func() (state.Stats, bool) { return state.Stats{}, true },
		Connections: func() (int, uint64) { return 0, 0 },
		Load:        func() (metrics.Load, bool) { return metrics.Load{}, true },
		Engine:      func() (state.EngineUsage, bool) { return state.EngineUsage{}, true },
		Forks:       func(int) []state.Fork { return []state.Fork{{Head: true}} },
		Peers:       func() (metrics.Peers, bool) { return metrics.Peers{}, true },
		Partial:     func() (state.PartialStats, bool) { return state.PartialStats{}, true },
	})
	m.Route("GET", "/")
	m.Refusable("client", "too-many-requests")
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	there := map[string]bool{}
	for _, line := range regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`).FindAllStringSubmatch(w.Body.String(), -1) {
		if line[2] == "histogram" {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				there[line[1]+suffix] = true
			}
			continue
		}
		there[line[1]] = true
	}
	dashboard, rules := shipped(t, "grafana", "accessor.json"), shipped(t, "prometheus", "accessor.rules.yml")
	names := regexp.MustCompile(`\b(accessor|go|process)_[a-z0-9_]+`)
	for _, name := range names.FindAllString(dashboard+rules, -1) {
		if !there[name] {
			t.Errorf("there is no metric %s", name)
		}
	}
	shown := names.FindAllString(dashboard+rules, -1)
	for name := range there {
		base := name
		for _, suffix := range []string{"_sum", "_count"} {
			base = strings.TrimSuffix(base, suffix)
		}
		if strings.HasPrefix(name, "accessor_") && !slices.ContainsFunc(shown, func(s string) bool { return strings.HasPrefix(s, base) }) &&
			!slices.Contains([]string{"accessor_events", "accessor_oldest_event", "accessor_newest_event", "accessor_anchor_slot",
				"accessor_cache_ready", "accessor_engine_cache_pinned_bytes", "accessor_retention_seconds_bucket", "accessor_retention_seconds"}, base) {
			t.Errorf("neither dashboard nor rules have %s", name)
		}
	}
	if !bytes.HasPrefix([]byte(dashboard), []byte("{")) || strings.Contains(rules, "\t") {
		t.Error("want JSON, and YAML without tabs")
	}
}
