package client_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"accessor/api/client"
)

// whole is a whole answer; about is empty, or the headers that name a block.
func whole(status int, media, about, body string) string {
	return fmt.Sprintf("HTTP/1.1 %d x\r\n%sContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", status, about, media, len(body), body)
}

// naming are the headers that name a block.
func naming(b client.Hash) string {
	return fmt.Sprintf("Accessor-Block: %s\r\nAccessor-Slot: 7\r\nAccessor-Root: %s\r\n", b, client.Hash{0x0a})
}

// answering is a client of a server that gives the same answers on each connection.
func answering(t *testing.T, answers ...string) *client.Client {
	t.Helper()
	return served(t, "unix", func(_ int, c net.Conn, in *bufio.Reader) {
		for _, a := range answers {
			first := readHead(in)
			if first == "" {
				return
			}
			if strings.HasPrefix(first, "POST") {
				_, _ = in.Peek(1)
				_, _ = in.Discard(in.Buffered())
			}
			_, _ = io.WriteString(c, a)
		}
	})
}

// TestAbsentWhere: that a key is absent is believed of the block that was asked for
// alone, and of a draft's parent.
func TestAbsentWhere(t *testing.T) {
	const absent = `{"kind":"absent-key","status":404,"detail":"no such key"}`
	draft := fmt.Sprintf(`{"id":"d","parent":{"block":"%s","slot":7,"root":"%s"},"slot":8,"owner":""}`, block, client.Hash{0x0a})
	for about, want := range map[string]bool{"": false, naming(client.Hash{0xb2}): false, naming(block): true} {
		c := answering(t, whole(404, "application/problem+json", about, absent))
		_, _, err := c.At(block.String()).Get(t.Context(), []byte{1})
		if (err == nil) != want || !want && !errors.Is(err, client.ErrBadAnswer) {
			t.Errorf("view, %q: %v", about, err)
		}
		c = answering(t, whole(201, "application/json", "", draft), whole(404, "application/problem+json", about, absent))
		d, err := c.BeginDraft(t.Context(), client.DraftOptions{Parent: block.String(), Slot: 8})
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = d.Get(t.Context(), []byte{1})
		if (err == nil) != want || !want && !errors.Is(err, client.ErrBadAnswer) {
			t.Errorf("draft, %q: %v", about, err)
		}
	}
}

// TestScanTwice: a scan that is ranged over again begins anew.
func TestScanTwice(t *testing.T) {
	pages := []string{
		whole(200, "application/json", naming(block), `{"pairs":[["01","01"]],"next":"02"}`),
		whole(200, "application/json", naming(block), `{"pairs":[["02","02"]],"next":null}`),
	}
	c := served(t, "unix", func(_ int, c net.Conn, in *bufio.Reader) {
		for first := readHead(in); first != ""; first = readHead(in) {
			page := pages[0]
			if strings.Contains(first, "from=02") {
				page = pages[1]
			}
			_, _ = io.WriteString(c, page)
		}
	})
	scan := c.At(block.String()).Scan(t.Context(), client.ScanOptions{})
	for range 2 {
		n := 0
		for _, err := range scan {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if n != 2 {
			t.Errorf("%d pairs, want 2", n)
		}
	}
}

// TestOtherAnswers: answers about another key, or another side, are refused.
func TestOtherAnswers(t *testing.T) {
	about := func(b client.Hash) string {
		return fmt.Sprintf(`{"block":"%s","slot":7,"root":"%s"}`, b, client.Hash{0x0a})
	}
	other := client.Hash{0xb2}
	c := answering(t, whole(200, "application/json", "", fmt.Sprintf(`{"block":"%s","slot":7,"root":"%s","key":"02","versions":[]}`, block, client.Hash{})))
	if _, err := c.History(t.Context(), "01", client.HistoryOptions{}); !errors.Is(err, client.ErrBadAnswer) {
		t.Errorf("history of another key: %v", err)
	}
	c = answering(t, whole(200, "application/json", "", fmt.Sprintf(`{"from":%s,"to":%s,"common":%[1]s,"keys":[]}`, about(other), about(block))))
	if _, err := c.Diff(t.Context(), block.String(), block.String()); !errors.Is(err, client.ErrBadAnswer) {
		t.Errorf("difference from another block: %v", err)
	}
}

// TestPartOfValue: a part of a value, or none, is not a value.
func TestPartOfValue(t *testing.T) {
	for _, status := range []int{204, 206} {
		c := answering(t, whole(status, "application/octet-stream", naming(block), ""))
		if value, present, err := c.At(block.String()).Get(t.Context(), []byte{1}); !errors.Is(err, client.ErrBadAnswer) {
			t.Errorf("view, status %d: %q, %v, %v", status, value, present, err)
		}
		c = answering(t, whole(status, "application/octet-stream", naming(block), ""))
		if value, present, err := c.Draft("d").Get(t.Context(), []byte{1}); !errors.Is(err, client.ErrBadAnswer) {
			t.Errorf("draft, status %d: %q, %v, %v", status, value, present, err)
		}
	}
}

// TestCommitOnce: a commit isn't sent again where a kept connection breaks: the draft
// may be a block by then.
func TestCommitOnce(t *testing.T) {
	commits := make(chan struct{}, 9)
	c := served(t, "unix", func(_ int, c net.Conn, in *bufio.Reader) {
		for first := readHead(in); first != ""; first = readHead(in) {
			if strings.Contains(first, "/commit ") {
				commits <- struct{}{}
				return
			}
			_, _ = io.WriteString(c, value(block, "v"))
		}
	})
	if _, _, err := c.At(block.String()).Get(t.Context(), []byte{1}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Draft("d").Commit(t.Context(), client.CommitOptions{}); !errors.Is(err, client.ErrConnection) {
		t.Error(err)
	}
	if n := len(commits); n != 1 {
		t.Errorf("sent %d times", n)
	}
}

// TestLinesEnd: who answers a line by an error and ends is believed at once, though the
// caller's reader gives nothing more.
func TestLinesEnd(t *testing.T) {
	r, w := io.Pipe()
	defer w.Close()
	c := served(t, "unix", func(_ int, c net.Conn, in *bufio.Reader) {
		readHead(in)
		_, _ = in.Peek(1)
		line := `{"line":1,"status":503,"error":{"kind":"closing","status":503}}` + "\n"
		_, _ = fmt.Fprintf(c, "HTTP/1.1 200 x\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(line), line)
	})
	go func() {
		for i := range 2 {
			_, _ = fmt.Fprintf(w, `{"hash":"%s"}`+"\n", client.Hash{byte(i)})
			time.Sleep(200 * time.Millisecond)
		}
	}()
	began := time.Now()
	for result, err := range c.ImportLines(t.Context(), r, -1) {
		if err != nil || !errors.Is(result.Err, client.ErrClosing) {
			t.Fatal(result, err)
		}
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestEventsGoOn: a stream of events is taken up again after a server that can't be
// reached in time, or takes the connection and says nothing.
func TestEventsGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		event := func(n int) string {
			text := fmt.Sprintf("retry: 20\n\nid: %d\ndata: {\"kind\":\"block\",\"position\":%[1]d}\n\n", n)
			return fmt.Sprintf("HTTP/1.1 200 x\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", len(text), text)
		}
		dials := 0
		c, err := client.New("in-process.sock", client.WithTimeout(5*time.Second), client.WithDialer(func(ctx context.Context) (net.Conn, error) {
			dials++
			if dials == 2 { // a host that is off
				<-ctx.Done()
				return nil, ctx.Err()
			}
			ours, theirs := net.Pipe()
			go func(n int) {
				defer theirs.Close()
				readHead(bufio.NewReader(theirs))
				if n == 3 { // a program that hangs
					_, _ = theirs.Read(make([]byte, 1))
					return
				}
				_, _ = io.WriteString(theirs, event(n))
			}(dials)
			return ours, nil
		}))
		if err != nil {
			t.Fatal(err)
		}
		var got []uint64
		for e, err := range c.Events(ctx, client.EventOptions{}) {
			if err != nil {
				t.Fatalf("after %v: %v", got, err)
			}
			if got = append(got, e.Position); len(got) == 2 {
				break
			}
		}
		if fmt.Sprint(got) != "[1 4]" {
			t.Error(got)
		}
	})
}
