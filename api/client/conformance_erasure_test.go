package client_test

import (
	"context"
	"encoding/hex"
	"encoding/json"

	"accessor/api/client"
)

func doEncode(ctx context.Context, o *operation, a *arguments) (any, error) {
	bundle, err := hex.DecodeString(a.Bundle)
	if err != nil {
		return nil, err
	}
	segments, err := unhex(a.Segments...)
	if err != nil {
		return nil, err
	}
	var keep []int
	switch text := string(a.Keep); text {
	case "":
	case `"all"`:
		keep = client.KeepAll
	default:
		if err := json.Unmarshal(a.Keep, &keep); err != nil {
			return nil, err
		}
	}
	return o.c.Encode(ctx, a.Shards, bundle, segments, keep)
}

// spec is the argument of that name.
func (a *arguments) spec() (s client.ErasureSpec, err error) {
	return s, json.Unmarshal(a.Spec, &s)
}

func doBundle(ctx context.Context, o *operation, a *arguments) (any, error) {
	spec, err := a.spec()
	if err != nil {
		return nil, err
	}
	bundle, err := o.c.Bundle(ctx, spec)
	return map[string]any{"bundle": hex.EncodeToString(bundle)}, err
}

func doSegment(ctx context.Context, o *operation, a *arguments) (any, error) {
	spec, err := a.spec()
	if err != nil {
		return nil, err
	}
	segment, err := o.c.Segment(ctx, spec, a.Index)
	return map[string]any{"segment": hex.EncodeToString(segment)}, err
}

// shardText is a shard as scenarios have it.
type shardText struct{ Bundle, Segments, Justification string }

func doShard(ctx context.Context, o *operation, a *arguments) (any, error) {
	sh, err := o.c.Shard(ctx, a.ErasureRoot, a.Index)
	return map[string]any{
		"bundle": hex.EncodeToString(sh.Bundle), "segments": hex.EncodeToString(sh.Segments),
		"justification": hex.EncodeToString(sh.Justification),
	}, err
}

func doPutShard(ctx context.Context, o *operation, a *arguments) (any, error) {
	spec, err := a.spec()
	if err != nil {
		return nil, err
	}
	var text shardText
	if err := json.Unmarshal(a.Shard, &text); err != nil {
		return nil, err
	}
	parts, err := unhex(text.Bundle, text.Segments, text.Justification)
	if err != nil {
		return nil, err
	}
	sh := client.ErasureShard{Bundle: parts[0], Segments: parts[1], Justification: parts[2]}
	return nothing, o.c.PutShard(ctx, spec, a.Index, sh)
}
