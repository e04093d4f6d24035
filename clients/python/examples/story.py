"""Five minutes with the accessor: python story.py ./accessor.sock recorded.jsonl"""

import json
import sys

from accessor_client import Client

socket, recording = sys.argv[1:]
with Client(socket) as client, open(recording) as lines:
    for result in client.import_many(b for b in map(json.loads, lines) if b["type"] == "block"):
        print("import", result.line, result.status, result.error or "")

    left, *_, right = [leaf.block for leaf in client.blocks(leaves=True).blocks]
    print("fork  ", left[:16], "and", right[:16])
    print("left  ", client.at(left)["slot"].hex())
    print("right ", client.at(right)["slot"].hex())

    diff = client.diff(left, right)
    print("diff  ", len(diff.keys), "keys since", diff.common.block[:16])
    for change in diff.keys[:3]:
        print("      ", change.key.hex()[:16], len(change.from_ or b""), "->", len(change.to or b""), "bytes")

    for event in client.events(after=1):
        print("event ", event.kind, event.slot, (event.block or "")[:16])
        if event.kind == "head" and event.block == client.at("head").block:
            break
