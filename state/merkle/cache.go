package merkle

import (
	"container/list"
	"sync"

	"accessor/forks"
)

// Cache keeps the parts of groups that were read or made. A group is named
// by its root, so an entry is never wrong, on no fork. A nil Cache keeps nothing.
type Cache struct {
	most int // parts

	mu    sync.Mutex
	order list.List // of *cached, the next to go first
	byID  map[groupID]*list.Element
	parts int
}

type groupID struct {
	root  forks.Hash
	depth uint8 // the same keys may be a group at another depth, in other parts
}

type cached struct {
	id groupID
	parts
}

// partCost is what a part takes in the cache, in bytes: 40, and its share of the
// rest.
const partCost = 48

// NewCache gives a cache of at most so many bytes.
func NewCache(size int) *Cache {
	return &Cache{most: size / partCost, byID: make(map[groupID]*list.Element)}
}

// Clear empties the cache.
func (c *Cache) Clear() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.order.Init()
	c.byID = make(map[groupID]*list.Element)
	c.parts = 0
}

// full says that there is hardly room for more.
func (c *Cache) full() bool {
	if c == nil {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.parts > c.most-c.most/16
}

func (c *Cache) get(id groupID) (parts, bool) {
	if c == nil {
		return nil, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	el, ok := c.byID[id]
	if !ok {
		return nil, false
	}
	c.order.MoveToBack(el)
	return el.Value.(*cached).parts, true
}

func (c *Cache) put(id groupID, s parts) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if el, ok := c.byID[id]; ok {
		c.order.MoveToBack(el)
		return
	}
	c.byID[id] = c.order.PushBack(&cached{id, s})
	c.parts += len(s)
	for c.parts > c.most && c.order.Len() > 1 {
		first := c.order.Remove(c.order.Front()).(*cached)
		delete(c.byID, first.id)
		c.parts -= len(first.parts)
	}
}

// replaced says that a block has changed a group: only a fork below that block
// asks for it again, so it goes before all others.
func (c *Cache) replaced(id groupID) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if el, ok := c.byID[id]; ok {
		c.order.MoveToFront(el)
	}
}
