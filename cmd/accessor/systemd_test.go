package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"accessor/trace"
)

// told reads what a service tells systemd until it has said something.
func told(t *testing.T, c *net.UnixConn, what string) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	var all bytes.Buffer
	for buf := make([]byte, 4096); ; {
		n, err := c.Read(buf)
		if err != nil {
			t.Fatalf("never told %s: %v\n%s", what, err, all.String())
		}
		all.Write(buf[:n])
		all.WriteByte('\n')
		if strings.Contains("\n"+string(buf[:n])+"\n", what) {
			return
		}
	}
}

// TestSystemd: a socket that is handed over is served, under the name that the
// configuration gives it; and systemd is told what it wants to know.
func TestSystemd(t *testing.T) {
	chain := generated(t, trace.GenerateOptions{Seed: 3, Blocks: 2, Keys: 20, Writes: 5})
	dir, err := os.MkdirTemp("", "a")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: dir + "/notify", Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer notify.Close()
	socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: dir + "/given", Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	file, err := socket.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	configuration := filepath.Join(dir, "accessor.toml")
	text := "[[sockets]]\nname = \"node\"\npath = \"/nowhere/node.sock\"\nroles = [\"observer\"]\n"
	if err := os.WriteFile(configuration, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	self := child(t, "accessor")
	bin := filepath.Join(dir, "accessor") // by its name, the test binary knows what to be
	if err := os.Symlink(self.Path, bin); err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	// LISTEN_PID and WATCHDOG_PID are the service's own.
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ WATCHDOG_PID=$$ exec "$0" "$@"`, bin,
		"serve", "--config", configuration, "--data", filepath.Join(dir, "store"), "--anchor", chain)
	cmd.Env = append(os.Environ(), "LISTEN_FDS=1", "LISTEN_FDNAMES=node", "NOTIFY_SOCKET="+dir+"/notify", "WATCHDOG_USEC=300000")
	cmd.ExtraFiles = []*os.File{file}
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	defer cmd.Process.Kill()

	told(t, notify, "\nEXTEND_TIMEOUT_USEC=")
	told(t, notify, "\nREADY=1\nSTATUS=head at slot 0, finalized 0, 1 blocks")
	told(t, notify, "\nWATCHDOG=1\n")
	told(t, notify, "\nWATCHDOG=1\n")
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", dir+"/given")
		}}}
	resp, err := client.Get("http://x/v1/status")
	if err != nil {
		t.Fatalf("%v\n%s", err, errs.String())
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != 200 || !bytes.Contains(body, []byte(`"blocks":1`)) {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	resp, err = client.Post("http://x/v1/finalize", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 403 {
		t.Errorf("an observer finalizes: %d", resp.StatusCode)
	}

	cmd.Process.Signal(syscall.SIGTERM)
	told(t, notify, "\nSTOPPING=1\n")
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("%v\n%s", err, errs.String())
		}
	case <-time.After(10 * time.Second):
		t.Fatal("doesn't stop")
	}
	if _, err := os.Lstat(dir + "/given"); err != nil {
		t.Errorf("systemd's socket is gone: %v", err)
	}
}

// TestStopsInTime: a client that never ends its request is cut off.
func TestStopsInTime(t *testing.T) {
	chain := generated(t, trace.GenerateOptions{Seed: 3, Blocks: 2, Keys: 20, Writes: 5})
	dir, err := os.MkdirTemp("", "a")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	cmd := child(t, "accessor", "serve", "--data", dir+"/store", "--anchor", chain, "--socket", dir+"/s")
	cmd.Env = append(cmd.Env, "ACCESSOR_DRAIN_TIMEOUT=500ms")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	var c net.Conn
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if c, err = net.Dial("unix", dir+"/s"); err == nil || time.Now().After(end) {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// A block of which the rest never comes, and a connection that says nothing.
	io.WriteString(c, "POST /v1/blocks HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")
	if silent, err := net.Dial("unix", dir+"/s"); err == nil {
		defer silent.Close()
	}
	time.Sleep(300 * time.Millisecond)
	began := time.Now()
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, errs.String())
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	if !strings.Contains(errs.String(), "requests were cut off") || !strings.Contains(errs.String(), `"msg":"stopped"`) {
		t.Error(errs.String())
	}
}
