package rocks

import (
	"strconv"
	"sync"

	"accessor/checkpoint"
)

var _ checkpoint.Measured = (*Engine)(nil)

// openDBs are the databases that are open. The zero value has none.
type openDBs struct {
	mu  sync.Mutex
	all map[*db]struct{} // guarded by mu
}

func (o *openDBs) add(d *db) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.all == nil {
		o.all = make(map[*db]struct{})
	}
	o.all[d] = struct{}{}
}

func (o *openDBs) remove(d *db) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.all, d)
}

func (o *openDBs) list() []*db {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := make([]*db, 0, len(o.all))
	for d := range o.all {
		list = append(list, d)
	}
	return list
}

// tracked has a database count among those that are open until it is closed.
func (e *Engine) tracked(d *db) *db {
	d.engine = e
	e.open.add(d)
	return d
}

// Usage implements checkpoint.Measured. Of a closed engine it is zero.
func (e *Engine) Usage() checkpoint.Usage {
	e.measuring.Lock()
	defer e.measuring.Unlock()
	if e.closed {
		return checkpoint.Usage{}
	}
	u := checkpoint.Usage{
		CacheBytes:    int64(e.cache.GetUsage()),
		CachePinned:   int64(e.cache.GetPinnedUsage()),
		CacheCapacity: int64(e.cache.GetCapacity()),
	}
	for _, d := range e.open.list() {
		if n, ok := d.tableReaders(); ok {
			u.Databases++
			u.TableReaders += n
		}
	}
	return u
}

// tableReaders gives the memory that the database's tables take; ok is false where it
// was closed meanwhile.
func (d *db) tableReaders() (n int64, ok bool) {
	d.closing.Lock()
	defer d.closing.Unlock()
	if d.db == nil {
		return 0, false
	}
	n, err := strconv.ParseInt(d.db.GetProperty("rocksdb.estimate-table-readers-mem"), 10, 64)
	return n, err == nil
}
