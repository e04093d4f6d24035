package listen

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"accessor/api/access"
)

// TCP is an address to listen on, for clients that show a token.
type TCP struct {
	// Name is what the configuration calls it.
	Name string
	// Address is a host and a port, such as 127.0.0.1:8545: an IP address, or
	// localhost, which is 127.0.0.1.
	Address string
	// Remote allows an address that other machines can reach.
	Remote bool
	// Import allows imports over it.
	Import bool
	// Hosts are the names, beside the loopback's and the address itself, that a
	// request may give as its Host.
	Hosts []string
	// Origins are the pages, such as https://example.org, whose scripts may send
	// requests, beside those that this address serves itself.
	Origins []string
	// Certificate and Key are PEM files for TLS 1.3; none of them: no TLS.
	Certificate, Key string
	// Tokens says which tokens prove what. Required.
	Tokens *Tokens
}

// Check says whether the settings are ones to listen with. Error: ErrAddress.
func (t *TCP) Check() error {
	if _, err := t.resolve(); err != nil {
		return err
	}
	if (t.Certificate == "") != (t.Key == "") {
		return fmt.Errorf("%w: %s: TLS needs both a certificate and its key", ErrAddress, t.Address)
	}
	for _, host := range t.Hosts {
		if host == "" || strings.ContainsAny(host, "/ \t") {
			return fmt.Errorf("%w: %s: host %q: want a name without a port", ErrAddress, t.Address, host)
		}
	}
	for _, origin := range t.Origins {
		u, err := url.Parse(origin)
		if err != nil || u.Scheme == "" || u.Host == "" || u.Scheme+"://"+u.Host != origin {
			return fmt.Errorf("%w: %s: origin %q: want one such as https://example.org", ErrAddress, t.Address, origin)
		}
	}
	return nil
}

// resolve gives the address to bind. Names are not looked up: what they lead to
// can change.
func (t *TCP) resolve() (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(t.Address)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%w: %q: want one such as 127.0.0.1:8545", ErrAddress, t.Address)
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%w: %q: want an IP address before the port, such as 127.0.0.1", ErrAddress, t.Address)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%w: %q: want a port from 0 to 65535", ErrAddress, t.Address)
	}
	if !ip.IsLoopback() && !t.Remote {
		return netip.AddrPort{}, fmt.Errorf("%w: other machines can reach %s: listen on 127.0.0.1, or allow it by remote = true",
			ErrAddress, t.Address)
	}
	return netip.AddrPortFrom(ip, uint16(number)), nil
}

// Listen opens the address. Errors: ErrAddress, and the system's.
func (t TCP) Listen() (*Listener, error) {
	if err := t.Check(); err != nil {
		return nil, err
	}
	addr, err := t.resolve()
	if err != nil {
		return nil, err
	}
	config, err := t.tlsConfig()
	if err != nil {
		return nil, err
	}
	inner, err := net.Listen("tcp", addr.String())
	if err != nil {
		return nil, err
	}
	return &Listener{Listener: inner, name: t.Name, tcp: &t, tls: config}, nil
}

// adopt takes over a socket that somebody else made.
func (t TCP) adopt(inner net.Listener) (*Listener, error) {
	if inner.Addr().Network() != "tcp" {
		return nil, fmt.Errorf("%w: %s is configured for TCP, and %s %s was handed over",
			ErrActivation, t.Name, inner.Addr().Network(), inner.Addr())
	}
	t.Address = inner.Addr().String()
	if err := t.Check(); err != nil {
		return nil, err
	}
	config, err := t.tlsConfig()
	if err != nil {
		return nil, err
	}
	return &Listener{Listener: inner, name: t.Name, tcp: &t, tls: config}, nil
}

func (t *TCP) tlsConfig() (*tls.Config, error) {
	if t.Certificate == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(t.Certificate, t.Key)
	if err != nil {
		return nil, fmt.Errorf("TLS of %s: %w", t.Address, err)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{pair},
		MinVersion:   tls.VersionTLS13,
		NextProtos:   []string{"http/1.1"}, // as over the Unix socket
	}, nil
}

// loopbackNames are the hosts by which a machine means itself.
var loopbackNames = []string{"localhost", "127.0.0.1", "::1"}

// takesHost says whether a request's Host names this server. Otherwise a page
// whose name was made to lead here would count as ours (DNS rebinding).
func (t *TCP) takesHost(host string) bool {
	name := hostName(host)
	own, _, _ := net.SplitHostPort(t.Address)
	return name != "" && (slices.Contains(loopbackNames, name) || name == strings.ToLower(own) ||
		slices.ContainsFunc(t.Hosts, func(h string) bool { return strings.EqualFold(h, name) }))
}

// hostName gives the name in a Host header, lower-case, without port and
// brackets; "" where it has none.
func hostName(host string) string {
	name := host
	if h, port, err := net.SplitHostPort(host); err == nil {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return ""
		}
		name = h
	} else if inner, ok := strings.CutPrefix(host, "["); ok {
		if name, ok = strings.CutSuffix(inner, "]"); !ok {
			return ""
		}
	}
	return strings.ToLower(name)
}

// takesOrigin says whether a script's request may come from its page: there is no
// such page, it is one of this server's own, or a configured one. The host was
// checked before.
func (t *TCP) takesOrigin(origins []string, host string) bool {
	switch len(origins) {
	case 0:
		return true
	case 1:
	default:
		return false
	}
	scheme := "http://"
	if t.Certificate != "" {
		scheme = "https://"
	}
	return strings.EqualFold(origins[0], scheme+host) || slices.Contains(t.Origins, origins[0])
}

// client says who sent a token, as this address takes it.
func (t *TCP) client(kid string, roles access.Roles) access.Client {
	return access.Client{Roles: roles, Name: kid, UID: -1, GID: -1, PID: -1, TCP: true, NoImport: !t.Import}
}
