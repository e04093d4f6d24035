package merkle

import (
	"container/list"
	"sync"

	"accessor/forks"
)

// Cache keeps the pages' roots of groups that were read or made. A group is named
// by its root, so an entry is never wrong, on no fork. A nil Cache keeps nothing.
type Cache struct {
	most int // pages

	mu    sync.Mutex
	order list.List // of *cached, the next to go first
	byID  map[groupID]*list.Element
	pages int
}

type groupID struct {
	root  forks.Hash
	depth uint8 // the same keys may be a group at another depth, in other pages
}

type cached struct {
	id    groupID
	pages []page
}

// pageCost is what a page takes in the cache, in bytes: 65, and its share of the
// rest.
const pageCost = 80

// NewCache gives a cache of at most so many bytes.
func NewCache(size int) *Cache {
	return &Cache{most: size / pageCost, byID: make(map[groupID]*list.Element)}
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
	c.pages = 0
}

func (c *Cache) get(root forks.Hash, depth uint8) ([]page, bool) {
	if c == nil {
		return nil, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	el, ok := c.byID[groupID{root, depth}]
	if !ok {
		return nil, false
	}
	c.order.MoveToBack(el)
	return el.Value.(*cached).pages, true
}

func (c *Cache) put(root forks.Hash, depth uint8, pages []page) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	id := groupID{root, depth}
	if el, ok := c.byID[id]; ok {
		c.order.MoveToBack(el)
		return
	}
	c.byID[id] = c.order.PushBack(&cached{id, pages})
	c.pages += len(pages)
	for c.pages > c.most && c.order.Len() > 1 {
		first := c.order.Remove(c.order.Front()).(*cached)
		delete(c.byID, first.id)
		c.pages -= len(first.pages)
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
