package merkle

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"accessor/forks"
)

// A state's trie is kept in two kinds of records, beside the state's own pairs:
// pages hold what the bottom of the trie is computed from, groups what its top
// is. Both are sub-tries, each the largest with that many keys at most, so that
// equal states have equal records, whatever their history.
const (
	// pageKeys is the most keys of a page. A block that writes a key writes that
	// key's page: 500 random keys of 2 million are some 190 kB.
	pageKeys = 8
	// groupKeys is the most keys of a group. A new process reads all groups (some
	// 15,000 for 2 million keys), and the pages of those groups that it changes.
	groupKeys = 192
)

// The first byte of a record's key: its kind. The place's path follows, in bytes,
// without the zero bytes at its end, so records are in the order of their keys.
const (
	kindPage  = 'p'
	kindGroup = 'q' // after all pages, so that records can be made in one pass
)

// ErrDamaged is the error of trie records that contradict each other, or the
// root that they should have. They are derived: the state's pairs give them.
var ErrDamaged = errors.New("trie records are damaged")

// place is where a sub-trie hangs: the bits of its path, padded with zeros.
type place struct {
	bits  [KeySize]byte
	depth uint8 // number of bits, 0 to MaxDepth
}

func (p place) child(b byte) place {
	p.bits[p.depth/8] |= b << (7 - p.depth%8)
	p.depth++
	return p
}

// covers says whether a key is in the sub-trie.
func (p place) covers(key *[KeySize]byte) bool {
	whole := p.depth / 8
	if !bytes.Equal(p.bits[:whole], key[:whole]) {
		return false
	}
	rest := p.depth % 8
	return rest == 0 || (p.bits[whole]^key[whole])>>(8-rest) == 0
}

// last is the last key that the sub-trie may hold.
func (p place) last() [KeySize]byte {
	key := p.bits
	whole := int(p.depth+7) / 8
	if rest := p.depth % 8; rest > 0 {
		key[whole-1] |= 0xff >> rest
	}
	for i := whole; i < KeySize; i++ {
		key[i] = 0xff
	}
	return key
}

func (p place) record(kind byte) []byte {
	return append([]byte{kind}, bytes.TrimRight(p.bits[:], "\x00")...)
}

// recordPlace undoes record, but for the depth, which is the value's.
func recordPlace(key []byte, depth uint8) (place, error) {
	p := place{depth: depth}
	whole, rest := int(depth/8), depth%8
	if depth > MaxDepth || len(key) > 1+KeySize || len(key) > 1 && key[len(key)-1] == 0 {
		return p, fmt.Errorf("%w: record key %x at depth %d", ErrDamaged, key, depth)
	}
	copy(p.bits[:], key[1:])
	if len(key) > 1+whole+1 || len(key) == 1+whole+1 && p.bits[whole]<<rest != 0 {
		return p, fmt.Errorf("%w: record key %x at depth %d", ErrDamaged, key, depth)
	}
	return p, nil
}

// span is the range of the records of a kind in the sub-trie: [from, to).
func (p place) span(kind byte) (from, to []byte) {
	last := p.last()
	return p.record(kind), append(append([]byte{kind}, last[:]...), 0)
}

// A record ends with the CRC-32C (u32) of its key and the rest of its value: the
// hashes above a page say nothing of the keys beside its leaves' hashes.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const checksumSize = 4

func checksum(key, value []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
}

func seal(key, value []byte) []byte {
	return binary.LittleEndian.AppendUint32(value, checksum(key, value))
}

// unseal checks a record and gives its value without the checksum.
func unseal(key, value []byte) ([]byte, error) {
	n := len(value) - checksumSize
	if n < 1 || binary.LittleEndian.Uint32(value[n:]) != checksum(key, value[:n]) {
		return nil, fmt.Errorf("%w: record %x of %d bytes has another checksum", ErrDamaged, key, len(value))
	}
	return value[:n], nil
}

// entry is a key of a page with the hash of its leaf.
type entry struct {
	key  [KeySize]byte
	leaf forks.Hash
}

// page is what is known of a page without its entries.
type page struct {
	place
	count uint8
	root  forks.Hash
}

// entriesRoot is the hash of the sub-trie of sorted entries at a depth.
func entriesRoot(depth int, list []entry) forks.Hash {
	switch len(list) {
	case 0:
		return forks.Hash{}
	case 1:
		return list[0].leaf
	}
	// Two keys part at some depth: list is sorted and has no key twice.
	i := 0
	for i < len(list) && bit(&list[i].key, depth) == 0 {
		i++
	}
	return Branch(entriesRoot(depth+1, list[:i]), entriesRoot(depth+1, list[i:])).Hash()
}

// pageRecord gives a page's record: u8 depth, then each entry's key without the
// whole bytes of the place, and its leaf's hash; the checksum.
func pageRecord(p place, list []entry) (key, value []byte) {
	whole := int(p.depth / 8)
	b := make([]byte, 0, 1+len(list)*(KeySize-whole+forks.HashSize)+checksumSize)
	b = append(b, p.depth)
	for i := range list {
		b = append(append(b, list[i].key[whole:]...), list[i].leaf[:]...)
	}
	key = p.record(kindPage)
	return key, seal(key, b)
}

// decodePage reads a page's record and computes its root.
func decodePage(key, value []byte) (page, []entry, error) {
	value, err := unseal(key, value)
	if err != nil {
		return page{}, nil, err
	}
	at, err := recordPlace(key, value[0])
	if err != nil {
		return page{}, nil, err
	}
	whole := int(at.depth / 8)
	size := KeySize - whole + forks.HashSize
	body := value[1:]
	if len(body) == 0 || len(body)%size != 0 || len(body)/size > pageKeys {
		return page{}, nil, fmt.Errorf("%w: page %x of %d bytes", ErrDamaged, key, len(value))
	}
	list := make([]entry, len(body)/size)
	for i := range list {
		e := &list[i]
		copy(e.key[:], at.bits[:whole])
		copy(e.key[whole:], body)
		copy(e.leaf[:], body[KeySize-whole:])
		body = body[size:]
		if !at.covers(&e.key) || i > 0 && bytes.Compare(list[i-1].key[:], e.key[:]) >= 0 {
			return page{}, nil, fmt.Errorf("%w: key %x in page %x", ErrDamaged, e.key, key)
		}
	}
	return page{place: at, count: uint8(len(list)), root: entriesRoot(int(at.depth), list)}, list, nil
}

// groupRecord gives a group's record: u8 depth, u32 number of keys, the root; the
// checksum.
func groupRecord(p place, count int, root forks.Hash) (key, value []byte) {
	b := binary.LittleEndian.AppendUint32([]byte{p.depth}, uint32(count))
	key = p.record(kindGroup)
	return key, seal(key, append(b, root[:]...))
}

func decodeGroup(key, value []byte) (at place, count int, root forks.Hash, err error) {
	if value, err = unseal(key, value); err != nil {
		return at, 0, root, err
	}
	if len(value) != 1+4+forks.HashSize {
		return at, 0, root, fmt.Errorf("%w: group %x of %d bytes", ErrDamaged, key, len(value))
	}
	if at, err = recordPlace(key, value[0]); err != nil {
		return at, 0, root, err
	}
	count = int(binary.LittleEndian.Uint32(value[1:]))
	copy(root[:], value[5:])
	if count == 0 || count > groupKeys {
		return at, 0, root, fmt.Errorf("%w: group %x of %d keys", ErrDamaged, key, count)
	}
	return at, count, root, nil
}
