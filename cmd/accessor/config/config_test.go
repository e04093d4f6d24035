package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"accessor/api/access"
	"accessor/api/listen"
	"accessor/da"
	"accessor/state"
)

// file writes a configuration file.
func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "accessor.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func mustLoad(t *testing.T, in Input) *Loaded {
	t.Helper()
	l, err := Load(in)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestDefaults(t *testing.T) {
	l := mustLoad(t, Input{Environ: []string{"XDG_RUNTIME_DIR=/run/user/7"}})
	if l.Sockets[0].Path != "/run/user/7/accessor.sock" || l.Sockets[0].Name != "accessor" || len(l.TCP) != 0 {
		t.Errorf("sockets %+v, tcp %+v", l.Sockets, l.TCP)
	}
	if got := mustLoad(t, Input{}).Sockets[0].Path; got != "/run/accessor/accessor.sock" {
		t.Errorf("a service's socket: %s", got)
	}
	sockets, err := l.Listeners()
	if err != nil {
		t.Fatal(err)
	}
	want := listen.Unix{Name: "accessor", Path: "/run/user/7/accessor.sock", Mode: 0o600, UID: -1, GID: -1, Roles: access.All}
	if diff := cmp.Diff([]listen.Unix{want}, sockets.Unix); diff != "" {
		t.Error(diff)
	}
	if pins, err := l.PinAccess(); err != nil || pins.Mode != 0o500 || pins.Group != nil {
		t.Errorf("pins %+v, %v", pins, err)
	}
	if got := l.Source("log.level"); got != "default" {
		t.Errorf("source %s", got)
	}
}

// TestLayers: each layer goes over the one before, and says so.
func TestLayers(t *testing.T) {
	path := file(t, `data = "/file"
cache_bytes = "1GiB"
[log]
level = "debug"
[retention]
slots = 100
age = "24h"
disk_bytes = 5_000_000
[items]
statistics = ["auditing"]
`)
	l := mustLoad(t, Input{File: path, Environ: []string{"ACCESSOR_DATA=/env", "ACCESSOR_LOG_LEVEL=warn", "ACCESSOR_RETENTION_SLOTS=7",
		"ACCESSOR_RETENTION_ALL=true", "PATH=/bin"},
		Flags: map[string]Flag{"log.level": {"log-level", "error"}, "sockets": {"socket", []string{"/x/s"}}}})
	for _, tt := range []struct {
		key         string
		got, want   any
		where, text string
	}{
		{"data", l.Data, "/env", "$ACCESSOR_DATA", ""},
		{"cache_bytes", l.CacheBytes, Size(1 << 30), path + ":2", ""},
		{"log.level", l.Log.Level, "error", "--log-level", ""},
		{"log.format", l.Log.Format, "auto", "default", ""},
		{"retention.slots", l.Retention.Slots, 7, "$ACCESSOR_RETENTION_SLOTS", ""},
		{"retention.all", l.Retention.All, true, "$ACCESSOR_RETENTION_ALL", ""},
		{"retention.age", time.Duration(l.Retention.Age), 24 * time.Hour, path + ":7", ""},
		{"retention.disk_bytes", l.Retention.DiskBytes, Size(5_000_000), path + ":8", ""},
		{"items.statistics", l.Items["statistics"], []string{"auditing"}, path + ":10", ""},
		{"items.slot", l.Items["slot"], []string{"importing", "producing"}, "default", ""},
		{"sockets[0].path", l.Sockets[0].Path, "/x/s", "--socket", ""},
		{"sockets[0].mode", l.Sockets[0].Mode, "0600", "default", ""},
	} {
		if !reflect.DeepEqual(tt.got, tt.want) || l.Source(tt.key) != tt.where {
			t.Errorf("%s = %v (%s), want %v (%s)", tt.key, tt.got, l.Source(tt.key), tt.want, tt.where)
		}
	}
	cfg := l.State()
	if cfg.Retention != (state.Retention{All: true, Slots: 7, Age: 24 * time.Hour, DiskBytes: 5_000_000, Step: 256, MaxPins: 64}) {
		t.Errorf("retention %+v", cfg.Retention)
	}
}

func TestTables(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	os.WriteFile(secret, []byte(strings.Repeat("ab", 32)), 0o600)
	path := file(t, `
[[sockets]]
name = "node"
path = "/run/a/node.sock"
roles = ["importing", "operator"]
[[sockets]]
name = "readers"
path = "/run/a/readers.sock"
mode = "0660"
group = "0"
users = [12, "root"]
roles = ["auditing"]
[[tcp]]
address = "127.0.0.1:8545"
import = true
[[clients]]
kid = "far"
secret_file = "`+secret+`"
roles = ["producing"]
`)
	l := mustLoad(t, Input{File: path})
	sockets, err := l.Listeners()
	if err != nil {
		t.Fatal(err)
	}
	want := []listen.Unix{
		{Name: "node", Path: "/run/a/node.sock", Mode: 0o600, UID: -1, GID: -1, Roles: access.Of(access.Importing, access.Operator)},
		{Name: "readers", Path: "/run/a/readers.sock", Mode: fs.FileMode(0o660), UID: -1, GID: 0, Roles: access.Of(access.Auditing), UIDs: []int{12, 0}},
	}
	if diff := cmp.Diff(want, sockets.Unix); diff != "" {
		t.Error(diff)
	}
	if len(sockets.TCP) != 1 || !sockets.TCP[0].Import || sockets.TCP[0].Name != "tcp" || sockets.TCP[0].Tokens == nil {
		t.Errorf("tcp %+v", sockets.TCP)
	}
	if got := l.Source("sockets[1].mode"); got != path+":9" {
		t.Errorf("source %s", got)
	}
	os.Chmod(secret, 0o644)
	if _, err := l.Listeners(); !errors.Is(err, listen.ErrSecret) {
		t.Errorf("a secret that all may read: %v", err)
	}
}

// TestWrong: all that is wrong is told at once, each with its place.
func TestWrong(t *testing.T) {
	path := file(t, `dat = "/x"
cache_bytes = "lots"
drain_timeout = "-1s"
commitment = "eth"
metrics_listen = "localhost:x"
[log]
level = "chatty"
formt = "json"
[limits]
body = "1GiB"
page = 0
keys = "many"
client = 1.5
[retention]
slots = -1
[pins]
mode = "0777"
group = "no such"
[items]
safrol = ["producing"]
slot = ["operator"]
recent = "all"
[[sockets]]
path = "`+strings.Repeat("x", 108)+`"
mode = "0999"
roles = ["root"]
owner = "nobody such"
[[sockets]]
pth = "/x"
[[tcp]]
address = "0.0.0.0:1"
[what]
`)
	_, err := Load(Input{File: path, Environ: []string{"ACCESSOR_RETENTION_STEP=none"}, Flags: map[string]Flag{"log.format": {"log-format", "xml"}}})
	if !errors.Is(err, ErrInvalid) {
		t.Fatal(err)
	}
	for _, want := range []string{
		":1: dat: no such setting: did you mean data?",
		`:2: cache_bytes: "lots": want bytes such as 64MiB`,
		`:3: drain_timeout: "-1s": want a time`,
		`:4: commitment: "eth"`,
		":5: metrics_listen: ",
		`:7: log.level: "chatty": want one of debug`,
		":8: log.formt: no such setting: did you mean format?",
		"limits.bodies: 256MiB is less than limits.body, 1GiB",
		":11: limits.page: want more than 0",
		":12: limits.keys: want a whole number",
		":13: limits.client: want a whole number",
		":15: retention.slots: -1",
		`:17: pins.mode: "0777": want`,
		`:18: pins.group: no group "no such"`,
		`unknown state item "safrol"`,
		`unknown role "operator" for item slot`,
		":22: items.recent: want a list",
		":24: sockets[0].path: 108 bytes are more than the 107",
		`:25: sockets[0].mode: "0999": want octal`,
		`:26: sockets[0].roles: unknown role "root"`,
		`:27: sockets[0].owner: no user "nobody such"`,
		"sockets[0].name: several sockets need a name",
		":29: sockets[1].pth: no such setting: did you mean path?",
		"sockets[1].path: no path",
		"tcp[0]: not an address to listen on: other machines can reach",
		"tcp: nobody could use it",
		":32: what: no such setting",
		"$ACCESSOR_RETENTION_STEP: retention.step: want a whole number",
		`--log-format: log.format: "xml"`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q", want)
		}
	}
	if t.Failed() {
		t.Log(err)
	}
}

func TestBadFiles(t *testing.T) {
	for _, tt := range []struct {
		text, want string
		err        error
	}{
		{"data = ", ":1:", ErrInvalid},
		{"data = \"a\"\ndata = \"b\"", "data", ErrInvalid},
		{"[log]\n[log]", "log", ErrInvalid},
		{"data = \"\xff\"", "", ErrInvalid},
		{"log = 5", "log: want a table", ErrInvalid},
		{"sockets = 5", "sockets: want tables [[sockets]]", ErrInvalid},
		{"sockets = []", "nothing to listen on", ErrInvalid},
		{"sockets = [5]", "sockets[0]: want a table", ErrInvalid},
		{"data = 5", "data: want a text", ErrInvalid},
		{"sockets = [{path=\"/x\", mode=\"0x\"}]", ":1: sockets[0].mode", ErrInvalid},
		{strings.Repeat("#", maxFile+1), "larger than", ErrFile},
		{"[limits]\nbody = 99999999999999999999", "", ErrInvalid},
		{"[limits]\nbody = \"9000000TiB\"", "want bytes", ErrInvalid},
		{"[limits]\nwrite_set = \"3GiB\"", "less than 2GiB", ErrInvalid},
	} {
		_, err := Load(Input{File: file(t, tt.text)})
		if !errors.Is(err, tt.err) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.40q: %v", tt.text, err)
		}
	}
	if _, err := Load(Input{Environ: []string{"ACCESSOR_CONFIG=/nowhere"}}); !errors.Is(err, ErrFile) || !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	l := mustLoad(t, Input{Environ: []string{"ACCESSOR_DTA=/x"}})
	if len(l.Warnings) != 1 || !strings.Contains(l.Warnings[0], "did you mean ACCESSOR_DATA?") {
		t.Errorf("warnings %q", l.Warnings)
	}
}

// TestPrintedIsLoaded: what accessor config prints is a file that means the same.
func TestPrintedIsLoaded(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "s")
	for name, in := range map[string]Input{
		"defaults": {},
		"no sockets": {File: file(t, `sockets = []
[[tcp]]
address = "127.0.0.1:1"
[[clients]]
kid = "a \"b\"\u0001\\"
secret_file = "`+secret+`"
roles = ["all"]`)},
		"flags": {Flags: map[string]Flag{"sockets": {"socket", []string{"/a", "/b"}}, "data": {"data", "/with \"quotes\"\n\u007f"}}},
		"sizes": {Environ: []string{"ACCESSOR_CACHE_BYTES=12345", "ACCESSOR_LIMITS_HEADER_BYTES=8kB", "ACCESSOR_RETENTION_AGE=90m"}},
	} {
		l := mustLoad(t, in)
		var text bytes.Buffer
		if err := l.WriteTOML(&text); err != nil {
			t.Fatal(err)
		}
		again, err := Load(Input{File: file(t, text.String())})
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, text.String())
			continue
		}
		if diff := cmp.Diff(l.Config, again.Config); diff != "" {
			t.Errorf("%s: %s\n%s", name, diff, text.String())
		}
		b, err := json.Marshal(l.Effective())
		if err != nil || !bytes.Contains(b, []byte(`"drain_timeout":"4s"`)) {
			t.Errorf("%s: %s, %v", name, b, err)
		}
	}
}

// TestDocumented: each setting says what it means.
func TestDocumented(t *testing.T) {
	c := Default("")
	c.TCP, c.Clients = []TCP{{}}, []Client{{}}
	var walk func(key string, v reflect.Value)
	walk = func(key string, v reflect.Value) {
		for _, f := range fields(v) {
			at := join(key, f.name)
			switch {
			case f.name == "":
				t.Errorf("a setting in %q has no key", key)
			case f.isTable():
				walk(at, f.at)
				continue
			case f.isTables():
				walk(at, f.at.Index(0))
			}
			if len(f.doc) < 10 {
				t.Errorf("%s: %q", at, f.doc)
			}
		}
	}
	walk("", reflect.ValueOf(&c).Elem())
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]Size{"0": 0, "5": 5, "64MiB": 64 << 20, "1 GiB": 1 << 30, "2kB": 2000, "7B": 7} {
		got, err := parseSize(text)
		if got != want || err != nil {
			t.Errorf("%q: %d, %v", text, got, err)
		}
		if back, err := parseSize(got.String()); back != got || err != nil {
			t.Errorf("%v: %v, %v", got, back, err)
		}
	}
	for _, text := range []string{"", "-1", "MiB", "1.5GiB", "1e3", "64MiBs", "99999999TiB"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// FuzzFile: no file makes Load do anything but answer, and what it takes it writes.
func FuzzFile(f *testing.F) {
	f.Add("data = \"x\"\n[[sockets]]\npath=\"/x\"")
	f.Add("[limits]\nbody = 5")
	f.Add("a.b.c = [{x=1}, 2]\n[[a]]\n[[a.b]]")
	f.Fuzz(func(t *testing.T, text string) {
		l, err := Load(Input{File: file(t, text)})
		if err != nil {
			if !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrFile) {
				t.Fatal(err)
			}
			return
		}
		var out bytes.Buffer
		if err := l.WriteTOML(&out); err != nil {
			t.Fatal(err)
		}
		again, err := Load(Input{File: file(t, out.String())})
		if err != nil {
			t.Fatalf("%v\n%s", err, out.String())
		}
		if diff := cmp.Diff(l.Config, again.Config); diff != "" {
			t.Fatalf("%s\n%s", diff, out.String())
		}
	})
}

func TestPeers(t *testing.T) {
	const id = "12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo"
	peer := "/ip4/10.1.2.3/udp/4001/quic-v1/p2p/" + id
	if d := mustLoad(t, Input{}).DA; d.On() || !d.Fill || d.Follow {
		t.Errorf("where nothing is said: %+v", d)
	}
	// A peer is asked, and nobody is served.
	l := mustLoad(t, Input{Environ: []string{"ACCESSOR_DATA=/x"}, Flags: map[string]Flag{"da.peers": {"peer", []string{peer}}}})
	n := l.Node()
	if !l.DA.On() || len(n.Listen) != 0 || n.Serve != (da.Serve{}) || l.Source("da.peers") != "--peer" {
		t.Errorf("a peer: %+v, from %s", n, l.Source("da.peers"))
	}
	if diff := cmp.Diff([]string{id}, n.Allow); diff != "" || n.Identity != "/x/peers/identity" {
		t.Error(diff, n.Identity)
	}
	// Switched on, state is for peers that are listed.
	l = mustLoad(t, Input{Environ: []string{"ACCESSOR_DA_ENABLED=true", "ACCESSOR_DA_PEERS=" + peer, "ACCESSOR_DA_BANDWIDTH=1MiB", "ACCESSOR_DA_IDENTITY_FILE=/k"}})
	n = l.Node()
	if n.DHT || !mustLoad(t, Input{Environ: []string{"ACCESSOR_DA_ENABLED=true", "ACCESSOR_DA_DHT=true"}}).Node().DHT {
		t.Error("the DHT is on without being switched on, or off")
	}
	want := da.DefaultServe()
	want.BytesPerSecond = 1 << 20
	if n.Serve != want || len(n.Listen) != 2 || n.Identity != "/k" || len(n.Peers) != 1 {
		t.Errorf("enabled: %+v", n)
	}
	l = mustLoad(t, Input{Environ: []string{"ACCESSOR_DA_FETCH_TIMEOUT=1m", "ACCESSOR_DA_FILL_PARALLEL=9", "ACCESSOR_DA_FILL_PAGE=2MiB",
		"ACCESSOR_DA_CATCH_UP_BLOCKS=7", "ACCESSOR_DA_CATCH_UP_BYTES=8"}})
	if st := l.State(); st.FetchTimeout != time.Minute || l.Node().Timeout != time.Minute || st.CatchUp != (state.CatchUpLimits{Blocks: 7, Bytes: 8}) {
		t.Errorf("%+v, %+v", st, l.Node())
	}
	if fill := l.Fill(); fill.Parallel != 9 || fill.PageBytes != 2<<20 {
		t.Errorf("%+v", fill)
	}
	trust := strings.Repeat("ab", 32) + ":17:" + strings.Repeat("cd", 32)
	l = mustLoad(t, Input{Environ: []string{"ACCESSOR_TRUST=" + trust, "ACCESSOR_DA_SERVE_STATE=off", "ACCESSOR_DA_ENABLED=true"}})
	if b, err := ParseTrust(l.Trust); err != nil || b.Slot != 17 || b.Hash[0] != 0xab || b.Root[31] != 0xcd || l.Node().Serve.State != da.Nobody {
		t.Errorf("%+v, %v", b, err)
	}
	for set, want := range map[string]string{
		"ACCESSOR_TRUST=ab:17:cd":                               "trust: \"ab:17:cd\"",
		"ACCESSOR_TRUST=" + trust + ":1":                        "want HASH:SLOT:ROOT",
		"ACCESSOR_TRUST=" + trust[:65] + "x" + trust[65:]:       "the slot is no number",
		"ACCESSOR_TRUST=" + trust + " ACCESSOR_ANCHOR=f":        "take one of them",
		"ACCESSOR_TRUST=" + trust + " ACCESSOR_COMMITMENT=none": "commitment is none",
		"ACCESSOR_DA_SERVE_ITEMS=all":                           "want off, listed or anyone",
		"ACCESSOR_DA_PEERS=/ip4/10.1.2.3/tcp/1":                 "da.peers: peer \"/ip4/10.1.2.3/tcp/1\"",
		"ACCESSOR_DA_ALLOW=me":                                  "allow \"me\"",
		"ACCESSOR_DA_DENY=me":                                   "deny \"me\"",
		"ACCESSOR_DA_LISTEN=x":                                  "listen \"x\"",
		"ACCESSOR_DA_FOLLOW=true":                               "there are none",
		"ACCESSOR_DA_FETCH_TIMEOUT=0s":                          "da.fetch_timeout: want 1ms to 10m",
		"ACCESSOR_DA_FILL_PARALLEL=65":                          "da.fill_parallel: want 1 to 64",
		"ACCESSOR_DA_FILL_PAGE=16MiB":                           "da.fill_page: want 1KiB to 8MiB",
		"ACCESSOR_DA_CATCH_UP_BLOCKS=0":                         "da.catch_up_blocks",
		"ACCESSOR_DA_CATCH_UP_BYTES=0":                          "da.catch_up_bytes",
		"ACCESSOR_DA_DHT=true":                                  "da.dht: it is entered by da.peers",
	} {
		if _, err := Load(Input{Environ: strings.Fields(set)}); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", set, err, want)
		}
	}
}

// Of a configuration that is read again, what can be changed at run time is taken, and
// the rest is told.
func TestReload(t *testing.T) {
	const id = "12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo"
	running := mustLoad(t, Input{Environ: []string{"ACCESSOR_DA_DENY=10.0.0.1"}})
	path := file(t, "data = \"x\"\n[log]\nlevel = \"warn\"\n[da]\nmdns = true\nallow = [\""+id+"\"]\n[[sockets]]\npath = \"/y\"\n[retention]\nslots = 9\n")
	now, later := running.Reload(mustLoad(t, Input{File: path}))
	if diff := cmp.Diff([]string{"data", "retention.slots", "da.mdns", "sockets"}, later); diff != "" {
		t.Error(diff)
	}
	if now.Log.Level != "warn" || len(now.DA.Deny) != 0 || len(now.DA.Allow) != 1 || now.DA.MDNS || now.Data != "" {
		t.Errorf("%+v", now.Config)
	}
	if from := now.Source("da.allow"); from != path+":6" || now.Source("da.deny") != "default" || now.Source("data") != "default" {
		t.Errorf("from %s, %s, %s", from, now.Source("da.deny"), now.Source("data"))
	}
	if running.Log.Level != "info" || len(running.DA.Deny) != 1 || running.Source("da.deny") != "$ACCESSOR_DA_DENY" {
		t.Errorf("changed what it was: %+v", running.Config)
	}
}
