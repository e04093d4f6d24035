package bench

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	goclient "accessor/api/client"
	"accessor/forks"
)

// othersServer takes the head, and keys to read there, from a server that runs
// already.
func (r *apiRun) othersServer() error {
	r.servers.ours = r.api.Socket
	c, err := goclient.New("unix://" + r.api.Socket)
	if err != nil {
		return err
	}
	defer c.Close()
	head, err := c.Block(r.ctx, "head")
	if err != nil {
		return fmt.Errorf("the head at %s: %w", r.api.Socket, err)
	}
	r.at = forks.Block{Hash: head.Block, Slot: head.Slot}
	for p, err := range c.At(head.Block.String()).Scan(r.ctx, goclient.ScanOptions{Limit: apiHot}) {
		if err != nil {
			return fmt.Errorf("the state at %s: %w", r.api.Socket, err)
		}
		r.keys, r.values = append(r.keys, p.Key), append(r.values, p.Value)
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
