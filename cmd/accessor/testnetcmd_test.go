package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"accessor/forks"
	"accessor/testnet"
)

// TestNodesText: what the live view shows.
func TestNodesText(t *testing.T) {
	v := testnet.View{Slot: 7, Slots: 20, Result: testnet.Result{Blocks: 9, Forks: 2, Kills: 1, ReadsChecked: 50}}
	v.Nodes = []testnet.NodeView{
		{Node: 0, State: "up", Head: forks.Block{Hash: forks.Hash{0xab}, Slot: 7}, Heads: 3, Blocks: 10, Locks: 1, WalkBacks: 2, Fetches: 4, Rejected: 3},
		{Node: 1, State: "down", Waiting: 11},
	}
	const want = `slot 7 of 20: 9 blocks, 2 forks, 1 kills; 50 reads checked, 0 wrong, 0 unavailable

NODE  STATE  SLOT  HEAD      BLOCKS  HEADS  LOCKS  WALK-BACKS  DA FETCHES  REFUSED  WAITING
   0  up        7  ab000000      10      3      1           2           4        3        0
   1  down      0  00000000       0      0      0           0           0        0       11

slot 7: kill -9 node 1
`
	if got := nodesText(v, []string{"slot 7: kill -9 node 1"}); got != want {
		t.Errorf("%s", got)
	}
}

// TestTestnetLiars: nodes that start with nothing but a root, among peers of which most
// lie, give right answers from the first on, and end up with all.
func TestTestnetLiars(t *testing.T) {
	if testing.Short() {
		t.Skip("runs six sidecars")
	}
	t.Setenv("TMPDIR", t.TempDir())
	var out, said bytes.Buffer
	status := run(context.Background(), []string{"testnet", "liars", "--json", "--slots", "30"}, strings.NewReader(""), &out, &said)
	var res testnet.Result
	if err := json.Unmarshal(out.Bytes(), &res); err != nil || status != exitOK {
		t.Fatalf("status %d, %v: %s\n%s", status, err, out.String(), said.String())
	}
	if res.Nodes != 6 || res.Fetches == 0 || res.Rejected == 0 || res.WrongAnswers != 0 || res.ReadsChecked < 1000 || !res.RootsAgree {
		t.Errorf("%+v", res)
	}
	for _, line := range []string{"node 4 joins, trusting b", ", with nothing", "peers that lie: range, 2 of them", "peers that lie: block, 2", "peers that lie: shard, 2", "work package: as expected"} {
		if !strings.Contains(said.String(), line) {
			t.Errorf("%q is not in\n%s", line, said.String())
		}
	}
}

// TestTestnetPeers: processes of which some only follow others, and keep shards for each
// other; a partition keeps what one side has from the other.
func TestTestnetPeers(t *testing.T) {
	if testing.Short() {
		t.Skip("runs four sidecars, one of which looks for blocks every 6 s")
	}
	t.Setenv("TMPDIR", t.TempDir())
	file := filepath.Join(t.TempDir(), "peers.txt")
	const scenario = `nodes 3
slots 14
keys 40
every 1: produce
at 2: work size 20000 segments 2 as package
at 3: join follow anchor
at 5: partition 0 | rest
at 6: lie shard 2
at 7: kill 1 for 2
at 10: expect held b7 on 3      # of its side
at 10: expect missing b6 on 3   # of the other
at 11: heal
at 12: expect work package
end: expect held b6 on 3
end: expect agree
`
	if err := os.WriteFile(file, []byte(scenario), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, said bytes.Buffer
	status := run(context.Background(), []string{"testnet", file, "--json"}, strings.NewReader(""), &out, &said)
	var res testnet.Result
	if err := json.Unmarshal(out.Bytes(), &res); err != nil || status != exitOK {
		t.Fatalf("status %d, %v: %s\n%s", status, err, out.String(), said.String())
	}
	if res.Nodes != 4 || res.Fetches == 0 || res.Partitions != 1 || !res.RootsAgree {
		t.Errorf("%+v", res)
	}
}

// TestTestnetOnTerminal: tables in place on the terminal, the summary alone on standard
// output.
func TestTestnetOnTerminal(t *testing.T) {
	tty, display := terminal(t, 40)
	file := filepath.Join(t.TempDir(), "short.txt")
	if err := os.WriteFile(file, []byte("nodes 1\nslots 4\nevery 1: produce\nat 2: equivocate"), 0o600); err != nil {
		t.Fatal(err)
	}
	shown := make(chan string, 1)
	go func() {
		var b bytes.Buffer
		_, _ = io.Copy(&b, display) // ends with the other side
		shown <- b.String()
	}()
	t.Setenv("TMPDIR", t.TempDir())
	var out bytes.Buffer
	status := run(context.Background(), []string{"testnet", file}, strings.NewReader(""), &out, tty)
	tty.Close()
	tables := strings.Split(<-shown, "\x1b[H\x1b[J")
	last := tables[len(tables)-1]
	if status != exitOK || len(tables) < 2 || !strings.HasPrefix(last, "slot 4 of 4: ") || !strings.Contains(last, "NODE  STATE") ||
		!strings.Contains(last, "slot 2: b2 and b3 are both of slot 2") {
		t.Errorf("status %d, %q", status, tables)
	}
	if !strings.HasPrefix(out.String(), "testnet short: all is as it must be\n") {
		t.Error(out.String())
	}
}
