package api

import (
	"math"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"accessor/api/access"
	"accessor/state"
)

// serviceRoutes are those about the service itself.
func (s *Server) serviceRoutes() []route {
	text := []media{{name: "text/plain", schema: textSchema("", 200)}}
	list := []route{
		{
			method: http.MethodGet, path: "/livez", noCore: true, serve: (*call).getLive,
			doc: doc{id: "getLive", tag: "service", summary: "200 while the process runs", answers: []answer{{status: 200, forms: text}}},
		},
		{
			method: http.MethodGet, path: "/readyz", noCore: true, serve: (*call).getReady,
			doc: doc{
				id: "getReady", tag: "service", summary: "200 while blocks can be imported and read, else 503",
				answers: []answer{{status: 200, forms: text}},
			},
		},
		{
			method: http.MethodGet, path: "/v1/status", action: access.ReadMetrics, noCore: true, serve: (*call).getStatus,
			doc: doc{
				id: "getStatus", tag: "service", summary: "What the store and its tree are like",
				answers: []answer{{status: 200, forms: []media{{name: typeJSON, of: Status{}}}}},
			},
		},
		{
			method: http.MethodGet, path: "/v1/openapi.json", noCore: true, serve: (*call).getOpenAPI,
			doc: doc{
				id: "getOpenAPI", tag: "service", summary: "This document",
				answers: []answer{{status: 200, forms: []media{{name: typeJSON, of: map[string]any{}}}}},
			},
		},
	}
	if s.opts.Config != nil {
		list = append(list, route{
			method: http.MethodGet, path: "/v1/config", action: access.ReadConfig, noCore: true,
			serve: func(c *call) error { return c.json(http.StatusOK, s.opts.Config()) },
			doc: doc{
				id: "getConfig", tag: "service", summary: "The effective configuration",
				answers: []answer{{status: 200, forms: []media{{name: typeJSON, of: map[string]any{}}}}},
			},
		})
	}
	return list
}

func (c *call) getLive() error { return c.bytes(http.StatusOK, "text/plain", []byte("ok\n")) }

// getReady is GET /readyz.
func (c *call) getReady() error {
	if why := c.s.notReady(); why != "" {
		return newFault("not-ready", "%s", why)
	}
	return c.bytes(http.StatusOK, "text/plain", []byte("ready\n"))
}

// notReady says why blocks can't be imported or read; empty where they can.
func (s *Server) notReady() string {
	if s.opts.Ready != nil {
		if err := s.opts.Ready(); err != nil {
			return err.Error()
		}
	}
	core := s.core.Load()
	if core == nil {
		return "the store is empty"
	}
	if err := core.Ready(); err != nil {
		return err.Error()
	}
	return ""
}

// Status is what the service is like.
type Status struct {
	Version     string `json:"version"`
	Ready       bool   `json:"ready"`
	Reason      string `json:"reason,omitempty" doc:"why it isn't ready"`
	Commitment  string `json:"commitment,omitempty" doc:"how states are committed to"`
	Anchor      *About `json:"anchor,omitempty"`
	Finalized   *About `json:"finalized,omitempty"`
	Head        *About `json:"head,omitempty"`
	Blocks      int    `json:"blocks" doc:"held"`
	Leaves      int    `json:"leaves"`
	Drafts      int    `json:"drafts" doc:"open"`
	Pins        int    `json:"pins"`
	Locks       int    `json:"locks"`
	Importing   int    `json:"importing" doc:"imports on their way"`
	CacheReady  bool   `json:"cache_ready" doc:"the read cache has its index, or will have none"`
	DiskBytes   int64  `json:"disk_bytes" doc:"that the store took when it was measured last"`
	DiskBudget  int64  `json:"disk_budget" doc:"0 for none"`
	OldestEvent uint64 `json:"oldest_event" doc:"position of the oldest event that is kept; 0 where there is none"`
	NewestEvent uint64 `json:"newest_event" doc:"position of the newest one"`
	Partial     bool   `json:"partial" doc:"the anchor's whole state isn't here yet: peers are asked for what is missing"`
	Fill        *Fill  `json:"fill"`

	PeerID        string   `json:"peer_id,omitempty" doc:"of this sidecar among its peers; missing where it has none"`
	PeerAddresses []string `json:"peer_addresses,omitempty" nullable:"false" doc:"multiaddresses at which peers reach it"`
}

// TransformSchema says what Go's types can't: a fill is null where there is none.
func (Status) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	if p := s.Properties["fill"]; p != nil && len(p.OneOf) == 0 {
		null := nullable(p)
		null.Description = "how much of the anchor's state is here; null where all is"
		s.Properties["fill"] = null
	}
	return s
}

// Fill is how far a partial store is.
type Fill struct {
	Done int64 `json:"done" doc:"pairs of the anchor's state that are here"`
	Of   int64 `json:"of" doc:"how many it has about, by those; 0 while that can't be said"`
	// AnchorGone is left out where it is false.
	AnchorGone bool `json:"anchor_gone,omitempty" doc:"peers don't have the anchor's state any more: a later block has to be trusted"`
}

// fillOf gives how far a partial store is; nil for a complete one.
func fillOf(st state.PartialStats) *Fill {
	if !st.Partial {
		return nil
	}
	out := Fill{Done: st.Pairs, AnchorGone: st.AnchorGone}
	if st.Covered > 0 {
		most := float64(math.MaxInt64 / 2)
		out.Of = max(out.Done, int64(min(math.Round(float64(st.Pairs)/st.Covered), most)))
	}
	return &out
}

// Peers is who a sidecar is among its peers.
type Peers struct {
	ID        string
	Addresses []string
}

// getStatus is GET /v1/status.
func (c *call) getStatus() error {
	out := Status{Version: c.s.opts.Version, Reason: c.s.notReady()}
	out.Ready = out.Reason == ""
	if c.core != nil {
		st := c.core.Stats()
		anchor, finalized, head := aboutBlock(st.Anchor), aboutBlock(st.Finalized), aboutBlock(st.Head)
		c.names(st.Head)
		out.Commitment = c.core.Commitment().Name()
		out.Anchor, out.Finalized, out.Head = &anchor, &finalized, &head
		out.Blocks, out.Leaves, out.Drafts, out.Pins, out.Locks = st.Blocks, st.Leaves, st.Drafts, st.Pins, st.Locks
		out.Importing, out.CacheReady = st.Importing, st.CacheReady
		out.DiskBytes, out.DiskBudget = st.DiskBytes, st.DiskBudget
		partial := c.core.PartialStats()
		out.Partial, out.Fill = partial.Partial, fillOf(partial)
		out.OldestEvent, out.NewestEvent = st.OldestEvent, st.NewestEvent
	}
	if c.s.opts.Peers != nil {
		peers := c.s.opts.Peers()
		out.PeerID, out.PeerAddresses = peers.ID, peers.Addresses
	}
	return c.json(http.StatusOK, out)
}

func (c *call) getOpenAPI() error { return c.bytes(http.StatusOK, typeJSON, c.s.openapi) }
