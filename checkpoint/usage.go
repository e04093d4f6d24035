package checkpoint

// Usage is what an engine takes of memory now.
type Usage struct {
	CacheBytes    int64 // that the cache of table blocks holds
	CachePinned   int64 // of these, what is in use and can't be given up
	CacheCapacity int64 // bytes that it may hold
	Databases     int   // that are open, journals left out
	TableReaders  int64 // bytes that their tables take beside the cache, about
}

// Measured is an Engine that can tell what it uses. It reads no files for that.
type Measured interface {
	Usage() Usage
}

// EngineUsage gives what the engine uses; ok is false where it doesn't tell.
func (s *Store) EngineUsage() (u Usage, ok bool) {
	if m, measured := s.engine.(Measured); measured {
		return m.Usage(), true
	}
	return Usage{}, false
}
