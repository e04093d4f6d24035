//! Servers that stand still, close halfway, or refuse; and futures that are dropped.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::{channel, Receiver};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use accessor_client::*;

/// A server that does with each request, by its number from 0, what it is told.
struct Hostile {
    path: PathBuf,
    /// The heads of the requests.
    heads: Receiver<String>,
}

impl Hostile {
    fn new(serve: impl Fn(usize, UnixStream) + Send + Sync + Copy + 'static) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("acch{}-{}.sock", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        let listener = UnixListener::bind(&path).unwrap();
        let (tell, heads) = channel();
        let count = Arc::new(AtomicUsize::new(0));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, tell, count) = (stream.unwrap(), tell.clone(), count.clone());
                thread::spawn(move || {
                    if let Some(head) = head(&mut stream) {
                        let _ = tell.send(head);
                        serve(count.fetch_add(1, Ordering::SeqCst), stream);
                    }
                });
            }
        });
        Hostile { path, heads }
    }

    fn address(&self) -> &str {
        self.path.to_str().unwrap()
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn head(stream: &mut UnixStream) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

fn options(timeout: Duration) -> Options {
    Options { timeout: Some(timeout), ..Options::default() }
}

/// A block whose body doesn't fit into a socket's buffers.
fn large() -> NewBlock {
    NewBlock { header: Some(vec![0; 64 << 20]), ..NewBlock::default() }
}

fn say(mut stream: &UnixStream, text: &str) {
    let _ = stream.write_all(text.as_bytes());
}

fn refusal(status: &str, kind: &str) -> String {
    let body = format!("{{\"kind\":\"{kind}\"}}");
    format!("HTTP/1.1 {status} X\r\nRetry-After: 0\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// An event, as a chunk of a stream.
fn event(position: u64) -> String {
    let text = format!("id: {position}\ndata: {{\"kind\":\"block\",\"position\":{position}}}\n\n");
    format!("{:x}\r\n{text}\r\n", text.len())
}

const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
const SOON: Duration = Duration::from_secs(5);

/// Breaks off after an event, refuses twice, and then is slow.
fn broken_events(n: usize, stream: UnixStream) {
    match n {
        0 => say(&stream, &format!("{STREAM}c\r\nretry: 100\n\n\r\n{}", event(1))),
        1 => say(&stream, &refusal("429", "too-many-requests")),
        2 => say(&stream, &refusal("503", "busy")),
        3 => {
            thread::sleep(Duration::from_millis(300));
            say(&stream, &format!("{STREAM}{}", event(2)));
            thread::sleep(SOON);
        }
        _ => {}
    }
}

fn judge_events(server: &Hostile, begun: Instant) {
    // After each of the three ends the server's 100 ms, though Retry-After says 0.
    assert!(begun.elapsed() >= Duration::from_millis(600), "{:?}", begun.elapsed());
    let heads: Vec<String> = server.heads.try_iter().collect();
    assert_eq!(heads.len(), 4, "{heads:?}");
    assert!(heads[1..].iter().all(|head| head.contains("Last-Event-ID: 1\r\n")), "{heads:?}");
}

#[test]
fn events_come_back_also_to_an_impatient_caller() {
    let server = Hostile::new(broken_events);
    let begun = Instant::now();
    let mut events = Client::new(server.address()).unwrap().events(EventOptions::default()).unwrap();
    let mut seen = Vec::new();
    while seen.len() < 2 && begun.elapsed() < SOON {
        match events.next_within(Duration::from_millis(20)) {
            Ok(event) => seen.push(event.position),
            Err(error) => assert_eq!(error.kind, Kind::Deadline),
        }
    }
    assert_eq!(seen, [1, 2]);
    judge_events(&server, begun);
}

#[test]
fn a_body_to_a_slow_reader_ends_at_the_deadline() {
    let server = Hostile::new(|_, mut stream| {
        let mut some = vec![0; 32 << 10];
        while stream.read(&mut some).unwrap_or(0) > 0 {
            thread::sleep(Duration::from_millis(5));
        }
    });
    let begun = Instant::now();
    let client = Client::with(server.address(), options(Duration::from_millis(300))).unwrap();
    assert_eq!(client.import(&large()).unwrap_err().kind, Kind::Deadline);
    assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}", begun.elapsed());
}

/// Says nothing more, and doesn't read.
fn half_closed(_: usize, stream: UnixStream) {
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    thread::sleep(SOON);
}

#[test]
fn no_answer_is_waited_for_that_cannot_come() {
    let (server, begun) = (Hostile::new(half_closed), Instant::now());
    let client = Client::with(server.address(), options(SOON)).unwrap();
    assert_eq!(client.import(&large()).unwrap_err().kind, Kind::Connection);
    assert!(begun.elapsed() < SOON / 2, "{:?}", begun.elapsed());
}

/// The answer to who begins a draft of slot 2 on block 0.
fn begun() -> String {
    let zeros = "0".repeat(64);
    let body = format!(
        r#"{{"id":"d","parent":{{"block":"{zeros}","slot":1,"root":"{zeros}"}},"slot":2,"owner":"","age_ms":0,"bytes":0,"writes":0}}"#
    );
    let head = "HTTP/1.1 201 X\r\nContent-Type: application/json\r\nConnection: close";
    format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn an_answer_about_another_draft_is_none() {
    let server = Hostile::new(|n, stream| {
        let (zeros, ones) = ("0".repeat(64), "1".repeat(64));
        let about = |block| format!("Accessor-Block: {block}\r\nAccessor-Slot: 1\r\nAccessor-Root: {zeros}\r\n");
        match n {
            0 => say(&stream, &begun()),
            1 => say(
                &stream,
                &format!("HTTP/1.1 200 X\r\n{}Connection: close\r\nContent-Length: 1\r\n\r\nx", about(&zeros)),
            ),
            2 => say(
                &stream,
                &format!("HTTP/1.1 200 X\r\n{}Connection: close\r\nContent-Length: 1\r\n\r\nx", about(&ones)),
            ),
            _ => say(&stream, &begun()),
        }
    });
    let client = Client::new(server.address()).unwrap();
    let draft = client.begin_draft("head", 2, &DraftOptions::default()).unwrap();
    assert_eq!(draft.get("slot").unwrap(), Some(b"x".to_vec()));
    assert_eq!(draft.get("slot").unwrap_err().kind, Kind::BadAnswer);
    assert_eq!(draft.info().unwrap().id, "d");
    assert_eq!(client.draft("e").info().unwrap_err().kind, Kind::BadAnswer);
    assert_eq!(client.begin_draft("head", 3, &DraftOptions::default()).unwrap_err().kind, Kind::BadAnswer);
}

#[test]
fn nobody_there_is_said_with_address_and_source() {
    use std::error::Error as _;
    let error = Client::new("/nowhere/a.sock").unwrap().status().unwrap_err();
    assert!(error.kind == Kind::Connection && error.to_string().contains("/nowhere/a.sock"), "{error}");
    let source = error.source().unwrap().downcast_ref::<std::io::Error>().unwrap();
    assert_eq!(source.kind(), ErrorKind::NotFound);
    assert!(!Path::new("/nowhere").exists());
}

#[cfg(feature = "tokio")]
mod asynchronous {
    use super::*;
    use ::tokio::time::timeout;
    use accessor_client::tokio::Client;

    fn run<T>(future: impl std::future::Future<Output = T>) -> T {
        ::tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn events_come_back_also_where_futures_are_dropped() {
        let server = Hostile::new(broken_events);
        let begun = Instant::now();
        run(async {
            let mut events = Client::new(server.address()).unwrap().events(EventOptions::default()).await.unwrap();
            let mut seen = Vec::new();
            while seen.len() < 2 && begun.elapsed() < SOON {
                if let Ok(event) = timeout(Duration::from_millis(20), events.next()).await {
                    seen.push(event.unwrap().unwrap().position);
                }
            }
            assert_eq!(seen, [1, 2]);
        });
        judge_events(&server, begun);
    }

    #[test]
    fn no_answer_is_waited_for_that_cannot_come() {
        let (server, begun) = (Hostile::new(half_closed), Instant::now());
        let client = Client::with(server.address(), options(SOON)).unwrap();
        assert_eq!(run(client.import(&large())).unwrap_err().kind, Kind::Connection);
        assert!(begun.elapsed() < SOON / 2, "{:?}", begun.elapsed());
    }

    #[test]
    fn an_import_that_was_given_up_is_not_mistaken_for_the_next() {
        let server = Hostile::new(|_, stream| {
            thread::sleep(Duration::from_millis(200));
            say(&stream, "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nContent-Length: 999\r\n\r\n");
            thread::sleep(SOON);
        });
        run(async {
            let client = Client::with(server.address(), options(Duration::from_secs(1))).unwrap();
            let mut results = client.import_many([NewBlock::default(), NewBlock::default()]);
            timeout(Duration::from_millis(50), results.next()).await.unwrap_err();
            assert_eq!(results.next().await.unwrap().unwrap_err().kind, Kind::Connection);
            assert!(results.next().await.is_none());
        });
    }

    #[test]
    fn a_draft_ends_though_nobody_waits_for_that() {
        let server = Hostile::new(|n, mut stream| {
            if n == 0 {
                say(&stream, &begun());
            }
            let _ = stream.read_to_end(&mut Vec::new()); // says nothing
        });
        run(async {
            let client = Client::new(server.address()).unwrap();
            let draft = client.begin_draft("head", 2, &DraftOptions::default()).await.unwrap();
            timeout(Duration::from_millis(50), draft.discard()).await.unwrap_err();
            ::tokio::time::sleep(Duration::from_millis(200)).await;
        });
        let heads: Vec<String> = server.heads.try_iter().collect();
        let ends = heads.iter().filter(|head| head.starts_with("DELETE /v1/drafts/d ")).count();
        assert_eq!(ends, 2, "{heads:?}");
    }
}
