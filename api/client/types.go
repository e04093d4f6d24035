package client

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"accessor/forks"
)

// About says which block an answer is about.
type About struct {
	Block Hash       `json:"block"`
	Slot  forks.Slot `json:"slot"`
	Root  Hash       `json:"root"` // of the state after the block
}

// Pair is a key and its value.
type Pair struct{ Key, Value []byte }

// BlockInfo is a held block and where it stands.
type BlockInfo struct {
	About
	Parent    *Hash  `json:"parent"` // nil of the anchor
	Children  []Hash `json:"children"`
	Canonical bool   `json:"canonical"` // finalized, or an ancestor of finalized
	Lost      bool   `json:"lost"`      // on a branch that lost by finality
	Head      bool   `json:"head"`
	Finalized bool   `json:"finalized"`
	Anchor    bool   `json:"anchor"`
	// Checkpoint says whether it has one of its own; else its state is rebuilt where a
	// reader needs it.
	Checkpoint bool `json:"checkpoint"`
}

// Tree is the blocks that are held, by slot and then by hash.
type Tree struct {
	Blocks    []BlockInfo `json:"blocks"`
	Head      About       `json:"head"`
	Finalized About       `json:"finalized"`
	Anchor    About       `json:"anchor"`
}

// Block is a block to import.
type Block struct {
	Hash, Parent Hash
	Slot         forks.Slot
	// PriorRoot and PostRoot are compared with the roots that come out, unless nil.
	PriorRoot, PostRoot *Hash
	Puts                []Pair // of a key twice, the last wins
	Dels                [][]byte
	Header              []byte // encoded; it is checked and kept unless nil
}

// Imported is what became of a block.
type Imported struct {
	Hash     Hash       `json:"hash"`
	Slot     forks.Slot `json:"slot"`
	Root     Hash       `json:"root"`
	New      bool       `json:"new"`      // false where it was held already
	WalkBack *WalkBack  `json:"walkback"` // nil where the parent's checkpoint could be used
	MS       float64    `json:"ms"`
	Unsealed string     `json:"unsealed,omitempty"` // why the block, though held, has no checkpoint
}

// WalkBack says from where a parent's state was reached.
type WalkBack struct {
	From    Hash     `json:"from"` // whose checkpoint was used
	Blocks  int      `json:"blocks"`
	Reasons []string `json:"reasons"` // why no nearer checkpoint was
}

// Finalized is what became of the tree.
type Finalized struct {
	About
	Lost []Hash `json:"lost"` // the blocks that lose by it
}

// Changes are what a block wrote, in the order of the keys.
type Changes struct {
	About
	Puts []Pair
	Dels [][]byte
}

// Difference is a key that two states don't have in common. A value is nil where the
// state has no such key.
type Difference struct{ Key, From, To []byte }

// Diff is what differs between two states, in the order of the keys.
type Diff struct {
	From, To, Common About // Common is their newest common ancestor
	Keys             []Difference
}

// Version is what a block made of a key.
type Version struct {
	About
	Value []byte // nil for a delete
}

// History is who wrote a key, newest first; the anchor's version, if it has the key, is
// the last.
type History struct {
	About
	Key      []byte
	Versions []Version
}

// Lock is a timeslot's lock.
type Lock struct {
	Slot    forks.Slot `json:"slot"`
	Block   Hash       `json:"block"` // that is being written
	Owner   string     `json:"owner"`
	AgeMS   int64      `json:"age_ms"`
	Waiters int        `json:"waiters"`
}

// Reservation is a timeslot that a draft has reserved.
type Reservation struct {
	Slot      forks.Slot `json:"slot"`
	Owner     string     `json:"owner"`
	AgeMS     int64      `json:"age_ms"`
	ExpiresMS *int64     `json:"expires_ms"` // nil while a draft is being begun or committed
}

// Locks are the timeslots that are locked or reserved, by slot.
type Locks struct {
	Locks        []Lock        `json:"locks"`
	Reservations []Reservation `json:"reservations"`
}

// Status is what the service is like.
type Status struct {
	Version    string `json:"version"`
	Ready      bool   `json:"ready"`
	Reason     string `json:"reason,omitempty"` // why it isn't ready
	Commitment string `json:"commitment,omitempty"`
	Anchor     *About `json:"anchor,omitempty"`
	Finalized  *About `json:"finalized,omitempty"`
	Head       *About `json:"head,omitempty"`
	Blocks     int    `json:"blocks"`
	Leaves     int    `json:"leaves"`
	Drafts     int    `json:"drafts"`
	Pins       int    `json:"pins"`
	Locks      int    `json:"locks"`
	Importing  int    `json:"importing"`
	CacheReady bool   `json:"cache_ready"`
	DiskBytes  int64  `json:"disk_bytes"`
	DiskBudget int64  `json:"disk_budget"` // 0 for none
	// Positions of the events that are kept; 0 where there are none.
	OldestEvent uint64 `json:"oldest_event"`
	NewestEvent uint64 `json:"newest_event"`
	// Partial says that the anchor's whole state isn't there yet: peers are asked for what
	// is missing.
	Partial bool  `json:"partial"`
	Fill    *Fill `json:"fill"` // nil where all is there
	// Who the sidecar is among its peers; empty where it has none.
	PeerID        string   `json:"peer_id,omitempty"`
	PeerAddresses []string `json:"peer_addresses,omitempty"` // multiaddresses
}

// Fill is how far a partial store is.
type Fill struct {
	Done int64 `json:"done"` // pairs of the anchor's state that are there
	Of   int64 `json:"of"`   // how many it has about; 0 while that can't be said
	// AnchorGone says that peers don't have the anchor's state any more: a later block has
	// to be trusted.
	AnchorGone bool `json:"anchor_gone,omitempty"`
}

// hexBytes are bytes that JSON has in hex; null is nil.
type hexBytes []byte

// UnmarshalJSON implements json.Unmarshaler.
func (b *hexBytes) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		*b = nil
		return nil
	}
	if len(text) < 2 || text[0] != '"' {
		return fmt.Errorf("%.20q is not hex", text)
	}
	out := make([]byte, (len(text)-2)/2)
	if _, err := hex.Decode(out, text[1:len(text)-1]); err != nil {
		return err
	}
	*b = out
	return nil
}

// hexPair is a pair in hex, as JSON has it: [key, value], the value perhaps null.
type hexPair [2]hexBytes

// UnmarshalJSON implements json.Unmarshaler: a list of two, no more and no less.
func (p *hexPair) UnmarshalJSON(text []byte) error {
	if p.quick(text) {
		return nil
	}
	var list []hexBytes
	if err := json.Unmarshal(text, &list); err != nil {
		return err
	}
	if len(list) != 2 || list[0] == nil {
		return fmt.Errorf("%.80q is no pair", text)
	}
	*p = hexPair(list)
	return nil
}

// quick reads a pair as the server writes it, without blanks: scans have many. False
// for all else, and for what is wrong.
func (p *hexPair) quick(text []byte) bool {
	text, ok := bytes.CutPrefix(text, []byte(`["`))
	if !ok {
		return false
	}
	key, value, ok := bytes.Cut(text, []byte(`",`))
	null := string(value) == "null]"
	if !null {
		if len(value) < len(`""]`) || value[0] != '"' || string(value[len(value)-2:]) != `"]` {
			return false
		}
		value = value[1 : len(value)-2]
	} else {
		value = nil
	}
	both := make([]byte, hex.DecodedLen(len(key))+hex.DecodedLen(len(value)))
	n, err := hex.Decode(both, key)
	if _, err2 := hex.Decode(both[n:], value); !ok || err != nil || err2 != nil {
		return false
	}
	if p[0] = both[:n:n]; !null {
		p[1] = both[n:]
	}
	return true
}

// wholeHash reads a block's name that is its whole hash.
func wholeHash(name string) (Hash, bool) {
	h, err := forks.ParseHash(name)
	return h, err == nil
}

// serverName gives a block's name as the server takes it for a hash, too, where the hash
// has digits alone: without 0x it would be a slot.
func serverName(name string) string {
	if h, ok := wholeHash(name); ok {
		return blockName(h)
	}
	return name
}

func digits(s string) bool {
	for _, r := range s {
		if r < '0' || r > '9' {
			return false
		}
	}
	return true
}

// blockName names a block by its hash.
func blockName(h Hash) string {
	text := h.String()
	if digits(text) {
		return "0x" + text
	}
	return text
}
