//! The program, started by a test, and servers that only say what they are told.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{json, Value};

use super::conformance;

/// The program.
pub fn program() -> PathBuf {
    std::env::var_os("ACCESSOR_BIN")
        .map(PathBuf::from)
        .expect("set ACCESSOR_BIN to the program: go build -o /tmp/accessor ./cmd/accessor")
}

/// `accessor serve` in a folder of its own.
pub struct Server {
    dir: PathBuf,
    /// The names of its sockets, in order.
    pub sockets: Vec<String>,
    args: Vec<String>,
    child: Option<Child>,
}

impl Server {
    /// Starts it as a scenario wants it, of which `text` has the order of the sockets.
    pub fn new(spec: Option<&Value>, text: &str) -> Self {
        let default = json!({"sockets": {"main": ["importing", "operator"]}});
        let spec = spec.unwrap_or(&default);
        let roles = spec.get("sockets").unwrap_or(&default["sockets"]).as_object().unwrap();
        let mut sockets: Vec<String> = roles.keys().cloned().collect();
        let from = text.find("\"sockets\"").unwrap_or(0);
        sockets.sort_by_key(|name| text[from..].find(&format!("\"{name}\"")));
        let mut config =
            format!("data = \"store\"\n{}\n", spec["settings"].as_str().unwrap_or("log.level = \"warn\"\n"));
        for name in &sockets {
            config += &format!("[[sockets]]\nname = \"{name}\"\npath = \"{name}.sock\"\nroles = {}\n", roles[name]);
        }
        let chain = conformance().join("chain.jsonl").canonicalize().unwrap();
        let mut server = Server::in_folder(&["--config", "accessor.toml", "--anchor", chain.to_str().unwrap()]);
        server.sockets = sockets;
        std::fs::write(server.dir.join("accessor.toml"), config).unwrap();
        server.start();
        server
    }

    /// Not started, in a new folder, whose path is short, as those of sockets must be.
    pub fn in_folder(args: &[&str]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("acc{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir(&dir).unwrap();
        let args = args.iter().map(|arg| arg.to_string()).collect();
        Server { dir, sockets: vec!["main".into()], args, child: None }
    }

    /// The path of a file in its folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The path of a socket.
    pub fn path(&self, socket: &str) -> PathBuf {
        self.dir.join(format!("{socket}.sock"))
    }

    /// Starts it, and waits until it is ready.
    pub fn start(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.dir.join("log")).unwrap();
        let mut command = Command::new(program());
        command.arg("serve").args(&self.args).current_dir(&self.dir);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.ready() {
            let exited = self.child.as_mut().unwrap().try_wait().unwrap();
            if exited.is_some() || Instant::now() > deadline {
                let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
                panic!("the server is not ready ({exited:?}): {log}");
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn ready(&self) -> bool {
        let Ok(mut stream) = UnixStream::connect(self.path(&self.sockets[0])) else { return false };
        let mut answer = String::new();
        let asked = stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        asked.and_then(|()| stream.read_to_string(&mut answer)).is_ok() && answer.starts_with("HTTP/1.1 200")
    }

    /// Sends it a signal, and waits for its end.
    pub fn stop(&mut self, signal: &str) {
        if let Some(mut child) = self.child.take() {
            let pid = child.id().to_string();
            Command::new("kill").args([&format!("-{signal}"), &pid]).status().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop("KILL");
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Says to each connection what it is told, once that has sent a request's head.
pub struct FakeServer;

impl FakeServer {
    /// Listens at once; connection n gets the texts of list n, the last list for later ones.
    pub fn start(path: &Path, answers: &Value) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let answers: Vec<Vec<String>> = serde_json::from_value::<Value>(answers.clone())
            .unwrap()
            .as_array()
            .unwrap()
            .iter()
            .map(|list| list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_string()).collect())
            .collect();
        thread::spawn(move || {
            for (n, stream) in listener.incoming().enumerate() {
                let texts = answers[n.min(answers.len() - 1)].clone();
                let mut stream = stream.unwrap();
                thread::spawn(move || {
                    let mut head = Vec::new();
                    let mut byte = [0];
                    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                        head.push(byte[0]);
                    }
                    for (i, text) in texts.iter().enumerate() {
                        if i > 0 {
                            thread::sleep(Duration::from_millis(20));
                        }
                        if stream.write_all(text.as_bytes()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        FakeServer
    }
}
