package client_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"syscall"
	"time"

	"accessor/api/client"
	"accessor/forks"
	"accessor/jam"
	"accessor/state/merkle"
)

// operation is one to be done.
type operation struct {
	r    *runner
	c    *client.Client
	with map[string]any
}

// arguments are those of all operations. Byte strings are in hex.
type arguments struct {
	At, From, To, Key, Prefix, Parent, Owner, Draft, Value, Block, Pin, Events, Scan, Socket, Proof, Item string

	Hash, Root            client.Hash
	PostRoot, Commit      *client.Hash
	Hashes                []client.Hash
	Keys, Dels, Kinds     []string
	Puts                  [][2]string
	Header                *string
	Slot                  forks.Slot
	Leaves, Reverse, Fail bool
	Values, Directory     *bool
	After                 *uint64
	Page, Limit, Count    int
	Max                   uint32
	MS                    float64
	Blocks                []json.RawMessage
	Answers               [][]string
	Bundle                string
	Segments              []string
	Shards, Index         int
	Keep, Spec, Shard     json.RawMessage
	ErasureRoot           client.Hash
	WaitMS                *float64
	TTLMS                 float64
	WithinMS              float64
}

// UnmarshalJSON reads names as scenarios have them, and refuses others.
func (a *arguments) UnmarshalJSON(text []byte) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		return err
	}
	for from, to := range map[string]string{"post_root": "PostRoot", "wait_ms": "WaitMS", "ttl_ms": "TTLMS", "within_ms": "WithinMS", "erasure_root": "ErasureRoot"} {
		if raw, ok := members[from]; ok {
			delete(members, from)
			members[to] = raw
		}
	}
	text, err := json.Marshal(members)
	if err != nil {
		return err
	}
	type plain arguments
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	return d.Decode((*plain)(a))
}

type doing = func(ctx context.Context, o *operation) (any, error)

// doneBy makes an operation of what needs its arguments.
func doneBy(f func(ctx context.Context, o *operation, a *arguments) (any, error)) doing {
	return func(ctx context.Context, o *operation) (any, error) {
		var a arguments
		if err := json.Unmarshal([]byte(asJSON(o.with)), &a); err != nil {
			return nil, err
		}
		return f(ctx, o, &a)
	}
}

var nothing = map[string]any{}

// operations are those of the README's table.
var operations map[string]doing

func init() {
	operations = map[string]doing{
		"import": doImport, "import_many": doneBy(doImportMany),
		"block": doneBy(func(ctx context.Context, o *operation, a *arguments) (any, error) { return o.c.Block(ctx, a.At) }),
		"wait_block": doneBy(func(ctx context.Context, o *operation, a *arguments) (any, error) {
			return o.c.WaitBlock(ctx, a.Hash, milliseconds(*a.WaitMS))
		}),
		"blocks": doneBy(func(ctx context.Context, o *operation, a *arguments) (any, error) {
			return o.c.Blocks(ctx, client.BlocksOptions{Leaves: a.Leaves, Page: a.Page})
		}),
		"held": doneBy(func(ctx context.Context, o *operation, a *arguments) (any, error) {
			held, err := o.c.Held(ctx, a.Hashes)
			return map[string]any{"held": held}, err
		}),
		"head":     doneBy(func(ctx context.Context, o *operation, a *arguments) (any, error) { return o.c.SetHead(ctx, a.Hash) }),
		"finalize": doneBy(func(ctx context.Context, o *operation, a *arguments) (any, error) { return o.c.Finalize(ctx, a.Hash) }),
		"get":      doneBy(doGet), "has": doneBy(doHas), "get_many": doneBy(doGetMany), "scan": doneBy(doScan),
		"verified_get": doneBy(doGet), "verified_get_many": doneBy(doGetMany), "verified_scan": doneBy(doScan),
		"changes": doneBy(doChanges), "diff": doneBy(doDiff), "history": doneBy(doHistory),
		"prove": doneBy(doProve), "check_proof": doneBy(doCheckProof),
		"locks":  func(ctx context.Context, o *operation) (any, error) { return o.c.Locks(ctx) },
		"status": func(ctx context.Context, o *operation) (any, error) { return o.c.Status(ctx) },
		"item": doneBy(func(ctx context.Context, o *operation, a *arguments) (any, error) {
			item, err := o.c.Item(ctx, a.Hash)
			return map[string]any{"item": hex.EncodeToString(item)}, err
		}),
		"put_item": doneBy(func(ctx context.Context, o *operation, a *arguments) (any, error) {
			item, err := hex.DecodeString(a.Item)
			if err != nil {
				return nil, err
			}
			hash, err := o.c.PutItem(ctx, item)
			return map[string]any{"hash": hash}, err
		}),
		"encode": doneBy(doEncode), "bundle": doneBy(doBundle), "segment": doneBy(doSegment),
		"shard": doneBy(doShard), "put_shard": doneBy(doPutShard),
		"scan_open":   doneBy(doScanOpen),
		"scan_next":   doneBy(doScanNext),
		"events_open": doneBy(doEventsOpen), "events_next": doneBy(doEventsNext), "events_close": doneBy(doEventsClose),
		"server_stop":  func(_ context.Context, o *operation) (any, error) { return nothing, o.r.endServer(syscall.SIGTERM) },
		"server_kill":  func(_ context.Context, o *operation) (any, error) { return nothing, o.r.endServer(os.Kill) },
		"server_start": func(_ context.Context, o *operation) (any, error) { return nothing, o.r.startServer() },
		"fake_server": doneBy(func(_ context.Context, o *operation, a *arguments) (any, error) {
			return nothing, o.r.fake(a.Socket, a.Answers)
		}),
		"sleep": doneBy(func(_ context.Context, _ *operation, a *arguments) (any, error) {
			time.Sleep(milliseconds(a.MS))
			return nothing, nil
		}),
	}
	for name, op := range draftOperations {
		operations[name] = op
	}
}

func milliseconds(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

// unhex reads bytes; nil for none.
func unhex(texts ...string) ([][]byte, error) {
	out := make([][]byte, len(texts))
	for i, text := range texts {
		b, err := hex.DecodeString(text)
		if err != nil {
			return nil, err
		}
		if text != "" {
			out[i] = b
		}
	}
	return out, nil
}

// keysOf reads keys, which may be names of items.
func keysOf(texts []string) ([][]byte, error) {
	keys := make([][]byte, len(texts))
	for i, text := range texts {
		var err error
		if keys[i], err = jam.ParseKey(text); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

func hexOrNil(b []byte) any {
	if b == nil {
		return nil
	}
	return hex.EncodeToString(b)
}

func hexList(list [][]byte) []any {
	out := make([]any, len(list))
	for i, b := range list {
		out[i] = hexOrNil(b)
	}
	return out
}

func hexPairs(list []client.Pair) []any {
	out := make([]any, len(list))
	for i, p := range list {
		out[i] = []any{hexOrNil(p.Key), hexOrNil(p.Value)}
	}
	return out
}

func pairsOf(puts [][2]string) ([]client.Pair, error) {
	out := make([]client.Pair, len(puts))
	for i, p := range puts {
		key, err := jam.ParseKey(p[0])
		if err != nil {
			return nil, err
		}
		value, err := hex.DecodeString(p[1])
		if err != nil {
			return nil, err
		}
		out[i] = client.Pair{Key: key, Value: value}
	}
	return out, nil
}

func doImport(ctx context.Context, o *operation) (any, error) {
	// A recorded block has members that are none of the import's.
	var in struct {
		Hash, Parent client.Hash
		Slot         forks.Slot
		PriorRoot    *client.Hash `json:"prior_root"`
		PostRoot     *client.Hash `json:"post_root"`
		Puts         [][2]string
		Dels         []string
		Header       *string
		WaitMS       *float64 `json:"wait_ms"`
	}
	if err := json.Unmarshal([]byte(asJSON(o.with)), &in); err != nil {
		return nil, err
	}
	b := &client.Block{Hash: in.Hash, Parent: in.Parent, Slot: in.Slot, PriorRoot: in.PriorRoot, PostRoot: in.PostRoot}
	var err error
	if b.Puts, err = pairsOf(in.Puts); err != nil {
		return nil, err
	}
	if b.Dels, err = unhex(in.Dels...); err != nil {
		return nil, err
	}
	if in.Header != nil {
		if b.Header, err = hex.DecodeString(*in.Header); err != nil {
			return nil, err
		}
	}
	if in.WaitMS != nil {
		return o.c.ImportWithin(ctx, b, milliseconds(*in.WaitMS))
	}
	return o.c.Import(ctx, b)
}

func doImportMany(ctx context.Context, o *operation, a *arguments) (any, error) {
	var lines bytes.Buffer
	for _, b := range a.Blocks {
		lines.Write(b)
		lines.WriteByte('\n')
	}
	results := []any{}
	for line, err := range o.c.ImportLines(ctx, &lines, -1) {
		if err != nil {
			return nil, err
		}
		one := map[string]any{"line": line.Line, "status": line.Status}
		if line.Err != nil {
			one["error"] = line.Err
		} else {
			one["hash"], one["slot"], one["root"] = line.Hash, line.Slot, line.Root
			one["walkback"], one["ms"], one["new"] = line.WalkBack, line.MS, line.New
		}
		results = append(results, one)
	}
	return map[string]any{"results": results}, nil
}

// at makes the view that is asked for, verifying where there is a root.
func (o *operation) at(a *arguments) *client.View {
	v := o.c.At(a.At)
	if a.Root != (client.Hash{}) {
		v = v.WithVerification(a.Root)
	}
	return v
}

// about gives a result beside the block that it is about.
func about(ctx context.Context, v *client.View, name string, result any) (any, error) {
	at, err := v.About(ctx)
	return map[string]any{name: result, "block": at.Block, "slot": at.Slot, "root": at.Root}, err
}

// getBy reads a key, by bytes where it is hex.
func getBy(ctx context.Context, v *client.View, text string) ([]byte, bool, error) {
	if key, err := hex.DecodeString(text); err == nil {
		return v.Get(ctx, key)
	}
	return v.GetItem(ctx, text)
}

func doGet(ctx context.Context, o *operation, a *arguments) (any, error) {
	v := o.at(a)
	value, present, err := getBy(ctx, v, a.Key)
	if err != nil {
		return nil, err
	}
	if !present {
		value = nil
	}
	return about(ctx, v, "value", hexOrNil(value))
}

func doHas(ctx context.Context, o *operation, a *arguments) (any, error) {
	v := o.at(a)
	key, err := jam.ParseKey(a.Key)
	if err != nil {
		return nil, err
	}
	present, err := v.Has(ctx, key)
	if err != nil {
		return nil, err
	}
	return about(ctx, v, "present", present)
}

func doGetMany(ctx context.Context, o *operation, a *arguments) (any, error) {
	v := o.at(a)
	keys, err := keysOf(a.Keys)
	if err != nil {
		return nil, err
	}
	values, err := v.GetMany(ctx, keys)
	if err != nil {
		return nil, err
	}
	return about(ctx, v, "values", hexList(values))
}

func scanOptions(a *arguments) (client.ScanOptions, error) {
	edges, err := unhex(a.Prefix, a.From, a.To)
	if err != nil {
		return client.ScanOptions{}, err
	}
	return client.ScanOptions{
		Prefix: edges[0], From: edges[1], To: edges[2], Reverse: a.Reverse, Limit: a.Limit, Page: a.Page,
		KeysOnly: a.Values != nil && !*a.Values,
	}, nil
}

func doScan(ctx context.Context, o *operation, a *arguments) (any, error) {
	opts, err := scanOptions(a)
	if err != nil {
		return nil, err
	}
	v := o.at(a)
	var pairs []client.Pair
	for p, err := range v.Scan(ctx, opts) {
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, p)
	}
	return about(ctx, v, "pairs", hexPairs(pairs))
}

func doChanges(ctx context.Context, o *operation, a *arguments) (any, error) {
	c, err := o.c.At(a.At).Changes(ctx)
	return map[string]any{
		"puts": hexPairs(c.Puts), "dels": hexList(c.Dels), "block": c.Block, "slot": c.Slot, "root": c.Root,
	}, err
}

func doDiff(ctx context.Context, o *operation, a *arguments) (any, error) {
	d, err := o.c.Diff(ctx, a.From, a.To)
	keys := []any{}
	for _, k := range d.Keys {
		keys = append(keys, map[string]any{"key": hexOrNil(k.Key), "from": hexOrNil(k.From), "to": hexOrNil(k.To)})
	}
	return map[string]any{"from": d.From, "to": d.To, "common": d.Common, "keys": keys}, err
}

func doHistory(ctx context.Context, o *operation, a *arguments) (any, error) {
	h, err := o.c.History(ctx, a.Key, client.HistoryOptions{At: a.At, Limit: a.Limit})
	versions := []any{}
	for _, v := range h.Versions {
		versions = append(versions, map[string]any{"value": hexOrNil(v.Value), "block": v.Block, "slot": v.Slot, "root": v.Root})
	}
	return map[string]any{"key": hexOrNil(h.Key), "versions": versions, "block": h.Block, "slot": h.Slot, "root": h.Root}, err
}

func doProve(ctx context.Context, o *operation, a *arguments) (any, error) {
	v := o.c.At(a.At)
	var s *merkle.Statement
	if a.From == "" && a.To == "" {
		keys, err := keysOf(a.Keys)
		if err != nil {
			return nil, err
		}
		if s, err = v.Prove(ctx, keys); err != nil {
			return nil, err
		}
	} else {
		edges, err := unhex(a.From, a.To)
		if err != nil {
			return nil, err
		}
		req := merkle.RangeRequest{MaxSize: a.Max}
		for i := range req.End {
			req.End[i] = 0xff
		}
		copy(req.Start[:], edges[0])
		copy(req.End[:], edges[1])
		if s, err = v.ProveRange(ctx, req); err != nil {
			return nil, err
		}
	}
	return about(ctx, v, "proof", hex.EncodeToString(s.Append(nil)))
}

func doCheckProof(_ context.Context, _ *operation, a *arguments) (any, error) {
	proof, err := hex.DecodeString(a.Proof)
	if err != nil {
		return nil, err
	}
	answer, err := client.CheckProof(proof, a.Root)
	if err != nil {
		return nil, err
	}
	pairs := []any{}
	for i := range answer.Pairs {
		pairs = append(pairs, []any{hexOrNil(answer.Pairs[i].Key[:]), hexOrNil(answer.Pairs[i].Value)})
	}
	return map[string]any{"pairs": pairs, "more": answer.More}, nil
}

var errStop = errors.New("the caller's own error")
