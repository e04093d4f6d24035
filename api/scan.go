package api

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"accessor/forks"
	"accessor/state"
)

// scanPage is a page of a scan as JSON.
type scanPage struct {
	Pairs [][]*string `json:"pairs" nullable:"false" doc:"[key, value] in hex; the value is null where values=false"`
	Next  *string     `json:"next" doc:"key to go on from: the next page's from; null at the end"`
	About
}

// scanLine is a line of a scan as NDJSON: a pair or, at last, the end or the error
// that broke it off.
type scanLine struct {
	Key   string   `json:"key,omitempty"`
	Value *string  `json:"value,omitempty" doc:"missing where values=false"`
	End   *scanEnd `json:"end,omitempty"`
	Error *Problem `json:"error,omitempty"`
}

type scanEnd struct {
	Pairs int     `json:"pairs" doc:"how many lines came before"`
	Next  *string `json:"next"`
	About
}

// scanParams are the query's parameters of a scan.
func scanParams() []param {
	return []param{
		blockParam(),
		queryParam("prefix", "only keys that begin with it, in hex", hexSchema(255)),
		queryParam("from", "first key, in hex; with reverse, the highest", textSchema("", 512)),
		queryParam("to", "key to stop before, in hex; with reverse, the one to stop above", textSchema("", 512)),
		queryParam("limit", "most pairs; above the server's limit it is that. Default 1,000, of a stream none", intSchema(1, 1<<31)),
		queryParam("reverse", "descending order", boolSchema()),
		queryParam("values", "false leaves the values out", boolSchema()),
	}
}

// scanOptions reads them. With reverse, a request's from and to mean the same walk
// the other way: from its start, included, to its end, excluded.
func (c *call) scanOptions() (o state.ScanOptions, err error) {
	var values bool
	for _, f := range []func() error{
		func() (err error) { o.Prefix, err = c.boundParam("prefix"); return err },
		func() (err error) { o.From, err = c.boundParam("from"); return err },
		func() (err error) { o.To, err = c.boundParam("to"); return err },
		func() (err error) { o.Reverse, err = c.boolParam("reverse", false); return err },
		func() (err error) { values, err = c.boolParam("values", true); return err },
	} {
		if err := f(); err != nil {
			return o, err
		}
	}
	o.KeysOnly = !values
	if o.Reverse {
		o.From, o.To = above(o.To), above(o.From)
	}
	return o, nil
}

// above gives the first key after one; nil, which is no bound, stays.
func above(key []byte) []byte {
	if key == nil {
		return nil
	}
	return append(bytes.Clone(key), 0)
}

// mayScan refuses a scan over a key that the client may not read.
func (c *call) mayScan(o state.ScanOptions) error {
	from, to, ok := o.Bounds()
	if !ok {
		return nil // nothing is read
	}
	return c.mayReadRange(from, to)
}

// getScan is GET /v1/blocks/{id}/state.
func (c *call) getScan() error {
	form, err := c.accepts(typeJSON, typeLines)
	if err != nil {
		return err
	}
	o, err := c.scanOptions()
	if err != nil {
		return err
	}
	if form == typeLines {
		o.Limit, err = c.intParam("limit", 0, 1, 1<<62)
	} else {
		o.Limit, err = c.intParam("limit", defaultPage, 1, c.s.limits.Page)
	}
	if err != nil {
		return err
	}
	b, byHash, err := c.block()
	if err != nil {
		return err
	}
	if err := c.mayScan(o); err != nil {
		return err
	}
	if c.immutable(c.located(b), form, byHash, b) {
		return nil
	}
	v, err := c.core.View(c.r.Context(), b.Hash)
	if err != nil {
		return err
	}
	defer v.Close()
	c.tier = c.wholeTier()
	if form == typeLines {
		return c.streamScan(v, o)
	}
	return c.pageScan(v, o)
}

// pageBytes is the most bytes of keys and values of a page, however large answers may
// be: there is a next one.
const pageBytes = 64 << 20

// pageScan sends one page: up to the limit, or to the most bytes of an answer or a page.
func (c *call) pageScan(v *state.View, o state.ScanOptions) error {
	limit := o.Limit
	o.Limit++ // one more, to know where to go on
	out := []byte(`{"pairs":[`)
	var next []byte
	n, size := 0, int64(0)
	for p, err := range v.Scan(c.r.Context(), o) {
		if err != nil {
			return err
		}
		size += int64(len(p.Key) + len(p.Value))
		if n == limit || (n > 0 && size > min(c.s.limits.Answer, pageBytes)) {
			next = bytes.Clone(p.Key)
			break
		}
		if n++; n > 1 {
			out = append(out, ',')
		}
		out = append(out, '[')
		out = append(appendHexOrNull(out, p.Key, true), ',')
		out = append(appendHexOrNull(out, p.Value, !o.KeysOnly), ']')
	}
	out = append(out, `],"next":`...)
	out = append(appendHexOrNull(out, next, next != nil), ',')
	out = append(appendAbout(out, v.Block()), "}\n"...)
	return c.bytes(http.StatusOK, typeJSON, out)
}

// streamStep is after how many bytes a stream is sent on, and streamPace how long that
// may take: a client that doesn't read would keep the state open.
const (
	streamStep = 64 << 10
	streamPace = 30 * time.Second
)

// streamScan sends the pairs as lines, and a last line by which a stream that was cut
// short can be told from a whole one.
func (c *call) streamScan(v *state.View, o state.ScanOptions) error {
	limit := o.Limit
	if limit > 0 {
		o.Limit++
	}
	if c.r.Method == http.MethodHead {
		c.begin(http.StatusOK, typeLines, -1)
		return nil // net/http would let a whole state go by for nothing
	}
	control := http.NewResponseController(c.w)
	var out, next []byte
	n := 0
	var failed error
	for p, err := range v.Scan(c.r.Context(), o) {
		if err != nil && !c.sent {
			return err // the state can't be read: that is an answer of its own
		}
		if failed = err; failed != nil {
			break
		}
		if !c.sent {
			c.begin(http.StatusOK, typeLines, -1)
		}
		if limit > 0 && n == limit {
			next = bytes.Clone(p.Key)
			break
		}
		n++
		out = appendHexOrNull(append(out, `{"key":`...), p.Key, true)
		if !o.KeysOnly {
			out = appendHexOrNull(append(out, `,"value":`...), p.Value, true)
		}
		out = append(out, "}\n"...)
		if len(out) >= streamStep {
			_ = control.SetWriteDeadline(time.Now().Add(streamPace))
			if _, err := c.w.Write(out); err != nil { //nolint:gosec // as in call.bytes
				return nil // the client has gone
			}
			out = out[:0]
		}
	}
	if !c.sent {
		c.begin(http.StatusOK, typeLines, -1) // there are no pairs
	}
	if failed != nil {
		out = c.appendErrorLine(out, failed)
	} else {
		out = appendScanEnd(out, n, next, v.Block())
	}
	_ = control.SetWriteDeadline(time.Now().Add(streamPace))
	_, _ = c.w.Write(out) //nolint:gosec // as in call.bytes
	_ = control.SetWriteDeadline(time.Time{})
	return nil
}

func appendScanEnd(dst []byte, n int, next []byte, b forks.Block) []byte {
	dst = append(dst, `{"end":{"pairs":`...)
	dst = strconv.AppendInt(dst, int64(n), 10)
	dst = append(dst, `,"next":`...)
	dst = append(appendHexOrNull(dst, next, next != nil), ',')
	return append(appendAbout(dst, b), "}}\n"...)
}

// appendErrorLine ends a stream by the error that broke it off.
func (c *call) appendErrorLine(dst []byte, err error) []byte {
	text, merr := json.Marshal(scanLine{Error: &c.logged(err).Problem})
	if merr != nil {
		return dst
	}
	return append(append(dst, text...), '\n')
}
