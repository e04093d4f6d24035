package state_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"accessor/forks"
	"accessor/state"
)

// versions are the blocks that wrote a key, with what it became.
func (c *chain) versions(at, k string, limit int) (out []string) {
	c.t.Helper()
	list, err := c.History(context.Background(), hash(at), []byte(key(k)), limit)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, v := range list {
		text := nameOf(v.Block.Hash) + " " + string(v.Value)
		if v.Value == nil {
			text = nameOf(v.Block.Hash) + " deleted"
		}
		out = append(out, text)
	}
	return out
}

func TestHistoryAndChanges(t *testing.T) {
	overEngines(t, func(t *testing.T, e engineCase) {
		c := newChain(t, e, noImages)
		<-c.CacheReady()
		write := func(name, parent string, puts map[string]string, dels ...string) {
			t.Helper()
			b := &state.Block{Hash: hash(name), Parent: hash(parent), Slot: forks.Slot(name[1] - '0')}
			for k, v := range puts {
				b.Puts = append(b.Puts, state.Pair{Key: []byte(key(k)), Value: []byte(v)})
			}
			for _, k := range dels {
				b.Dels = append(b.Dels, []byte(key(k)))
			}
			if _, err := c.Import(context.Background(), b); err != nil {
				t.Fatal(err)
			}
		}
		write("b1", "alfred", map[string]string{"k": "one", "other": "x"})
		write("b2", "b1", map[string]string{"other": "y"})
		write("b3", "b2", map[string]string{"k": ""})
		write("b4", "b3", nil, "k")
		write("c2", "b1", map[string]string{"k": "fork"})

		for range 2 { // with the index of the imports, and loaded anew
			for _, tc := range []struct {
				at, key string
				limit   int
				want    []string
			}{
				{"b4", "k", 0, []string{"b4 deleted", "b3 ", "b1 one"}},
				{"b4", "k", 2, []string{"b4 deleted", "b3 "}},
				{"b2", "k", 0, []string{"b1 one"}},
				{"c2", "k", 0, []string{"c2 fork", "b1 one"}},
				{"b4", "anchor 1", 0, []string{"alfred aaa"}},
				{"b4", "never written", 0, nil},
			} {
				if diff := cmp.Diff(tc.want, c.versions(tc.at, tc.key, tc.limit)); diff != "" {
					t.Errorf("%s at %s (-want +got):\n%s", tc.key, tc.at, diff)
				}
			}
			c.reopen()
			<-c.CacheReady()
		}
		_, changes, err := c.Changes(context.Background(), hash("b4"))
		if err != nil || len(changes) != 1 || string(changes[0].Key) != key("k") || changes[0].Value != nil {
			t.Errorf("changes of b4: %v, %v", changes, err)
		}
		if _, changes, err = c.Changes(context.Background(), hash("b3")); err != nil || len(changes) != 1 || changes[0].Value == nil {
			t.Errorf("changes of b3: %v, %v", changes, err)
		}
		if _, _, err = c.Changes(context.Background(), hash("alfred")); !errors.Is(err, state.ErrInvalid) {
			t.Errorf("changes of the anchor: %v", err)
		}
		if _, err := c.History(context.Background(), forks.Hash{9}, nil, 0); !errors.Is(err, state.ErrUnknownBlock) {
			t.Errorf("history at an unknown block: %v", err)
		}
	})
}
