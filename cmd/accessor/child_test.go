package main

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// named gives the test binary the program's name in a folder, by which it knows what to
// be when a shell starts it.
func named(t *testing.T, dir string, self *exec.Cmd) string {
	t.Helper()
	bin := filepath.Join(dir, "accessor")
	if err := os.Symlink(self.Path, bin); err != nil {
		t.Fatal(err)
	}
	return bin
}

// overSocket gives a client of a Unix socket.
func overSocket(path string) *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}}}
}

// started starts a service and waits until it is ready on a socket. What it says goes
// into the buffer, which is whole once the process has been waited for.
func started(t *testing.T, cmd *exec.Cmd, socket string) *bytes.Buffer {
	t.Helper()
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	client := overSocket(socket)
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		resp, err := client.Get("http://x/readyz")
		if err != nil {
			continue
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return &errs
		}
	}
	cmd.Process.Kill()
	cmd.Wait()
	t.Fatalf("never ready:\n%s", errs.String())
	return nil
}
