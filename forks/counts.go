package forks

// WouldLose counts the blocks that Finalize would report; 0 where it would fail.
func (t *Tree) WouldLose(h Hash) (count int) {
	n, ok := t.nodes[h]
	if !ok || !ancestorOf(t.finalized, n) {
		return 0
	}
	for range t.losing(n) {
		count++
	}
	return count
}

// LostBlocks is the number of blocks that have lost.
func (t *Tree) LostBlocks() int { return t.lost }

// LeafCount is the number of leaves, and of those among them that have lost.
func (t *Tree) LeafCount() (all, lostOnes int) {
	for n := range t.leaves {
		if n.standing == lost {
			lostOnes++
		}
	}
	return len(t.leaves), lostOnes
}
