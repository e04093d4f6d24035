package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"accessor/api/client"
)

// terminal opens a pseudo-terminal: what is written to the one is read from the other.
func terminal(t *testing.T, rows uint16) (tty, screen *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { screen.Close() })
	fd := int(screen.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: 80})
	}
	if err == nil {
		tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	return tty, screen
}

// wantShown reads as much as a terminal should have got, and compares.
func wantShown(t *testing.T, screen *os.File, want string) {
	t.Helper()
	want = strings.ReplaceAll(want, "\n", "\r\n")
	b := make([]byte, len(want)+1000)
	_ = screen.SetReadDeadline(time.Now().Add(10 * time.Second)) // where it has deadlines
	n, err := io.ReadAtLeast(screen, b, len(want))
	if string(b[:n]) != want || err != nil {
		t.Errorf("shown %q, %v; want %q", b[:n], err, want)
	}
}

// TestColours: on a terminal that has them, unless the user doesn't want any, and with
// the columns where they are without.
func TestColours(t *testing.T) {
	tty, screen := terminal(t, 24)
	table := newTable("SLOT", "WHAT", "OWNER")
	table.row(7, cell{"locked", yellow}, "")
	table.row(12, "reserved", "me")
	for _, tt := range []struct{ term, noColor, want string }{
		{"xterm", "", "\x1b[1mSLOT\x1b[0m  \x1b[1mWHAT\x1b[0m      \x1b[1mOWNER\x1b[0m\n   7  \x1b[33mlocked\x1b[0m\n  12  reserved  me\n"},
		{"xterm", "1", "SLOT  WHAT      OWNER\n   7  locked\n  12  reserved  me\n"},
		{"dumb", "", "SLOT  WHAT      OWNER\n   7  locked\n  12  reserved  me\n"},
	} {
		t.Setenv("TERM", tt.term)
		t.Setenv("NO_COLOR", tt.noColor)
		(&env{stdout: tty}).print(table)
		wantShown(t, screen, tt.want)
	}
	var b strings.Builder
	t.Setenv("TERM", "xterm")
	(&env{stdout: &b}).print(table)
	if want := "SLOT  WHAT      OWNER\n   7  locked\n  12  reserved  me\n"; b.String() != want {
		t.Errorf("into a file: %q", b.String())
	}
}

// TestScreen: drawings stand in each other's place on a terminal, and keep their last
// lines where it is too low.
func TestScreen(t *testing.T) {
	tty, display := terminal(t, 5)
	s := &screen{env: &env{stdout: tty}}
	for _, tt := range []struct{ drawing, want string }{
		{"a\nb\n", "\x1b[H\x1b[Ja\nb\n"},
		{"1\n2\n3\n4\n", "\x1b[H\x1b[J1\n2\n3\n4\n"},
		{"1\n2\n3\n4\n5\n6\n", "\x1b[H\x1b[J┆ 3 lines above\n4\n5\n6\n"},
	} {
		if err := s.show(tt.drawing); err != nil {
			t.Fatal(err)
		}
		wantShown(t, display, tt.want)
	}
	var b strings.Builder
	s = &screen{env: &env{stdout: &b}}
	for _, drawing := range []string{"a\n", "a\n", "b\n"} {
		if err := s.show(drawing); err != nil {
			t.Fatal(err)
		}
	}
	if b.String() != "a\n\nb\n" {
		t.Errorf("into a file: %q", b.String())
	}
}

// TestBytesAndTerminals: what is no text is not written to a terminal.
func TestBytesAndTerminals(t *testing.T) {
	tty, _ := terminal(t, 24)
	for _, args := range [][]string{
		{"da", "get", strings.Repeat("ab", 32), "--socket", "nowhere.sock"},
		{"prove", "slot", "--socket", "nowhere.sock"},
	} {
		var errs strings.Builder
		status := run(t.Context(), args, strings.NewReader(""), tty, &errs)
		if status != exitUsage || !strings.Contains(errs.String(), "for a terminal: use --output FILE or --json") {
			t.Errorf("%v: exit status %d, %s", args, status, errs.String())
		}
	}
}

// TestErrorsArePlain: what a sidecar says is wrong moves no cursor.
func TestErrorsArePlain(t *testing.T) {
	err := (&target{}).explain(&client.Error{Kind: client.ErrUnknownBlock, Status: 404, Detail: "\x1b[2J\nno block"})
	if got := err.Error(); strings.ContainsAny(got, "\x1b\n") || !strings.Contains(got, "[2J\ufffdno block") {
		t.Errorf("%q", got)
	}
}
