package api

import (
	"encoding/hex"
	"net/http"
	"strconv"
	"sync"

	"accessor/forks"
	"accessor/jam"
	"accessor/state"
)

const jamKeySize = jam.KeySize

// Value is the value of a key at a block.
type Value struct {
	Key   string `json:"key" doc:"in hex"`
	Value string `json:"value" doc:"in hex"`
	About
}

// buffers are those of values that are read; a larger one than this isn't kept.
const keptBuffer = 64 << 10

var buffers = sync.Pool{New: func() any { return new([]byte) }}

// getValue is GET /v1/blocks/{id}/state/{key}: the hottest of all, so it does without
// encoding/json.
func (c *call) getValue() error {
	key, err := c.pathKey()
	if err != nil {
		return err
	}
	form, err := c.accepts(typeJSON, typeBinary)
	if err != nil {
		return err
	}
	b, byHash, err := c.block()
	if err != nil {
		return err
	}
	if err := c.mayRead(key); err != nil {
		return err
	}
	where := ""
	if !byHash {
		where = c.located(b)
	}
	if c.tagged(c.s.headings.at(b).valueTag(key, form), where, byHash) {
		return nil
	}
	v, err := c.s.views.take(c.r.Context(), c.core, b.Hash, c.began)
	if err != nil {
		return err
	}
	defer c.s.views.release(v)
	buf := buffers.Get().(*[]byte)
	defer func() {
		if cap(*buf) <= keptBuffer {
			buffers.Put(buf)
		}
	}()
	value, present, tier, err := v.AppendGetTier(c.r.Context(), (*buf)[:0], key)
	*buf = value
	c.tier = tierName(tier)
	switch {
	case err != nil:
		return err
	case !present:
		return absentKey(key)
	case form == typeBinary:
		return c.bytes(http.StatusOK, typeBinary, value)
	}
	n := len(value)
	*buf = appendValue(value, key, value, b)
	return c.bytes(http.StatusOK, typeJSON, (*buf)[n:])
}

// tierPeers is the tier of what came from peers, tierImport that of an import, whether
// or not it asked them.
const (
	tierPeers  = "peers"
	tierImport = "import"
)

// tierName is how an answer names the tier that served it.
func tierName(t state.Tier) string {
	if t == state.TierPeer {
		return tierPeers
	}
	return t.String()
}

// wholeTier is the tier of an answer that takes more than keys: of a partial state,
// peers give it, or have given what it is made of.
func (c *call) wholeTier() string {
	if c.core.Partial() {
		return tierPeers
	}
	return state.TierCheckpoint.String()
}

// appendValue appends the JSON of a Value.
func appendValue(dst, key, value []byte, b forks.Block) []byte {
	dst = append(dst, `{"key":"`...)
	dst = hex.AppendEncode(dst, key)
	dst = append(dst, `","value":"`...)
	dst = hex.AppendEncode(dst, value)
	dst = append(dst, `",`...)
	return append(appendAbout(dst, b), "}\n"...)
}

// appendAbout appends the members of About.
func appendAbout(dst []byte, b forks.Block) []byte {
	dst = append(dst, `"block":"`...)
	dst = hex.AppendEncode(dst, b.Hash[:])
	dst = append(dst, `","slot":`...)
	dst = strconv.AppendUint(dst, uint64(b.Slot), 10)
	dst = append(dst, `,"root":"`...)
	dst = hex.AppendEncode(dst, b.Root[:])
	return append(dst, '"')
}

// pathKey is the key that the path names.
func (c *call) pathKey() ([]byte, error) {
	if c.key != "" {
		return c.parseKey(c.key)
	}
	return c.parseKey(c.r.PathValue("key"))
}

// parseKey reads a key in hex, or by the name of a JAM state item. Error: a fault of
// kind bad-key.
func (c *call) parseKey(text string) ([]byte, error) {
	key, err := hex.DecodeString(text) // as programs write it: no item's name is hex
	if err != nil || len(key) == 0 {
		if key, err = jam.ParseKey(text); err != nil {
			return nil, newFault("bad-key", "%v", err)
		}
	}
	return key, c.checkKey(key)
}

// checkKey refuses what no state of the store has as a key. Error: a fault of kind
// bad-key.
func (c *call) checkKey(key []byte) error {
	if size := c.core.Commitment().KeySize(); size > 0 && len(key) != size {
		return newFault("bad-key", "key %.40x has %d bytes, this store's keys have %d", key, len(key), size)
	}
	if most := c.core.Limits().KeySize; len(key) == 0 || len(key) > most {
		return newFault("bad-key", "key %.40x has %d bytes, want 1 to %d", key, len(key), most)
	}
	return nil
}

// mayRead refuses a key that the client's roles may not read.
func (c *call) mayRead(key []byte) error {
	if item, ok := c.core.access.MayRead(c.client.Roles, key); !ok {
		return forbiddenItem(item)
	}
	return nil
}

// mayReadRange refuses a range, [from, to), with a key that the client's roles may
// not read; an empty to means no upper end.
func (c *call) mayReadRange(from, to []byte) error {
	if item, ok := c.core.access.MayReadRange(c.client.Roles, from, to); !ok {
		return forbiddenItem(item)
	}
	return nil
}

// mayReadAll refuses a list of pairs, of which key gives each key.
func mayReadAll[T any](c *call, list []T, key func(T) []byte) error {
	if c.core.access.ReadsAll(c.client.Roles) {
		return nil
	}
	for _, one := range list {
		if err := c.mayRead(key(one)); err != nil {
			return err
		}
	}
	return nil
}

func keyOfPair(p state.Pair) []byte { return p.Key }
