package testnet

import (
	"context"
	"maps"
	"slices"
	"sync"

	"accessor/da/datest"
	"accessor/forks"
)

// Peers makes sidecars each other's peers. Processes and Local implement it.
type Peers interface {
	// Join makes the sidecar of a node that starts with no more than a block to trust.
	Join(node int, how Joining) (Sidecar, error)
	// Host makes the host of a peer that is no sidecar, which everybody reaches.
	Host(liar int) (datest.Host, error)
	// Meet makes each node a peer of all others, and of liars under these addresses, from
	// its return on; nodes that start later too.
	Meet(ctx context.Context, liars []string) error
	// Divide has nodes on different sides not reach each other, from its return on until
	// it is called again; without sides all reach all. Nodes that don't run are on their
	// side when they start.
	Divide(ctx context.Context, sides [][]int) error
}

// Joining is how a node joins that has its state from peers.
type Joining struct {
	Trusted forks.Block
	Liars   []string // addresses of more peers, beside all other nodes
	Follow  bool     // it takes in its peers' blocks
}

// addresses are those at which nodes have been reached by others. It is safe for
// concurrent use.
type addresses struct {
	mu sync.Mutex // guards of
	of map[int]string
}

func (a *addresses) note(node int, address string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.of == nil {
		a.of = make(map[int]string)
	}
	a.of[node] = address
}

// get is a node's, empty where it has none yet.
func (a *addresses) get(node int) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.of[node]
}

// others gives the addresses of all nodes but one, also of those that are down: they
// come back there.
func (a *addresses) others(node int) (list []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, other := range slices.Sorted(maps.Keys(a.of)) {
		if other != node {
			list = append(list, a.of[other])
		}
	}
	return list
}

// asked gives the addresses of a node's peers: once all have met, all others and those
// liars; before, others and its own liars if it joined, else none.
func (a *addresses) asked(node int, joined *Joining, met bool, liars []string) []string {
	switch {
	case met:
		return append(a.others(node), liars...)
	case joined != nil:
		return append(a.others(node), joined.Liars...)
	}
	return nil
}
