package rocks

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"

	"accessor/checkpoint"
)

// SelfTest implements checkpoint.Engine: a throw-away table is ingested into
// two databases, over data that it overlaps, and must stay the same to the
// byte. By default RocksDB 7.8 writes a sequence number into a table that it
// ingests; a table linked into other databases is then changed for them too,
// and the next ingestion fails. Whoever runs this program with a RocksDB that
// does so in spite of our options would lose the store.
func (e *Engine) SelfTest(dir string) error {
	dir, err := os.MkdirTemp(dir, "selftest-")
	if err != nil {
		return fmt.Errorf("self-test: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := e.selfTest(dir, e.OpenWorking); err != nil {
		return fmt.Errorf("self-test of %s in %s: %w", e.Name(), dir, err)
	}
	return nil
}

func (e *Engine) selfTest(dir string, open func(string) (checkpoint.WorkingDB, error)) error {
	older, shared := filepath.Join(dir, "older.sst"), filepath.Join(dir, "shared.sst")
	for path, value := range map[string]string{older: "old", shared: "new"} {
		if err := e.writeTable(path, "key", value); err != nil {
			return err
		}
	}
	before, err := sum(shared)
	if err != nil {
		return err
	}
	for _, name := range []string{"one", "two"} {
		if err := ingestBoth(filepath.Join(dir, name), open, older, shared); err != nil {
			return err
		}
		after, err := sum(shared)
		if err != nil {
			return err
		}
		if after != before {
			return fmt.Errorf("%w: ingestion wrote into the table file (write_global_seqno is not obeyed): use the RocksDB that docs/DECISIONS.md names",
				checkpoint.ErrEngine)
		}
	}
	return nil
}

func (e *Engine) writeTable(path, key, value string) error {
	w, err := e.CreateTable(path)
	if err != nil {
		return err
	}
	if err := w.Put([]byte(key), []byte(value)); err != nil {
		w.Abort()
		return err
	}
	return w.Finish()
}

// ingestBoth ingests both tables in turn into a new database and reads the key
// back, which must be the newer table's.
func ingestBoth(dir string, open func(string) (checkpoint.WorkingDB, error), older, newer string) error {
	w, err := open(dir)
	if err != nil {
		return err
	}
	defer w.Close()
	for _, path := range []string{older, newer} {
		link := path + ".link"
		if err := os.Link(path, link); err != nil {
			return err
		}
		if err := w.Ingest([]string{link}); err != nil {
			return err
		}
	}
	value, found, err := w.Get(nil, []byte("key"))
	if err != nil {
		return err
	}
	if !found || string(value) != "new" {
		return fmt.Errorf("%w: read %q after ingestion, want %q", checkpoint.ErrEngine, value, "new")
	}
	return nil
}

func sum(path string) ([sha256.Size]byte, error) {
	data, err := os.ReadFile(path)
	return sha256.Sum256(data), err
}
