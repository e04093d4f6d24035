package listen

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"accessor/api/access"
)

// MaxPath is the most bytes of a Unix socket's path: the kernel's limit of 108,
// less the zero at its end.
const MaxPath = 107

// DefaultMode is the mode of a Unix socket where nothing else is said: for its
// owner alone.
const DefaultMode fs.FileMode = 0o600

// Unix is a Unix socket to listen on.
type Unix struct {
	// Name is what the configuration calls it, and its clients.
	Name string
	// Path is where it is, at most MaxPath bytes. Its folder must be there.
	Path string
	// Mode is who may connect; 0 for DefaultMode.
	Mode fs.FileMode
	// UID and GID are its owner and group; -1 leaves them as they come.
	UID, GID int
	// Roles are what its clients may do.
	Roles access.Roles
	// UIDs and GIDs, where any is given, are the only users, or members of groups,
	// that it takes, by what the kernel says of the peer.
	UIDs, GIDs []int
}

// Listen makes the socket. What stands at its path is replaced only if it is a
// socket on which nobody listens. Errors: ErrPath, ErrInUse, and the system's.
func (u Unix) Listen() (*Listener, error) {
	if err := u.checkPath(); err != nil {
		return nil, fmt.Errorf("socket %s: %w", u.Path, err)
	}
	unlock, err := lockPath(u.Path)
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", u.Path, err)
	}
	defer unlock()
	inner, err := u.place()
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", u.Path, err)
	}
	ours, err := os.Lstat(u.Path)
	if err != nil {
		return nil, errors.Join(err, inner.Close())
	}
	l := &Listener{Listener: inner, name: u.Name, unix: &u}
	l.remove = func() error { return removeSocket(u.Path, ours) }
	return l, nil
}

// adopt takes over a socket that somebody else made, and removes.
func (u Unix) adopt(inner net.Listener) (*Listener, error) {
	l, ok := inner.(*net.UnixListener)
	if !ok || l.Addr().Network() != "unix" {
		return nil, fmt.Errorf("%w: %s is configured as a Unix socket, and %s %s was handed over",
			ErrActivation, u.Name, inner.Addr().Network(), inner.Addr())
	}
	l.SetUnlinkOnClose(false)
	u.Path = l.Addr().String()
	return &Listener{Listener: l, name: u.Name, unix: &u, warnings: u.differs()}, nil
}

// differs says where a socket that somebody else made isn't as configured. One without
// a path has neither mode nor owner.
func (u *Unix) differs() (list []string) {
	info, err := os.Lstat(u.Path)
	if err != nil {
		return nil
	}
	add := func(name, has, want string) {
		list = append(list, fmt.Sprintf("the socket that was handed over has %s %s, the configuration's %s isn't used: set it where the socket is made", name, has, want))
	}
	if mode := info.Mode().Perm(); u.Mode != 0 && mode != u.Mode {
		add("mode", fmt.Sprintf("%#o", mode), fmt.Sprintf("%#o", u.Mode))
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if ok && u.UID >= 0 && int(owner.Uid) != u.UID {
		add("owner", strconv.Itoa(int(owner.Uid)), strconv.Itoa(u.UID))
	}
	if ok && u.GID >= 0 && int(owner.Gid) != u.GID {
		add("group", strconv.Itoa(int(owner.Gid)), strconv.Itoa(u.GID))
	}
	return list
}

func (u *Unix) checkPath() error {
	switch {
	case u.Path == "":
		return fmt.Errorf("%w: no path", ErrPath)
	case len(u.Path) > MaxPath:
		return fmt.Errorf("%w: %d bytes are more than the %d that a Unix socket's path can have: choose a shorter one",
			ErrPath, len(u.Path), MaxPath)
	case u.Mode&^0o777 != 0:
		return fmt.Errorf("%w: mode %#o: want bits of 0777", ErrPath, uint32(u.Mode))
	}
	dir := filepath.Dir(u.Path)
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("%w: %w: make the folder first", ErrPath, err)
	}
	if !info.IsDir() {
		return fmt.Errorf("%w: %s is no folder", ErrPath, dir)
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && !trusted(int(owner.Uid)) {
		return fmt.Errorf("%w: user %d, whose folder %s is, could replace what is in it: take one of your own", ErrPath, owner.Uid, dir)
	}
	if info.Mode().Perm()&0o002 != 0 && info.Mode()&os.ModeSticky == 0 {
		return fmt.Errorf("%w: anybody could replace what is in %s: take away its write permission for others", ErrPath, dir)
	}
	return nil
}

// trusted says whether what a user has is as safe as what is one's own.
func trusted(uid int) bool { return uid == os.Geteuid() || uid == 0 }

// place makes the socket in a private folder beside its path, where nobody can
// connect yet, gives it mode and owner, and only then its name.
func (u *Unix) place() (_ *net.UnixListener, err error) {
	dead, err := u.look()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(u.Path), ".accessor-") // mode 0700
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// By its descriptor the private folder has a short name, however long the
	// path is.
	folder, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	private := filepath.Join("/proc/self/fd", strconv.Itoa(int(folder.Fd())), "socket")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: private, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	made := filepath.Join(dir, "socket")
	if u.UID >= 0 || u.GID >= 0 {
		if err := os.Lchown(made, u.UID, u.GID); err != nil {
			return nil, fmt.Errorf("give it owner %d, group %d: %w", u.UID, u.GID, err)
		}
	}
	mode := u.Mode
	if mode == 0 {
		mode = DefaultMode
	}
	if err := os.Chmod(made, mode); err != nil {
		return nil, err
	}
	return l, u.name(made, dead)
}

// name gives the socket its name, which only the dead one that was found there
// may have.
func (u *Unix) name(made string, dead bool) error {
	if dead {
		return os.Rename(made, u.Path)
	}
	err := unix.Renameat2(unix.AT_FDCWD, made, unix.AT_FDCWD, u.Path, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) { // a file system without that kind of rename
		err = os.Link(made, u.Path)
	}
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: something appeared there meanwhile", ErrInUse)
	}
	return err
}

// look says what stands at the path: a socket on which nobody listens, or
// nothing. Errors: ErrInUse, ErrPath.
func (u *Unix) look() (dead bool, err error) {
	info, err := os.Lstat(u.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case info.Mode()&fs.ModeSymlink != 0:
		return false, fmt.Errorf("%w: a symbolic link is there: name the socket itself, or remove the link", ErrPath)
	case info.Mode()&fs.ModeSocket == 0:
		return false, fmt.Errorf("%w: a file is there that is no socket: remove it, or choose another path", ErrPath)
	}
	conn, err := net.DialTimeout("unix", u.Path, time.Second)
	switch {
	case err == nil:
		_ = conn.Close()
		return false, fmt.Errorf("%w: stop that server, or choose another path", ErrInUse)
	case errors.Is(err, unix.ECONNREFUSED):
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	}
	// A queue that is full, no permission: somebody's, as far as one can tell.
	return false, fmt.Errorf("%w: %w", ErrInUse, err)
}

// removeSocket removes a socket that is still the one that was made there.
func removeSocket(path string, ours fs.FileInfo) error {
	unlock, err := lockPath(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // with its folder
	}
	if err != nil {
		return fmt.Errorf("remove socket %s: %w", path, err)
	}
	defer unlock()
	info, err := os.Lstat(path)
	if err != nil || !os.SameFile(info, ours) {
		return nil // removed, or another server's
	}
	return os.Remove(path)
}

// lockPatience is how long a server waits for another one that is just making or
// removing the same socket: a matter of milliseconds.
const lockPatience = 5 * time.Second

// lockPath makes servers that want one path look and act one after another. The
// lock is a file beside it that is there only meanwhile.
func lockPath(path string) (unlock func(), err error) {
	name := path + ".lock"
	for end := time.Now().Add(lockPatience); ; time.Sleep(5 * time.Millisecond) {
		file, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
		if err != nil {
			return nil, err
		}
		if err := checkLock(file); err != nil {
			return nil, errors.Join(err, file.Close())
		}
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil && stillNamed(file, name) {
			return func() {
				_ = os.Remove(name)
				_ = file.Close()
			}, nil
		}
		_ = file.Close()
		if err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", name, err)
		}
		if time.Now().After(end) {
			return nil, fmt.Errorf("%w: another process has locked %s", ErrInUse, name)
		}
	}
}

// checkLock refuses a lock that another user has put there, who could keep it for ever.
// Error: ErrPath.
func checkLock(file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !trusted(int(owner.Uid)) || !info.Mode().IsRegular() {
		return fmt.Errorf("%w: %s is another user's, or no file: remove it, or take a folder that nobody else can write to", ErrPath, file.Name())
	}
	return nil
}

// stillNamed says whether a file that is open still has its name: who had the
// lock before removes it.
func stillNamed(file *os.File, name string) bool {
	mine, err := file.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(name)
	return err == nil && os.SameFile(mine, there)
}
