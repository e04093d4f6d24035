package bench

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"accessor/forks"
)

// othersServer takes the head, and keys to read there, from a server that runs
// already.
func (r *apiRun) othersServer() error {
	r.servers.ours = r.api.Socket
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", r.api.Socket)
	}}
	defer transport.CloseIdleConnections()
	ask := func(path string, into any) error {
		req, err := http.NewRequestWithContext(r.ctx, http.MethodGet, "http://accessor"+path, nil)
		if err != nil {
			return err
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		const most = 256 << 20
		body, err := io.ReadAll(io.LimitReader(resp.Body, most))
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%w: %s %.300s", errAnswer, resp.Status, body)
		}
		if err != nil {
			return fmt.Errorf("GET %s at %s: %w", path, r.api.Socket, err)
		}
		return json.Unmarshal(body, into)
	}
	var head struct {
		Block forks.Hash
		Slot  forks.Slot
	}
	if err := ask("/v1/blocks/head", &head); err != nil {
		return err
	}
	r.at = forks.Block{Hash: head.Block, Slot: head.Slot}
	var page struct{ Pairs [][2]string }
	if err := ask("/v1/blocks/0x"+head.Block.String()+"/state?limit="+strconv.Itoa(apiHot), &page); err != nil {
		return err
	}
	for _, p := range page.Pairs {
		k, err := hex.DecodeString(p[0])
		value, err2 := hex.DecodeString(p[1])
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		r.keys, r.values = append(r.keys, k), append(r.values, value)
	}
	if len(r.keys) < 2*apiBatch {
		return fmt.Errorf("the state at %s has %d keys, too few: want %d at least", r.api.Socket, len(r.keys), 2*apiBatch)
	}
	return errors.Join(r.serveBare(), r.serveRedis())
}

// serverPID is the process that listens at the socket.
func (r *apiRun) serverPID() (int, error) {
	if r.api.Socket == "" {
		return os.Getpid(), nil
	}
	conn, err := net.Dial("unix", r.api.Socket)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var peer *unix.Ucred
	var failed error
	err = raw.Control(func(fd uintptr) { peer, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(err, failed); err != nil {
		return 0, err
	}
	return int(peer.Pid), nil
}

// residentOf is the memory of a process that is resident, in bytes.
func residentOf(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0, fmt.Errorf("/proc/%d/statm: %q", pid, text)
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}
