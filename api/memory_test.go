package api_test

import (
	"encoding/binary"
	"runtime"
	"strings"
	"testing"

	"accessor/api"
	"accessor/forks"
	"accessor/state"
)

// allocated gives the bytes that a call takes of memory, however short a time.
func allocated(f func()) int64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc) //nolint:gosec // a difference
}

// TestEmptyWrites: empty keys are refused before lists are made for so many.
func TestEmptyWrites(t *testing.T) {
	s := newServer(t, api.Options{})
	s.doc = nil
	b := s.block("benny", "alfred")
	b.Puts, b.Dels = nil, nil
	block := api.AppendBlock(nil, b)
	block = block[:len(block)-8] // both counts
	const n = 2 << 20
	for name, body := range map[string][]byte{
		"puts": binary.LittleEndian.AppendUint32(block[:len(block):len(block)], n),
		"dels": binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(block[:len(block):len(block)], 0), n),
	} {
		body = append(body, make([]byte, 8*n+4)...)
		took := allocated(func() {
			s.do("POST /v1/blocks", body, "Content-Type: application/octet-stream").problem(400, "bad-body")
		})
		if most := int64(len(body)) * 3 / 2; took > most {
			t.Errorf("%s: %d bytes for a body of %d", name, took, len(body))
		}
	}
}

// otherHead is a core whose head moves on as soon as it is set.
type otherHead struct{ *state.Accessor }

func (otherHead) Head() forks.Block { return forks.Block{Hash: hash("other")} }

func TestHeadMovesOn(t *testing.T) {
	s := newServer(t, api.Options{})
	s.accept("benny", "alfred")
	moving, err := api.New(otherHead{s.acc}, api.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer moving.Close()
	s.Server, s.doc = moving, nil
	s.about(s.do("POST /v1/head", []byte(`{"hash":"`+hash("benny").String()+`"}`)).is(200), "benny")
}

// TestLargeAnswers: what is too large for an answer is not gathered first.
func TestLargeAnswers(t *testing.T) {
	s := newServer(t, api.Options{Limits: api.Limits{Answer: 1 << 20}})
	s.doc = nil
	parent := "alfred"
	const n, size = 12, 1<<20 - 100
	for i := range n {
		name := "big " + string(rune('a'+i))
		b := s.block(name, parent)
		b.PostRoot = nil
		b.Puts = append(b.Puts, state.Pair{Key: []byte(key("big")), Value: make([]byte, size+i)}, state.Pair{Key: []byte(key(name)), Value: make([]byte, size)})
		b.PriorRoot = nil
		if _, err := s.acc.Import(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		parent = name
	}
	k := hexOf(key("big"))
	for _, head := range []string{
		"GET /v1/history/" + k, "GET /v1/diff?from=anchor&to=head", "GET /v1/blocks/head/changes",
	} {
		took := allocated(func() { s.do(head, nil).problem(413, "too-large") })
		// A diff reads whole write sets, one after the other, and keeps their keys.
		if !strings.Contains(head, "diff") && took > 8<<20 {
			t.Errorf("%s: %d bytes", head, took)
		}
	}
	s.do("GET /v1/history/"+k+"?limit=1", nil).is(200)
}

// TestHistoryBlocks: how many blocks a history reads has a limit.
func TestHistoryBlocks(t *testing.T) {
	s := newServer(t, api.Options{Limits: api.Limits{Blocks: 2}})
	for _, b := range [][2]string{{"benny", "alfred"}, {"boris", "benny"}, {"claire", "boris"}} {
		s.accept(b[0], b[1])
	}
	k := hexOf(key("last writer"))
	s.do("GET /v1/history/"+k, nil).problem(413, "too-large")
	s.do("GET /v1/history/"+k+"?limit=2", nil).is(200)
}
