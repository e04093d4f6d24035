"""Imports a recorded chain with forks, and looks at both sides of one."""

import json
import sys

from accessor_client import Client

socket, recording = sys.argv[1:]
with Client(socket) as client, open(recording) as lines:
    for result in client.import_many(line for line in map(json.loads, lines) if line["type"] == "block"):
        print("imported", result.block.hash if result.block else result.error)

    one, other = [leaf.block for leaf in client.blocks(leaves=True).blocks[:2]]
    for side in one, other:
        print(f"entropy at {side}: {client.at(side)['entropy'][:8].hex()}")

    diff = client.diff(one, other)
    print("they part at slot", diff.common.slot, "and differ in", len(diff.keys), "keys")

    newest = client.status().newest_event
    with client.events(after=1) as events:
        for event in events:
            print(event.kind, event.slot, event.block)
            if event.position >= newest:
                break
