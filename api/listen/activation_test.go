package listen

import (
	"net"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestHandedOverDiffers: what the configuration says of a socket that somebody else
// made, and which isn't so, is told.
func TestHandedOverDiffers(t *testing.T) {
	for _, tt := range []struct {
		change func(u *Unix)
		want   []string
	}{
		{func(u *Unix) {}, nil},
		{func(u *Unix) { u.Mode, u.UID, u.GID = 0o660, os.Getuid(), os.Getgid() }, nil},
		{func(u *Unix) { u.Mode = 0o600 }, []string{"mode 0660, the configuration's 0600"}},
		{func(u *Unix) { u.UID, u.GID = 12345, 54321 }, []string{"owner ", "group "}},
	} {
		u := mine(t)
		inner, err := net.Listen("unix", u.Path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(u.Path, 0o660); err != nil {
			t.Fatal(err)
		}
		tt.change(&u)
		configured := u
		configured.Path = "/nowhere/x"
		list, err := Sockets{Unix: []Unix{configured}}.open(map[string][]net.Listener{u.Name: {inner}})
		if err != nil {
			t.Fatal(err)
		}
		got := list[0].Warnings()
		if len(got) != len(tt.want) || slices.ContainsFunc(tt.want, func(want string) bool {
			return !slices.ContainsFunc(got, func(g string) bool { return strings.Contains(g, want) })
		}) {
			t.Errorf("warnings %q, want %q", got, tt.want)
		}
		list[0].Close()
	}
}
