//! The story that the project's README tells.

mod common;

use std::process::Command;

use common::server::{program, Server};

#[test]
fn story() {
    let mut server = Server::in_folder(&["--data", "served", "--anchor", "recorded.jsonl", "--socket", "main.sock"]);
    let recording = server.file("recorded.jsonl");
    let made = Command::new(program())
        .args(["trace", "generate", "--seed", "7", "--blocks", "12", "--fork-every", "5"])
        .arg(&recording)
        .status();
    assert!(made.unwrap().success());
    server.start();

    // Examples are built beside the tests.
    let examples = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("examples");
    let out = Command::new(examples.join("story")).args([server.path("main"), recording]).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
    let count = |what: &str| text.lines().filter(|line| line.starts_with(what)).count();
    assert!(count("imported ") >= 12, "{text}");
    assert_eq!(count("entropy at "), 2, "{text}");
    assert_eq!(count("they part at slot "), 1, "{text}");
    assert_eq!(count("block "), count("imported ") + 1, "{text}");
    println!("{text}");
}
