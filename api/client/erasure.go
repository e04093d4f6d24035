package client

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/crypto/blake2b"
)

// SegmentSize is the size of an exported segment in bytes.
const SegmentSize = 4104

// ErasureSpec is what a reader trusts of an erasure-coded work package: its availability
// specifier.
type ErasureSpec struct {
	ErasureRoot  Hash `json:"erasure_root"`
	Shards       int  `json:"shards"`        // of the code: 6, any 2 are enough, or 1,023, any 342 are
	BundleLength int  `json:"bundle_length"` // in bytes
	BundleHash   Hash `json:"bundle_hash"`   // BLAKE2b-256; zero: not checked
	SegmentsRoot Hash `json:"segments_root"` // needed for segments alone
	Segments     int  `json:"segments"`      // that are exported
}

// ErasureShard is what one holder keeps of a work package.
type ErasureShard struct {
	Bundle        []byte // shard of the bundle
	Segments      []byte // shards of all segments and of their pages of proofs, one after another
	Justification []byte // co-path from the erasure root (CE 137)
}

// KeepAll has Encode keep every shard.
var KeepAll = []int{-1}

// Encode has the sidecar encode a work bundle and its exported segments, of SegmentSize
// bytes each, for 6 or 1,023 holders, and keep the shards with some indices. Errors:
// ErrBadRequest; ErrOutOfSpace where there is no room for these shards, and none is kept;
// among others.
func (c *Client) Encode(ctx context.Context, shards int, bundle []byte, segments [][]byte, keep []int) (spec ErasureSpec, err error) {
	body := appendMessage(make([]byte, 0, 4+len(bundle)+len(segments)*SegmentSize), bundle)
	for i, s := range segments {
		if len(s) != SegmentSize {
			return spec, clientError(ErrBadRequest, nil, "segment %d has %d bytes, not %d", i, len(s), SegmentSize)
		}
		body = append(body, s...)
	}
	path := "/v1/da/erasure?shards=" + strconv.Itoa(shards)
	switch {
	case len(keep) == 1 && keep[0] == KeepAll[0]:
		path += "&keep=all"
	case len(keep) > 0:
		path += "&keep=" + strings.Trim(strings.ReplaceAll(fmt.Sprint(keep), " ", ","), "[]")
	}
	_, err = c.json(ctx, &request{method: "POST", path: path, media: typeBinary, body: body}, nil, &spec)
	if err == nil && (spec.Shards != shards || spec.BundleLength != len(bundle) || spec.Segments != len(segments) || spec.BundleHash != blake2b.Sum256(bundle)) {
		return ErasureSpec{}, badAnswer("another work package's spec: %+v", spec)
	}
	return spec, err
}

// Bundle gives a work bundle, put together from the shards of the sidecar and its peers.
// Its length is checked, and its hash where the spec has one. Errors: ErrUnknownItem where
// all together have too few shards, ErrNotFetched where peers could not be asked,
// ErrBadEncoding, among others.
func (c *Client) Bundle(ctx context.Context, spec ErasureSpec) ([]byte, error) {
	b, err := c.octets(ctx, spec.path("bundle")+spec.query(), MaxItem)
	if err != nil {
		return nil, err
	}
	if len(b) != spec.BundleLength || spec.BundleHash != (Hash{}) && spec.BundleHash != blake2b.Sum256(b) {
		return nil, badAnswer("%d bytes, which aren't the bundle of %s", len(b), spec.ErasureRoot)
	}
	return b, nil
}

// Segment gives exported segment i, from 0, of SegmentSize bytes. That it is the right one
// the sidecar has checked, against spec.SegmentsRoot, not this client. Errors: as of
// Bundle.
func (c *Client) Segment(ctx context.Context, spec ErasureSpec, i int) ([]byte, error) {
	b, err := c.octets(ctx, spec.path("segments/"+strconv.Itoa(i))+spec.query(), SegmentSize)
	if err == nil && len(b) != SegmentSize {
		return nil, badAnswer("a segment of %d bytes", len(b))
	}
	return b, err
}

// maxShard is the most bytes of a shard: half of a bundle, of 3,072 segments and their 48
// pages of proofs, and a justification.
const maxShard = 3*4 + MaxItem/2 + 3120*SegmentSize/2 + 4096

// Shard gives a shard that the sidecar keeps. It is not checked. Errors: ErrUnknownItem
// where it isn't kept, among others.
func (c *Client) Shard(ctx context.Context, root Hash, index int) (sh ErasureShard, err error) {
	b, err := c.octets(ctx, ErasureSpec{ErasureRoot: root}.path("shards/"+strconv.Itoa(index)), maxShard)
	if err != nil {
		return sh, err
	}
	if sh, err = ParseErasureShard(b); err != nil {
		return sh, badAnswer("%v", err)
	}
	return sh, nil
}

// ParseErasureShard reads what Bytes gives. The shard is parts of b.
func ParseErasureShard(b []byte) (sh ErasureShard, err error) {
	for _, into := range []*[]byte{&sh.Bundle, &sh.Segments, &sh.Justification} {
		if len(b) < 4 || uint64(binary.LittleEndian.Uint32(b)) > uint64(len(b)-4) {
			return ErasureShard{}, errors.New("a shard that is cut short, or none")
		}
		end := 4 + int(binary.LittleEndian.Uint32(b))
		*into, b = b[4:end:end], b[end:]
	}
	if len(b) > 0 {
		return ErasureShard{}, fmt.Errorf("%d bytes behind a shard", len(b))
	}
	return sh, nil
}

// Bytes gives the shard as calls and files have it: its three parts, each with its length
// in front.
func (sh ErasureShard) Bytes() []byte {
	b := make([]byte, 0, 3*4+len(sh.Bundle)+len(sh.Segments)+len(sh.Justification))
	for _, part := range [][]byte{sh.Bundle, sh.Segments, sh.Justification} {
		b = appendMessage(b, part)
	}
	return b
}

// PutShard has the sidecar check a shard, and keep it for its readers and peers: when it
// returns, the shard is on the sidecar's disk. Errors: ErrBadBody where it doesn't lead to
// the erasure root; ErrOutOfSpace; among others.
func (c *Client) PutShard(ctx context.Context, spec ErasureSpec, index int, sh ErasureShard) error {
	path := spec.path("shards/"+strconv.Itoa(index)) + spec.query()
	return c.done(ctx, &request{method: "PUT", path: path, media: typeBinary, body: sh.Bytes()})
}

func appendMessage(b, message []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(message))), message...)
}

func (s ErasureSpec) path(rest string) string {
	return "/v1/da/erasure/" + s.ErasureRoot.String() + "/" + rest
}

// query is the spec as calls have it.
func (s ErasureSpec) query() string {
	v := url.Values{}
	v.Set("shards", strconv.Itoa(s.Shards))
	v.Set("bundle_length", strconv.Itoa(s.BundleLength))
	v.Set("segments", strconv.Itoa(s.Segments))
	if s.SegmentsRoot != (Hash{}) {
		v.Set("segments_root", s.SegmentsRoot.String())
	}
	if s.BundleHash != (Hash{}) {
		v.Set("bundle_hash", s.BundleHash.String())
	}
	return "?" + v.Encode()
}

// octets reads an answer of at most so many bytes.
func (c *Client) octets(ctx context.Context, path string, most int64) ([]byte, error) {
	k, err := c.do(ctx, &request{method: "GET", path: path, accept: typeBinary})
	if err != nil {
		return nil, err
	}
	if !k.head.binary() || k.head.status != 200 {
		err := badAnswer("status %d with %.80q, want octets", k.head.status, k.head.media)
		k.end(err)
		return nil, err
	}
	b, err := k.body(nil, min(most, k.c.most))
	if err != nil {
		return nil, err
	}
	return b, nil
}
