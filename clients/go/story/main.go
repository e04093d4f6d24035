// Command story imports a recorded chain with forks, and looks at both sides of one.
package main

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"os"

	"accessor/api/client"
)

func main() {
	ctx := context.Background()
	c, err := client.New(os.Args[1])
	check(err)
	defer c.Close()

	recording, err := os.ReadFile(os.Args[2])
	check(err)
	var blocks bytes.Buffer
	for line := range bytes.Lines(recording) {
		if bytes.Contains(line, []byte(`"type":"block"`)) {
			blocks.Write(line)
		}
	}
	for imported, err := range c.ImportLines(ctx, &blocks, -1) {
		check(err)
		if imported.Err != nil {
			log.Fatal(imported.Err)
		}
		fmt.Println("imported", imported.Hash)
	}

	leaves, err := c.Blocks(ctx, client.BlocksOptions{Leaves: true})
	check(err)
	one, other := leaves.Blocks[0].Block.String(), leaves.Blocks[1].Block.String()
	for _, side := range []string{one, other} {
		entropy, _, err := c.At(side).GetItem(ctx, "entropy")
		check(err)
		fmt.Printf("entropy at %s: %x\n", side, entropy[:8])
	}

	diff, err := c.Diff(ctx, one, other)
	check(err)
	fmt.Println("they part at slot", diff.Common.Slot, "and differ in", len(diff.Keys), "keys")

	status, err := c.Status(ctx)
	check(err)
	oldest := uint64(1)
	for event, err := range c.Events(ctx, client.EventOptions{After: &oldest}) {
		check(err)
		if event.Block != nil { // else a gap
			fmt.Println(event.Kind, *event.Slot, event.Block)
		}
		if event.Position >= status.NewestEvent {
			break
		}
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
