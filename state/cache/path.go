package cache

import "accessor/forks"

// Path is the way from the index's base to a block, as a set of import numbers. It
// is immutable.
type Path struct {
	epoch *epoch
	at    *node
	base  uint64   // the base's number
	bits  []uint64 // bit i: block number base + i is on the way, the base is not
}

// Base is the block that the path begins after: nothing is known of what it and the
// blocks below it wrote.
func (p *Path) Base() forks.Hash { return p.epoch.base.hash }

// number gives the whole number of a block on the path from its lower half, 0 for
// a block that isn't on it.
func (p *Path) number(block uint32) uint64 {
	i := block - uint32(p.base)
	if int(i/64) >= len(p.bits) || p.bits[i/64]>>(i%64)&1 == 0 {
		return 0
	}
	return p.base + uint64(i)
}

// has says whether the base or a block of that number is on the path.
func (p *Path) has(number uint64) bool {
	return number == p.base || number > p.base && number-p.base < 1<<32 && p.number(uint32(number)) != 0
}

// At gives the way to a block; nil where it can't be read through the cache: while
// the index is being loaded, and for blocks that don't descend from its base.
func (c *Cache) At(h forks.Hash) *Path {
	x := &c.index
	x.mu.Lock()
	defer x.mu.Unlock()
	e, n := x.current.Load(), x.nodes[h]
	if e == nil || n == nil {
		return nil
	}
	for i, p := range x.recent {
		if p.at == n {
			x.recent = append(append(x.recent[:i], x.recent[i+1:]...), p)
			return p
		}
	}
	p := x.pathTo(n)
	x.recent = append(x.recent, p)
	if len(x.recent) > maxRecent {
		x.recent = append(x.recent[:0], x.recent[1:]...)
	}
	return p
}

// pathTo makes the path to a node, from the first known one that it meets on the
// way down. There is an index.
func (x *index) pathTo(n *node) *Path {
	e := x.current.Load()
	p := &Path{epoch: e, at: n, base: e.base.number}
	p.bits = make([]uint64, (n.number-p.base)/64+1)
	for at := n; at != e.base; at = at.parent {
		if known := x.known(at); known != nil {
			copyBits(p.bits, known.bits, at.number-p.base)
			break
		}
		i := at.number - p.base
		p.bits[i/64] |= 1 << (i % 64)
	}
	return p
}

// known gives a path that leads over a node.
func (x *index) known(n *node) *Path {
	for i := len(x.recent) - 1; i >= 0 && i >= len(x.recent)-8; i-- {
		if p := x.recent[i]; p.has(n.number) {
			return p
		}
	}
	return nil
}

// copyBits sets in dst the bits 0 to last that src has.
func copyBits(dst, src []uint64, last uint64) {
	whole := last / 64
	for i := range whole {
		dst[i] |= src[i]
	}
	dst[whole] |= src[whole] & (1<<(last%64+1) - 1)
}
