package da

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"accessor/da/erasure"
	"accessor/forks"
	"accessor/state/merkle"
)

// The bytes of PROTOCOL.md.
func TestEncodings(t *testing.T) {
	hash := forks.Hash(bytes.Repeat([]byte{0xaa}, 32))
	h := "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	start, end := key{1}, key{2}
	s, e := hex.EncodeToString(start[:]), hex.EncodeToString(end[:])
	block, err := appendBlock(nil, &Block{
		Hash: hash, Parent: forks.Hash{1}, Slot: 0x01020304, PriorRoot: forks.Hash{2}, PostRoot: forks.Hash{3},
		Header: []byte("head"), Puts: [][2][]byte{{start[:], []byte("value")}}, Dels: [][]byte{end[:]},
	})
	if err != nil {
		t.Fatal(err)
	}
	zeros := "00000000000000000000000000000000000000000000000000000000000000"
	for name, c := range map[string]struct {
		got  []byte
		want string
	}{
		"range":   {encodeRange(hash, merkle.RangeRequest{Start: start, End: end, MaxSize: 0x10000}), h + s + e + "00000100"},
		"keys":    {encodeKeys(hash, []key{start, end}, 0x800000), h + "00008000" + s + e},
		"blocks":  {encodeBlocks(hash, 0x800000), h + "00008000"},
		"bundle":  {shardRequest{hash, -1, 2, []uint16{5, 0x3fe}}.encode(), h + "0200" + "0500" + "fe03"},
		"segment": {shardRequest{hash, 3, 2, []uint16{5}}.encode(), h + "0300" + "0200" + "0500"},
		"block": {block, h + "01" + zeros + "04030201" + "02" + zeros + "03" + zeros + "04" + hex.EncodeToString([]byte("head")) +
			"01" + s + "05" + hex.EncodeToString([]byte("value")) + "01" + e},
		"message": {appendMessage(nil, []byte{9, 8}), "020000000908"},
	} {
		if got := hex.EncodeToString(c.got); got != c.want {
			t.Errorf("%s is\n%s, want\n%s", name, got, c.want)
		}
	}
}

func TestRequestsThatAreNone(t *testing.T) {
	keys := func(ks ...key) []byte { return encodeKeys(forks.Hash{}, ks, 5) }
	for name, err := range map[string]error{
		"short range":     second(decodeRange(make([]byte, rangeRequestSize-1))),
		"start above end": second(decodeRange(encodeRange(forks.Hash{}, merkle.RangeRequest{Start: key{1}}))),
		"no keys":         third(decodeKeys(keys())),
		"a cut key":       third(decodeKeys(keys(key{1}, key{2})[:70])),
		"key twice":       third(decodeKeys(keys(key{1}, key{1}))),
		"many keys":       third(decodeKeys(make([]byte, 36+31*(MaxKeys+1)))),
		"long blocks":     func() error { _, _, err := decodeBlocks(make([]byte, 37)); return err }(),
	} {
		if !errors.Is(err, ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, q := range map[string]shardRequest{
		"no index":    {segment: -1, most: 1},
		"none wanted": {segment: -1, indices: []uint16{1}},
		"index 1023":  {segment: -1, most: 1, indices: []uint16{1023}},
		"index twice": {segment: -1, most: 1, indices: []uint16{1, 1}},
		"many":        {segment: -1, most: 1, indices: make([]uint16, 1024)},
	} {
		if _, err := decodeShards(kindBundle, q.encode()); !errors.Is(err, ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
		q.segment = 1
		if _, err := decodeShards(kindSegment, q.encode()); !errors.Is(err, ErrRequest) {
			t.Errorf("%s of a segment: %v", name, err)
		}
	}
	if _, err := decodeShards(kindSegment, shardRequest{segment: MaxSegments, most: 1, indices: []uint16{1}}.encode()); !errors.Is(err, ErrRequest) {
		t.Errorf("a segment too many: %v", err)
	}
}

func second(_ forks.Hash, _ merkle.RangeRequest, err error) error { return err }
func third(_ forks.Hash, _ []key, _ int, err error) error         { return err }

// A length is not believed before the bytes are there.
func TestMessageMemory(t *testing.T) {
	head := binary.LittleEndian.AppendUint32(nil, MaxItem)
	input := append(head, make([]byte, 1000)...)
	if n := testing.AllocsPerRun(10, func() {
		_, err := messages{bytes.NewReader(input)}.next(MaxItem)
		if !errors.Is(err, errInvalid) {
			t.Error(err)
		}
	}); n > 20 {
		t.Errorf("%v allocations", n)
	}
	r := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = messages{bytes.NewReader(input)}.next(MaxItem)
		}
	})
	if got := r.AllocedBytesPerOp(); got > 2*firstRead {
		t.Errorf("a message of 16 MiB of which 1,000 bytes come takes %d bytes", got)
	}
	long := filled(rand.New(rand.NewPCG(1, 1)), 300_001)
	got, err := messages{iotest.OneByteReader(bytes.NewReader(appendMessage(nil, long)))}.next(len(long))
	if err != nil || !bytes.Equal(got, long) {
		t.Errorf("%v: %d bytes", err, len(got))
	}
}

// A connection that breaks is not a peer that lies.
func TestBrokenOffIsNotInvalid(t *testing.T) {
	broken := errors.New("connection lost: EOF")
	r := io.MultiReader(bytes.NewReader([]byte{5, 0}), iotest.ErrReader(errors.Join(broken, io.EOF)))
	if _, err := (messages{r}).next(10); errors.Is(err, errInvalid) || !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func TestStatus(t *testing.T) {
	var over *overloadedError
	err := readStatus(bytes.NewReader([]byte{statusOverloaded, 0xff, 0xff, 0xff, 0xff}))
	if !errors.As(err, &over) || over.after != maxBackOff {
		t.Errorf("got %v", err)
	}
	err = readStatus(bytes.NewReader([]byte{statusOverloaded, 1, 1, 0, 0}))
	if !errors.As(err, &over) || over.after != 257*time.Millisecond {
		t.Errorf("got %v", err)
	}
	for text, want := range map[string]error{
		"\x00rest": nil, "\x01": ErrNotHeld, "\x03": errRefused, "\x04": errInvalid, "\x05": ErrTooLarge,
		"\x01x": errInvalid, "\x02\x00": errInvalid, "\x06": errInvalid,
	} {
		if err := readStatus(bytes.NewReader([]byte(text))); !errors.Is(err, want) {
			t.Errorf("%x: %v, want %v", text, err, want)
		}
	}
}

func FuzzDecodeRequest(f *testing.F) {
	f.Add(0, encodeRange(forks.Hash{1}, merkle.RangeRequest{End: key{5}, MaxSize: 7}))
	f.Add(1, encodeKeys(forks.Hash{1}, []key{{1}, {2}}, 9))
	f.Add(2, encodeBlocks(forks.Hash{1}, 9))
	f.Add(4, shardRequest{forks.Hash{1}, -1, 3, []uint16{4, 1022}}.encode())
	f.Add(5, shardRequest{forks.Hash{1}, 7, 3, []uint16{4, 0}}.encode())
	f.Fuzz(func(t *testing.T, which int, b []byte) {
		var again []byte
		var err error
		switch k := kind(uint(which) % uint(kinds)); k {
		case kindRange:
			block, req, e := decodeRange(b)
			again, err = encodeRange(block, req), e
		case kindKeys:
			block, keys, most, e := decodeKeys(b)
			again, err = encodeKeys(block, keys, most), e
			if e == nil && most == MaxItem {
				copy(again[32:36], b[32:36])
			}
		case kindBlocks:
			above, most, e := decodeBlocks(b)
			again, err = encodeBlocks(above, most), e
			if e == nil && most == MaxAnswer {
				copy(again[32:36], b[32:36])
			}
		case kindItem:
			return
		default:
			q, e := decodeShards(k, b)
			again, err = q.encode(), e
		}
		if err == nil && !bytes.Equal(again, b) {
			t.Errorf("%x comes back as %x", b, again)
		}
	})
}

func FuzzDecodeBlock(f *testing.F) {
	for _, b := range books().blocks {
		encoded, _ := appendBlock(nil, &b)
		f.Add(encoded)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		block, err := decodeBlock(b)
		if err != nil {
			if !errors.Is(err, errInvalid) {
				t.Error(err)
			}
			return
		}
		again, err := appendBlock(nil, &block)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%v: %x comes back as %x", err, b, again)
		}
	})
}

// FuzzAnswers gives made-up answers to each kind of request: what is taken is right.
func FuzzAnswers(f *testing.F) {
	l := books()
	root := l.work(erasure.Tiny()).spec.Root
	item := hashOf(l.items[hashOf(nil)])
	for k, request := range [kinds][]byte{
		encodeRange(l.at.Hash, merkle.RangeRequest{Start: l.keys[2], End: l.keys[90], MaxSize: 2000}),
		encodeKeys(l.at.Hash, l.keys[1:2], 1<<20), encodeBlocks(l.at.Hash, 1<<20), item[:],
		shardRequest{root, -1, 3, []uint16{0, 1, 4}}.encode(), shardRequest{root, 1, 3, []uint16{0, 1, 4}}.encode(),
	} {
		ours, theirs := newStreams()
		go honest(l)(kind(k), theirs)
		_, _ = ours.Write(appendMessage(nil, request))
		_ = ours.CloseWrite()
		answer := make([]byte, 1<<20)
		n, err := readFull(ours, answer)
		if err != nil || answer[0] != statusOK {
			f.Fatalf("%v: answer %x", err, answer[:n])
		}
		f.Add(k, answer[:n])
	}
	f.Fuzz(func(t *testing.T, which int, answer []byte) {
		k := kind(uint(which) % uint(kinds))
		n, _ := newFake(t, nil)
		n.fetch.net = fixed(answer)
		// A spec of the tiny code; the shards are checked one by one.
		w := l.work(erasure.Tiny())
		c := &collection{flight: &flight{fetcher: n.fetch}, spec: w.spec.justify(), code: erasure.Tiny(), root: w.spec.Root, segment: -1, length: w.spec.Length, came: make(chan shardResult, 10)}
		var err error
		switch k {
		case kindRange:
			_, _, err = n.fetch.askRangeOnce(t.Context(), "a", l.at, merkle.RangeRequest{Start: l.keys[2], End: l.keys[90], MaxSize: 2000})
		case kindKeys:
			var p *merkle.Proof
			if p, err = n.fetch.askProof(t.Context(), k, "a", nil, 1, 1<<20); err == nil {
				if values, e := merkle.VerifyKeys(l.at.Root, l.keys[1:2], p); e == nil && !bytes.Equal(values[0], l.values[l.keys[1]]) {
					t.Error("took a wrong value")
				}
			}
		case kindBlocks:
			_, err = n.fetch.askBlocks(t.Context(), "a", l.at.Hash, 1<<20)
		case kindItem:
			var item []byte
			if item, err = n.fetch.askItem(t.Context(), "a", hashOf([]byte("x"))); err == nil && string(item) != "x" {
				t.Error("took a wrong item")
			}
		default:
			if k == kindSegment {
				c.segment, c.length = 1, 4104
			}
			_, _, err = c.ask(t.Context(), "a", shardRequest{c.root, c.segment, 3, []uint16{0, 1, 4}})
			for len(c.came) > 0 {
				r := <-c.came
				want := w.shards[r.index].Bundle
				if k == kindSegment {
					want = w.shards[r.index].Segments[1]
				}
				if diff := cmp.Diff(want, r.shard); diff != "" {
					t.Error("took a wrong shard")
				}
			}
		}
		if err == nil && len(answer) == 0 {
			t.Error("took nothing for an answer")
		}
	})
}
