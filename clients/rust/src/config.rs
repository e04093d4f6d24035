//! Where a client goes, and how.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::wire::{Call, SMALL_BODY};
use crate::{Error, Kind};

type Signer = dyn Fn() -> Result<String, String> + Send + Sync;

/// Makes the bearer token of each request over TCP (docs/SERVE.md).
#[derive(Clone)]
pub struct Token(Arc<Signer>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// Asks a function for each token; its error ends the request.
    pub fn from_fn(f: impl Fn() -> Result<String, String> + Send + Sync + 'static) -> Self {
        Token(Arc::new(f))
    }

    fn make(&self) -> Result<String, Error> {
        let token = (self.0)().map_err(|text| Error::new(Kind::Unauthenticated, text))?;
        if token.bytes().any(|c| !c.is_ascii_graphic()) {
            return Err(Error::new(Kind::Unauthenticated, "a token of other than ASCII letters"));
        }
        Ok(token)
    }
}

/// What a client may be told. `Options::default()` has the defaults.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long a call may take, beside what it asks the server to wait; default 60 s. The
    /// blocking client can't bound two things by it: the search for a host's address, and
    /// a Unix socket whose queue of connections is full.
    pub timeout: Option<Duration>,
    /// The most bytes of an answer's body; default 256 MiB.
    pub max_answer: usize,
    /// The most connections that are kept for later calls; default 8.
    pub idle: usize,
    /// Over TCP.
    pub token: Option<Token>,
}

impl Default for Options {
    fn default() -> Self {
        Options { timeout: Some(Duration::from_secs(60)), max_answer: 256 << 20, idle: 8, token: None }
    }
}

#[derive(Debug)]
pub(crate) enum Address {
    Unix(PathBuf),
    /// Host and port, as they are in the header Host.
    Tcp(String),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => path.display().fmt(f),
            Address::Tcp(host) => host.fmt(f),
        }
    }
}

impl Address {
    pub fn parse(text: &str) -> Result<Address, Error> {
        let wrong = |why| Err(Error::new(Kind::Connection, format!("address {text:?}: {why}")));
        if let Some(path) = text.strip_prefix("unix://") {
            return match path {
                "" => wrong("no path after unix://"),
                path => Ok(Address::Unix(path.into())),
            };
        }
        if text.starts_with("https://") {
            return wrong("https:// is not supported: let TLS end elsewhere, and use http://");
        }
        if let Some(host) = text.strip_prefix("http://") {
            let host = host.strip_suffix('/').unwrap_or(host);
            let plain = |c: u8| c.is_ascii_alphanumeric() || b".-_:[]".contains(&c);
            let port = host.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
            return match port {
                Some(Ok(_)) if host.bytes().all(plain) => Ok(Address::Tcp(host.to_string())),
                _ => wrong("http://HOST:PORT is wanted"),
            };
        }
        if text.contains("://") || !(text.contains('/') || text.ends_with(".sock")) {
            return wrong("unix:///PATH, a path, or http://HOST:PORT is wanted");
        }
        Ok(Address::Unix(text.into()))
    }
}

/// Where a client goes, and how.
pub(crate) struct Config {
    pub address: Address,
    pub options: Options,
}

impl Config {
    pub fn new(address: &str, options: Options) -> Result<Self, Error> {
        Ok(Config { address: Address::parse(address)?, options })
    }

    /// When a call that begins now must be over.
    pub fn deadline(&self, call: &Call) -> Option<Instant> {
        let timeout = call.timeout.or(self.options.timeout)?;
        Instant::now().checked_add(timeout)?.checked_add(call.wait)
    }

    /// The bytes of a request: the head, and the body with it if that is small.
    pub fn request(&self, call: &Call, stream: bool) -> Result<Vec<u8>, Error> {
        let host = match &self.address {
            Address::Unix(_) => "localhost",
            Address::Tcp(host) => host,
        };
        let mut head = String::with_capacity(512);
        for part in [call.method, " ", &call.path, " HTTP/1.1\r\nHost: ", host] {
            head.push_str(part);
        }
        if let Some(token) = &self.options.token {
            head.push_str("\r\nAuthorization: Bearer ");
            head.push_str(&token.make()?);
        }
        head.push_str("\r\nAccept: ");
        head.push_str(call.accept);
        if let Some(id) = call.last_event {
            head.push_str(&format!("\r\nLast-Event-ID: {id}"));
        }
        if !call.content.is_empty() {
            head.push_str("\r\nContent-Type: ");
            head.push_str(call.content);
            match stream {
                true => head.push_str("\r\nTransfer-Encoding: chunked"),
                false => head.push_str(&format!("\r\nContent-Length: {}", call.body.len())),
            }
        }
        head.push_str("\r\n\r\n");
        let mut bytes = head.into_bytes();
        if call.body.len() <= SMALL_BODY {
            bytes.extend(&call.body);
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, good) in [
            ("unix:///run/a.sock", true),
            ("/run/a.sock", true),
            ("a.sock", true),
            ("./a", true),
            ("http://127.0.0.1:80", true),
            ("http://[::1]:80/", true),
            ("https://a:1", false),
            ("http://a", false),
            ("http://a:1/b", false),
            ("http://a\r\nX:1", false),
            ("unix://", false),
            ("a", false),
            ("", false),
            ("ftp://a/b", false),
        ] {
            assert_eq!(Address::parse(text).is_ok(), good, "{text}");
        }
    }
}
