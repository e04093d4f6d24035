package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"accessor/trace"
)

// restrictedChild is the program with no sockets but those of the address families that
// are in its environment, as RestrictAddressFamilies= of a unit does it.
const (
	restrictedChild  = "restricted"
	restrictedByName = "TEST_ADDRESS_FAMILIES"
)

var families = map[string]uint32{
	"AF_UNIX": unix.AF_UNIX, "AF_INET": unix.AF_INET, "AF_INET6": unix.AF_INET6, "AF_NETLINK": unix.AF_NETLINK,
}

func restrictedChildMain() {
	if err := restrictFamilies(strings.Fields(os.Getenv(restrictedByName))); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	main()
}

// restrictFamilies makes socket(2) of other families fail, in all threads.
func restrictFamilies(names []string) error {
	const load, equal, give, number, argument = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K,
		unix.BPF_RET | unix.BPF_K, 0, 16
	allow := unix.SockFilter{Code: give, K: unix.SECCOMP_RET_ALLOW}
	filter := []unix.SockFilter{
		{Code: load, K: number}, {Code: equal, K: unix.SYS_SOCKET, Jt: 1}, allow, {Code: load, K: argument},
	}
	for _, name := range names {
		family, known := families[name]
		if !known {
			return fmt.Errorf("no address family: %s", name)
		}
		filter = append(filter, unix.SockFilter{Code: equal, K: family, Jf: 1}, allow)
	}
	filter = append(filter, unix.SockFilter{Code: give, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EAFNOSUPPORT)})
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(filter)
	if errno != 0 {
		return errno
	}
	return nil
}

// TestUnitLetsPeers: with the address families of the unit a node that listens on all
// addresses knows them, and finds others on its network.
func TestUnitLetsPeers(t *testing.T) {
	chain := generated(t, trace.GenerateOptions{Seed: 3, Blocks: 2, Keys: 20, Writes: 5})
	allowed := unitValue(t, shipped(t, "systemd", "accessor.service"), "RestrictAddressFamilies")
	outside := false // this machine has addresses beside the loopback's
	list, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		n, ok := a.(*net.IPNet)
		outside = outside || ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast()
	}
	for _, tt := range []struct {
		families string
		works    bool
	}{{allowed, true}, {strings.ReplaceAll(allowed, " AF_NETLINK", ""), false}} {
		dir := t.TempDir()
		configuration := filepath.Join(dir, "accessor.toml")
		text := "[da]\nenabled = true\nmdns = " + strconv.FormatBool(tt.works) + "\nlisten = [\"/ip4/0.0.0.0/udp/0/quic-v1\", \"/ip4/0.0.0.0/tcp/0\"]\n"
		if err := os.WriteFile(configuration, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := child(t, restrictedChild, "serve", "--config", configuration, "--data", filepath.Join(dir, "store"),
			"--anchor", chain, "--socket", filepath.Join(dir, "s"))
		cmd.Env = append(cmd.Env, restrictedByName+"="+tt.families)
		errs := started(t, cmd, filepath.Join(dir, "s"))
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Fatalf("%v\n%s", err, errs)
		}
		if failed := strings.Contains(errs.String(), "netlink"); failed == tt.works {
			t.Errorf("with %s:\n%s", tt.families, errs)
		}
		if got := tellsOutside(errs.String()); got != (tt.works && outside) {
			t.Errorf("with %s addresses beside the loopback's are told: %v\n%s", tt.families, got, errs)
		}
	}
}

// tellsOutside says whether a log names an address of the node that others reach.
func tellsOutside(log string) bool {
	for line := range strings.Lines(log) {
		var l struct {
			Msg       string
			Addresses []string
		}
		if json.Unmarshal([]byte(line), &l) != nil || l.Msg != "peers" {
			continue
		}
		for _, a := range l.Addresses {
			if !strings.HasPrefix(a, "/ip4/127.") {
				return true
			}
		}
	}
	return false
}
