package config

import (
	"errors"
	"time"

	"accessor/api"
	"accessor/api/access"
	"accessor/api/listen"
	"accessor/checkpoint"
	"accessor/forks"
	"accessor/state"
)

// listen turns an address's settings into those of the listener.
func (t *TCP) listen(tokens *listen.Tokens) listen.TCP {
	return listen.TCP{
		Name: t.Name, Address: t.Address, Remote: t.Remote, Import: t.Import, Hosts: t.Hosts, Origins: t.Origins,
		Certificate: t.Certificate, Key: t.Key, Tokens: tokens,
	}
}

// Listeners gives what to listen on. It reads the clients' secrets, where there is
// a TCP address. Errors: listen.ErrSecret, all of them together.
func (l *Loaded) Listeners() (listen.Sockets, error) {
	var out listen.Sockets
	conversion := &loader{Loaded: l}
	for i := range l.Sockets {
		out.Unix = append(out.Unix, conversion.unix("", &l.Sockets[i]))
	}
	if err := conversion.err(); err != nil {
		return out, err
	}
	if len(l.TCP) == 0 {
		return out, nil
	}
	var clients []listen.TokenClient
	var errs []error
	for _, c := range l.Clients {
		secret, err := listen.ReadSecret(c.Secret)
		errs = append(errs, err)
		roles, err := access.ParseRoles(c.Roles)
		errs = append(errs, err)
		clients = append(clients, listen.TokenClient{KID: c.KID, Secret: secret, Roles: roles})
	}
	if err := errors.Join(errs...); err != nil {
		return out, err
	}
	tokens, err := listen.NewTokens(clients)
	if err != nil {
		return out, err
	}
	for i := range l.TCP {
		out.TCP = append(out.TCP, l.TCP[i].listen(tokens))
	}
	return out, nil
}

// Server gives the limits of connections.
func (c *Config) Server() listen.Options {
	l := &c.Limits
	return listen.Options{
		HeaderTimeout: time.Duration(l.HeaderTimeout), IdleTimeout: time.Duration(l.IdleTimeout),
		StallTimeout: time.Duration(l.StallTimeout), HeaderBytes: int(l.HeaderBytes), Connections: l.Connections,
	}
}

// API gives the limits of requests.
func (c *Config) API() api.Limits {
	l := &c.Limits
	return api.Limits{
		Body: int64(l.Body), Bodies: int64(l.Bodies), Answer: int64(l.Answer),
		Page: l.Page, Keys: l.Keys, Blocks: l.Blocks, Client: l.Client, Stream: l.Stream,
		Replay: l.Replay, ReplayRate: l.ReplayRate, Rebuilds: l.Rebuilds,
	}
}

// PinAccess says who may read pins' directories. Error: ErrInvalid.
func (l *Loaded) PinAccess() (state.PinAccess, error) {
	conversion := &loader{Loaded: l}
	access := conversion.pins()
	return access, conversion.err()
}

// Access gives the table of who may read which item, for a store whose states are
// JAM's or not.
func (c *Config) Access(jam bool) (*access.Table, error) {
	if !jam {
		return access.OpenTable(), nil
	}
	return access.ParseTable(c.Items)
}

// State gives the settings of the store.
func (c *Config) State() state.Config {
	r, s := &c.Retention, &c.Store
	return state.Config{
		Dir:        c.Data,
		CacheBytes: int64(c.CacheBytes), FetchTimeout: time.Duration(c.DA.FetchTimeout),
		CatchUp: state.CatchUpLimits{Blocks: c.DA.CatchUpBlocks, Bytes: int64(c.DA.CatchUpBytes)},
		Store: checkpoint.Options{
			Limits:     checkpoint.Limits{ValueSize: int(c.Limits.Value), WriteSetSize: int(c.Limits.WriteSet)},
			WorkingDBs: s.WorkingDBs, OpenViews: s.OpenViews, ImageEvery: s.ImageEvery,
			ImageBytes: int64(s.ImageBytes), ImageRate: int64(s.ImageRate),
		},
		Retention: state.Retention{
			All: r.All, Slots: forks.Slot(r.Slots), Age: time.Duration(r.Age), DiskBytes: int64(r.DiskBytes),
			Step: r.Step, MaxPins: r.MaxPins,
		},
	}
}
