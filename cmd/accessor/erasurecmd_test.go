package main

import (
	"bytes"
	"testing"

	"accessor/api/client"
)

// FuzzShardFile: what is read as a shard is written as it was.
func FuzzShardFile(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{9, 0, 0, 0, 1})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1, 2, 3})
	whole := appendShard(client.ErasureShard{Bundle: []byte{1, 2}, Justification: []byte{3}})
	f.Add(whole)
	f.Add(append(whole, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseShard(b)
		if whole := 12 + len(s.Bundle) + len(s.Segments) + len(s.Justification); err == nil && (whole != len(b) || !bytes.Equal(appendShard(s), b)) {
			t.Errorf("%x is read as %+v", b, s)
		}
	})
}
