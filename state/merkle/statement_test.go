package merkle_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"testing"

	"accessor/forks"
	"accessor/state/merkle"
)

// statements are one of keys, one of a range, and one of nothing.
func statements(t testing.TB) (p *proving, list []*merkle.Statement) {
	rnd := rand.New(rand.NewPCG(16, 0))
	state := make(map[key][]byte)
	for range 60 {
		state[shapes["spread"](rnd)] = []byte{1, 2, 3}
	}
	p = newProving(t, state)
	keys := p.near(rnd, 3)
	proof, err := p.trie.Prove(keys, p.value)
	if err != nil {
		t.Fatal(err)
	}
	list = append(list, &merkle.Statement{Block: forks.Hash{7}, Keys: keys, Proof: *proof}, &merkle.Statement{})
	req := merkle.RangeRequest{Start: p.keys[10], End: p.keys[50], MaxSize: 1200}
	if proof, err = p.trie.ProveRange(req, p.value, p.walk); err != nil {
		t.Fatal(err)
	}
	return p, append(list, &merkle.Statement{Block: forks.Hash{8}, Range: &req, Proof: *proof})
}

func TestStatementForms(t *testing.T) {
	p, list := statements(t)
	for i, s := range list {
		binary := s.Append(nil)
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var fromText merkle.Statement
		if err := json.Unmarshal(text, &fromText); err != nil {
			t.Fatal(err)
		}
		fromBinary, err := merkle.DecodeStatement(binary)
		if err != nil {
			t.Fatal(err)
		}
		for form, got := range map[string]*merkle.Statement{"JSON": &fromText, "binary": fromBinary} {
			if !bytes.Equal(got.Append(nil), binary) {
				t.Errorf("statement %d is another after its %s form", i, form)
			}
			if _, err := got.Verify(p.root); err != nil {
				t.Errorf("statement %d, %s form: %v", i, form, err)
			}
		}
		for at := range binary {
			garbled := bytes.Clone(binary)
			garbled[at] ^= 1 << (at % 8)
			if _, err := merkle.DecodeStatement(garbled); !errors.Is(err, merkle.ErrProof) {
				t.Fatalf("statement %d, byte %d changed: %v", i, at, err)
			}
			if _, err := merkle.DecodeStatement(binary[:at]); !errors.Is(err, merkle.ErrProof) {
				t.Fatalf("statement %d, cut at %d: %v", i, at, err)
			}
		}
	}
}

func TestStatementJSONRefuses(t *testing.T) {
	for _, text := range []string{
		`[]`, `{"block":"00"}`,
		`{"block":"` + forks.Hash{}.String() + `","keys":["00"],"nodes":[],"pairs":[]}`,
		`{"block":"` + forks.Hash{}.String() + `","from":"00","nodes":[],"pairs":[]}`,
		`{"block":"` + forks.Hash{}.String() + `","nodes":["00"],"pairs":[]}`,
		`{"block":"` + forks.Hash{}.String() + `","nodes":[],"pairs":[["00","0"]]}`,
	} {
		var s merkle.Statement
		if err := json.Unmarshal([]byte(text), &s); err == nil {
			t.Errorf("%s is taken", text)
		}
	}
}

// Both forms: what is read is written the same again, and never panics.
func FuzzStatement(f *testing.F) {
	_, list := statements(f)
	for _, s := range list {
		f.Add(s.Append(nil))
		text, err := json.Marshal(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := merkle.DecodeStatement(b); err == nil && !bytes.Equal(s.Append(nil), b) {
			t.Error("the binary form is another when written again")
		}
		var s merkle.Statement
		if err := s.UnmarshalJSON(b); err != nil {
			return
		}
		text, err := json.Marshal(&s)
		if err != nil {
			t.Fatal(err)
		}
		var again merkle.Statement
		if err := again.UnmarshalJSON(text); err != nil || !bytes.Equal(again.Append(nil), s.Append(nil)) {
			t.Errorf("the JSON form is another when written again: %v", err)
		}
		_, _ = s.Verify(forks.Hash{1})
	})
}
