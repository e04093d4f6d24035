package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"accessor/trace"
)

// A body must come at this pace at least, in bytes a second, after a time to begin
// (Options.BodyTime): it takes of the budget as long as it is on its way.
const (
	bodyPace  = 1 << 20
	bodyStart = 10 * time.Second
)

// bodyForm gives the form of the body, of those that the route takes; the first where
// the request doesn't say.
func (c *call) bodyForm(offered ...string) (string, error) {
	if c.r.Header.Get("Content-Encoding") != "" {
		return "", newFault("unsupported-media-type", "a body with a Content-Encoding isn't taken")
	}
	text := c.r.Header.Get("Content-Type")
	if text == "" {
		return offered[0], nil
	}
	if slices.Contains(offered, text) {
		return text, nil // as programs say it
	}
	name, _, err := mime.ParseMediaType(text)
	if err != nil || !slices.Contains(offered, name) {
		return "", newFault("unsupported-media-type", "the body was sent as %.80q, and this takes %s: set the header Content-Type, as in curl -H 'Content-Type: %s'",
			text, strings.Join(offered, " or "), offered[0])
	}
	return name, nil
}

// body reads the whole body, of which limit bytes at most are taken, and calls use
// with it. Its memory comes from the budget until use returns, but for what every
// request may have.
func (c *call) body(limit int64, use func([]byte) error) error { return c.bodyInto(nil, limit, use) }

// bodyInto is body with memory that may be there already.
func (c *call) bodyInto(room []byte, limit int64, use func([]byte) error) error {
	memory := c.stake()
	defer memory.end()
	size := c.r.ContentLength
	if limit = min(limit, memory.most()+smallBody); size > limit {
		return newFault("too-large", "a body of %d bytes, at most %d", size, limit)
	}
	known := size >= 0
	if !known {
		size = min(limit, smallBody)
	}
	if size > smallBody {
		if err := memory.take(c.r.Context(), size-smallBody); err != nil {
			return err
		}
	}
	control := http.NewResponseController(c.w)
	deadline := func() {
		// Without effect where the connection has no deadlines, as in tests.
		_ = control.SetReadDeadline(time.Now().Add(c.s.opts.BodyTime + time.Duration(size/bodyPace)*time.Second))
	}
	deadline()
	if int64(cap(room)) <= size {
		room = make([]byte, 0, size+1)
	}
	b := room[: 0 : size+1] // one more, to see the end
	for {
		n, err := c.r.Body.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return bodyError(err)
		}
		if int64(len(b)) <= size {
			continue
		}
		if known || size == limit {
			return newFault("too-large", "a body of more than %d bytes", size)
		}
		// Others' parts are not waited for: they might wait for this one's.
		more := min(size, limit-size)
		if err := memory.more(more); err != nil {
			return err
		}
		size += more
		b = slices.Grow(b, int(size+1)-len(b))
		b = b[:len(b):min(cap(b), int(size+1))]
		deadline()
	}
	_ = control.SetReadDeadline(time.Time{}) // else it would end the request's context
	if known && int64(len(b)) < size {
		return badBody("the body ends after %d of %d bytes", len(b), size)
	}
	return use(b)
}

// bodyError is the error of a body that can't be read.
func bodyError(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return newFault("timeout", "the body came too slowly")
	}
	return badBody("the body breaks off")
}

// object reads the members of a JSON object into what the fields point to, by
// encoding/json. Names are exact, none may come twice, others are refused, and those
// that are required must be there. Errors: faults of kind bad-body.
func object(body []byte, fields map[string]any, required ...string) error {
	if err := checkJSON(body); err != nil {
		return err
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil || members == nil {
		return badBody("not a JSON object")
	}
	for name, raw := range members {
		to, ok := fields[name]
		if !ok {
			return badBody("no member %.40q is known here", name)
		}
		if err := json.Unmarshal(raw, to); err != nil {
			return badBody("%s: %.200s", name, err)
		}
		if reflect.TypeOf(to).Elem().Kind() == reflect.Slice {
			if i := nullIn(raw); i >= 0 {
				return badBody("%s: element %d is null", name, i)
			}
		}
	}
	for _, name := range required {
		if raw, ok := members[name]; !ok || string(raw) == "null" {
			return badBody("no %s", name)
		}
	}
	return nil
}

// nullIn gives the place of the first null in a JSON list, which encoding/json would
// take for an empty value; -1 where there is none.
func nullIn(list []byte) int {
	d := json.NewDecoder(bytes.NewReader(list))
	if token, err := d.Token(); err != nil || token != json.Delim('[') {
		return -1
	}
	var raw json.RawMessage
	for i := 0; d.More(); i++ {
		if d.Decode(&raw) != nil {
			return -1
		}
		if string(raw) == "null" {
			return i
		}
	}
	return -1
}

// formError is the error of a block or write set as JSON, which need not be a
// recording's.
func formError(err error) error {
	return badBody("%s", strings.TrimPrefix(err.Error(), trace.ErrFormat.Error()+": "))
}

// checkJSON refuses what encoding/json would take though it means two things: invalid
// UTF-8, members that come twice, and more than one value. Errors: faults of kind
// bad-body.
func checkJSON(body []byte) error {
	if !utf8.Valid(body) {
		return badBody("not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := checkValue(d, 0); err != nil {
		var f *fault
		if errors.As(err, &f) {
			return f
		}
		return badBody("not JSON: %.200s", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return badBody("data after the JSON")
	}
	return nil
}

const maxDepth = 64 // nesting of JSON

func checkValue(d *json.Decoder, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("nested deeper than %d", maxDepth)
	}
	token, err := d.Token()
	if err != nil {
		return err
	}
	delim, ok := token.(json.Delim)
	if !ok {
		return nil
	}
	var seen map[string]bool
	if delim == '{' {
		seen = make(map[string]bool)
	}
	for d.More() {
		if seen != nil {
			token, err := d.Token()
			if err != nil {
				return err
			}
			name, _ := token.(string)
			if seen[name] {
				return badBody("member %.40q comes twice", name)
			}
			seen[name] = true
		}
		if err := checkValue(d, depth+1); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}

// small reads a small JSON object; see object.
func (c *call) small(fields map[string]any, required ...string) error {
	if _, err := c.bodyForm(typeJSON); err != nil {
		return err
	}
	return c.body(smallBody, func(b []byte) error { return object(b, fields, required...) })
}
