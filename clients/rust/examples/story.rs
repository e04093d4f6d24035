//! Imports a recorded chain with forks, and looks at both sides of one.

use accessor_client::{hex, Client, Error, EventOptions, NewBlock};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let client = Client::new(&args[1])?;

    let recording = std::fs::read_to_string(&args[2])?;
    let lines = recording.lines().filter(|line| line.contains(r#""type":"block""#));
    let blocks: Vec<NewBlock> = lines.map(str::parse).collect::<Result<_, Error>>()?;
    for imported in client.import_many(blocks) {
        println!("imported {}", imported?.hash);
    }

    let leaves = client.leaves()?.blocks;
    let (one, other) = (leaves[0].block, leaves[1].block);
    for side in [one, other] {
        let entropy = client.at(side).get("entropy")?.unwrap_or_default();
        println!("entropy at {side}: {}", hex(&entropy[..8]));
    }

    let diff = client.diff(one, other)?;
    println!("they part at slot {} and differ in {} keys", diff.common.slot, diff.keys.len());

    let newest = client.status()?.newest_event;
    for event in client.events(EventOptions { after: Some(1), ..Default::default() })? {
        let event = event?;
        println!("{} {} {}", event.kind, event.slot.unwrap_or_default(), event.block.unwrap_or_default());
        if event.position >= newest {
            break;
        }
    }
    Ok(())
}
