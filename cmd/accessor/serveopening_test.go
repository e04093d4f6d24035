package main

import (
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"accessor/trace"
)

// TestWhileOpening: while the store is being opened, its sockets say so, and what comes
// just before the end of that is answered by the store.
func TestWhileOpening(t *testing.T) {
	chain := generated(t, trace.GenerateOptions{Seed: 3, Blocks: 2, Keys: 20, Writes: 5})
	text, err := os.ReadFile(chain)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "a")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	anchor := dir + "/anchor.jsonl" // comes when this test writes it
	if err := unix.Mkfifo(anchor, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := child(t, "accessor", "serve", "--data", dir+"/store", "--anchor", anchor, "--socket", dir+"/s")
	var errs strings.Builder
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	client := overSocket(dir + "/s")
	ask := func(path string) (status int, body, retry string) {
		resp, err := client.Get("http://x" + path)
		if err != nil {
			return 0, err.Error(), ""
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(text), resp.Header.Get("Retry-After")
	}
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if status, _, _ := ask("/livez"); status != 0 {
			break
		}
	}
	for path, want := range map[string]int{"/livez": 200, "/metrics": 200, "/readyz": 503, "/v1/status": 503, "/v1/blocks/head": 503} {
		began := time.Now()
		status, body, retry := ask(path)
		if status != want || want == 503 && (!strings.Contains(body, "not-ready") || !strings.Contains(body, "being opened") || retry == "") {
			t.Errorf("%s: %d %s, Retry-After %q", path, status, body, retry)
		}
		if took := time.Since(began); took > time.Second && path != "/v1/blocks/head" {
			t.Errorf("%s took %v", path, took)
		}
	}
	late := make(chan int, 1)
	go func() {
		status, _, _ := ask("/v1/blocks/head")
		late <- status
	}()
	time.Sleep(100 * time.Millisecond)
	stop := make(chan struct{})
	go func() { // for each time that it is opened
		for ; ; time.Sleep(time.Millisecond) {
			select {
			case <-stop:
				return
			default:
			}
			file, err := os.OpenFile(anchor, os.O_WRONLY|unix.O_NONBLOCK, 0)
			if err == nil {
				file.Write(text) // who reads may have seen enough
				file.Close()
			}
		}
	}()
	defer close(stop)
	if status := <-late; status != http.StatusOK {
		t.Errorf("a request that came before the end: %d", status)
	}
	if status, body, _ := ask("/readyz"); status != 200 {
		t.Errorf("%d %s", status, body)
	}
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, errs.String())
	}
}
