package listen

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"accessor/api/access"
)

func TestUnix(t *testing.T) {
	u := mine(t)
	u.Roles = access.Of(access.Refining)
	l := listenUnix(t, u)
	info, err := os.Lstat(u.Path)
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Fatalf("made %v, %v", info.Mode(), err)
	}
	var seen access.Client
	serve(t, Options{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { seen = access.ClientOf(r.Context()) }), l)
	if status, _ := get(t, over(t, "unix", u.Path), nil); status != 200 {
		t.Fatalf("status %d", status)
	}
	want := access.Client{Roles: u.Roles, Name: "here", UID: os.Getuid(), GID: os.Getgid(), PID: os.Getpid()}
	if seen != want {
		t.Errorf("client %+v, want %+v", seen, want)
	}
	l.Close()
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(u.Path), "*"))
	hidden, _ := filepath.Glob(filepath.Join(filepath.Dir(u.Path), ".*"))
	if len(left)+len(hidden) > 0 {
		t.Errorf("left behind: %v %v", left, hidden)
	}
}

func TestUnixMode(t *testing.T) {
	u := mine(t)
	u.Mode = 0o660
	u.UID, u.GID = os.Getuid(), os.Getgid()
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	listenUnix(t, u)
	if info, err := os.Lstat(u.Path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("made %v, %v", info.Mode(), err)
	}
}

// TestNoWindow: whoever sees the socket sees it as it will be.
func TestNoWindow(t *testing.T) {
	u := mine(t)
	stop := make(chan struct{})
	var watcher sync.WaitGroup
	var seen atomic.Int64
	watcher.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if info, err := os.Lstat(u.Path); err == nil {
				seen.Add(1)
				if info.Mode().Perm() != 0o600 {
					t.Errorf("seen with mode %v", info.Mode())
					return
				}
			}
		}
	})
	for end := time.Now().Add(20 * time.Second); seen.Load() < 20 && time.Now().Before(end); {
		l, err := u.Listen()
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
	close(stop)
	watcher.Wait()
	if seen.Load() == 0 {
		t.Error("the watcher never saw the socket")
	}
}

// giveAway makes something another user's, which root alone can.
func giveAway(t *testing.T, path string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root gives files away")
	}
	if err := os.Chown(path, 12345, 12345); err != nil {
		t.Fatal(err)
	}
}

func TestUnixRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		prep func(t *testing.T, u *Unix)
		err  error
		text string
	}{
		{"long path", func(t *testing.T, u *Unix) {
			u.Path = filepath.Join(filepath.Dir(u.Path), strings.Repeat("x", 108-len(filepath.Dir(u.Path))-1))
		}, ErrPath, "108 bytes are more than the 107"},
		{"no path", func(t *testing.T, u *Unix) { u.Path = "" }, ErrPath, "no path"},
		{"no folder", func(t *testing.T, u *Unix) { u.Path = filepath.Dir(u.Path) + "/none/s" }, ErrPath, "make the folder first"},
		{"mode", func(t *testing.T, u *Unix) { u.Mode = 0o4777 }, ErrPath, "0777"},
		{"symlink to nothing", func(t *testing.T, u *Unix) { os.Symlink("/nowhere", u.Path) }, ErrPath, "symbolic link"},
		{"symlink to a socket", func(t *testing.T, u *Unix) {
			other := mine(t)
			listenUnix(t, other)
			os.Symlink(other.Path, u.Path)
		}, ErrPath, "symbolic link"},
		{"file", func(t *testing.T, u *Unix) { os.WriteFile(u.Path, []byte("thesis"), 0o600) }, ErrPath, "no socket"},
		{"folder", func(t *testing.T, u *Unix) { os.Mkdir(u.Path, 0o700) }, ErrPath, "no socket"},
		{"live", func(t *testing.T, u *Unix) { listenUnix(t, *u) }, ErrInUse, "stop that server"},
		{"datagrams", func(t *testing.T, u *Unix) {
			c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: u.Path, Net: "unixgram"})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
		}, ErrInUse, "wrong type"},
		{"folder of anybody", func(t *testing.T, u *Unix) { os.Chmod(filepath.Dir(u.Path), 0o777) }, ErrPath, "anybody could replace"},
		{"folder of another user", func(t *testing.T, u *Unix) { giveAway(t, filepath.Dir(u.Path)) }, ErrPath, "user 12345"},
		{"another user's lock", func(t *testing.T, u *Unix) {
			os.Chmod(filepath.Dir(u.Path), 0o777|os.ModeSticky)
			os.WriteFile(u.Path+".lock", nil, 0o666)
			giveAway(t, u.Path+".lock")
		}, ErrPath, "another user's"},
		{"pipe as lock", func(t *testing.T, u *Unix) { unix.Mkfifo(u.Path+".lock", 0o600) }, ErrPath, "no file"},
		{"symlink as lock", func(t *testing.T, u *Unix) { os.Symlink("/tmp/x", u.Path+".lock") }, unix.ELOOP, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := mine(t)
			tt.prep(t, &u)
			before, _ := os.Lstat(u.Path)
			l, err := u.Listen()
			if l != nil || !errors.Is(err, tt.err) || !strings.Contains(fmt.Sprint(err), tt.text) {
				t.Fatalf("%v, %v", l, err)
			}
			if after, _ := os.Lstat(u.Path); before != nil && !os.SameFile(before, after) {
				t.Error("what was there is gone")
			}
			if left, _ := filepath.Glob(filepath.Dir(u.Path) + "/.accessor-*"); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// TestLongestPath: the limit itself works, as a server and as a client.
func TestLongestPath(t *testing.T) {
	u := mine(t)
	u.Path = filepath.Join(filepath.Dir(u.Path), strings.Repeat("x", MaxPath-len(filepath.Dir(u.Path))-1))
	if len(u.Path) != MaxPath {
		t.Fatal(len(u.Path))
	}
	serve(t, Options{}, echo, listenUnix(t, u))
	if status, _ := get(t, over(t, "unix", u.Path), nil); status != 200 {
		t.Errorf("status %d", status)
	}
}

func TestDeadSocketIsReplaced(t *testing.T) {
	u := mine(t)
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: u.Path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	serve(t, Options{}, echo, listenUnix(t, u))
	if status, body := get(t, over(t, "unix", u.Path), nil); status != 200 {
		t.Errorf("%d %s", status, body)
	}
}

// TestOnlyOursIsRemoved: a server that ends leaves the socket of the one that came
// after it.
func TestOnlyOursIsRemoved(t *testing.T) {
	u := mine(t)
	first := listenUnix(t, u)
	os.Remove(u.Path)
	listenUnix(t, u)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	dial(t, u.Path)
}

// TestRaceForOneSocket: of servers that want one socket at a time, one gets it.
func TestRaceForOneSocket(t *testing.T) {
	for range 20 {
		u := mine(t)
		dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: u.Path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		dead.SetUnlinkOnClose(false)
		dead.Close()
		var racers sync.WaitGroup
		var mu sync.Mutex
		var won []*Listener
		for range 8 {
			racers.Go(func() {
				l, err := u.Listen()
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					won = append(won, l)
				case !errors.Is(err, ErrInUse):
					t.Errorf("lost with %v", err)
				}
			})
		}
		racers.Wait()
		if len(won) != 1 {
			t.Fatalf("%d servers have the socket", len(won))
		}
		dial(t, u.Path) // and it is the winner's
		if c, err := won[0].Accept(); err != nil {
			t.Error(err)
		} else {
			c.Close()
		}
		won[0].Close()
	}
}

func TestPeers(t *testing.T) {
	uid, gid := os.Getuid(), os.Getgid()
	for _, tt := range []struct {
		name       string
		uids, gids []int
		ok         bool
	}{
		{"any", nil, nil, true},
		{"user", []int{7, uid}, nil, true},
		{"group", nil, []int{gid}, true},
		{"user or group", []int{99999}, []int{gid}, true},
		{"other user", []int{99999}, nil, false},
		{"other group", []int{99999}, []int{99998}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := mine(t)
			u.UIDs, u.GIDs = tt.uids, tt.gids
			serve(t, Options{}, echo, listenUnix(t, u))
			c := dial(t, u.Path)
			fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			status, body := answer(t, c)
			if tt.ok && status != 200 || !tt.ok && (status != 403 || !strings.Contains(body, `"kind":"forbidden-peer"`)) {
				t.Errorf("%d %s", status, body)
			}
		})
	}
	u := Unix{GIDs: []int{42}}
	if _, ok := u.client(peer{uid: 1, gid: 1, groups: []int{7, 42}}); !ok {
		t.Error("a supplementary group counts")
	}
	if _, ok := u.client(peer{uid: 42, gid: 1}); ok {
		t.Error("a user's number is no group's")
	}
}

// TestPeerGroups: the kernel's list is this process's own here.
func TestPeerGroups(t *testing.T) {
	u := mine(t)
	l := listenUnix(t, u)
	dial(t, u.Path)
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p, err := peerOf(c.(*net.UnixConn))
	if err != nil {
		t.Fatal(err)
	}
	groups, err := os.Getgroups()
	if err != nil || len(groups) != len(p.groups) {
		t.Errorf("groups %v, want %v (%v)", p.groups, groups, err)
	}
}

func TestIDs(t *testing.T) {
	for _, tt := range []struct {
		name string
		want int
		ok   bool
	}{{"", -1, true}, {"root", 0, true}, {"0", 0, true}, {"12345", 12345, true},
		{"4294967295", 0, false}, {"no such name", 0, false}, {"-1", 0, false}} {
		for what, look := range map[string]func(string) (int, error){"user": UserID, "group": GroupID} {
			got, err := look(tt.name)
			if got != tt.want || (err == nil) != tt.ok {
				t.Errorf("%s %q: %d, %v", what, tt.name, got, err)
			}
		}
	}
}

func TestActivation(t *testing.T) {
	socket := func(t *testing.T) (net.Listener, string) {
		u := mine(t)
		l, err := net.Listen("unix", u.Path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l, u.Path
	}
	t.Run("taken over", func(t *testing.T) {
		l, path := socket(t)
		list, err := Sockets{Unix: []Unix{{Name: "accessor", Path: "/nowhere/x", Roles: access.All}}}.open(
			map[string][]net.Listener{"accessor.socket": {l}})
		if err != nil {
			t.Fatal(err)
		}
		s := serve(t, Options{}, echo, list...)
		if status, body := get(t, over(t, "unix", path), nil); status != 200 {
			t.Errorf("%d %s", status, body)
		}
		if list[0].Where() != path {
			t.Errorf("is at %s", list[0].Where())
		}
		s.Shutdown(t.Context())
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("systemd's socket was removed: %v", err)
		}
	})
	for name, sockets := range map[string]Sockets{
		"unknown name": {},
		"other kind":   {TCP: []TCP{{Name: "accessor", Address: "127.0.0.1:0"}}},
	} {
		t.Run(name, func(t *testing.T) {
			l, _ := socket(t)
			list, err := sockets.open(map[string][]net.Listener{"accessor": {l}})
			if len(list) > 0 || !errors.Is(err, ErrActivation) {
				t.Errorf("%v, %v", list, err)
			}
		})
	}
	t.Run("two of a name", func(t *testing.T) {
		a, _ := socket(t)
		b, _ := socket(t)
		_, err := Sockets{Unix: []Unix{{Name: "x"}}}.open(map[string][]net.Listener{"x": {a, b}})
		if !errors.Is(err, ErrActivation) {
			t.Error(err)
		}
	})
	t.Run("one fails, none is left", func(t *testing.T) {
		u := mine(t)
		_, err := Sockets{Unix: []Unix{u, {Name: "y", Path: "/nowhere/s"}}}.open(nil)
		if !errors.Is(err, ErrPath) {
			t.Error(err)
		}
		if _, err := os.Lstat(u.Path); err == nil {
			t.Error("the first is still there")
		}
	})
}

// TestShutdown: what was asked is answered, who says nothing is not waited for.
func TestShutdown(t *testing.T) {
	u := mine(t)
	began, goOn := make(chan struct{}), make(chan struct{})
	s := serve(t, Options{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(began)
		<-goOn
		fmt.Fprint(w, "done")
	}), listenUnix(t, u))
	dial(t, u.Path) // silent
	c := dial(t, u.Path)
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-began
	time.AfterFunc(300*time.Millisecond, func() { close(goOn) })
	start := time.Now()
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > 3*time.Second || took < 250*time.Millisecond {
		t.Errorf("took %v", took)
	}
	if status, body := answer(t, c); status != 200 || body != "done" {
		t.Errorf("%d %s", status, body)
	}
	if _, err := os.Lstat(u.Path); err == nil {
		t.Error("the socket is still there")
	}
}

// TestOpen: where anybody may come, everybody has the same roles.
func TestOpen(t *testing.T) {
	l, err := Open("metrics", "127.0.0.1:0", access.Client{Roles: access.Of(access.Observer)})
	if err != nil {
		t.Fatal(err)
	}
	serve(t, Options{}, echo, l)
	if status, body := get(t, over(t, "tcp", l.Where()), nil); status != 200 || body != "metrics [observer] 0" {
		t.Errorf("%d %s", status, body)
	}
}
