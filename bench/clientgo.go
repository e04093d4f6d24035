package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	goclient "accessor/api/client"
	"accessor/forks"
)

// ClientTask is what the benchmark program of each client is asked to measure, by the
// flags of these names.
type ClientTask struct {
	Socket    string
	Block     forks.Hash // where keys are read
	Keys      string     // file with a key a line, in hex; each has a value of 200 bytes
	Pin       string     // directory of the block's pin; empty where there is none
	Requests  int
	ScanBlock forks.Hash
}

// ClientFigures are what such a program prints, as JSON. What a client doesn't do is 0.
type ClientFigures struct {
	Language    string  `json:"language"`
	ReadUS      float64 `json:"read_us"`        // one read by the client, median
	RawUS       float64 `json:"raw_us"`         // the same bytes by hand, median
	BatchMS     float64 `json:"batch_ms"`       // 1,000 keys, median
	ScanPairs   int     `json:"scan_pairs"`     // of the whole state
	ScanRSS     int64   `json:"scan_rss_bytes"` // the process's peak after it
	ScanSeconds float64 `json:"scan_seconds"`
	SocketReads float64 `json:"socket_reads"` // a second, one by one
	DirectReads float64 `json:"direct_reads"` // a second, from the pinned checkpoint
}

const (
	clientRounds  = 20
	clientBatch   = 1000 // keys
	clientBatches = 200
)

// MeasureGo measures the Go client.
func MeasureGo(ctx context.Context, task ClientTask) (f ClientFigures, err error) {
	f.Language = strings.Replace(runtime.Version(), "go", "go ", 1)
	keys, err := readKeys(task.Keys)
	if err != nil {
		return f, err
	}
	c, err := goclient.New("unix://" + task.Socket)
	if err != nil {
		return f, err
	}
	defer c.Close()
	v := c.At(task.Block.String())
	if err := f.reads(ctx, v, task, keys); err != nil {
		return f, err
	}
	var times []time.Duration
	batch := keys[:min(len(keys), clientBatch)]
	for range clientBatches {
		began := time.Now()
		values, err := v.GetMany(ctx, batch)
		times = append(times, time.Since(began))
		if err != nil {
			return f, err
		}
		for _, value := range values {
			if len(value) != apiValue {
				return f, fmt.Errorf("%w: a value of %d bytes", errAnswer, len(value))
			}
		}
	}
	f.BatchMS = middle(times) / 1000
	began := time.Now()
	for _, err := range c.At(task.ScanBlock.String()).Scan(ctx, goclient.ScanOptions{}) {
		if err != nil {
			return f, err
		}
		f.ScanPairs++
	}
	f.ScanSeconds = time.Since(began).Seconds()
	f.ScanRSS = maxRSS()
	return f, nil
}

// reads measures the client and the same bytes by hand in turn, so that what else the
// machine does hits both.
func (f *ClientFigures) reads(ctx context.Context, v *goclient.View, task ClientTask, keys [][]byte) error {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", task.Socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	requests := make([][]byte, len(keys))
	for i, key := range keys {
		requests[i] = fmt.Appendf(nil, "GET /v1/blocks/%s/state/%x HTTP/1.1\r\nHost: localhost\r\nAccept: application/octet-stream\r\n\r\n", task.Block, key)
	}
	per := max(1, task.Requests/clientRounds)
	var ours, theirs []time.Duration
	var spent time.Duration
	byClient := func(i int) error {
		at := time.Now()
		value, _, err := v.Get(ctx, keys[i])
		ours = append(ours, time.Since(at))
		if err != nil || len(value) != apiValue {
			return fmt.Errorf("%w: a value of %d bytes: %w", errAnswer, len(value), err)
		}
		return nil
	}
	buf := make([]byte, 64<<10)
	raw := func(i int) error {
		at := time.Now()
		n, err := byHand(conn, requests[i], buf)
		theirs = append(theirs, time.Since(at))
		if err != nil || n != apiValue {
			return fmt.Errorf("%w: by hand, a value of %d bytes: %w", errAnswer, n, err)
		}
		return nil
	}
	for round := range clientRounds {
		for side, read := range []func(int) error{byClient, raw} {
			began := time.Now()
			for i := range per {
				if err := read((round*per + i) % len(keys)); err != nil {
					return err
				}
			}
			if side == 0 {
				spent += time.Since(began)
			}
		}
	}
	f.ReadUS, f.RawUS = middle(ours), middle(theirs)
	f.SocketReads = float64(len(ours)) / spent.Seconds()
	return nil
}

// middle is the median, in microseconds.
func middle(times []time.Duration) float64 {
	slices.Sort(times)
	return float64(times[len(times)/2].Nanoseconds()) / 1000
}

// byHand sends a request and reads the answer as far as it must be, into buf.
func byHand(conn net.Conn, request, buf []byte) (size int, err error) {
	if _, err := conn.Write(request); err != nil {
		return 0, err
	}
	const length = "Content-Length: "
	whole := 0 // bytes of the answer, once they are known
	for n := 0; whole == 0 || n < whole; {
		m, err := conn.Read(buf[n:])
		if err != nil {
			return 0, err
		}
		n += m
		if end := bytes.Index(buf[:n], []byte("\r\n\r\n")); whole == 0 && end >= 0 {
			at := bytes.Index(buf[:end], []byte(length))
			if at < 0 {
				return 0, errAnswer
			}
			digits, _, _ := bytes.Cut(buf[at+len(length):end+1], []byte("\r"))
			if size, err = strconv.Atoi(string(digits)); err != nil {
				return 0, err
			}
			whole = end + len("\r\n\r\n") + size
		}
	}
	return size, nil
}

// readKeys reads a file of keys.
func readKeys(path string) ([][]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var keys [][]byte
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		key, err := hex.DecodeString(lines.Text())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s: no keys", path)
	}
	return slices.Clip(keys), lines.Err()
}
