package client

import (
	"bytes"
	"context"
	"encoding/hex"
	"iter"
	"net/url"
	"strconv"
)

// ScanOptions says which pairs a scan gives. The zero value: all, upwards.
type ScanOptions struct {
	Prefix []byte // only keys that begin with it
	// From is where the walk starts, included, To where it ends, excluded; with Reverse,
	// From is the higher one. Empty for no bound.
	From, To []byte
	Reverse  bool
	KeysOnly bool // values are nil
	Limit    int  // most pairs; 0 for all
	// Page is how many pairs are asked for at a time; 0 for 1,000. The server gives 10,000 at
	// most. Of a verified view, the most bytes of a proof; 0 for 1 MiB.
	Page int
}

const defaultPage = 1000

// Scan walks over the state in the order of the keys, page by page: it keeps one page in
// memory. After an error it ends.
func (v *View) Scan(ctx context.Context, o ScanOptions) iter.Seq2[Pair, error] {
	if v.root != nil {
		return v.scanProved(ctx, o)
	}
	return func(yield func(Pair, error) bool) {
		o := o // it moves on from page to page, and may be ranged over again
		given := 0
		var last []byte // key
		for {
			page, err := v.page(ctx, o, given, last)
			if err != nil {
				yield(Pair{}, err)
				return
			}
			for _, p := range page.Pairs {
				if !yield(Pair{p[0], p[1]}, nil) {
					return
				}
				given++
				last = p[0]
			}
			if page.Next == nil || given == o.Limit {
				return
			}
			o.From = page.Next
		}
	}
}

// scanPage is a page of a scan.
type scanPage struct {
	Pairs []hexPair `json:"pairs"`
	Next  hexBytes  `json:"next"`
}

// page fetches a page, and looks whether it is one that was asked for: so that a scan
// comes to an end, and gives no key twice.
func (v *View) page(ctx context.Context, o ScanOptions, given int, last []byte) (*scanPage, error) {
	limit := o.Page
	if limit <= 0 {
		limit = defaultPage
	}
	if o.Limit > 0 {
		limit = min(limit, o.Limit-given)
	}
	query := url.Values{"limit": {strconv.Itoa(limit)}}
	for name, key := range map[string][]byte{"prefix": o.Prefix, "from": o.From, "to": o.To} {
		if len(key) > 0 {
			query.Set(name, hex.EncodeToString(key))
		}
	}
	if o.Reverse {
		query.Set("reverse", "true")
	}
	if o.KeysOnly {
		query.Set("values", "false")
	}
	k, err := v.open(ctx, request{method: "GET", accept: typeJSON}, "/state?"+query.Encode())
	if err != nil {
		return nil, err
	}
	var page scanPage
	if err := k.decode(&page); err != nil {
		return nil, err
	}
	if len(page.Pairs) > limit {
		return nil, badAnswer("a page of %d pairs, asked for %d", len(page.Pairs), limit)
	}
	if page.Next != nil && len(page.Pairs) == 0 {
		return nil, badAnswer("a page without pairs, and another to come")
	}
	for _, p := range page.Pairs {
		if !o.follows(last, p[0]) || (p[1] == nil) != o.KeysOnly {
			return nil, badAnswer("key %.80x after %.80x, or without what was asked for", p[0], last)
		}
		last = p[0]
	}
	if page.Next != nil && !o.follows(last, page.Next) {
		return nil, badAnswer("the next page begins at %.80x, this one ends at %.80x", page.Next, last)
	}
	return &page, nil
}

// follows says whether a key of the scan may come after another; nil is before all.
func (o *ScanOptions) follows(last, key []byte) bool {
	low, high, edge := o.From, o.To, 0
	if o.Reverse {
		low, high, edge = o.To, o.From, 1 // which of the two is included changes sides
	}
	switch {
	case !bytes.HasPrefix(key, o.Prefix),
		len(low) > 0 && bytes.Compare(key, low) < edge,
		len(high) > 0 && bytes.Compare(key, high) >= edge:
		return false
	case last == nil:
		return true
	case o.Reverse:
		return bytes.Compare(key, last) < 0
	}
	return bytes.Compare(key, last) > 0
}
