//! Measures the client beside requests written by hand, and direct reads of a pinned
//! checkpoint; prints one JSON object. `accessor bench clients` runs it.
//!
//!     bench --socket PATH --block HASH --keys FILE --pin DIR --requests N --scan-block HASH

use std::collections::HashMap;
use std::error::Error;
use std::hint::black_box;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use accessor_client::{from_hex, hex, Client, ScanOptions, View};
use accessor_direct::Checkpoint;
use serde_json::json;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The client and the hand-written requests take turns so often, so that noise hits both.
const ROUNDS: usize = 20;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: HashMap<&str, &str> = args.chunks_exact(2).map(|two| (two[0].as_str(), two[1].as_str())).collect();
    let arg = |name: &str| args.get(name).copied().ok_or(format!("{name} is missing"));
    let text = std::fs::read_to_string(arg("--keys")?)?;
    let keys: Vec<Vec<u8>> = text
        .lines()
        .map(|line| from_hex(line.trim()).ok_or("a key is not hex"))
        .collect::<std::result::Result<_, _>>()?;
    let requests: usize = arg("--requests")?.parse()?;
    let client = Client::new(&format!("unix://{}", arg("--socket")?))?;
    let view = client.at(arg("--block")?);

    let reads = reads(&view, arg("--socket")?, arg("--block")?, &keys, requests)?;
    let batch = batch(&view, &keys)?;
    let direct = match arg("--pin")? {
        "" => 0.0,
        dir => direct(&Checkpoint::open_at(dir, arg("--block")?.parse()?)?, &keys, requests)?,
    };
    let begun = Instant::now();
    let mut pairs = 0u64;
    for pair in client.at(arg("--scan-block")?).scan(ScanOptions::default()) {
        black_box(pair?);
        pairs += 1;
    }
    println!(
        "{}",
        json!({
            "language": language(),
            "read_us": reads.client, "raw_us": reads.raw, "batch_ms": batch,
            "scan_pairs": pairs, "scan_rss_bytes": peak_memory()?, "scan_seconds": begun.elapsed().as_secs_f64(),
            "socket_reads": reads.per_second, "direct_reads": direct,
        })
    );
    Ok(())
}

struct Reads {
    /// Microseconds, the median.
    client: f64,
    raw: f64,
    /// Of the client.
    per_second: f64,
}

fn reads(view: &View, socket: &str, block: &str, keys: &[Vec<u8>], requests: usize) -> Result<Reads> {
    let (mut client, mut raw) = (Vec::new(), Vec::new());
    let mut by_hand = ByHand { stream: UnixStream::connect(socket)?, buf: vec![0; 64 << 10] };
    let mut keys = keys.iter().cycle();
    for _ in 0..ROUNDS {
        for key in keys.by_ref().take(requests / ROUNDS) {
            let begun = Instant::now();
            black_box(view.get(key)?.ok_or("a key is absent")?);
            client.push(begun.elapsed());
        }
        for key in keys.by_ref().take(requests / ROUNDS) {
            let request = format!(
                "GET /v1/blocks/{block}/state/{} HTTP/1.1\r\nHost: localhost\r\nAccept: application/octet-stream\r\n\r\n",
                hex(key)
            );
            let begun = Instant::now();
            black_box(by_hand.get(request.as_bytes())?);
            raw.push(begun.elapsed());
        }
    }
    let per_second = client.len() as f64 / client.iter().sum::<Duration>().as_secs_f64();
    Ok(Reads { client: 1e6 * median(client), raw: 1e6 * median(raw), per_second })
}

/// A connection on which requests are written by hand.
struct ByHand {
    stream: UnixStream,
    buf: Vec<u8>,
}

impl ByHand {
    /// Reads the head, and as many bytes as it says.
    fn get(&mut self, request: &[u8]) -> Result<Vec<u8>> {
        self.stream.write_all(request)?;
        let mut have = 0;
        loop {
            let n = self.stream.read(&mut self.buf[have..])?;
            if n == 0 {
                return Err("closed".into());
            }
            have += n;
            let Some(head) = find(&self.buf[..have], b"\r\n\r\n") else { continue };
            let length = find(&self.buf[..head], b"Content-Length: ").ok_or("no length")? + 16;
            let end = length + find(&self.buf[length..have], b"\r\n").ok_or("no length")?;
            let length: usize = std::str::from_utf8(&self.buf[length..end])?.parse()?;
            if have >= head + 4 + length {
                return Ok(self.buf[head + 4..head + 4 + length].to_vec());
            }
        }
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

/// Milliseconds for 1,000 keys, the median.
fn batch(view: &View, keys: &[Vec<u8>]) -> Result<f64> {
    let keys: Vec<&Vec<u8>> = keys.iter().cycle().take(1000).collect();
    let mut times = Vec::new();
    for _ in 0..100 {
        let begun = Instant::now();
        black_box(view.get_many(keys.iter().copied())?);
        times.push(begun.elapsed());
    }
    Ok(1e3 * median(times))
}

/// Reads a second, one by one, of keys that were read before, as the server has read them.
fn direct(checkpoint: &Checkpoint, keys: &[Vec<u8>], requests: usize) -> Result<f64> {
    checkpoint.get_many(keys)?;
    let begun = Instant::now();
    for key in keys.iter().cycle().take(requests) {
        black_box(checkpoint.get(key)?.ok_or("a key is absent")?);
    }
    Ok(requests as f64 / begun.elapsed().as_secs_f64())
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).map_or(0.0, Duration::as_secs_f64)
}

/// The most memory that this process has had, in bytes.
fn peak_memory() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(1024 * line.trim().trim_end_matches(" kB").parse::<u64>()?)
}

fn language() -> String {
    let version = std::process::Command::new("rustc").arg("--version").output();
    let text = version.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default();
    text.split_whitespace().take(2).collect::<Vec<_>>().join(" ").replace("rustc", "rust")
}
