package api_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"accessor/api"
	"accessor/api/access"
	"accessor/forks"
	"accessor/state"
	"accessor/state/merkle"
)

// page is a page of a scan.
type page struct {
	Pairs [][]*string
	Next  *string
	Block forks.Hash
}

func TestBatch(t *testing.T) {
	s := newServer(t, api.Options{Limits: api.Limits{Keys: 3}})
	s.accept("benny", "alfred")
	last, absent := key("last writer"), key("nothing")
	var got struct {
		Values []*string
		Block  forks.Hash
	}
	body := fmt.Sprintf(`{"keys":["%x","%x","entropy"]}`, last, absent)
	a := s.do("POST /v1/blocks/head/state", []byte(body)).is(200).into(&got)
	s.about(a, "benny")
	if len(got.Values) != 3 || *got.Values[0] != hexOf("benny") || got.Values[1] != nil || *got.Values[2] != hexOf("chaos") || got.Block != hash("benny") {
		t.Errorf("%s", a.Body)
	}
	frames := api.AppendKeys(nil, [][]byte{[]byte(last), []byte(absent), []byte(key("anchor a"))})
	a = s.do("POST /v1/blocks/head/state", frames, "Content-Type: application/octet-stream").is(200)
	rest := a.Body.Bytes()
	for i, want := range [][]byte{[]byte("benny"), nil, {}} {
		var value []byte
		var err error
		if value, rest, err = api.CutValue(rest); err != nil || !bytes.Equal(value, want) || (value == nil) != (want == nil) {
			t.Errorf("value %d: %q, %v, want %q", i, value, err, want)
		}
	}
	if len(rest) != 0 || a.Header().Get("Content-Type") != "application/octet-stream" {
		t.Errorf("%d bytes are left; %v", len(rest), a.Header())
	}
	s.do("POST /v1/blocks/head/state", frames, "Content-Type: application/octet-stream", "Accept: application/json").is(200).into(&got)

	four := api.AppendKeys(nil, slices.Repeat([][]byte{[]byte(last)}, 4))
	s.do("POST /v1/blocks/head/state", four, "Content-Type: application/octet-stream").problem(413, "too-large")
	s.do("POST /v1/blocks/head/state", frames[:5], "Content-Type: application/octet-stream").problem(400, "bad-body")
	s.do("POST /v1/blocks/head/state", []byte{3, 0, 0, 0, 1, 2, 3}, "Content-Type: application/octet-stream").problem(400, "bad-key")
	s.do("POST /v1/blocks/head/state", []byte(`x`), "Content-Type: text/xml").problem(415, "unsupported-media-type")
	s.do("POST /v1/blocks/head/state", []byte(`x`), "Content-Encoding: gzip").problem(415, "unsupported-media-type")
	for _, bad := range []string{
		``, `[]`, `null`, `{}`, `{"keys":null}`, `{"keys":[1]}`, `{"keys":[],"keys":[]}`, `{"keys":[],"more":1}`, `{"keys":[]}{}`,
		`{"Keys":[]}`, "{\"keys\":[\"\xff\"]}", `{"keys":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`,
	} {
		s.do("POST /v1/blocks/head/state", []byte(bad)).problem(400, "bad-body")
	}
	s.do("POST /v1/blocks/head/state", []byte(`{"keys":["zz"]}`)).problem(400, "bad-key")
	s.roles = access.Of(access.Refining)
	if p := s.do("POST /v1/blocks/head/state", []byte(body)).problem(403, "forbidden-item"); p.Item != "entropy" {
		t.Errorf("%+v", p)
	}
}

func TestScan(t *testing.T) {
	s := newServer(t, api.Options{Limits: api.Limits{Page: 7}})
	s.accept("benny", "alfred")
	kv := s.states["benny"]
	var keys []string
	for k := range kv {
		keys = append(keys, hexOf(k))
	}
	slices.Sort(keys)
	for _, reverse := range []bool{false, true} {
		want := slices.Clone(keys)
		if reverse {
			slices.Reverse(want)
		}
		var got []string
		from, at := "", "head"
		for {
			var p page
			a := s.do(fmt.Sprintf("GET /v1/blocks/%s/state?limit=1000&reverse=%v&from=%s", at, reverse, from), nil).is(200).into(&p)
			s.about(a, "benny")
			if len(p.Pairs) > 7 || len(p.Pairs) == 0 {
				t.Fatalf("a page of %d", len(p.Pairs))
			}
			for _, pair := range p.Pairs {
				got = append(got, *pair[0])
				if *pair[1] != hexOf(kv[string(unhex(t, *pair[0]))]) {
					t.Errorf("%s is %s", *pair[0], *pair[1])
				}
			}
			if at == "head" {
				where := a.Header().Get("Content-Location")
				if !strings.HasPrefix(where, "/v1/blocks/"+hash("benny").String()+"/state?limit=1000") {
					t.Fatalf("Content-Location: %s", where)
				}
				at = hash("benny").String()
			}
			if p.Next == nil {
				break
			}
			from = *p.Next
		}
		if !slices.Equal(got, want) {
			t.Errorf("reverse %v: %v, want %v", reverse, got, want)
		}
	}
	var p page
	s.do("GET /v1/blocks/head/state?prefix=40&values=false&limit=2", nil).is(200).into(&p)
	if len(p.Pairs) != 2 || p.Pairs[0][1] != nil || p.Next == nil {
		t.Errorf("%+v", p)
	}
	// From its start, included, to its end, excluded, both ways.
	s.do(fmt.Sprintf("GET /v1/blocks/head/state?from=%s&to=%s", keys[3], keys[5]), nil).is(200).into(&p)
	if len(p.Pairs) != 2 || *p.Pairs[0][0] != keys[3] || p.Next != nil {
		t.Errorf("%+v", p)
	}
	s.do(fmt.Sprintf("GET /v1/blocks/head/state?reverse&from=%s&to=%s", keys[5], keys[3]), nil).is(200).into(&p)
	if len(p.Pairs) != 2 || *p.Pairs[0][0] != keys[5] || *p.Pairs[1][0] != keys[4] {
		t.Errorf("%+v", p)
	}
	for query, kind := range map[string]string{
		"limit=0": "bad-request", "limit=-1": "bad-request", "limit=x": "bad-request", "reverse=maybe": "bad-request",
		"limit=1&limit=2": "bad-request", "form=1": "bad-request", "limit=%zz": "bad-request", "prefix=%ff": "bad-request",
		"prefix=zz": "bad-key", "from=" + strings.Repeat("ab", 300): "bad-key",
	} {
		s.do("GET /v1/blocks/head/state?"+query, nil).problem(400, kind)
	}
	s.roles = access.Of(access.Refining)
	if p := s.do("GET /v1/blocks/head/state", nil).problem(403, "forbidden-item"); p.Item == "" {
		t.Errorf("%+v", p)
	}
	s.do("GET /v1/blocks/head/state?prefix=40", nil).is(200)
}

func TestScanLines(t *testing.T) {
	s := newServer(t, api.Options{})
	s.accept("benny", "alfred")
	type line struct {
		Key, Value string
		End        *struct {
			Pairs int
			Next  *string
			Block forks.Hash
		}
	}
	for query, want := range map[string]int{"": len(s.states["benny"]), "?limit=5": 5} {
		a := s.do("GET /v1/blocks/head/state"+query, nil, "Accept: application/x-ndjson").is(200)
		s.about(a, "benny")
		lines := strings.Split(strings.TrimSpace(a.Body.String()), "\n")
		if len(lines) != want+1 {
			t.Fatalf("%d lines, want %d", len(lines), want+1)
		}
		for i, text := range lines {
			var l line
			if err := json.Unmarshal([]byte(text), &l); err != nil {
				t.Fatal(err)
			}
			switch {
			case i < want && hexOf(s.states["benny"][string(unhex(t, l.Key))]) != l.Value:
				t.Errorf("line %s", text)
			case i == want && (l.End == nil || l.End.Pairs != want || (l.End.Next != nil) != (query != "") || l.End.Block != hash("benny")):
				t.Errorf("last line %s", text)
			}
		}
	}
}

func TestProof(t *testing.T) {
	s := newServer(t, api.Options{})
	s.accept("benny", "alfred")
	root := s.states["benny"].root(t)
	var got struct {
		Statement *merkle.Statement
		Root      forks.Hash
	}
	target := "GET /v1/blocks/head/proof?key=entropy&key=" + hexOf(key("nothing"))
	a := s.do(target, nil).is(200).into(&got)
	s.about(a, "benny")
	answer, err := got.Statement.Verify(root)
	if err != nil || len(answer.Pairs) != 2 || got.Root != root {
		t.Errorf("%+v, %v", answer, err)
	}
	raw := s.do(target, nil, "Accept: application/octet-stream").is(200)
	statement, err := merkle.DecodeStatement(raw.Body.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := statement.Verify(root); err != nil {
		t.Error(err)
	}
	s.do("GET /v1/blocks/head/proof?from=40&to=40", nil).is(200).into(&got)
	if answer, err := got.Statement.Verify(root); err != nil || len(answer.Pairs) != 22 || answer.More {
		t.Errorf("%d pairs, %v", len(answer.Pairs), err)
	}
	for query, kind := range map[string]string{
		"": "bad-request", "key=entropy&from=00": "bad-request", "key=entropy&max=5": "bad-request", "from=ff&to=00": "bad-request",
		"key=ff": "bad-key", "from=" + strings.Repeat("00", 40): "bad-key",
	} {
		s.do("GET /v1/blocks/head/proof?"+query, nil).problem(400, kind)
	}
	// Of more keys than an address has room for, in both forms.
	keys := make([]string, 300)
	var frames []byte
	for i := range keys {
		k := make([]byte, merkle.KeySize)
		k[0], k[2] = byte(i), byte(i>>8)
		keys[i] = `"` + hexOf(k) + `"`
		frames = append(binary.LittleEndian.AppendUint32(frames, merkle.KeySize), k...)
	}
	many := "POST /v1/blocks/head/proof"
	s.do(many, []byte(`{"keys":[`+strings.Join(keys, ",")+`]}`)).is(200).into(&got)
	if answer, err := got.Statement.Verify(root); err != nil || len(answer.Pairs) != len(keys) || got.Root != root {
		t.Errorf("%d pairs, %v", len(answer.Pairs), err)
	}
	raw = s.do(many, frames, "Content-Type: application/octet-stream").is(200)
	s.about(raw, "benny")
	if again, err := merkle.DecodeStatement(raw.Body.Bytes()); err != nil || !bytes.Equal(again.Append(nil), got.Statement.Append(nil)) {
		t.Errorf("another proof: %v", err)
	}
	s.do(many, []byte(`{"keys":["ff"]}`)).problem(400, "bad-key")
	s.do(many, []byte(`{"keys":[]}`)).is(200).into(&got)
	// A proof reveals leaves beside those asked for: short values are in them.
	s.roles = access.Of(access.Refining)
	if p := s.do(many, []byte(`{"keys":["slot","entropy"]}`)).problem(403, "forbidden-item"); p.Item == "" {
		t.Errorf("%+v", p)
	}
	if p := s.do("GET /v1/blocks/head/proof?key=entropy", nil).problem(403, "forbidden-item"); p.Item != "entropy" {
		t.Errorf("%+v", p)
	}
	refused := 0
	for i := range 256 {
		k := make([]byte, merkle.KeySize)
		k[0], k[5] = byte(i), 1 // never a named item's
		a := s.do("GET /v1/blocks/head/proof?key="+hexOf(k), nil)
		if a.Code == 403 {
			refused++
			if p := a.problem(403, "forbidden-item"); p.Item != "entropy" && p.Item != "statistics" {
				t.Errorf("%+v", p)
			}
			continue
		}
		a.is(200).into(&got)
		for _, n := range got.Statement.Proof.Nodes {
			if leaf, ok := n.LeafKey(); ok && (string(leaf[:]) == item("entropy") || string(leaf[:]) == item("statistics")) {
				t.Errorf("the proof of %x reveals %x", k, leaf)
			}
		}
	}
	if refused == 0 {
		t.Error("no proof was refused: the test shows nothing")
	}
}

func TestDiff(t *testing.T) {
	s := newServer(t, api.Options{Limits: api.Limits{Blocks: 3}})
	s.accept("benny", "alfred")
	s.accept("boris", "alfred")
	s.accept("claire", "boris")
	var got struct {
		From, To, Common struct{ Block forks.Hash }
		Keys             []struct {
			Key      string
			From, To *string
		}
	}
	a := s.do(fmt.Sprintf("GET /v1/diff?from=%s&to=%s", hash("benny"), hash("claire")), nil).is(200).into(&got)
	s.about(a, "claire")
	if got.From.Block != hash("benny") || got.To.Block != hash("claire") || got.Common.Block != hash("alfred") || len(got.Keys) != 3 {
		t.Errorf("%s", a.Body)
	}
	for _, d := range got.Keys {
		x, inX := s.states["benny"][string(unhex(t, d.Key))]
		y, inY := s.states["claire"][string(unhex(t, d.Key))]
		if (d.From != nil) != inX || (d.To != nil) != inY || (inX && *d.From != hexOf(x)) || (inY && *d.To != hexOf(y)) {
			t.Errorf("%+v", d)
		}
	}
	s.do(fmt.Sprintf("GET /v1/diff?from=%s&to=%s", hash("benny"), hash("claire")), nil, "If-None-Match: "+a.Header().Get("Etag")).is(304)
	s.accept("diaz", "claire")
	s.do(fmt.Sprintf("GET /v1/diff?from=%s&to=%s", hash("benny"), hash("diaz")), nil).problem(413, "too-large")
	s.do("GET /v1/diff?from=head", nil).problem(400, "bad-request")
	s.do("GET /v1/diff?from=head&to=77", nil).problem(404, "unknown-block")
}

func TestChangesAndHistory(t *testing.T) {
	s := newServer(t, api.Options{})
	s.accept("boris", "alfred")
	s.accept("claire", "boris")
	var changes struct {
		Puts [][]string
		Dels []string
	}
	a := s.do("GET /v1/blocks/"+hash("claire").String()+"/changes", nil).is(200).into(&changes)
	s.about(a, "claire")
	if len(changes.Puts) != 2 || len(changes.Dels) != 1 || changes.Dels[0] != hexOf(key("by boris")) {
		t.Errorf("%s", a.Body)
	}
	s.do("GET /v1/blocks/anchor/changes", nil).problem(404, "no-changes")
	var history struct {
		Versions []struct {
			Value *string
			Block forks.Hash
		}
	}
	a = s.do("GET /v1/history/"+hexOf(key("by boris")), nil).is(200).into(&history)
	s.about(a, "claire")
	if v := history.Versions; len(v) != 2 || v[0].Value != nil || v[0].Block != hash("claire") || v[1].Block != hash("boris") || v[1].Value == nil {
		t.Errorf("%s", a.Body)
	}
	s.do("GET /v1/history/"+hexOf(key("by boris"))+"?limit=1&at=1", nil).is(200).into(&history)
	if v := history.Versions; len(v) != 1 || v[0].Block != hash("boris") {
		t.Errorf("%+v", v)
	}
	s.roles = access.Of(access.Refining)
	s.do("GET /v1/history/entropy", nil).problem(403, "forbidden-item")
	s.do("GET /v1/history/"+hexOf(key("by boris")), nil).is(200)
}

func TestTree(t *testing.T) {
	s := newServer(t, api.Options{})
	for _, b := range [][2]string{{"benny", "alfred"}, {"boris", "alfred"}, {"claire", "boris"}, {"chris", "boris"}} {
		s.accept(b[0], b[1])
	}
	s.roles = access.Of(access.Observer)
	type treePage struct {
		Blocks                  []api.Block
		Next                    *forks.Hash
		Head, Finalized, Anchor api.About
	}
	var names []string
	from := ""
	for {
		var p treePage
		s.do("GET /v1/blocks?limit=2&from="+from, nil).is(200).into(&p)
		for _, b := range p.Blocks {
			names = append(names, strings.TrimRight(string(b.Block[:31]), "\x00"))
		}
		if p.Next == nil {
			break
		}
		from = p.Next.String()
	}
	if got := strings.Join(names, " "); got != "alfred benny boris chris claire" {
		t.Errorf("tree %s", got)
	}
	var p treePage
	s.do("GET /v1/blocks?leaves", nil).is(200).into(&p)
	if len(p.Blocks) != 3 || p.Anchor.Block != hash("alfred") {
		t.Errorf("%+v", p)
	}
	var b api.Block
	a := s.do("GET /v1/blocks/"+hash("boris").String()[:10], nil).is(200).into(&b)
	s.about(a, "boris")
	if *b.Parent != hash("alfred") || len(b.Children) != 2 || b.Anchor || b.Finalized || b.Canonical || b.Lost {
		t.Errorf("%+v", b)
	}
	s.do("GET /v1/blocks/genesis", nil).is(200).into(&b)
	if !b.Anchor || !b.Canonical || b.Parent != nil || !b.Checkpoint {
		t.Errorf("%s", a.Body)
	}
	if err := s.acc.Store().DropCheckpoint(hash("boris")); err != nil {
		t.Fatal(err)
	}
	s.do("GET /v1/blocks?from="+hash("boris").String(), nil).is(200).into(&p)
	if len(p.Blocks) < 2 || p.Blocks[0].Block != hash("boris") || p.Blocks[0].Checkpoint || !p.Blocks[1].Checkpoint {
		t.Errorf("%+v", p)
	}
	var held struct{ Held []forks.Hash }
	body := fmt.Sprintf(`{"hashes":["%s","%s","%s"]}`, hash("nobody"), hash("chris"), hash("benny"))
	s.do("POST /v1/blocks/held", []byte(body)).is(200).into(&held)
	if !slices.Equal(held.Held, []forks.Hash{hash("chris"), hash("benny")}) {
		t.Errorf("%v", held.Held)
	}
	s.do("POST /v1/blocks/held", []byte(`{"hashes":["ff"]}`)).problem(400, "bad-body")
	var status api.Status
	s.do("GET /v1/status", nil).is(200).into(&status)
	if !status.Ready || status.Blocks != 5 || status.Leaves != 3 || status.Commitment == "" ||
		status.OldestEvent == 0 || status.NewestEvent <= status.OldestEvent {
		t.Errorf("%+v", status)
	}
}

// TestLargePage: a page is bounded also where answers aren't.
func TestLargePage(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 72 MiB")
	}
	s := newServer(t, api.Options{Limits: api.Limits{Answer: 1 << 50}})
	s.doc = nil
	for i, parent := range []string{"alfred", "big 0"} {
		b := s.block(fmt.Sprintf("big %d", i), parent)
		b.PostRoot = nil
		for j := range 3 {
			b.Puts = append(b.Puts, state.Pair{Key: []byte(key(fmt.Sprint("big ", i, j))), Value: make([]byte, 12<<20)})
		}
		b.PriorRoot = nil
		if _, err := s.acc.Import(context.Background(), b); err != nil {
			t.Fatal(err)
		}
	}
	var p page
	s.do("GET /v1/blocks/head/state?prefix=40", nil).is(200).into(&p)
	if p.Next == nil {
		t.Errorf("a page of %d pairs, and no next one", len(p.Pairs))
	}
}

// TestLargeAnswer: an answer is bounded, whatever the state holds.
func TestLargeAnswer(t *testing.T) {
	s := newServer(t, api.Options{Limits: api.Limits{Answer: 200}})
	s.accept("benny", "alfred")
	var p page
	s.do("GET /v1/blocks/head/state", nil).is(200).into(&p)
	if n := len(p.Pairs); n == 0 || n > 7 || p.Next == nil {
		t.Errorf("a page of %d pairs", n)
	}
	keys := api.AppendKeys(nil, slices.Repeat([][]byte{[]byte(key("by benny"))}, 3))
	if binary.LittleEndian.Uint32(keys) != 31 {
		t.Errorf("a frame begins with %x", keys[:4])
	}
	s.do("POST /v1/blocks/head/state", keys, "Content-Type: application/octet-stream").problem(413, "too-large")
	s.do("POST /v1/blocks/head/proof", keys[:35], "Content-Type: application/octet-stream").problem(413, "too-large")
	s.do("GET /v1/blocks/head/proof?from=00&to=ff", nil).problem(413, "too-large")
	s.do("GET /v1/diff?from=anchor&to=head", nil).is(200)
}
