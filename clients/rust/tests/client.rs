//! What the scenarios don't ask: threads, values that are dropped, tokens, proofs byte by
//! byte.

mod common;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use accessor_client::*;
use common::server::Server;
use serde_json::json;

fn server(text: &str) -> (Server, Client) {
    let server = Server::new(Some(&serde_json::from_str(text).unwrap()), text);
    let client = Client::new(&format!("unix://{}", server.path("main").display())).unwrap();
    (server, client)
}

/// A chain of two blocks with keys of their own.
fn chain(client: &Client) -> (Hash, Hash) {
    let anchor = client.block("anchor").unwrap().block;
    let key = |n: u8| [[0xfe, n].as_slice(), &[n; 29]].concat();
    let (one, two) = (Hash([0xc1; 32]), Hash([0xc2; 32]));
    let puts = |n: u8| (0..200).map(|i| (key(i), vec![n; usize::from(i)])).collect();
    let first = NewBlock { hash: one, parent: anchor, slot: 1, puts: puts(1), ..NewBlock::default() };
    let second = NewBlock { hash: two, parent: one, slot: 2, puts: puts(2), ..NewBlock::default() };
    for result in client.import_many([first, second]) {
        assert!(result.unwrap().new);
    }
    (one, two)
}

const ONE: &str = r#"{"sockets": {"main": ["importing", "operator"]}}"#;

#[test]
fn threads_share_a_client_and_a_view() {
    let (_server, client) = server(ONE);
    let (_, two) = chain(&client);
    let view = client.at("head");
    thread::scope(|scope| {
        for n in 0..8u8 {
            let view = &view;
            scope.spawn(move || {
                for i in 0..200u8 {
                    let key = [[0xfe, i].as_slice(), &[i; 29]].concat();
                    assert_eq!(view.get(key).unwrap(), Some(vec![2; usize::from(i)]), "thread {n}");
                }
            });
        }
    });
    assert_eq!(view.about().unwrap().block, two);
}

#[test]
fn dropped_drafts_and_pins_end() {
    let (_server, client) = server(ONE);
    let (_, two) = chain(&client);
    let draft = client.begin_draft(two, 3, &DraftOptions::default()).unwrap();
    let options = PinOptions { directory: Some(false), ..PinOptions::default() };
    let pin = client.pin(two, Duration::from_secs(60), &options).unwrap();
    assert_eq!((client.drafts().unwrap().len(), client.pins().unwrap().len()), (1, 1));
    drop((draft, pin));
    assert_eq!((client.drafts().unwrap().len(), client.pins().unwrap().len()), (0, 0));
}

#[test]
fn a_call_ends_at_its_deadline() {
    let dir = Server::in_folder(&[]);
    let path = dir.path("silent");
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let options = Options { timeout: Some(Duration::from_millis(50)), ..Options::default() };
    let client = Client::with(path.to_str().unwrap(), options).unwrap();
    let begun = Instant::now();
    assert_eq!(*client.at("head").get("slot").unwrap_err().kind(), Kind::Deadline);
    // A body that nobody reads.
    let large = NewBlock { header: Some(vec![0; 8 << 20]), ..NewBlock::default() };
    assert_eq!(*client.import(&large).unwrap_err().kind(), Kind::Deadline);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

/// Reads a head from a connection, and answers.
fn answer_once(listener: &TcpListener, answer: &str) -> String {
    let (mut stream, _) = listener.accept().unwrap();
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    stream.write_all(answer.as_bytes()).unwrap();
    String::from_utf8(head).unwrap()
}

#[test]
fn an_early_answer_over_tcp_is_given() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Client::new(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let body = json!({"kind": "busy", "status": 503}).to_string();
    let length = body.len();
    let answer =
        format!("HTTP/1.1 503 X\r\nRetry-After: 2\r\nContent-Type: application/problem+json\r\nContent-Length: {length}\r\n\r\n{body}");
    let server = thread::spawn(move || {
        answer_once(&listener, &answer);
        thread::sleep(Duration::from_millis(500)); // as Go's server does before it closes
    });
    let large = NewBlock { header: Some(vec![0; 64 << 20]), ..NewBlock::default() };
    let error = client.import(&large).unwrap_err();
    assert_eq!((error.kind(), error.retry_after), (&Kind::Busy, Some(Duration::from_secs(2))));
    server.join().unwrap();
}

#[test]
fn a_token_that_would_be_two_headers_is_refused() {
    let token = Token::from_fn(|| Ok("a\r\nX: b".into()));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let options = Options { token: Some(token), ..Options::default() };
    let client = Client::with(&format!("http://{}", listener.local_addr().unwrap()), options).unwrap();
    assert_eq!(*client.status().unwrap_err().kind(), Kind::Unauthenticated);
}

#[cfg(feature = "token")]
#[test]
fn signed_tokens_are_known() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let secret = std::env::temp_dir().join(format!("acc-secret-{}", std::process::id()));
    std::fs::write(&secret, "a1".repeat(32)).unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let tcp = format!(
        "[[tcp]]\naddress = \"127.0.0.1:{port}\"\n\
         [[clients]]\nkid = \"me\"\nsecret_file = {secret:?}\nroles = [\"auditing\"]\n"
    );
    let text = json!({"sockets": {"main": ["importing"]}, "settings": tcp}).to_string();
    let (_server, _) = server(&text);
    let address = format!("http://127.0.0.1:{port}");
    let with = |secret: &[u8]| {
        let options = Options { token: Some(Token::signed("me", secret)), ..Options::default() };
        Client::with(&address, options).unwrap().at("head").get("entropy")
    };
    assert!(with(&[0xa1; 32]).unwrap().is_some());
    assert_eq!(*with(&[0xa2; 32]).unwrap_err().kind(), Kind::Unauthenticated);
    std::fs::remove_file(secret).unwrap();
}

#[cfg(feature = "proofs")]
#[test]
fn every_byte_of_a_proof_counts() {
    let (_server, client) = server(ONE);
    chain(&client);
    let view = client.at("head");
    let root = client.block("head").unwrap().root;
    let keys = [[0xfe, 7].as_slice(), &[7; 29]].concat();
    let by_keys = view.prove([Key::from(keys), Key::from([0x11; 31]), "slot".into()]).unwrap();
    let by_range = view.prove_range(&[0xfe, 3], &[0xfe, 60], Some(4000)).unwrap();
    for proof in [by_keys, by_range] {
        let proven = Statement::decode(&proof).unwrap().verify(&root).unwrap();
        assert!(proven.pairs.len() >= 3);
        assert_eq!(Statement::decode(&proof).unwrap().verify(&Hash([1; 32])).unwrap_err().kind, Kind::BadProof);
        for at in 0..proof.len() {
            for signed in [false, true] {
                let mut forged = proof.clone();
                forged[at] ^= 1;
                if signed && at < proof.len() - 32 {
                    sign(&mut forged);
                }
                // Of what was asked for, a part may be said otherwise: the block is a claim of
                // whoever made the proof, an absent key may be another one.
                let asked = 4..4 + u32::from_le_bytes(proof[..4].try_into().unwrap()) as usize;
                match Statement::decode(&forged).and_then(|statement| statement.verify(&root)) {
                    Err(error) => assert_eq!(error.kind, Kind::BadProof),
                    Ok(got) => {
                        let values =
                            |proven: &Proven| proven.pairs.iter().map(|pair| pair.1.clone()).collect::<Vec<_>>();
                        assert!(signed && asked.contains(&at) && values(&got) == values(&proven), "byte {at}");
                    }
                }
            }
            assert_eq!(Statement::decode(&proof[..at]).unwrap_err().kind, Kind::BadProof);
        }
    }
    let all: Vec<_> = view.scan(ScanOptions::default()).collect::<Result<_, _>>().unwrap();
    for page in [1, 7, 1000] {
        let options = ScanOptions { page, ..ScanOptions::default() };
        let proved: Vec<_> = view.verified(root).scan(options).collect::<Result<_, _>>().unwrap();
        assert_eq!(proved, all);
    }
    let wrong = view.verified(Hash([1; 32]));
    assert_eq!(wrong.get("slot").unwrap_err().kind, Kind::BadProof);
    assert_eq!(wrong.scan(ScanOptions::default()).next().unwrap().unwrap_err().kind, Kind::BadProof);
}

/// Gives a changed proof a right checksum.
#[cfg(feature = "proofs")]
fn sign(proof: &mut [u8]) {
    use blake2::{digest::consts::U32, Blake2b, Digest};
    let n = proof.len() - 32;
    let sum = Blake2b::<U32>::digest(&proof[..n]);
    proof[n..].copy_from_slice(&sum);
}
