// Package c tests the example in C++ against the program itself.
package c

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"accessor/internal/programtest"
)

func TestMain(m *testing.M) { programtest.Main(m) }

func TestExample(t *testing.T) {
	compiler, err := exec.LookPath("g++")
	if err != nil {
		t.Skip("no g++")
	}
	program := programtest.Path(t)
	dir, err := os.MkdirTemp("", "c") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	example := filepath.Join(dir, "example")
	out, err := exec.Command(compiler, "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-o", example, "example.cc").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	chain, err := filepath.Abs("../conformance/chain.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s.sock")
	server := exec.Command(program, "serve", "--data", filepath.Join(dir, "data"), "--anchor", chain, "--socket", socket)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = server.Process.Signal(syscall.SIGTERM)
		_ = server.Wait()
	}()

	run := func(path string) (string, error) {
		out, err := exec.Command(example, path).CombinedOutput()
		return string(out), err
	}
	const anchor = "b9150fdcd31dff6978724ac698b9c2375a152ca7caed150b3c5011a40925ceea"
	want := "head " + anchor + " slot 0\nslot 00000000\nvalue 00000000\nvalue absent\n"
	var got string
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if got, err = run(socket); err == nil || time.Now().After(end) {
			break
		}
	}
	if err != nil || got != want {
		t.Errorf("%v\n%swant\n%s", err, got, want)
	}

	if got, err := run(filepath.Join(dir, "nobody.sock")); err == nil || !strings.Contains(got, "No such file") {
		t.Errorf("nobody there: %v, %q", err, got)
	}
	other := strings.Repeat("a1", 32)
	head := "HTTP/1.1 200 OK\r\nAccessor-Slot: 0\r\nAccessor-Block: " + anchor + "\r\n"
	for name, answers := range map[string][]string{
		"answer about block":       {head + "Content-Length: 2\r\n\r\n{}", strings.Replace(head, anchor, other, 1) + "Content-Length: 1\r\n\r\n."},
		"ended amid an answer":     {head + "Content-Length: 3\r\n\r\n{}"},
		"a value beyond the batch": {head + "Content-Length: 2\r\n\r\n{}", head + "Content-Length: 1\r\n\r\n.", head + "Transfer-Encoding: chunked\r\n\r\n5\r\n\x09\x00\x00\x00.\r\n0\r\n\r\n"},
		"a length of":              {head + "Content-Length: 99999999999\r\n\r\n"},
		"whose end nothing says":   {head + "\r\n{}"},
		"status 403":               {"HTTP/1.1 403 Forbidden\r\nContent-Length: 20\r\n\r\n{\"kind\":\"forbidden\"}"},
	} {
		path := fake(t, dir, answers)
		if got, err := run(path); err == nil || !strings.Contains(got, name) {
			t.Errorf("want %q: %v, %q", name, err, got)
		}
	}
}

// fake listens on a socket, and gives the requests of its one connection these
// answers, after which it closes it.
func fake(t *testing.T, dir string, answers []string) string {
	t.Helper()
	path := filepath.Join(dir, "f.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer l.Close()
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		in := bufio.NewReader(conn)
		for _, answer := range answers {
			for line := "-"; strings.TrimSpace(line) != ""; {
				if line, err = in.ReadString('\n'); err != nil {
					return
				}
			}
			if _, err := conn.Write([]byte(answer)); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { l.Close() })
	return path
}
