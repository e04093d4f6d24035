package listen

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os/user"
	"slices"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"accessor/api/access"
)

// peer is a process at the other end of a Unix socket, as the kernel knew it when
// it connected.
type peer struct {
	uid, gid, pid int
	groups        []int // supplementary
}

// peerOf asks the kernel who is at the other end.
func peerOf(c *net.UnixConn) (p peer, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return p, err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			failed = fmt.Errorf("SO_PEERCRED: %w", err)
			return
		}
		p.uid, p.gid, p.pid = int(cred.Uid), int(cred.Gid), int(cred.Pid)
		if p.groups, err = peerGroups(int(fd)); err != nil {
			failed = fmt.Errorf("SO_PEERGROUPS: %w", err)
		}
	})
	return p, errors.Join(err, failed)
}

// maxGroups is the most groups that Linux lets a process have.
const maxGroups = 65536

// peerGroups gives the peer's supplementary groups. The first call asks for a
// usual number; the kernel answers how large the list is where that is too small.
func peerGroups(fd int) ([]int, error) {
	size := uint32(4 * 64)
	for range 2 {
		buf := make([]byte, size)
		got := size
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&got)), 0) // #nosec G103 -- x/sys has no call for it
		switch {
		case errno == unix.ERANGE && got > size && got <= 4*maxGroups:
			size = got
		case errno != 0:
			return nil, errno
		default:
			var groups []int
			for b := buf[:min(got, size)]; len(b) >= 4; b = b[4:] {
				groups = append(groups, int(binary.NativeEndian.Uint32(b)))
			}
			return groups, nil
		}
	}
	return nil, unix.ERANGE
}

// client says who a peer is, and whether the socket takes it.
func (u *Unix) client(p peer) (c access.Client, ok bool) {
	c = access.Client{Roles: u.Roles, Name: u.Name, UID: p.uid, GID: p.gid, PID: p.pid}
	if len(u.UIDs) == 0 && len(u.GIDs) == 0 {
		return c, true
	}
	if slices.Contains(u.UIDs, p.uid) || slices.Contains(u.GIDs, p.gid) {
		return c, true
	}
	listed := func(g int) bool { return slices.Contains(u.GIDs, g) }
	return c, slices.ContainsFunc(p.groups, listed)
}

// UserID gives the number of a user by name or number; -1 for "", which is nobody
// in particular.
func UserID(name string) (int, error) {
	return idOf(name, "user", func() (string, error) {
		u, err := user.Lookup(name)
		if err != nil {
			return "", err
		}
		return u.Uid, nil
	})
}

// GroupID gives the number of a group by name or number; -1 for "".
func GroupID(name string) (int, error) {
	return idOf(name, "group", func() (string, error) {
		g, err := user.LookupGroup(name)
		if err != nil {
			return "", err
		}
		return g.Gid, nil
	})
}

func idOf(name, what string, look func() (string, error)) (int, error) {
	if name == "" {
		return -1, nil
	}
	digits := name
	if _, err := strconv.ParseUint(name, 10, 32); err != nil {
		if digits, err = look(); err != nil {
			return 0, fmt.Errorf("no %s %q on this machine: give a name that is, or a number", what, name)
		}
	}
	id, err := strconv.ParseUint(digits, 10, 32)
	if err != nil || id == 1<<32-1 { // which means no id to the kernel
		return 0, fmt.Errorf("%s %q: want a name, or a number below 2^32-1", what, name)
	}
	return int(id), nil
}
