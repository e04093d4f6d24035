package listen

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/coreos/go-systemd/v22/activation"
)

// Sockets are those that a configuration names.
type Sockets struct {
	Unix []Unix
	TCP  []TCP
}

// Open opens all sockets: those that systemd hands over by the names that the
// configuration gives them (FileDescriptorName=, or the socket unit's name), the
// others by itself. After an error none is left open. Errors: ErrActivation, and
// those of Unix.Listen and TCP.Listen.
func (s Sockets) Open() ([]*Listener, error) {
	handed, err := activation.ListenersWithNames()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrActivation, err)
	}
	return s.open(handed)
}

// open opens the sockets, with those that were handed over.
func (s Sockets) open(handed map[string][]net.Listener) (list []*Listener, err error) {
	defer func() {
		if err != nil {
			for _, l := range list {
				err = errors.Join(err, l.Close())
			}
			list = nil
			for _, left := range handed {
				closeAll(left)
			}
		}
	}()
	add := func(l *Listener, failed error) error {
		if failed == nil {
			list = append(list, l)
		}
		return failed
	}
	for _, u := range s.Unix {
		given, taken, err := take(handed, u.Name)
		if err == nil && taken {
			err = add(u.adopt(given))
		} else if err == nil {
			err = add(u.Listen())
		}
		if err != nil {
			return list, err
		}
	}
	for _, t := range s.TCP {
		given, taken, err := take(handed, t.Name)
		if err == nil && taken {
			err = add(t.adopt(given))
		} else if err == nil {
			err = add(t.Listen())
		}
		if err != nil {
			return list, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(handed)) {
		if len(handed[name]) > 0 {
			return list, fmt.Errorf("%w: systemd handed over a socket called %q, and the configuration has none of that name",
				ErrActivation, name)
		}
	}
	return list, nil
}

// unitSuffix ends the name of a socket unit, which systemd gives to a socket that
// has no other.
const unitSuffix = ".socket"

// take takes the socket of a name out of those that were handed over.
func take(handed map[string][]net.Listener, name string) (l net.Listener, ok bool, err error) {
	for _, key := range []string{name, strings.TrimSuffix(name, unitSuffix) + unitSuffix} {
		list := handed[key]
		switch {
		case len(list) == 0:
			continue
		case len(list) > 1:
			return nil, false, fmt.Errorf("%w: systemd handed over %d sockets called %q: give each a FileDescriptorName= of its own",
				ErrActivation, len(list), key)
		}
		delete(handed, key)
		return list[0], true, nil
	}
	return nil, false, nil
}

func closeAll(list []net.Listener) {
	for _, l := range list {
		if l != nil {
			_ = l.Close()
		}
	}
}
