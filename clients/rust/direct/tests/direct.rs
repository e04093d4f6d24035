//! Direct reads give what the socket gives.

#[path = "../../tests/common/mod.rs"]
mod common;

use std::process::Command;
use std::time::Duration;

use accessor_client::*;
use accessor_direct::Checkpoint;
use common::server::Server;
use serde_json::Value;

fn setting() -> (Server, Client, Pin) {
    let server = Server::new(None, "");
    let client = Client::new(&format!("unix://{}", server.path("main").display())).unwrap();
    let anchor = client.block("anchor").unwrap().block;
    let put = |n: u32| ([&[0xfe; 27], n.to_be_bytes().as_slice()].concat(), vec![n as u8; 200]);
    let first = NewBlock {
        hash: Hash([1; 32]),
        parent: anchor,
        slot: 1,
        puts: (0..2000).map(put).collect(),
        ..NewBlock::default()
    };
    let second =
        NewBlock { hash: Hash([2; 32]), parent: first.hash, slot: 2, dels: vec![put(7).0], ..NewBlock::default() };
    client.import_many([first, second]).for_each(|result| assert!(result.unwrap().new));
    let options = PinOptions { directory: Some(true), ..PinOptions::default() };
    let pin = client.pin("head", Duration::from_secs(60), &options).unwrap();
    (server, client, pin)
}

#[test]
fn the_same_as_over_the_socket() {
    let (_server, client, pin) = setting();
    let made = pin.made().unwrap();
    let checkpoint = Checkpoint::open(made).unwrap();
    let view = client.at(made.block);
    let all: Vec<_> = view.scan(ScanOptions::default()).collect::<Result<_, _>>().unwrap();
    let direct: Vec<_> = checkpoint.scan(&[]).collect::<Result<_, _>>().unwrap();
    assert!(direct == all && all.len() > 1999, "{} pairs, over the socket {}", direct.len(), all.len());

    let mut keys: Vec<Vec<u8>> = all.iter().map(|(key, _)| key.clone()).collect();
    keys.push([[0xfe; 27].as_slice(), &[0, 0, 0, 7]].concat()); // deleted
    keys.push(vec![0x11; 31]); // never there
    let values = view.get_many(&keys).unwrap();
    assert_eq!(checkpoint.get_many(&keys).unwrap(), values);
    for (key, value) in keys.iter().zip(&values) {
        assert_eq!(checkpoint.get(key).unwrap(), *value);
    }
    let error = Checkpoint::open_at(made.directory.as_ref().unwrap(), Hash([1; 32])).err();
    assert!(error.unwrap().to_string().contains("not 0101"));
    drop(checkpoint);
    pin.release().unwrap();
}

#[test]
fn the_benchmark_measures() {
    let (server, client, pin) = setting();
    let view = client.at("head");
    let keys: Vec<String> = view.keys(ScanOptions::prefix([0xfe])).map(|key| hex(&key.unwrap())).collect();
    let values = view.scan(ScanOptions::prefix([0xfe])).map(|pair| pair.unwrap().1);
    let keys: Vec<_> = keys.iter().zip(values).filter(|(_, v)| v.len() == 200).map(|(k, _)| k.as_str()).collect();
    std::fs::write(server.file("keys"), keys.join("\n")).unwrap();
    let made = pin.made().unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_bench"))
        .arg("--socket")
        .arg(server.path("main"))
        .args(["--block", &made.block.to_string(), "--scan-block", &made.block.to_string()])
        .arg("--keys")
        .arg(server.file("keys"))
        .args(["--pin", made.directory.as_ref().unwrap(), "--requests", "200"])
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let figures: Value = serde_json::from_str(&text).unwrap();
    for name in ["read_us", "raw_us", "batch_ms", "scan_rss_bytes", "scan_seconds", "socket_reads", "direct_reads"] {
        assert!(figures[name].as_f64().unwrap() > 0.0, "{name}: {text}");
    }
    assert!(figures["scan_pairs"].as_u64().unwrap() > 1999, "{text}");
    println!("{text}");
}
