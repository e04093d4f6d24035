package api

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/blake2b"

	"accessor/api/access"
	"accessor/forks"
)

// ErasureSpec is what a reader trusts of an erasure-coded work package: its availability
// specifier.
type ErasureSpec struct {
	ErasureRoot  forks.Hash `json:"erasure_root" doc:"root over all shards" pattern:"^[0-9a-f]{64}$"`
	Shards       int        `json:"shards" doc:"of the code: 6, any 2 are enough, or 1,023, any 342 are"`
	BundleLength int        `json:"bundle_length" doc:"bytes of the work bundle"`
	BundleHash   forks.Hash `json:"bundle_hash" doc:"BLAKE2b-256 of the bundle" pattern:"^[0-9a-f]{64}$"`
	SegmentsRoot forks.Hash `json:"segments_root" doc:"root over the exported segments" pattern:"^[0-9a-f]{64}$"`
	Segments     int        `json:"segments" doc:"exported segments, of 4,104 bytes each"`
}

// ErasureShard is the three messages in which one holder is given its shard (CE 137).
type ErasureShard struct {
	Bundle        []byte // shard of the bundle
	Segments      []byte // shards of all segments and of their pages of proofs, without a count
	Justification []byte
}

// Erasure encodes work packages, keeps shards of them, and puts bundles and segments
// together from shards kept here and peers'. Its methods are safe for concurrent use, and
// those that ask peers end with their context. What it gives is read alone. Beside the
// errors that they name is ErrNoStore.
type Erasure interface {
	// Encode encodes a bundle and its exported segments, which are one after another, for
	// 6 or 1,023 holders, and keeps the shards with these indices, unless the context has
	// ended meanwhile. Errors: as of PutShard; none is kept then.
	Encode(ctx context.Context, shards int, bundle, segments []byte, keep []int) (ErasureSpec, error)
	// Bundle gives the bundle. Its hash is checked unless it is zero. Errors:
	// ErrUnknownItem where all together have too few shards; state.ErrNotFetched where
	// peers can't be asked or don't answer; ErrEncoding.
	Bundle(ctx context.Context, spec ErasureSpec) ([]byte, error)
	// Segment gives exported segment i, from 0, checked against the segments root.
	// Errors: as of Bundle.
	Segment(ctx context.Context, spec ErasureSpec, i int) ([]byte, error)
	// Shard gives a shard that is kept here. Error: ErrUnknownItem.
	Shard(root forks.Hash, index int) (ErasureShard, error)
	// PutShard checks a shard against the erasure root, and keeps it: when it returns, it
	// is on the disk. Errors: ErrWrongShard; state.ErrNoSpace.
	PutShard(ctx context.Context, spec ErasureSpec, index int, shard ErasureShard) error
}

var (
	// ErrEncoding: all shards lead to the erasure root, yet they don't give the item.
	ErrEncoding = errors.New("whoever encoded the item did it wrongly")
	// ErrWrongShard: the shard doesn't lead to the erasure root.
	ErrWrongShard = errors.New("not a shard of that erasure root")
)

// Bounds of erasure-coded items.
const (
	segmentSize = 4104
	maxSegments = 3072
	maxShards   = 1023
	// maxShard is the most bytes of a shard's messages: half of a bundle, of the segments
	// and their pages of proofs, where any two shards are enough, and a justification.
	maxShard = 3*4 + MaxItem/2 + (maxSegments+maxSegments/64)*segmentSize/2 + 4096
	// maxWork is the most bytes of a work package to encode.
	maxWork = 4 + MaxItem + maxSegments*segmentSize
	// encodingTakes is how much memory encoding takes for each byte, and shardTakes for each
	// shard of each segment beside that.
	encodingTakes = 4
	shardTakes    = 24
)

// erasureRoutes are those of erasure-coded items.
func (s *Server) erasureRoutes() []route {
	if s.opts.Erasure == nil {
		return nil
	}
	root := hashParam("path", "root", "erasure root, 64 hex digits", true)
	index := func(below int) param {
		return param{in: "path", name: "i", text: "index, from 0", required: true, schema: intSchema(0, below-1)}
	}
	shards := queryParam("shards", "of the code: 6 or 1023", intSchema(6, maxShards))
	shards.required = true
	length := queryParam("bundle_length", "bytes of the bundle", intSchema(0, MaxItem))
	length.required = true
	spec := []param{
		root, shards, length, queryParam("segments", "exported segments; default 0", intSchema(0, maxSegments)),
		hashParam("query", "bundle_hash", "BLAKE2b-256 of the bundle; without it nobody checks that it was encoded rightly", false),
		hashParam("query", "segments_root", "needed for segments", false),
	}
	octets := []media{{name: typeBinary}}
	read := func(id, path, summary, text string, serve func(*call) error, params []param) route {
		answers := []answer{{status: 200, forms: octets}}
		if id != "getShard" {
			answers = append(answers, notModified)
		}
		return route{
			method: http.MethodGet, path: path, action: access.ReadItems, noCore: true, serve: serve,
			doc: doc{id: id, tag: "items", summary: summary, text: text, params: params, answers: answers},
		}
	}
	return []route{
		{
			method: http.MethodPost, path: "/v1/da/erasure", action: access.PutItem, noCore: true, serve: (*call).postErasure,
			doc: doc{
				id: "encode", tag: "items", summary: "Encode a work package into shards",
				text: "The body is the length of the bundle (u32, little-endian), the bundle, and the exported segments.",
				params: []param{shards, queryParam("keep", "all, or indices with commas between: these shards are kept and served; default none",
					textSchema("^(all|[0-9]+(,[0-9]+)*)?$", maxTarget))},
				body:    octets,
				answers: []answer{{status: 200, forms: []media{{name: typeJSON, of: ErasureSpec{}}}}},
			},
		},
		read("getBundle", "/v1/da/erasure/{root}/bundle", "A work bundle, put together from shards",
			"They come from here, then from peers, and each is checked against the erasure root.", (*call).getBundle, spec),
		read("getSegment", "/v1/da/erasure/{root}/segments/{i}", "An exported segment, put together from shards",
			"As a bundle; and it is checked by its page of proofs against segments_root.", (*call).getSegment, append(slices.Clip(spec), index(maxSegments))),
		read("getShard", "/v1/da/erasure/{root}/shards/{i}", "A shard that is kept here",
			"Three messages, each with its length in front (u32, little-endian): the shard of the bundle, those of all segments, the justification (CE 137).",
			(*call).getShard, []param{root, index(maxShards)}),
		{
			method: http.MethodPut, path: "/v1/da/erasure/{root}/shards/{i}", action: access.PutItem, noCore: true, serve: (*call).putShard,
			doc: doc{
				id: "putShard", tag: "items", summary: "Keep a shard, for readers here and for peers", params: append(slices.Clip(spec), index(maxShards)),
				text:    "The body is as the answer of GET. It is checked against the erasure root, and on the disk when it is answered.",
				body:    octets,
				answers: []answer{{status: http.StatusNoContent}},
			},
		},
	}
}

// exactParam reads a number of a query or path that may not be above most.
func exactParam(name, text string, most int) (int, error) {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil || int(n) > most {
		return 0, badRequest("%s=%.40q: want a whole number from 0 to %d", name, text, most)
	}
	return int(n), nil
}

// shardsParam is the number of shards of a code.
func (c *call) shardsParam() (int, error) {
	switch text := c.query.Get("shards"); text {
	case "6":
		return 6, nil
	case "1023":
		return maxShards, nil
	default:
		return 0, badRequest("shards=%.40q: want 6 or 1023", text)
	}
}

// erasureRoot is the one that the path names.
func (c *call) erasureRoot() (forks.Hash, error) { return c.pathHash("root", "an erasure root") }

// erasureSpec reads the spec, of path and query.
func (c *call) erasureSpec() (spec ErasureSpec, err error) {
	if spec.ErasureRoot, err = c.erasureRoot(); err != nil {
		return spec, err
	}
	if spec.Shards, err = c.shardsParam(); err != nil {
		return spec, err
	}
	if spec.BundleLength, err = exactParam("bundle_length", c.query.Get("bundle_length"), MaxItem); err != nil {
		return spec, err
	}
	if text := c.query.Get("segments"); text != "" {
		if spec.Segments, err = exactParam("segments", text, maxSegments); err != nil {
			return spec, err
		}
	}
	for name, into := range map[string]*forks.Hash{"bundle_hash": &spec.BundleHash, "segments_root": &spec.SegmentsRoot} {
		if text := c.query.Get(name); text != "" {
			if *into, err = forks.ParseHash(text); err != nil {
				return spec, badRequest("%s: %v", name, err)
			}
		}
	}
	return spec, nil
}

// getBundle is GET /v1/da/erasure/{root}/bundle.
func (c *call) getBundle() error {
	spec, err := c.erasureSpec()
	if err != nil {
		return err
	}
	tag := "" // without its hash, shards of a wrong encoder may give another one next time
	if spec.BundleHash != (forks.Hash{}) {
		tag = spec.ErasureRoot.String()
	}
	// The bundle, its shards, and a shard that is kept here, which is read whole.
	return c.fetched(tag, 2*int64(spec.BundleLength)+MaxItem, func(ctx context.Context) ([]byte, error) {
		b, err := c.s.opts.Erasure.Bundle(ctx, spec)
		if err == nil && (len(b) != spec.BundleLength || spec.BundleHash != (forks.Hash{}) && forks.Hash(blake2b.Sum256(b)) != spec.BundleHash) {
			err = fmt.Errorf("%w: %d bytes for the bundle of %s", errItem, len(b), spec.ErasureRoot)
		}
		return b, err
	})
}

// getSegment is GET /v1/da/erasure/{root}/segments/{i}.
func (c *call) getSegment() error {
	spec, err := c.erasureSpec()
	if err != nil {
		return err
	}
	switch {
	case spec.Segments == 0:
		return badRequest("the spec has no segments: segments says how many")
	case spec.SegmentsRoot == forks.Hash{}:
		return badRequest("a segment is checked against segments_root, which is not given")
	}
	i, err := exactParam("segment", c.r.PathValue("i"), spec.Segments-1)
	if err != nil {
		return err
	}
	return c.fetched(spec.ErasureRoot.String(), MaxItem, func(ctx context.Context) ([]byte, error) { // a shard that is kept is read whole
		b, err := c.s.opts.Erasure.Segment(ctx, spec, i)
		if err == nil && len(b) != segmentSize {
			err = fmt.Errorf("%w: %d bytes for a segment of %s", errItem, len(b), spec.ErasureRoot)
		}
		return b, err
	})
}

// getShard is GET /v1/da/erasure/{root}/shards/{i}.
func (c *call) getShard() error {
	root, err := c.erasureRoot()
	if err != nil {
		return err
	}
	i, err := exactParam("shard", c.r.PathValue("i"), maxShards-1)
	if err != nil {
		return err
	}
	return c.fetched("", 2*maxShard, func(context.Context) ([]byte, error) {
		sh, err := c.s.opts.Erasure.Shard(root, i)
		if err != nil {
			return nil, err
		}
		b := make([]byte, 0, 3*4+len(sh.Bundle)+len(sh.Segments)+len(sh.Justification))
		for _, message := range [][]byte{sh.Bundle, sh.Segments, sh.Justification} {
			b = binary.LittleEndian.AppendUint32(b, uint32(len(message)))
			b = append(b, message...)
		}
		return b, nil
	})
}

// cutMessage takes a message with its length from the front of b. Error: of kind bad-body.
func cutMessage(b []byte, what string) (message, rest []byte, err error) {
	if len(b) < 4 {
		return nil, nil, badBody("it ends before the length of %s", what)
	}
	n := binary.LittleEndian.Uint32(b)
	if b = b[4:]; uint64(n) > uint64(len(b)) {
		return nil, nil, badBody("%s has %d bytes, and %d follow", what, n, len(b))
	}
	return b[:n:n], b[n:], nil
}

// putShard is PUT /v1/da/erasure/{root}/shards/{i}.
func (c *call) putShard() error {
	spec, err := c.erasureSpec()
	if err != nil {
		return err
	}
	i, err := exactParam("shard", c.r.PathValue("i"), spec.Shards-1)
	if err != nil {
		return err
	}
	if _, err := c.bodyForm(typeBinary); err != nil {
		return err
	}
	c.tier = "items"
	err = c.body(maxShard, func(b []byte) (err error) {
		var sh ErasureShard
		if sh.Bundle, b, err = cutMessage(b, "the shard of the bundle"); err != nil {
			return err
		}
		if sh.Segments, b, err = cutMessage(b, "the shards of segments"); err != nil {
			return err
		}
		if sh.Justification, b, err = cutMessage(b, "the justification"); err != nil {
			return err
		}
		if len(b) > 0 {
			return badBody("%d bytes behind its end", len(b))
		}
		return c.s.opts.Erasure.PutShard(c.r.Context(), spec, i, sh)
	})
	if err != nil {
		return err
	}
	return c.done()
}

// keepParam reads which shards of a new work package are kept.
func (c *call) keepParam(shards int) ([]int, error) {
	text := c.query.Get("keep")
	var keep []int
	switch text {
	case "":
	case "all":
		for i := range shards {
			keep = append(keep, i)
		}
	default:
		for one := range strings.SplitSeq(text, ",") {
			i, err := exactParam("keep", one, shards-1)
			if err != nil {
				return nil, err
			}
			if slices.Contains(keep, i) {
				return nil, badRequest("keep: shard %d is named twice", i)
			}
			keep = append(keep, i)
		}
	}
	return keep, nil
}

// postErasure is POST /v1/da/erasure.
func (c *call) postErasure() error {
	shards, err := c.shardsParam()
	if err != nil {
		return err
	}
	keep, err := c.keepParam(shards)
	if err != nil {
		return err
	}
	if _, err := c.bodyForm(typeBinary); err != nil {
		return err
	}
	if _, err := c.accepts(typeJSON); err != nil {
		return err
	}
	c.tier = "items"
	var spec ErasureSpec
	err = c.body(maxWork, func(b []byte) error {
		bundle, segments, err := cutMessage(b, "the bundle")
		switch {
		case err != nil:
			return err
		case len(bundle) > MaxItem || len(segments) > maxSegments*segmentSize:
			return newFault("too-large", "a bundle of %d bytes and %d bytes of segments, at most %d and %d", len(bundle), len(segments), MaxItem, maxSegments*segmentSize)
		case len(segments)%segmentSize != 0:
			return badBody("%d bytes of segments, which have %d each", len(segments), segmentSize)
		}
		memory := c.s.items.stake(c.who(), c.client.May(access.Import))
		defer memory.end()
		count := (len(segments)/segmentSize*65 + 63) / 64 // with pages of proofs
		if err := memory.take(c.r.Context(), int64(encodingTakes*len(b)+shardTakes*shards*count)); err != nil {
			return err
		}
		spec, err = c.s.opts.Erasure.Encode(c.r.Context(), shards, bundle, segments, keep)
		return err
	})
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, spec)
}
