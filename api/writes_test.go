package api_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"accessor/api"
	"accessor/api/access"
	"accessor/forks"
	"accessor/state"
	"accessor/statefile"
)

// bodyOf gives a block as JSON, the way a recording has it.
func bodyOf(b *state.Block) map[string]any {
	puts, dels := [][]string{}, []string{}
	for _, p := range b.Puts {
		puts = append(puts, []string{hexOf(p.Key), hexOf(p.Value)})
	}
	for _, key := range b.Dels {
		dels = append(dels, hexOf(key))
	}
	return map[string]any{
		"type": "block", "seq": 1, "hash": b.Hash, "parent": b.Parent, "slot": b.Slot,
		"prior_root": b.PriorRoot, "post_root": b.PostRoot, "puts": puts, "dels": dels, "keys": 3,
	}
}

func jsonOf(t testing.TB, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestImport(t *testing.T) {
	s := newServer(t, api.Options{Limits: api.Limits{Body: 1 << 20, Bodies: 1 << 20}})
	b := s.block("benny", "alfred")
	var got api.Imported
	a := s.do("POST /v1/blocks", jsonOf(t, bodyOf(b))).is(201).into(&got)
	s.about(a, "benny")
	if got.Hash != b.Hash || got.Slot != 1 || got.Root != *b.PostRoot || got.WalkBack != nil || got.MS <= 0 ||
		a.Header().Get("Location") != "/v1/blocks/"+b.Hash.String() || !strings.Contains(a.Body.String(), `"walkback":null`) {
		t.Errorf("%s", a.Body)
	}
	s.do("POST /v1/blocks", jsonOf(t, bodyOf(b))).is(200)
	boris := s.block("boris", "alfred")
	const binary = "Content-Type: application/octet-stream"
	s.do("POST /v1/blocks", api.AppendBlock(nil, boris), binary).is(201)
	// A key of another size is refused as it is in JSON.
	for _, short := range []*state.Block{
		{Hash: forks.Hash{9}, Parent: b.Hash, Slot: 9, Puts: []state.Pair{{Key: []byte{1, 2}, Value: []byte{3}}}},
		{Hash: forks.Hash{9}, Parent: b.Hash, Slot: 9, Dels: [][]byte{{1, 2}}},
	} {
		s.do("POST /v1/blocks", api.AppendBlock(nil, short), binary).problem(422, "invalid-block")
		s.do("POST /v1/blocks", jsonOf(t, bodyOf(short))).problem(422, "invalid-block")
	}

	// Refused, each for its own reason; the roots are named.
	with := func(change func(m map[string]any)) []byte {
		m := bodyOf(s.block("claire", "boris"))
		change(m)
		return jsonOf(t, m)
	}
	wrong := hash("wrong")
	for _, tt := range []struct {
		change func(m map[string]any)
		status int
		kind   string
	}{
		{func(m map[string]any) { m["parent"] = hash("nobody") }, 404, "unknown-block"},
		{func(m map[string]any) { m["hash"], m["post_root"] = hash("benny"), nil }, 409, "conflict"},
		{func(m map[string]any) { m["post_root"] = wrong }, 422, "wrong-root"},
		{func(m map[string]any) { m["prior_root"] = wrong }, 422, "prior-root"},
		{func(m map[string]any) { m["slot"] = 1 }, 422, "slot-order"},
		{func(m map[string]any) { m["dels"] = []string{"ff"} }, 422, "invalid-block"},
		{func(m map[string]any) { m["dels"] = []string{"f"} }, 400, "bad-body"},
		{func(m map[string]any) { delete(m, "puts") }, 400, "bad-body"},
		{func(m map[string]any) { m["type"] = "reject" }, 400, "bad-body"},
		{func(m map[string]any) { m["more"] = strings.Repeat("x", 1<<20) }, 413, "too-large"},
	} {
		p := s.do("POST /v1/blocks", with(tt.change)).problem(tt.status, tt.kind)
		if strings.HasSuffix(tt.kind, "-root") && (p.Declared == nil || *p.Declared != wrong || p.Actual == nil) {
			t.Errorf("%+v", p)
		}
	}
	s.do("POST /v1/blocks", []byte("blk0"), "Content-Type: application/octet-stream").problem(400, "bad-body")
	// A body of unknown length.
	pipe := func(text []byte) io.Reader {
		return io.MultiReader(bytes.NewReader(text[:10]), bytes.NewReader(text[10:]))
	}
	s.stream("POST /v1/blocks", pipe(with(func(m map[string]any) { m["x"] = strings.Repeat("x", 200_000) }))).is(201)
	s.stream("POST /v1/blocks", pipe(with(func(m map[string]any) { m["x"] = strings.Repeat("x", 1<<20) }))).problem(413, "too-large")

	s.roles = access.Of(access.Producing, access.Operator)
	s.do("POST /v1/blocks", jsonOf(t, bodyOf(b))).problem(403, "forbidden")
}

func TestImportLocked(t *testing.T) {
	s := newServer(t, api.Options{})
	b := s.block("benny", "alfred")
	lease, err := s.acc.Locks().TryLock(1, hash("boris"), "another")
	if err != nil {
		t.Fatal(err)
	}
	for _, wait := range []string{"0", "0s", "5ms"} {
		p := s.do("POST /v1/blocks?wait="+wait, jsonOf(t, bodyOf(b))).problem(423, "locked")
		if p.Holder == nil || p.Holder.Owner != "another" || *p.Holder.Block != hash("boris") || p.Holder.Slot != 1 {
			t.Errorf("%+v", p)
		}
	}
	var locks struct{ Locks []api.Lock }
	s.do("GET /v1/locks", nil).is(200).into(&locks)
	if len(locks.Locks) != 1 || locks.Locks[0].Owner != "another" || locks.Locks[0].Slot != 1 {
		t.Errorf("%+v", locks)
	}
	lease.Release()
	s.do("POST /v1/blocks?wait=0", jsonOf(t, bodyOf(b))).is(201)
	for _, bad := range []string{"x", "-1s", "1h"} {
		s.do("POST /v1/blocks?wait="+bad, jsonOf(t, bodyOf(b))).problem(400, "bad-request")
	}
}

func TestImportStream(t *testing.T) {
	s := newServer(t, api.Options{})
	var body bytes.Buffer
	for _, b := range [][2]string{{"benny", "alfred"}, {"boris", "alfred"}, {"claire", "boris"}} {
		body.Write(append(jsonOf(t, bodyOf(s.block(b[0], b[1]))), "\n\n"...))
	}
	orphan := s.block("diaz", "claire")
	orphan.Parent = hash("nobody")
	body.Write(append(jsonOf(t, bodyOf(orphan)), '\n'))
	body.WriteString("nonsense\n")
	body.Write(jsonOf(t, bodyOf(s.block("chris", "boris")))) // without a line break
	a := s.stream("POST /v1/blocks", &body, "Content-Type: application/x-ndjson").is(200)
	var got []string
	for line := range strings.Lines(a.Body.String()) {
		var l struct {
			Status int
			Hash   forks.Hash
			Error  *api.Problem
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprint(l.Status, " ", strings.Trim(string(l.Hash[:31]), "\x00"))
		if l.Error != nil {
			text = fmt.Sprint(l.Status, " ", l.Error.Kind)
		}
		got = append(got, text)
	}
	want := []string{"201 benny", "201 boris", "201 claire", "404 unknown-block", "400 bad-body", "201 chris"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestFinalizeAndHead(t *testing.T) {
	s := newServer(t, api.Options{})
	for _, b := range [][2]string{{"benny", "alfred"}, {"boris", "alfred"}, {"claire", "boris"}} {
		s.accept(b[0], b[1])
	}
	named := func(name string) []byte { return []byte(`{"hash":"` + hash(name).String() + `"}`) }
	s.about(s.do("POST /v1/head", named("benny")).is(200), "benny")
	s.do("POST /v1/head", named("nobody")).problem(404, "unknown-block")
	var got struct{ Lost []forks.Hash }
	a := s.do("POST /v1/finalize", named("boris")).is(200).into(&got)
	s.about(a, "boris")
	if len(got.Lost) != 1 || got.Lost[0] != hash("benny") {
		t.Errorf("%s", a.Body)
	}
	s.do("POST /v1/finalize", named("benny")).problem(409, "not-descendant")
	s.do("POST /v1/head", named("benny")).problem(409, "not-descendant")
	for _, bad := range []string{`{}`, `{"hash":""}`, `{"hash":1}`, strings.Repeat(" ", 65<<10)} {
		if a := s.do("POST /v1/finalize", []byte(bad)); a.Code != 400 && a.Code != 413 {
			t.Errorf("%.20s: %d", bad, a.Code)
		}
	}
	s.roles = access.Of(access.Operator)
	s.do("POST /v1/finalize", named("claire")).is(200)
	s.roles = access.Of(access.Auditing)
	s.do("POST /v1/finalize", named("claire")).problem(403, "forbidden")
}

func TestAnchor(t *testing.T) {
	s := newServer(t, api.Options{})
	s.do("PUT /v1/anchor", []byte("x"), "Content-Type: application/octet-stream").problem(409, "not-empty")

	// An empty store.
	kv := contents{item("entropy"): "chaos", key("a"): strings.Repeat("a", 1000)}
	var file bytes.Buffer
	w, err := statefile.NewWriter(&file, statefile.NDJSON, statefile.Header{
		Hash: hash("alfred"), Slot: 5, Root: kv.root(t), Commitment: state.JAM{}.Name(),
	})
	if err != nil {
		t.Fatal(err)
	}
	for p := range kv.pairs() {
		if err := w.Put(p.Key, p.Value); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var made *state.Accessor
	empty, err := api.New(nil, api.Options{Start: func(_ context.Context, commitment string, a state.Anchor) (api.Core, error) {
		c, ok := state.CommitmentByName(commitment)
		if !ok {
			return nil, errors.New("commitment " + commitment)
		}
		cfg := storeConfig(t)
		cfg.Commitment = c
		acc, err := state.Create(cfg, a)
		if err != nil {
			return nil, err
		}
		made = acc
		return acc, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	s = &server{Server: empty, t: t, roles: access.All, doc: newDocumented(t, empty)}
	s.do("GET /v1/blocks/head", nil).problem(503, "no-store")
	s.do("GET /readyz", nil).problem(503, "not-ready")
	s.do("GET /livez", nil).is(200)
	s.do("GET /v1/status", nil).is(200)
	put := func(b []byte) *answer { return s.do("PUT /v1/anchor", b, "Content-Type: application/octet-stream") }
	put([]byte("nonsense")).problem(400, "bad-body")
	put(file.Bytes()[:file.Len()-20]).problem(400, "bad-body")
	put(bytes.Replace(file.Bytes(), []byte(hexOf("chaos")), []byte(hexOf("order")), 1)).problem(422, "wrong-root")
	put(file.Bytes()).is(201)
	defer made.Close()
	put(file.Bytes()).problem(409, "not-empty")
	if a := s.do("GET /v1/blocks/head/state/entropy", nil, "Accept: application/octet-stream").is(200); a.Body.String() != "chaos" {
		t.Errorf("%s", a.Body)
	}
	s.do("GET /readyz", nil).is(200)
}

func TestWait(t *testing.T) {
	s := newServer(t, api.Options{})
	b := s.block("benny", "alfred")
	at := "GET /v1/blocks/" + b.Hash.String() + "?wait="
	s.do(at+"1ms", nil).problem(404, "unknown-block")
	s.do(at+"0", nil).problem(404, "unknown-block")
	s.do("GET /v1/blocks/7?wait=1s", nil).problem(400, "bad-request")
	s.do(at+"2h", nil).problem(400, "bad-request")
	done := make(chan *answer)
	go func() { done <- s.do(at+"60s", nil) }()
	time.Sleep(20 * time.Millisecond)
	if _, err := s.acc.Import(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	s.about((<-done).is(200), "benny")
	// The server's end ends the waiting.
	go func() { done <- s.do("GET /v1/blocks/"+hash("nobody").String()+"?wait=60s", nil) }()
	time.Sleep(20 * time.Millisecond)
	s.Close()
	(<-done).problem(404, "unknown-block")
}

// TestBusy: what is too much at a time is refused, and nothing is kept of it.
func TestBusy(t *testing.T) {
	s := newServer(t, api.Options{Limits: api.Limits{Client: 1, Body: 70_000, Bodies: 70_000}})
	slow, hold := io.Pipe()
	done := make(chan *answer)
	go func() { done <- s.stream("POST /v1/blocks", slow, "Content-Type: application/x-ndjson") }()
	if _, err := hold.Write([]byte(`{"hash":`)); err == nil {
		t.Error("a stream of more than the budget was begun")
	}
	(<-done).problem(503, "busy")
	slow, hold = io.Pipe()
	go func() { done <- s.stream("POST /v1/blocks", slow) }()
	if _, err := hold.Write([]byte(`{`)); err != nil {
		t.Fatal(err)
	}
	a := s.do("GET /v1/blocks/head", nil)
	a.problem(429, "too-many-requests")
	if a.Header().Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	s.do("GET /livez", nil).is(200)
	s.uid = 8
	s.do("GET /v1/blocks/head", nil).is(200)
	s.uid = 0
	hold.Close()
	(<-done).problem(400, "bad-body")
	s.do("GET /v1/blocks/head", nil).is(200)
}

// TestBinaryBlock: what is written is read back, and nothing else is taken.
func TestBinaryBlock(t *testing.T) {
	s := newServer(t, api.Options{})
	b := s.block("benny", "alfred")
	b.Header = []byte{}
	text := api.AppendBlock(nil, b)
	want := "626c6b31" + "07000000" + b.Hash.String() + b.Parent.String() + "01000000" + b.PriorRoot.String() + b.PostRoot.String() +
		"00000000" + "02000000" + "1f000000" + hexOf(b.Puts[0].Key) + "05000000" + hexOf("benny")
	if got := hex.EncodeToString(text); !strings.HasPrefix(got, want) {
		t.Errorf("%s\nwant %s", got, want)
	}
	s.doc = nil // which takes a second for so many
	for n := range text {
		s.do("POST /v1/blocks", text[:n:n], "Content-Type: application/octet-stream").problem(400, "bad-body")
	}
	s.do("POST /v1/blocks", append(text, 0), "Content-Type: application/octet-stream").problem(400, "bad-body")
	text[4] = 8
	s.do("POST /v1/blocks", text, "Content-Type: application/octet-stream").problem(400, "bad-body")
}
