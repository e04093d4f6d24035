package config

import (
	"cmp"
	"fmt"
	"io/fs"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap/zapcore"

	"accessor/api/access"
	"accessor/api/listen"
	"accessor/state"
)

// check looks at the whole configuration, and notes all that is wrong with it.
func (l *loader) check() {
	c := &l.Config
	if _, ok := state.CommitmentByName(c.Commitment); !ok {
		l.wrong("commitment", "%q: want jam or none", clip(c.Commitment))
	}
	if c.Metrics != "" {
		if _, err := netip.ParseAddrPort(c.Metrics); err != nil {
			l.wrong("metrics_listen", "%q: want an IP address and a port, such as 127.0.0.1:9464", clip(c.Metrics))
		}
	}
	if d := time.Duration(c.DrainTimeout); d <= 0 || d > time.Hour {
		l.wrong("drain_timeout", "%v: want more than 0s and at most 1h", d)
	}
	if _, err := zapcore.ParseLevel(c.Log.Level); err != nil || !slices.Contains(levels, c.Log.Level) {
		l.wrong("log.level", "%q: want one of %s", clip(c.Log.Level), strings.Join(levels, ", "))
	}
	if !slices.Contains(formats, c.Log.Format) {
		l.wrong("log.format", "%q: want one of %s", clip(c.Log.Format), strings.Join(formats, ", "))
	}
	l.checkLimits()
	l.checkDA()
	l.pins()
	if _, err := access.ParseTable(c.Items); err != nil {
		for _, one := range unjoin(err) {
			l.wrong("items", "%v", one)
		}
	}
	l.checkSockets()
	l.checkClients()
}

var (
	levels  = []string{"debug", "info", "warn", "error"}
	formats = []string{"auto", "console", "json"}
)

// unjoin takes errors.Join apart.
func unjoin(err error) []error {
	if many, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // of the join itself
		return many.Unwrap()
	}
	return []error{err}
}

// checkLimits looks at the numbers that must be above 0, and at each other.
func (l *loader) checkLimits() {
	c := &l.Config
	for _, table := range []struct {
		name string
		at   any
	}{{"limits", &c.Limits}, {"store", &c.Store}} {
		for _, f := range fields(reflect.ValueOf(table.at).Elem()) {
			if f.at.Int() <= 0 {
				l.wrong(join(table.name, f.name), "want more than 0")
			}
		}
	}
	if c.Limits.Bodies < c.Limits.Body {
		l.wrong("limits.bodies", "%v is less than limits.body, %v: no such body could ever be read", c.Limits.Bodies, c.Limits.Body)
	}
	if c.Limits.WriteSet < c.Limits.Value {
		l.wrong("limits.write_set", "%v is less than limits.value, %v", c.Limits.WriteSet, c.Limits.Value)
	}
	// What a write set's sizes are kept in.
	for _, f := range []struct {
		key string
		at  Size
	}{{"limits.write_set", c.Limits.WriteSet}, {"limits.value", c.Limits.Value}, {"limits.header_bytes", c.Limits.HeaderBytes}} {
		if f.at > math.MaxInt32 {
			l.wrong(f.key, "%v: want less than 2GiB", f.at)
		}
	}
	r := &c.Retention
	if r.Slots <= 0 || r.Slots > math.MaxUint32 {
		l.wrong("retention.slots", "%d: want 1 to 4294967295; to keep everything, set retention.all", r.Slots)
	}
	if r.Step <= 0 {
		l.wrong("retention.step", "want more than 0")
	}
	if r.MaxPins <= 0 {
		l.wrong("retention.max_pins", "want more than 0")
	}
}

// checkSockets looks at sockets and addresses, and gives those their names that
// have none.
func (l *loader) checkSockets() {
	c := &l.Config
	names := make(map[string]string)
	name := func(key string, at *string, of int, def string) {
		if *at == "" && of > 1 {
			l.wrong(key+".name", "several sockets need a name each")
			return
		}
		*at = cmp.Or(*at, def)
		if first, ok := names[*at]; ok {
			l.wrong(key+".name", "%q is the name of %s too", clip(*at), first)
		}
		names[*at] = key
	}
	for i := range c.Sockets {
		key := fmt.Sprintf("sockets[%d]", i)
		name(key, &c.Sockets[i].Name, len(c.Sockets), DefaultName)
		l.unix(key, &c.Sockets[i])
	}
	for i := range c.TCP {
		key := fmt.Sprintf("tcp[%d]", i)
		name(key, &c.TCP[i].Name, len(c.TCP), "tcp")
		t := c.TCP[i].listen(nil)
		if err := t.Check(); err != nil {
			l.wrong(key, "%v", err)
		}
		if t.Remote && t.Certificate == "" {
			l.Warnings = append(l.Warnings, key+": tokens and state go over the network in clear: give tls_certificate and tls_key, or keep it to the loopback")
		}
	}
	if len(c.Sockets)+len(c.TCP) == 0 {
		l.wrong("sockets", "there is nothing to listen on: give a socket or a tcp address")
	}
	if len(c.TCP) > 0 && len(c.Clients) == 0 {
		l.wrong("tcp", "nobody could use it: over TCP each client has a secret, in [[clients]] of the configuration file")
	}
}

// unix turns a socket's settings into those of the listener, and notes what is
// wrong with them.
func (l *loader) unix(key string, s *Socket) listen.Unix {
	u := listen.Unix{Name: s.Name, Path: s.Path}
	switch {
	case s.Path == "":
		l.wrong(key+".path", "no path")
	case len(s.Path) > listen.MaxPath:
		l.wrong(key+".path", "%d bytes are more than the %d that a Unix socket's path can have", len(s.Path), listen.MaxPath)
	}
	mode, err := strconv.ParseUint(s.Mode, 8, 32)
	if err != nil || mode == 0 || mode > 0o777 {
		l.wrong(key+".mode", "%q: want octal digits, such as 0600 or 0660", clip(s.Mode))
	}
	u.Mode = fs.FileMode(mode)
	if u.Roles, err = access.ParseRoles(s.Roles); err != nil {
		l.wrong(key+".roles", "%v", err)
	}
	id := func(name string, look func(string) (int, error), text string) int {
		n, err := look(text)
		if err != nil {
			l.wrong(key+"."+name, "%v", err)
		}
		return n
	}
	u.UID = id("owner", listen.UserID, s.Owner)
	u.GID = id("group", listen.GroupID, s.Group)
	for _, text := range s.Users {
		u.UIDs = append(u.UIDs, id("users", listen.UserID, text))
	}
	for _, text := range s.Groups {
		u.GIDs = append(u.GIDs, id("groups", listen.GroupID, text))
	}
	if slices.Contains(u.UIDs, -1) || slices.Contains(u.GIDs, -1) {
		l.wrong(key, "an empty text in users or groups names nobody")
	}
	return u
}

// pins turns the settings of pins' directories into the store's, and notes what is
// wrong with them.
func (l *loader) pins() (access state.PinAccess) {
	modes := map[string]fs.FileMode{"0555": 0o555, "0550": 0o550, "0500": 0o500}
	var ok bool
	if access.Mode, ok = modes[l.Pins.Mode]; !ok {
		l.wrong("pins.mode", "%q: want 0555, 0550 or 0500", clip(l.Pins.Mode))
	}
	gid, err := listen.GroupID(l.Pins.Group)
	if err != nil {
		l.wrong("pins.group", "%v", err)
	}
	if err == nil && gid >= 0 {
		access.Group = &gid
	}
	return access
}

func (l *loader) checkClients() {
	seen := make(map[string]bool)
	for i, c := range l.Clients {
		key := fmt.Sprintf("clients[%d]", i)
		switch {
		case c.KID == "" || len(c.KID) > 200:
			l.wrong(key+".kid", "want a name of 1 to 200 bytes")
		case seen[c.KID]:
			l.wrong(key+".kid", "%q is another client's too", clip(c.KID))
		}
		seen[c.KID] = true
		if c.Secret == "" {
			l.wrong(key+".secret_file", "want the path of a file with its secret")
		}
		if _, err := access.ParseRoles(c.Roles); err != nil {
			l.wrong(key+".roles", "%v", err)
		}
	}
}
