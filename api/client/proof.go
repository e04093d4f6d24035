package client

import (
	"bytes"
	"context"
	"encoding/hex"
	"iter"
	"math"
	"net/url"
	"slices"
	"strconv"

	"accessor/state/merkle"
)

// statement fetches a proof.
func (v *View) statement(ctx context.Context, r request, path string) (*merkle.Statement, error) {
	r.accept = typeBinary
	k, err := v.open(ctx, r, path)
	if err != nil {
		return nil, err
	}
	h := k.head
	body, err := k.body(nil, v.c.most)
	if err != nil {
		return nil, err
	}
	if !h.binary() {
		return nil, badAnswer("a proof as %.80q", h.media)
	}
	s, err := merkle.DecodeStatement(body)
	if err != nil {
		return nil, clientError(ErrBadProof, err, "%v", err)
	}
	if block := h.at().Block; s.Block != block {
		return nil, badAnswer("a proof about block %s, not %s", s.Block, block)
	}
	return s, nil
}

func rangeQuery(req merkle.RangeRequest) url.Values {
	query := url.Values{"from": {hex.EncodeToString(req.Start[:])}, "to": {hex.EncodeToString(req.End[:])}}
	if req.MaxSize > 0 {
		query.Set("max", strconv.FormatUint(uint64(req.MaxSize), 10))
	}
	return query
}

// prove gives the values of keys, in their order and nil for an absent one, each of
// them proved against the view's root.
func (v *View) prove(ctx context.Context, keys [][]byte) ([][]byte, error) {
	sorted := make([][merkle.KeySize]byte, len(keys))
	for i, key := range keys {
		if copy(sorted[i][:], key) != len(key) || len(key) != merkle.KeySize {
			return nil, clientError(ErrBadKey, nil, "key %.80x has %d bytes; those that can be proved have %d", key, len(key), merkle.KeySize)
		}
	}
	order := func(a, b [merkle.KeySize]byte) int { return bytes.Compare(a[:], b[:]) }
	slices.SortFunc(sorted, order)
	sorted = slices.Compact(sorted)
	asked := make([][]byte, len(sorted))
	for i := range sorted {
		asked[i] = sorted[i][:]
	}
	s, err := v.Prove(ctx, asked)
	if err != nil {
		return nil, err
	}
	// The statement says what it was asked for: what counts is what was asked.
	proved, err := merkle.VerifyKeys(*v.root, sorted, &s.Proof)
	if err != nil {
		return nil, clientError(ErrBadProof, err, "%v", err)
	}
	values := make([][]byte, len(keys))
	for i, key := range keys {
		at, _ := slices.BinarySearchFunc(sorted, [merkle.KeySize]byte(key), order)
		values[i] = proved[at]
	}
	return values, nil
}

// provedPage is how large a verified scan's pages are, in bytes, unless it is said.
const provedPage = 1 << 20

// scanProved is Scan by proofs of ranges, one after the other.
func (v *View) scanProved(ctx context.Context, o ScanOptions) iter.Seq2[Pair, error] {
	return func(yield func(Pair, error) bool) {
		if o.Reverse {
			yield(Pair{}, clientError(ErrBadRequest, nil, "proofs of ranges go upwards: no scan is both verified and reverse"))
			return
		}
		req, ok := o.provedRange()
		given := 0
		for ok {
			s, more, err := v.provedPage(ctx, req)
			if ok = more && len(s.Proof.Pairs) > 0; more && !ok && err == nil {
				err = v.nothingThere(ctx, req)
			}
			if err != nil {
				yield(Pair{}, err)
				return
			}
			for i := range s.Proof.Pairs {
				p := Pair{s.Proof.Pairs[i].Key[:], s.Proof.Pairs[i].Value}
				if o.KeysOnly {
					p.Value = nil
				}
				if !yield(p, nil) {
					return
				}
				if given++; given == o.Limit {
					return
				}
			}
			if ok {
				req.Start = s.Proof.Pairs[len(s.Proof.Pairs)-1].Key
				ok = increment(&req.Start)
			}
		}
	}
}

// provedPage fetches the proof of a range and checks it; more says that there may be
// other pairs above.
func (v *View) provedPage(ctx context.Context, req merkle.RangeRequest) (s *merkle.Statement, more bool, err error) {
	if s, err = v.ProveRange(ctx, req); err != nil {
		return &merkle.Statement{}, false, err
	}
	if more, err = merkle.VerifyRange(*v.root, req, &s.Proof); err != nil {
		return s, false, clientError(ErrBadProof, err, "%v", err)
	}
	return s, more, nil
}

// nothingThere makes sure that a range has no pairs. Its proof shows that for the start
// alone, where there are others above the end: the first of those shows it for all.
func (v *View) nothingThere(ctx context.Context, req merkle.RangeRequest) error {
	end := req.End
	for i := range req.End {
		req.End[i] = 0xff
	}
	req.MaxSize = 1 // one pair
	s, more, err := v.provedPage(ctx, req)
	switch {
	case err != nil:
		return err
	case len(s.Proof.Pairs) > 0 && bytes.Compare(s.Proof.Pairs[0].Key[:], end[:]) <= 0, len(s.Proof.Pairs) == 0 && more:
		return clientError(ErrBadProof, nil, "the range has a pair that the server left out")
	}
	return nil
}

// provedRange gives the keys of a scan, both edges included; false where there are none.
func (o ScanOptions) provedRange() (req merkle.RangeRequest, ok bool) {
	req.MaxSize = provedPage
	if o.Page > 0 {
		req.MaxSize = uint32(min(o.Page, math.MaxUint32))
	}
	for i := range req.End {
		req.End[i] = 0xff
	}
	ok = true
	if len(o.Prefix) > merkle.KeySize {
		return req, false
	}
	copy(req.Start[:], o.Prefix)
	copy(req.End[:], o.Prefix)
	if len(o.From) > 0 {
		var from [merkle.KeySize]byte
		if copy(from[:], o.From); len(o.From) > merkle.KeySize {
			ok = increment(&from)
		}
		if bytes.Compare(from[:], req.Start[:]) > 0 {
			req.Start = from
		}
	}
	if len(o.To) > 0 {
		var to [merkle.KeySize]byte
		if copy(to[:], o.To); len(o.To) <= merkle.KeySize {
			ok = decrement(&to) && ok
		}
		if bytes.Compare(to[:], req.End[:]) < 0 {
			req.End = to
		}
	}
	return req, ok && bytes.Compare(req.Start[:], req.End[:]) <= 0
}

// increment gives the next key; false after the last.
func increment(key *[merkle.KeySize]byte) bool {
	for i := len(key) - 1; i >= 0; i-- {
		if key[i]++; key[i] != 0 {
			return true
		}
	}
	return false
}

// decrement gives the key before; false before the first.
func decrement(key *[merkle.KeySize]byte) bool {
	for i := len(key) - 1; i >= 0; i-- {
		if key[i]--; key[i] != 0xff {
			return true
		}
	}
	return false
}

// CheckProof checks a proof in binary form (docs/PROOFS.md) against a state's root, and
// gives what it proves. Error: ErrBadProof.
func CheckProof(proof []byte, root Hash) (merkle.Answer, error) {
	s, err := merkle.DecodeStatement(proof)
	if err != nil {
		return merkle.Answer{}, clientError(ErrBadProof, err, "%v", err)
	}
	answer, err := s.Verify(root)
	if err != nil {
		return merkle.Answer{}, clientError(ErrBadProof, err, "%v", err)
	}
	return answer, nil
}
