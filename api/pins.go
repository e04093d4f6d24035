package api

import (
	"errors"
	"net/http"
	"time"

	"go.uber.org/zap"

	"accessor/api/access"
	"accessor/forks"
	"accessor/state"
)

// maxPinOwner is the most bytes of a pin's owner's name.
const maxPinOwner = 64

// maxPinTTL is how long a pin lasts at most, as the core has it.
const maxPinTTL = 24 * time.Hour

// lockRoutes are those of locks and pins.
func lockRoutes() []route {
	id := param{in: "path", name: "id", text: "id of the pin", required: true, schema: textSchema("^[0-9a-f]{32}$", 32)}
	return []route{
		{
			method: http.MethodGet, path: "/v1/locks", action: access.SeeLocks, serve: (*call).getLocks,
			doc: doc{
				id: "listLocks", tag: "locks", summary: "The timeslots that are locked, and those that drafts have reserved, by slot",
				answers: []answer{{status: 200, forms: []media{{name: typeJSON, of: lockList{}}}}},
			},
		},
		{
			method: http.MethodGet, path: "/v1/pins", action: access.Pin, also: access.SeePins, serve: (*call).getPins,
			doc: doc{
				id: "listPins", tag: "pins", summary: "The client's pins; for operators, all",
				answers: []answer{{status: 200, forms: []media{{name: typeJSON, of: pinList{}}}}},
			},
		},
		{
			method: http.MethodPost, path: "/v1/pins", action: access.Pin, serve: (*call).postPin,
			doc: doc{
				id: "pin", tag: "pins", summary: "Keep a block readable for a time", body: []media{{name: typeJSON, of: pinBody{}}},
				answers: []answer{{status: 201, about: true, forms: []media{{name: typeJSON, of: Pin{}}}}},
			},
		},
		{
			method: http.MethodPost, path: "/v1/pins/{id}/renew", action: access.Pin, serve: (*call).renewPin,
			doc: doc{
				id: "renewPin", tag: "pins", summary: "Let a pin end so long from now", params: []param{id}, body: []media{{name: typeJSON, of: ttlBody{}}},
				answers: []answer{{status: 200, about: true, forms: []media{{name: typeJSON, of: Pin{}}}}},
			},
		},
		{
			method: http.MethodDelete, path: "/v1/pins/{id}", action: access.Pin, also: access.DropAnyPin, serve: (*call).deletePin,
			doc: doc{id: "unpin", tag: "pins", summary: "End a pin", params: []param{id}, answers: []answer{{status: http.StatusNoContent}}},
		},
	}
}

// Lock is a timeslot's lock.
type Lock struct {
	Slot    forks.Slot `json:"slot"`
	Block   forks.Hash `json:"block" doc:"that is being written"`
	Owner   string     `json:"owner"`
	AgeMS   int64      `json:"age_ms"`
	Waiters int        `json:"waiters"`
}

// Reservation is a timeslot that a draft has reserved.
type Reservation struct {
	Slot      forks.Slot `json:"slot"`
	Owner     string     `json:"owner" doc:"whose drafts may share the slot"`
	AgeMS     int64      `json:"age_ms"`
	ExpiresMS *int64     `json:"expires_ms" doc:"in how many milliseconds; null while a draft is being begun or committed"`
}

type lockList struct {
	Locks        []Lock        `json:"locks" nullable:"false" doc:"blocks that are being written"`
	Reservations []Reservation `json:"reservations" nullable:"false" doc:"of drafts: they bind other owners' drafts alone, no import"`
}

// getLocks is GET /v1/locks.
func (c *call) getLocks() error {
	out := lockList{Locks: []Lock{}, Reservations: []Reservation{}}
	for _, l := range c.core.LockList() {
		out.Locks = append(out.Locks, Lock{l.Slot, l.Block, l.Owner, l.Age.Milliseconds(), l.Waiters})
	}
	for _, r := range c.core.Reservations() {
		out.Reservations = append(out.Reservations, Reservation{r.Slot, r.Owner, r.Age.Milliseconds(), untilMS(r.Expires)})
	}
	return c.json(http.StatusOK, out)
}

// pinBody is the request of POST /v1/pins.
type pinBody struct {
	Block string `json:"block" doc:"block, named as in paths"`
	Owner string `json:"owner,omitempty" doc:"for people"`
	TTL   int64  `json:"ttl_ms" doc:"how long the pin lasts unless it is renewed, in milliseconds; at most a day"`
	// Directory: nil makes one where the client may have it.
	Directory *bool `json:"directory,omitempty" doc:"whether to make a directory for readers on the same machine; default where the client may read every item, and one can be made"`
}

// Pin is a pin.
type Pin struct {
	ID        string     `json:"id"`
	Block     forks.Hash `json:"block"`
	Owner     string     `json:"owner"`
	AgeMS     int64      `json:"age_ms"`
	ExpiresMS int64      `json:"expires_ms" doc:"in how many milliseconds"`
	Directory *string    `json:"directory" doc:"a checkpoint to open read-only while the pin lasts; null where there is none"`
}

type pinList struct {
	Pins []Pin `json:"pins" nullable:"false" doc:"the first to expire first"`
}

// describePin gives a pin as it is answered; its directory only to who may read all
// that is in it.
func (c *call) describePin(p state.PinInfo) Pin {
	out := Pin{
		ID: p.ID, Block: p.Block, Owner: p.Owner,
		AgeMS: time.Since(p.Since).Milliseconds(), ExpiresMS: max(0, time.Until(p.Expires).Milliseconds()),
	}
	if dir, ok := c.core.PinDir(p.ID); ok && c.mayHaveDirectory() {
		out.Directory = &dir
	}
	return out
}

// mayHaveDirectory says whether the client may have pins' directories: it reads every
// item, and is on this machine.
func (c *call) mayHaveDirectory() bool {
	return c.client.Roles.May(access.PinDirectory) && c.core.access.ReadsAll(c.client.Roles) && !c.client.TCP
}

// wantsDirectory says whether a pin gets a directory. Error: a fault of kind
// forbidden.
func (c *call) wantsDirectory(asked *bool) (bool, error) {
	may := c.mayHaveDirectory()
	if asked == nil {
		return may, nil
	}
	if *asked && !may {
		f := newFault("forbidden", "a directory is for local clients that may read every item; pin without one")
		f.Action = access.PinDirectory.String()
		return false, f
	}
	return *asked, nil
}

// getPins is GET /v1/pins.
func (c *call) getPins() error {
	out := pinList{Pins: []Pin{}}
	all := c.client.Roles.May(access.SeePins)
	for _, p := range c.core.Pins() {
		if all || c.s.pins.has(p.ID, c.who()) {
			out.Pins = append(out.Pins, c.describePin(p))
		}
	}
	return c.json(http.StatusOK, out)
}

// postPin is POST /v1/pins.
func (c *call) postPin() error {
	var req pinBody
	err := c.small(map[string]any{"block": &req.Block, "owner": &req.Owner, "ttl_ms": &req.TTL, "directory": &req.Directory}, "block", "ttl_ms")
	if err != nil {
		return err
	}
	directory, err := c.wantsDirectory(req.Directory)
	if err != nil {
		return err
	}
	lasts, err := pinTTL(req.TTL)
	if err != nil {
		return err
	}
	if len(req.Owner) > maxPinOwner {
		return badRequest("owner has %d bytes, at most %d", len(req.Owner), maxPinOwner)
	}
	b, err := c.core.Resolve(req.Block)
	if err != nil {
		return err
	}
	pin, err := c.pin(b, req.Owner, lasts, directory, req.Directory != nil)
	if err != nil {
		return err
	}
	c.names(b)
	c.w.Header()["Location"] = []string{"/v1/pins/" + pin.ID}
	return c.json(http.StatusCreated, c.describePin(pin))
}

// pin makes a pin that is the client's, with a directory or without; asked says that
// the client asked for that.
func (c *call) pin(b forks.Block, owner string, lasts time.Duration, directory, asked bool) (state.PinInfo, error) {
	core, most := c.core, max(1, c.core.MaxPins()/clientShare)
	live := func() (ids []string) {
		for _, p := range core.Pins() {
			ids = append(ids, p.ID)
		}
		return ids
	}
	begun, ok := c.s.pins.begin(c.who(), most, live)
	if !ok {
		return state.PinInfo{}, newFault("too-many-pins", "this client has %d pins, the most of one client: end one of them", most)
	}
	pin, err := core.Pin(b.Hash, owner, lasts)
	if err == nil && directory {
		if err = c.pinDirectory(pin.ID, asked); err != nil {
			_ = core.Unpin(pin.ID) // it would be nobody's
		}
	}
	if err != nil {
		begun("")
		return state.PinInfo{}, err
	}
	begun(pin.ID)
	return pin, nil
}

// pinDirectory makes a pin's directory. Where it can't be handed out, the pin goes
// without, unless the client asked for it.
func (c *call) pinDirectory(id string, asked bool) error {
	_, err := c.core.PinDirectory(c.r.Context(), id, c.s.opts.PinAccess)
	if !errors.Is(err, state.ErrAccess) && !errors.Is(err, state.ErrLinks) && (asked || !errors.Is(err, state.ErrPartial)) {
		return err
	}
	c.s.log.Warn("a pin can't have a directory", zap.String("pin", id), zap.Error(err))
	switch {
	case !asked:
		return nil
	case errors.Is(err, state.ErrAccess):
		return newFault("no-directory", "the directory can't be opened to those who are to read it (pins.mode and pins.group of the configuration): pin with \"directory\":false, and tell the operator, whose log says more")
	}
	return err
}

// pinTTL reads how long a pin lasts, which has no default. Error: a fault of kind
// bad-request.
func pinTTL(ms int64) (time.Duration, error) {
	lasts, err := ttl(ms, maxPinTTL)
	if err == nil && ms == 0 {
		err = badTTL(ms, maxPinTTL)
	}
	return lasts, err
}

// mayPin refuses another client's pin. One whose maker isn't known, since it is from
// before a restart, is for who knows its id, which is random and told to nobody else.
func (c *call) mayPin(id string) error {
	if c.s.pins.has(id, c.who()) || !c.s.pins.known(id) {
		return nil
	}
	return newFault("forbidden", "that pin is another client's")
}

// renewPin is POST /v1/pins/{id}/renew.
func (c *call) renewPin() error {
	id := c.r.PathValue("id")
	if err := c.mayPin(id); err != nil {
		return err
	}
	var req ttlBody
	if err := c.small(map[string]any{"ttl_ms": &req.TTL}, "ttl_ms"); err != nil {
		return err
	}
	lasts, err := pinTTL(req.TTL)
	if err != nil {
		return err
	}
	pin, err := c.core.RenewPin(id, lasts)
	if err != nil {
		return err
	}
	if b, err := c.core.Resolve(blockID(pin.Block)); err == nil {
		c.names(b)
	}
	return c.json(http.StatusOK, c.describePin(pin))
}

// deletePin is DELETE /v1/pins/{id}: by who has it, or by who may end any.
func (c *call) deletePin() error {
	id := c.r.PathValue("id")
	if !c.client.Roles.May(access.DropAnyPin) {
		if err := c.mayPin(id); err != nil {
			return err
		}
	}
	if err := c.core.Unpin(id); err != nil {
		return err
	}
	c.s.pins.over(id, "the pin was ended")
	return c.done()
}
