package client

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"math"
	"net/url"
	"sync/atomic"

	"accessor/forks"
	"accessor/jam"
	"accessor/state/merkle"
)

// View reads the state at one block. It is safe for concurrent use, and needs no
// closing. A block that was pruned since is an error, an absent key is none.
type View struct {
	c     *Client
	name  string
	bound atomic.Pointer[binding] // nil until it is known which block that is
	root  *Hash                   // that everything is proved against; nil for no proofs
}

// binding is the block of a view.
type binding struct {
	block Hash
	text  [2 * forks.HashSize]byte // the hash, as headers have it
	path  string                   // of the block
	about *About                   // nil until an answer has told slot and root
	root  [2 * forks.HashSize]byte // then, as headers have it
}

func bind(h Hash, about *About) *binding {
	b := &binding{block: h, path: "/v1/blocks/" + blockName(h), about: about}
	hex.Encode(b.text[:], h[:])
	if about != nil {
		hex.Encode(b.root[:], about.Root[:])
	}
	return b
}

// At gives a view of a block: head, finalized, anchor, genesis, a slot, a hash (64 hex
// digits, as Hash.String gives them) or 8 or more of its first digits. By its whole hash
// it is bound at once, else by the first answer.
func (c *Client) At(name string) *View {
	v := &View{c: c, name: name}
	if h, ok := wholeHash(name); ok {
		v.bound.Store(bind(h, nil))
	}
	return v
}

// WithVerification gives a view of the same block that trusts a state's root and
// nothing else: Get, GetItem, GetMany, Has and Scan fetch proofs, and check them. Error
// of those: ErrBadProof beside the others.
func (v *View) WithVerification(root Hash) *View {
	out := &View{c: v.c, name: v.name, root: &root}
	out.bound.Store(v.bound.Load())
	return out
}

// About says which block the view is of; it asks the server where no answer has said it
// yet.
func (v *View) About(ctx context.Context) (About, error) {
	if b := v.bound.Load(); b != nil && b.about != nil {
		return *b.about, nil
	}
	k, err := v.open(ctx, request{method: "GET", accept: typeJSON}, "")
	if err != nil {
		return About{}, err
	}
	if err := k.decode(nil); err != nil {
		return About{}, err
	}
	return *v.bound.Load().about, nil
}

// open sends a request about the view's block, and looks at which block the answer
// names. path goes after the block's.
func (v *View) open(ctx context.Context, r request, path string) (*conn, error) {
	for {
		b := v.bound.Load()
		switch {
		case b != nil:
			r.path = b.path + path
		case v.name == "" || v.name == "." || v.name == "..":
			return nil, clientError(ErrBadBlockID, nil, "%q names no block", v.name)
		default:
			r.path = "/v1/blocks/" + url.PathEscape(v.name) + path
		}
		k, err := v.c.open(ctx, &r)
		if err != nil {
			return nil, err
		}
		absent := k.head.status == 404 && k.head.about
		if k.head.status != 200 && !absent {
			return nil, notAbsent(k.problem())
		}
		same, err := v.check(b, &k.head)
		if err != nil {
			k.end(err)
			return nil, err
		}
		var refused error
		if absent {
			refused = k.problem()
		}
		switch {
		case !same: // another request has bound the view meanwhile, to another block
			if !absent {
				k.end(errOther)
			}
		case absent:
			return nil, refused
		default:
			return k, nil
		}
	}
}

// notAbsent refuses absence at a block that the answer doesn't name.
func notAbsent(err error) error {
	if isKind(err, ErrAbsentKey) {
		return badAnswer("a key is absent, and the answer doesn't name its block")
	}
	return err
}

// errOther ends a request whose answer is about another block than the view.
var errOther = badAnswer("another block")

// check compares the block that an answer names with the one that was asked for, or
// binds the view to it where b is nil. same is false where another request has bound the
// view to another block meanwhile: then the caller asks again. Error: of kind bad-answer.
func (v *View) check(b *binding, h *head) (same bool, err error) {
	if !h.about {
		return false, badAnswer("the answer doesn't name its block")
	}
	if b == nil {
		about := h.at()
		return v.bound.CompareAndSwap(nil, bind(about.Block, &about)) || h.block == v.bound.Load().text, nil
	}
	if h.block != b.text {
		return false, badAnswer("an answer about block %s, not %s", h.block[:], b.text[:])
	}
	if b.about == nil {
		about := h.at()
		v.bound.CompareAndSwap(b, bind(about.Block, &about))
	} else if h.root != b.root || forks.Slot(h.slot) != b.about.Slot {
		about := h.at()
		return false, badAnswer("block %s had slot %d and root %s, now %d and %s", about.Block, b.about.Slot, b.about.Root, about.Slot, about.Root)
	}
	return true, nil
}

// Get gives a key's value; present is false where the state has no such key.
func (v *View) Get(ctx context.Context, key []byte) (value []byte, present bool, err error) {
	return v.AppendGet(ctx, nil, key)
}

// AppendGet appends a key's value to dst. What it gives is not nil where the key is
// present.
func (v *View) AppendGet(ctx context.Context, dst, key []byte) (value []byte, present bool, err error) {
	if v.root != nil {
		values, err := v.prove(ctx, [][]byte{key})
		if err != nil || values[0] == nil {
			return dst, false, err
		}
		if dst == nil {
			dst = []byte{}
		}
		return append(dst, values[0]...), true, nil
	}
	var path [len("/state/") + 2*255]byte
	return v.get(ctx, dst, string(hex.AppendEncode(append(path[:0], "/state/"...), key)))
}

// GetItem is Get of a key by its name: hex, or a JAM state item such as "slot",
// "entropy" or "account:7".
func (v *View) GetItem(ctx context.Context, name string) (value []byte, present bool, err error) {
	if v.root == nil {
		return v.get(ctx, nil, "/state/"+url.PathEscape(name))
	}
	key, err := jam.ParseKey(name) // the server mustn't choose the key
	if err != nil {
		return nil, false, clientError(ErrBadKey, err, "%v", err)
	}
	return v.Get(ctx, key)
}

func (v *View) get(ctx context.Context, dst []byte, path string) ([]byte, bool, error) {
	k, err := v.open(ctx, request{method: "GET", accept: typeBinary}, path)
	if err != nil {
		if isKind(err, ErrAbsentKey) {
			err = nil
		}
		return dst, false, err
	}
	if !k.head.binary() {
		err := badAnswer("a value as %.80q", k.head.media)
		k.end(err)
		return dst, false, err
	}
	if dst == nil {
		dst = []byte{}
	}
	n := len(dst)
	if dst, err = k.body(dst, v.c.most); err != nil {
		return dst[:n], false, err
	}
	return dst, true, nil
}

// isKind is errors.Is for what this package makes itself.
func isKind(err error, kind Kind) bool {
	e, ok := err.(*Error) //nolint:errorlint // not wrapped here
	return ok && e.Kind == kind
}

// Has says whether the state has a key.
func (v *View) Has(ctx context.Context, key []byte) (bool, error) {
	_, present, err := v.Get(ctx, key)
	return present, err
}

// Bounds of one batch's request, as the server has them.
const (
	batchKeys  = 10_000
	batchBytes = 8 << 20
	proofKeys  = 1000 // of one proof, which is checked as a whole
)

// GetMany gives the values of many keys, in their order: nil for an absent key. Values
// share memory with one another. More keys than the server takes at a time are asked for
// in several requests, all of the same block.
func (v *View) GetMany(ctx context.Context, keys [][]byte) ([][]byte, error) {
	if v.root != nil {
		values := make([][]byte, 0, len(keys))
		for len(keys) > 0 {
			n := min(len(keys), proofKeys)
			some, err := v.prove(ctx, keys[:n])
			if err != nil {
				return nil, err
			}
			values, keys = append(values, some...), keys[n:]
		}
		return values, nil
	}
	return getMany(keys, func(body []byte) (*conn, error) {
		return v.open(ctx, request{method: "POST", accept: typeBinary, media: typeBinary, body: body}, "/state")
	})
}

// getMany reads batches in binary form.
func getMany(keys [][]byte, open func(body []byte) (*conn, error)) ([][]byte, error) {
	values := make([][]byte, 0, len(keys))
	for len(keys) > 0 {
		size := 0
		for _, key := range keys[:min(len(keys), 64)] {
			size += 4 + len(key)
		}
		body := make([]byte, 0, size*(min(len(keys), batchKeys)+63)/64)
		n := 0
		for n < len(keys) && n < batchKeys && (n == 0 || len(body)+4+len(keys[n]) <= batchBytes) {
			body = appendFrame(body, keys[n])
			n++
		}
		k, err := open(body)
		if err != nil {
			return nil, err
		}
		h := k.head
		answer, err := k.body(nil, k.c.most)
		if err != nil {
			return nil, err
		}
		if !h.binary() {
			return nil, badAnswer("a batch as %.80q", h.media)
		}
		if values, err = appendValues(values, answer, n); err != nil {
			return nil, err
		}
		keys = keys[n:]
	}
	return values, nil
}

// appendValues reads so many values in binary form, which alias the answer.
func appendValues(values [][]byte, answer []byte, n int) ([][]byte, error) {
	for i := range n {
		if len(answer) < 4 {
			return nil, badAnswer("the batch ends after %d of %d values", i, n)
		}
		size := binary.LittleEndian.Uint32(answer)
		answer = answer[4:]
		if size == math.MaxUint32 {
			values = append(values, nil)
			continue
		}
		if uint64(size) > uint64(len(answer)) {
			return nil, badAnswer("value %d of %d bytes, %d are left", i, size, len(answer))
		}
		values = append(values, answer[:size:size])
		answer = answer[size:]
	}
	if len(answer) > 0 {
		return nil, badAnswer("%d bytes after %d values", len(answer), n)
	}
	return values, nil
}

func appendFrame(dst, b []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(dst, uint32(len(b))), b...)
}

// Changes gives what the block wrote. Error: ErrNoChanges of the anchor, among others.
func (v *View) Changes(ctx context.Context) (Changes, error) {
	k, err := v.open(ctx, request{method: "GET", accept: typeJSON}, "/changes")
	if err != nil {
		return Changes{}, err
	}
	at := k.head.at()
	var in struct {
		Puts []hexPair
		Dels []hexBytes
	}
	if err := k.decode(&in); err != nil {
		return Changes{}, err
	}
	out := Changes{About: at, Puts: make([]Pair, len(in.Puts)), Dels: make([][]byte, len(in.Dels))}
	for i, p := range in.Puts {
		if out.Puts[i] = (Pair{p[0], p[1]}); p[1] == nil {
			return Changes{}, badAnswer("key %x is put without a value", p[0])
		}
	}
	for i, key := range in.Dels {
		out.Dels[i] = key
	}
	return out, nil
}

// Prove gives a proof of keys, as a statement that says what was asked for, without
// checking it: its Verify does. There may be as many keys as in the server's batches:
// 10,000.
func (v *View) Prove(ctx context.Context, keys [][]byte) (*merkle.Statement, error) {
	var body []byte
	for _, key := range keys {
		body = appendFrame(body, key)
	}
	return v.statement(ctx, request{method: "POST", media: typeBinary, body: body}, "/proof")
}

// ProveRange gives a proof of a range, as Prove of keys. At most MaxSize bytes come,
// unless one pair takes more; 0 stands for 1 MiB.
func (v *View) ProveRange(ctx context.Context, req merkle.RangeRequest) (*merkle.Statement, error) {
	return v.statement(ctx, request{method: "GET"}, "/proof?"+rangeQuery(req).Encode())
}
