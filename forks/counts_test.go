package forks_test

import (
	"math/rand/v2"
	"testing"

	"accessor/forks"
)

// What is counted is what a walk over the tree finds, and what Finalize reports.
func TestCounts(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 200 {
		tree := forks.New(forks.Block{})
		blocks := []forks.Block{{}}
		for n := 1; n < 60; n++ {
			parent := blocks[max(0, len(blocks)-1-r.IntN(8))]
			b := forks.Block{Hash: forks.Hash{byte(n)}, Parent: parent.Hash, Slot: parent.Slot + 1}
			if tree.Add(b) == nil { // the parent may have been pruned
				blocks = append(blocks, b)
			}
			some := blocks[r.IntN(len(blocks))].Hash
			switch r.IntN(12) {
			case 0:
				would := tree.WouldLose(some)
				if lost, err := tree.Finalize(some); len(lost) != would {
					t.Fatalf("%d would lose, %d have, %v", would, len(lost), err)
				}
			case 1:
				_, _ = tree.Prune(some)
			}
			lost, leaves, lostLeaves := 0, 0, 0
			for b := range tree.All() {
				leaf := len(tree.Children(b.Hash)) == 0
				if leaf {
					leaves++
				}
				if tree.Lost(b.Hash) {
					lost++
					if leaf {
						lostLeaves++
					}
				}
			}
			all, lostOnes := tree.LeafCount()
			if tree.LostBlocks() != lost || all != leaves || lostOnes != lostLeaves {
				t.Fatalf("%d blocks have lost, counted %d; %d leaves, %d of them lost, counted %d and %d",
					lost, tree.LostBlocks(), leaves, lostLeaves, all, lostOnes)
			}
		}
	}
}
