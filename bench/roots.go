package bench

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	"accessor/checkpoint/rocks"
	"accessor/forks"
	"accessor/state"
	"accessor/state/merkle"
)

// coldRuns is how often a store is opened anew to measure the first root in it.
const coldRuns = 10

// root measures the root of the state after a block's puts: in a store that was
// just opened, then with all that is needed often in memory. Beside it, the time
// to hash the leaves and nodes that the puts touch, and nothing else.
func (r *run) root() error {
	chain, err := r.rootedChain()
	if err != nil {
		return err
	}
	head := chain[len(chain)-1]
	for range coldRuns {
		if err := r.reopenCold(); err != nil {
			return err
		}
		b := r.block(head, r.Puts)
		start := time.Now()
		v, err := r.acc.View(r.ctx, head.Hash)
		if err != nil {
			return err
		}
		_, err = v.RootAfter(b.Puts, nil)
		r.cold = append(r.cold, time.Since(start))
		v.Close()
		if err != nil {
			return err
		}
	}
	v, err := r.acc.View(r.ctx, head.Hash)
	if err != nil {
		return err
	}
	defer v.Close()
	// Warm: until most of the state's parts have been touched.
	for i := 0; i*r.Puts < r.Keys/16; i++ {
		r.Progress("warm up", int64(i*r.Puts), int64(r.Keys/16))
		if _, err := v.RootAfter(r.block(head, r.Puts).Puts, nil); err != nil {
			return err
		}
	}
	for i := range r.Repeat {
		r.Progress("root", int64(i), int64(r.Repeat))
		b := r.block(head, r.Puts)
		runtime.GC()
		start := time.Now()
		if _, err := v.RootAfter(b.Puts, nil); err != nil {
			return err
		}
		r.ours = append(r.ours, time.Since(start))
		if i%10 == 0 {
			if err := r.hashAlone(v, b); err != nil {
				return err
			}
		}
	}
	r.res.Heap = r.heapOfTrie()
	r.finish()
	return nil
}

// rootedChain makes a store with roots, and some blocks on it.
func (r *run) rootedChain() ([]forks.Block, error) {
	r.Commitment = state.JAM{}.Name()
	return r.chain()
}

// reopenCold opens the store again, without a read cache.
func (r *run) reopenCold() error {
	if err := r.reopen(rocks.Options{}, 0, state.Retention{}); err != nil {
		return err
	}
	return r.quiesce()
}

// hashAlone times the hashes that the root after a block's puts needs: of values
// and leaves, and of the branches on the way to them.
func (r *run) hashAlone(v *state.View, b *state.Block) error {
	keys := make([][]byte, len(b.Puts))
	for i, p := range b.Puts {
		keys[i] = p.Key
	}
	s, err := v.Prove(keys)
	if err != nil {
		return err
	}
	branches := slices.DeleteFunc(s.Proof.Nodes, merkle.Node.IsLeaf)
	var sum forks.Hash
	start := time.Now()
	for _, p := range b.Puts {
		sum = merkle.Leaf([merkle.KeySize]byte(p.Key), p.Value).Hash()
	}
	for i := range branches {
		sum = branches[i].Hash()
	}
	r.hashing = append(r.hashing, time.Since(start))
	if sum == (forks.Hash{}) {
		return fmt.Errorf("a hash of zeros")
	}
	return nil
}

// heapOfTrie is what the process keeps in Go's memory for the trie: what closing
// the store gives back.
func (r *run) heapOfTrie() int64 {
	inUse := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	with := inUse()
	r.acc.ForgetTries()
	return with - inUse()
}

// prove measures the proof of one key, one in two of which is absent: at a block
// that is open, and at others that are not; and its check.
func (r *run) prove() error {
	chain, err := r.rootedChain()
	if err != nil {
		return err
	}
	if err := r.reopenCold(); err != nil {
		return err
	}
	head := chain[len(chain)-1]
	v, err := r.acc.View(r.ctx, head.Hash)
	if err != nil {
		return err
	}
	defer v.Close()
	for i := range r.Repeat {
		r.Progress("prove", int64(i), int64(r.Repeat))
		k := key(r.rnd.IntN(r.Keys))
		if i%2 == 0 {
			k[30] ^= 0x55
		}
		if i%4 == 0 {
			if err := r.proveClosed(chain[r.rnd.IntN(len(chain)-1)], k); err != nil {
				return err
			}
		}
		start := time.Now()
		s, err := v.Prove([][]byte{k})
		r.ours = append(r.ours, time.Since(start))
		if err != nil {
			return err
		}
		start = time.Now()
		_, err = s.Verify(head.Root)
		r.check = append(r.check, time.Since(start))
		if err != nil {
			return err
		}
	}
	r.finish()
	return nil
}

func (r *run) proveClosed(b forks.Block, k []byte) error {
	start := time.Now()
	v, err := r.acc.View(context.Background(), b.Hash)
	if err != nil {
		return err
	}
	defer v.Close()
	s, err := v.Prove([][]byte{k})
	r.cold = append(r.cold, time.Since(start))
	if err == nil {
		_, err = s.Verify(b.Root)
	}
	return err
}
