package client

import (
	"context"
	"net/url"
	"sync"
	"time"
)

// PinOptions says which block to pin.
type PinOptions struct {
	Block string        // named as of At
	Owner string        // for people
	TTL   time.Duration // unless it is renewed; at most a day
	// Directory says whether to make a directory for readers on the same machine; nil:
	// where the client may have one.
	Directory *bool
}

// PinInfo describes a pin.
type PinInfo struct {
	ID        string  `json:"id"`
	Block     Hash    `json:"block"`
	Owner     string  `json:"owner"`
	AgeMS     int64   `json:"age_ms"`
	ExpiresMS int64   `json:"expires_ms"`
	Directory *string `json:"directory"` // a checkpoint to open read-only; nil where there is none
}

// Pin keeps a block readable, also where it is pruned, until it is closed or its time
// is over. It is safe for concurrent use.
type Pin struct {
	c  *Client
	id string

	mu     sync.Mutex // guards the fields below
	info   PinInfo    // as the server described it last
	closed bool
}

// Pin pins a block. Where no answer comes there may be a pin, until its time is over.
func (c *Client) Pin(ctx context.Context, o PinOptions) (*Pin, error) {
	in := map[string]any{"block": serverName(o.Block), "owner": o.Owner, "ttl_ms": milliseconds(o.TTL)}
	if o.Directory != nil {
		in["directory"] = *o.Directory
	}
	var out PinInfo
	if _, err := c.json(ctx, &request{method: "POST", path: "/v1/pins", once: true}, in, &out); err != nil {
		return nil, err
	}
	p := &Pin{c: c, id: out.ID, info: out}
	if h, ok := wholeHash(o.Block); ok && h != out.Block || out.ID == "" {
		_ = p.Close()
		return nil, badAnswer("pin %q of block %s, asked for %s", out.ID, out.Block, o.Block)
	}
	return p, nil
}

// PinByID gives the pin with an id, one that was made elsewhere; it asks nobody, and its
// Info and Directory are empty until it is renewed.
func (c *Client) PinByID(id string) *Pin { return &Pin{c: c, id: id, info: PinInfo{ID: id}} }

// Pins gives the client's pins, and all pins to operators, the first to expire first.
func (c *Client) Pins(ctx context.Context) ([]PinInfo, error) {
	var out struct{ Pins []PinInfo }
	_, err := c.json(ctx, &request{method: "GET", path: "/v1/pins"}, nil, &out)
	return out.Pins, err
}

// ID names the pin.
func (p *Pin) ID() string { return p.id }

// Info describes the pin, as the server did when it was made or renewed last.
func (p *Pin) Info() PinInfo {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.info
}

// Directory is a RocksDB checkpoint of the state, to open read-only while the pin
// lasts; empty where there is none.
func (p *Pin) Directory() string {
	if dir := p.Info().Directory; dir != nil {
		return *dir
	}
	return ""
}

func (p *Pin) path(rest string) string { return "/v1/pins/" + url.PathEscape(p.id) + rest }

// Renew lets the pin end so long from now.
func (p *Pin) Renew(ctx context.Context, ttl time.Duration) (PinInfo, error) {
	var out PinInfo
	_, err := p.c.json(ctx, &request{method: "POST", path: p.path("/renew")}, map[string]int64{"ttl_ms": milliseconds(ttl)}, &out)
	if err == nil && out.ID != p.id {
		err = badAnswer("a description of pin %q, not %q", out.ID, p.id)
	}
	if err == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.info = out
	}
	return out, err
}

// End ends the pin. Error: ErrUnknownPin where it had ended, among others.
func (p *Pin) End(ctx context.Context) error {
	err := p.c.done(ctx, &request{method: "DELETE", path: p.path("")})
	if err == nil || isKind(err, ErrUnknownPin) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.closed = true
	}
	return err
}

// Close ends the pin, unless it has ended. It has no context, so that it works where
// the caller's is over; it takes 5 seconds at most.
func (p *Pin) Close() error {
	p.mu.Lock()
	closed := p.closed
	p.mu.Unlock()
	if closed {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	if err := p.End(ctx); !isKind(err, ErrUnknownPin) {
		return err
	}
	return nil
}
