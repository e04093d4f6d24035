// Package config is the configuration of accessor serve: what there is to set, with
// its default, and how it comes together from defaults, a TOML file, ACCESSOR_…
// variables and flags, each over the one before.
//
// It opens nothing but the file; the parts of the program that a setting is for
// read it from Config. Secrets are named by their files and never read here.
//
// Invariants: a Config that Load gives is valid as far as it can be told without
// opening anything; a name that is no setting's is an error; all that is wrong is
// told at once, each with the place where it was set.
package config

import (
	"path/filepath"

	"accessor/api"
	"accessor/api/access"
	"accessor/state"
)

// Config has all settings. A tag key is the setting's name in the file, doc what
// it means, with its unit; the default is what Default gives.
type Config struct {
	Data         string              `key:"data" doc:"directory of the store"`
	Anchor       string              `key:"anchor" doc:"what a new store starts from: a jamtrace file, or a published genesis.bin; an existing store must have the same anchor"`
	AwaitAnchor  bool                `key:"await_anchor" doc:"start without a store where there is none, and make it of what PUT /v1/anchor brings"`
	Trust        string              `key:"trust" doc:"in place of an anchor: HASH:SLOT:ROOT of a trusted block, of which peers give the state; an existing store must have grown from it, unless it is partial and the block later"`
	Commitment   string              `key:"commitment" doc:"state commitment of a new store: jam, or none (roots are not checked)"`
	CacheBytes   Size                `key:"cache_bytes" doc:"memory of the read cache; 0 for none"`
	Metrics      string              `key:"metrics_listen" doc:"IP address and port of /livez, /readyz, /v1/status and /metrics, without state and without authentication; empty for none"`
	Profile      bool                `key:"profile" doc:"serve /debug/pprof/ to operators"`
	DrainTimeout Duration            `key:"drain_timeout" doc:"how long requests may take to end when the server stops"`
	Log          Log                 `key:"log"`
	Limits       Limits              `key:"limits"`
	Retention    Retention           `key:"retention"`
	Pins         Pins                `key:"pins"`
	Store        Store               `key:"store"`
	DA           DA                  `key:"da"`
	Items        map[string][]string `key:"items" doc:"which activities may read a state item: importing, producing, refining, auditing. accounts are all services; items that are not named keep their default; in a store without JAM items every activity reads everything"`
	Sockets      []Socket            `key:"sockets" doc:"Unix sockets to listen on, a table each"`
	TCP          []TCP               `key:"tcp" doc:"TCP addresses to listen on, a table each"`
	Clients      []Client            `key:"clients" doc:"clients over TCP, a table each: each signs its tokens (JWT, HS256) with its secret"`
}

// Log is what is logged, and how.
type Log struct {
	Level  string `key:"level" doc:"least level that is logged: debug, info, warn or error; PUT /v1/log-level and SIGHUP change it at run time"`
	Format string `key:"format" doc:"auto (console on a terminal, JSON elsewhere), console or json"`
}

// Limits bound what clients can take.
type Limits struct {
	WriteSet      Size     `key:"write_set" doc:"bytes of one block's keys and values"`
	Value         Size     `key:"value" doc:"bytes of one value"`
	Body          Size     `key:"body" doc:"bytes of a block as JSON"`
	Bodies        Size     `key:"bodies" doc:"bytes of all bodies in flight; at least body"`
	Answer        Size     `key:"answer" doc:"bytes of keys and values of an answer that isn't a stream"`
	Page          int      `key:"page" doc:"pairs or blocks of a page"`
	Keys          int      `key:"keys" doc:"keys of a batch"`
	Blocks        int      `key:"blocks" doc:"blocks between the two of a diff, and of a history"`
	Client        int      `key:"client" doc:"requests of one client at a time"`
	Stream        int      `key:"stream" doc:"lines of one import stream"`
	Replay        int      `key:"replay" doc:"blocks that one client may have replayed at once, to read old blocks that have no checkpoint"`
	ReplayRate    int      `key:"replay_rate" doc:"blocks of these that come back to it in a second"`
	Rebuilds      int      `key:"rebuilds" doc:"states of such blocks that are rebuilt at a time for readers, and as many for imports"`
	Connections   int      `key:"connections" doc:"connections at a time of each socket and address; one more takes the place of the one of them idle longest"`
	HeaderBytes   Size     `key:"header_bytes" doc:"bytes of a request's header, about"`
	HeaderTimeout Duration `key:"header_timeout" doc:"time for a request's header to come"`
	IdleTimeout   Duration `key:"idle_timeout" doc:"time that a connection stays without a request"`
	StallTimeout  Duration `key:"stall_timeout" doc:"time that an answer may stand still, or that 1MiB of it takes, or that a body takes which no request needs"`
}

// Retention is how long blocks are kept.
type Retention struct {
	All       bool     `key:"all" doc:"keep everything"`
	Slots     int      `key:"slots" doc:"slots back from finalized that are kept; 14,400 are a day of JAM"`
	Age       Duration `key:"age" doc:"time after their arrival that blocks are kept; 0s for any"`
	DiskBytes Size     `key:"disk_bytes" doc:"space that the store may take, beyond which imports are refused; 0 for any"`
	Step      int      `key:"step" doc:"blocks by which the oldest one kept moves at least"`
	MaxPins   int      `key:"max_pins" doc:"pins at a time"`
}

// Pins says who may read the directories of pins.
type Pins struct {
	Mode  string `key:"mode" doc:"mode of a pin's directory, which has the whole state: 0500 for processes of the store's user, 0550 for those of a group too, 0555 for all; the store's own folder is opened that far to pass through"`
	Group string `key:"group" doc:"its group, by name or number, of which who runs the program is a member; empty leaves it"`
}

// Store has what is seldom changed of how the store works.
type Store struct {
	ImageEvery int  `key:"image_every" doc:"blocks of a branch after which an image of the state is made"`
	ImageBytes Size `key:"image_bytes" doc:"bytes of write sets after which an image is made, if they are also four times the last one"`
	ImageRate  Size `key:"image_rate" doc:"bytes a second at which an image is written"`
	OpenViews  int  `key:"open_views" doc:"checkpoints that stay open for reading after their last reader"`
	WorkingDBs int  `key:"working_dbs" doc:"branches of which a database stays open for the next import"`
}

// DA is data availability: other sidecars and nodes, which are asked and served.
type DA struct {
	Enabled     bool     `key:"enabled" doc:"serve others, as below, and let them connect; peers are asked without it too"`
	Listen      []string `key:"listen" doc:"multiaddrs to listen on where enabled"`
	Peers       []string `key:"peers" doc:"multiaddrs, ending in /p2p/ID, of nodes that are asked and kept connected; blocks are taken from these alone; they are served as if they were in allow; SIGHUP changes it at run time, allow and deny as well"`
	MDNS        bool     `key:"mdns" doc:"find nodes on the local network and be found there; they are asked for what proves itself"`
	DHT         bool     `key:"dht" doc:"find nodes that have what peers haven't through a DHT, which is entered by peers, and announce there what is given to anyone; they are asked for what proves itself"`
	Identity    string   `key:"identity_file" doc:"file of mode 0600 with this node's key, made where there is none; empty: peers/identity in the store's directory"`
	ServeState  string   `key:"serve_state" doc:"who is given state and blocks: off, listed (peers and allow) or anyone"`
	ServeItems  string   `key:"serve_items" doc:"who is given items and shards: off, listed or anyone"`
	Allow       []string `key:"allow" doc:"ids of nodes that are served what is for listed ones"`
	Deny        []string `key:"deny" doc:"ids, IP addresses and prefixes of nodes that are never connected with"`
	Private     bool     `key:"private" doc:"connect with peers and allow alone"`
	Bandwidth   Size     `key:"bandwidth" doc:"bytes a second that a fill takes at most, and as many that answers do; 0: a fill as fast as it goes, answers 64MiB"`
	Fill        bool     `key:"fill" doc:"where only a part of the state is here, fetch the rest in the background, then the blocks since"`
	Follow      bool     `key:"follow" doc:"take in the blocks that peers have, again and again"`
	ItemsBudget Size     `key:"items_budget" doc:"space for fetched items, in peers/items of the store's directory; 0: none are kept"`

	ShardsBudget  Size     `key:"shards_budget" doc:"space for shards of work packages that were put here, in peers/shards of the store's directory; when it is full, more are refused; 0: none are kept"`
	ShardsKeep    Duration `key:"shards_keep" doc:"time that a shard is kept at least, before it makes room for others; 0s for ever"`
	FillParallel  int      `key:"fill_parallel" doc:"ranges of the state that a fill asks for at a time, at most 64"`
	FillPage      Size     `key:"fill_page" doc:"bytes that it asks for at a time, with their proofs, at most 8MiB"`
	FetchTimeout  Duration `key:"fetch_timeout" doc:"time that a reader, or an import, waits for peers at most, unless it ends before; of many keys, for 256 at a time"`
	CatchUpBlocks int      `key:"catch_up_blocks" doc:"blocks above the finalized one, whoever brought them, beyond which none is taken from peers"`
	CatchUpBytes  Size     `key:"catch_up_bytes" doc:"bytes of their write sets, likewise"`
}

// On says whether there is anything to do with others.
func (d *DA) On() bool { return d.Enabled || d.MDNS || len(d.Peers) > 0 }

// Socket is a Unix socket.
type Socket struct {
	Name   string   `key:"name" doc:"what it is called, also by systemd's FileDescriptorName= where that hands it over; needed where there are several"`
	Path   string   `key:"path" doc:"where it is, at most 107 bytes; its folder must be there"`
	Roles  []string `key:"roles" doc:"what its clients may do: all, or some of importing, producing, refining, auditing, operator, observer"`
	Mode   string   `key:"mode" doc:"who may connect, octal"`
	Owner  string   `key:"owner" doc:"its owner, by name or number; empty for who runs the program"`
	Group  string   `key:"group" doc:"its group, by name or number"`
	Users  []string `key:"users" doc:"users whose processes it takes, by name or number; with groups, either suffices; both empty: all that may connect"`
	Groups []string `key:"groups" doc:"groups, supplementary ones too, whose processes it takes"`
}

// TCP is an address.
type TCP struct {
	Name        string   `key:"name" doc:"what it is called, also by systemd's FileDescriptorName="`
	Address     string   `key:"address" doc:"IP address and port"`
	Remote      bool     `key:"remote" doc:"allow an address that other machines can reach"`
	Import      bool     `key:"import" doc:"allow imports over it"`
	Hosts       []string `key:"hosts" doc:"names that requests may give as Host, beside those of the loopback and the address"`
	Origins     []string `key:"origins" doc:"pages, such as https://example.org, whose scripts may send requests"`
	Certificate string   `key:"tls_certificate" doc:"PEM file of the certificate, for TLS 1.3; empty for none"`
	Key         string   `key:"tls_key" doc:"PEM file of its key"`
}

// Client is a client over TCP.
type Client struct {
	KID    string   `key:"kid" doc:"its name, which its tokens have as kid"`
	Secret string   `key:"secret_file" doc:"file of mode 0600 with its secret: hex digits of 32 bytes or more"`
	Roles  []string `key:"roles" doc:"what it may do; a token's claim of roles can only narrow it"`
}

// SocketFile is the name of the default socket.
const SocketFile = "accessor.sock"

// DefaultName is what a socket is called where it is the only one.
const DefaultName = "accessor"

// Default gives the settings where nothing else is said. runtimeDir is
// $XDG_RUNTIME_DIR; empty where there is none, as for services.
func Default(runtimeDir string) Config {
	if runtimeDir == "" {
		runtimeDir = "/run/accessor"
	}
	socket := newSocket()
	socket.Path = filepath.Join(runtimeDir, SocketFile)
	l := api.DefaultLimits
	return Config{
		Commitment:   "jam",
		CacheBytes:   state.DefaultCacheBytes,
		DrainTimeout: 4 * second,
		Log:          Log{Level: "info", Format: "auto"},
		Limits: Limits{
			WriteSet: 64 << 20, Value: 16 << 20, Body: Size(l.Body), Bodies: Size(l.Bodies), Answer: Size(l.Answer),
			Page: l.Page, Keys: l.Keys, Blocks: l.Blocks, Client: l.Client, Stream: l.Stream,
			Replay: l.Replay, ReplayRate: l.ReplayRate, Rebuilds: l.Rebuilds,
			Connections: 1024, HeaderBytes: 16 << 10,
			HeaderTimeout: 5 * second, IdleTimeout: 120 * second, StallTimeout: 60 * second,
		},
		Retention: Retention{Slots: 14_400, Step: 256, MaxPins: 64},
		Pins:      Pins{Mode: "0500"},
		Store:     Store{ImageEvery: 192, ImageBytes: 512 << 20, ImageRate: 32 << 20, OpenViews: 8, WorkingDBs: 8},
		DA: DA{
			Listen: []string{"/ip4/0.0.0.0/udp/4001/quic-v1", "/ip4/0.0.0.0/tcp/4001"}, Peers: []string{},
			ServeState: "listed", ServeItems: "anyone", Allow: []string{}, Deny: []string{}, Fill: true, ItemsBudget: 1 << 30,
			ShardsBudget: 1 << 30, ShardsKeep: 28 * 24 * 3600 * second,

			FillParallel: 4, FillPage: 1 << 20, FetchTimeout: Duration(state.DefaultFetchTimeout), CatchUpBlocks: 32_768, CatchUpBytes: 16 << 30,
		},
		Items:   access.DefaultTable().Config(),
		Sockets: []Socket{socket},
		TCP:     []TCP{},
		Clients: []Client{},
	}
}

// newSocket, newTCP and newClient are tables where nothing is said in them.
func newSocket() Socket {
	return Socket{Roles: []string{"all"}, Mode: "0600", Users: []string{}, Groups: []string{}}
}

func newTCP() TCP { return TCP{Hosts: []string{}, Origins: []string{}} }

func newClient() Client { return Client{Roles: []string{}} }
