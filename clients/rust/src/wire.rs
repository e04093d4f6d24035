//! HTTP/1.1 without I/O: a request's bytes, an answer's head and body. What a server
//! sends is bounded before it is kept.

use std::time::Duration;

use crate::answers::About;
use crate::config::Options;
use crate::{Error, Hash};

/// The most bytes of an answer's head.
const HEAD: usize = 64 << 10;
/// The most bytes of an error's body.
const ERROR_BODY: usize = 1 << 20;
/// A body up to this size is sent together with the head.
pub(crate) const SMALL_BODY: usize = 16 << 10;

pub(crate) const JSON: &str = "application/json";
pub(crate) const BINARY: &str = "application/octet-stream";
pub(crate) const LINES: &str = "application/x-ndjson";
pub(crate) const EVENTS: &str = "text/event-stream";

/// A request.
pub(crate) struct Call {
    pub method: &'static str,
    pub path: String,
    pub accept: &'static str,
    /// The body's media type; empty where there is no body.
    pub content: &'static str,
    pub body: Vec<u8>,
    pub last_event: Option<u64>,
    /// Whether a second one does no harm.
    pub idempotent: bool,
    /// How long the server is asked to wait.
    pub wait: Duration,
    /// Instead of the client's.
    pub timeout: Option<Duration>,
    /// The most bytes of its answer's body, if that is less than the client's.
    pub most: usize,
}

impl Call {
    pub fn new(method: &'static str, path: String) -> Self {
        Call {
            method,
            path,
            accept: JSON,
            content: "",
            body: Vec::new(),
            last_event: None,
            idempotent: true,
            wait: Duration::ZERO,
            timeout: None,
            most: usize::MAX,
        }
    }

    pub fn get(path: String) -> Self {
        Call::new("GET", path)
    }

    pub fn accept(mut self, media: &'static str) -> Self {
        self.accept = media;
        self
    }

    pub fn body(mut self, media: &'static str, body: Vec<u8>) -> Self {
        (self.content, self.body) = (media, body);
        self
    }

    /// The body, if it does not go with the head.
    pub fn large_body(&self) -> &[u8] {
        match self.body.len() <= SMALL_BODY {
            true => &[],
            false => &self.body,
        }
    }
}

/// What a connection has sent and nobody has taken yet.
pub(crate) struct Incoming {
    buf: Vec<u8>,
    start: usize,
    end: usize,
    /// Whether anything has come.
    pub heard: bool,
}

impl Incoming {
    pub fn new() -> Self {
        Incoming { buf: vec![0; HEAD], start: 0, end: 0, heard: false }
    }

    pub fn data(&self) -> &[u8] {
        &self.buf[self.start..self.end]
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn take(&mut self, n: usize) {
        self.start += n;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Where to read to; [`Incoming::filled`] says how much it was.
    pub fn space(&mut self) -> &mut [u8] {
        if self.end == self.buf.len() {
            self.buf.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        &mut self.buf[self.end..]
    }

    pub fn filled(&mut self, n: usize) {
        self.end += n;
        self.heard |= n > 0;
    }

    /// Takes an answer's head; `None` where more of it is to come.
    pub fn head(&mut self) -> Result<Option<Head>, Error> {
        loop {
            let data = self.data();
            let Some(size) = data.windows(4).position(|w| w == b"\r\n\r\n") else {
                return match data.len() < HEAD {
                    true => Ok(None),
                    false => Err(Error::bad_answer("its head has more than 64 KiB")),
                };
            };
            let head = Head::parse(&data[..size])?;
            self.take(size + 4);
            if head.status >= 200 {
                return Ok(Some(head));
            }
        }
    }
}

/// What an answer's head says.
#[derive(Debug)]
pub(crate) struct Head {
    pub status: u16,
    pub about: Option<About>,
    /// Empty where it isn't said.
    pub media: &'static str,
    pub retry_after: Option<u64>,
    pub close: bool,
    pub framing: Framing,
}

/// Where a body ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Framing {
    /// After so many bytes.
    Length(u64),
    /// Chunks: a chunk's size is next,
    Chunk,
    /// so many bytes of a chunk,
    Data(u64),
    /// the line end after it,
    DataEnd,
    /// or, after the last chunk, the trailer.
    Trailer,
}

impl Head {
    fn parse(text: &[u8]) -> Result<Head, Error> {
        let wrong = |what: &str| Error::bad_answer(format!("its head has {what}"));
        let mut lines = text.split(|&c| c == b'\n').map(|l| l.strip_suffix(b"\r").unwrap_or(l));
        let status = match lines.next() {
            Some([b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1', b' ', code @ ..]) => {
                number(code.get(..3).unwrap_or(&[]))
            }
            _ => None,
        };
        let status = status.filter(|n| (100..600).contains(n)).ok_or_else(|| wrong("no status of HTTP/1.1"))?;
        let (mut block, mut slot, mut root, mut length, mut chunked) = (None, None, None, None, false);
        let mut head = Head {
            status: status as u16,
            about: None,
            media: "",
            retry_after: None,
            close: false,
            framing: Framing::Length(0),
        };
        for line in lines {
            let colon = line.iter().position(|&c| c == b':').ok_or_else(|| wrong("a line without a colon"))?;
            let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
            let is = |want: &str| name.eq_ignore_ascii_case(want.as_bytes());
            // Sizes first: most of the others have sizes of their own.
            match name.len() {
                14 if is("Accessor-Block") => {
                    block = Some(Hash::from_hex(value).ok_or_else(|| wrong("no hash as the block"))?)
                }
                13 if is("Accessor-Slot") => {
                    let number = number(value).and_then(|n| u32::try_from(n).ok());
                    slot = Some(number.ok_or_else(|| wrong("no number as the slot"))?);
                }
                13 if is("Accessor-Root") => {
                    root = Some(Hash::from_hex(value).ok_or_else(|| wrong("no hash as the root"))?)
                }
                14 if is("Content-Length") => {
                    let n = number(value).ok_or_else(|| wrong("no number as its length"))?;
                    if length.replace(n).is_some_and(|before| before != n) {
                        return Err(wrong("two lengths"));
                    }
                }
                17 if is("Transfer-Encoding") => {
                    chunked = value.eq_ignore_ascii_case(b"chunked");
                    if !chunked {
                        return Err(wrong("an encoding that is not known"));
                    }
                }
                12 if is("Content-Type") => {
                    let name = value.split(|&c| c == b';').next().unwrap_or(value);
                    head.media = [JSON, BINARY, LINES, EVENTS]
                        .into_iter()
                        .find(|m| trim(name).eq_ignore_ascii_case(m.as_bytes()))
                        .unwrap_or("another form");
                }
                10 if is("Connection") => head.close = value.eq_ignore_ascii_case(b"close"),
                11 if is("Retry-After") => head.retry_after = number(value),
                _ => {}
            }
        }
        head.framing = match (chunked, length) {
            _ if matches!(head.status, 100..=199 | 204 | 304) => Framing::Length(0),
            (true, None) => Framing::Chunk,
            (false, Some(n)) => Framing::Length(n),
            (false, None) => return Err(wrong("neither a length nor chunks")),
            (true, Some(_)) => return Err(wrong("a length, though it comes in chunks")),
        };
        if let (Some(block), Some(slot), Some(root)) = (block, slot, root) {
            head.about = Some(About { block, slot, root });
        }
        Ok(head)
    }

    /// The most bytes that its body may have.
    pub fn limit(&self, options: &Options) -> usize {
        match self.status {
            200..=299 => options.max_answer,
            _ => ERROR_BODY.min(options.max_answer),
        }
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    // parse would take a sign.
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| plain)?.parse().ok()
}

fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

impl Framing {
    /// Moves what has come of a body to `out`, which may have `limit` bytes at most. True
    /// at the body's end.
    pub fn pull(&mut self, from: &mut Incoming, out: &mut Vec<u8>, limit: usize) -> Result<bool, Error> {
        loop {
            let data = from.data();
            match self {
                Framing::Length(0) => return Ok(true),
                Framing::Length(left) | Framing::Data(left) => {
                    if *left > limit.saturating_sub(out.len()) as u64 {
                        return Err(too_large(limit));
                    }
                    let n = (data.len() as u64).min(*left) as usize;
                    out.extend(&data[..n]);
                    *left -= n as u64;
                    from.take(n);
                    match self {
                        Framing::Data(0) => *self = Framing::DataEnd,
                        Framing::Length(0) => {}
                        _ => return Ok(false),
                    }
                }
                Framing::Chunk | Framing::DataEnd | Framing::Trailer => {
                    let Some(n) = data.iter().position(|&c| c == b'\n') else {
                        // A line of that length is no chunk's.
                        return match data.len() < 4096 {
                            true => Ok(false),
                            false => Err(Error::bad_answer("a chunk of it has no size")),
                        };
                    };
                    let line = trim(data[..n].strip_suffix(b"\r").unwrap_or(&data[..n]));
                    match *self {
                        Framing::DataEnd if line.is_empty() => *self = Framing::Chunk,
                        Framing::Trailer if line.is_empty() => *self = Framing::Length(0),
                        Framing::Trailer => {}
                        Framing::Chunk => *self = chunk(line)?,
                        _ => return Err(Error::bad_answer("a chunk of it doesn't end where it should")),
                    }
                    from.take(n + 1);
                }
            }
        }
    }
}

fn chunk(line: &[u8]) -> Result<Framing, Error> {
    let size = trim(line.split(|&c| c == b';').next().unwrap_or(line));
    let plain = !size.is_empty() && size.iter().all(u8::is_ascii_hexdigit);
    let size = std::str::from_utf8(size).ok().filter(|_| plain);
    match size.and_then(|text| u64::from_str_radix(text, 16).ok()) {
        Some(0) => Ok(Framing::Trailer),
        Some(n) => Ok(Framing::Data(n)),
        None => Err(Error::bad_answer("a chunk of it has no size")),
    }
}

fn too_large(limit: usize) -> Error {
    Error::bad_answer(format!("its body has more than {limit} bytes"))
}

/// An answer that is wholly there.
pub(crate) struct Answer {
    pub head: Head,
    pub body: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    /// Feeds an answer in pieces of so many bytes.
    fn parse(text: &[u8], step: usize, limit: usize) -> Result<(u16, Vec<u8>), Error> {
        let mut incoming = Incoming::new();
        let mut head: Option<Head> = None;
        let mut out = Vec::new();
        for piece in text.chunks(step) {
            incoming.space()[..piece.len()].copy_from_slice(piece);
            incoming.filled(piece.len());
            if head.is_none() {
                head = incoming.head()?;
            }
            if let Some(h) = &mut head {
                if h.framing.pull(&mut incoming, &mut out, limit)? {
                    return Ok((h.status, out));
                }
            }
        }
        Err(Error::bad_answer("cut short"))
    }

    #[test]
    fn answers_in_pieces() {
        let length =
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\nConnection: Close\r\n\r\nhello";
        let chunks =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=1\r\nhel\r\n2\r\nlo\r\n0\r\nA: b\r\n\r\n";
        for text in [&length[..], &chunks[..]] {
            for step in 1..text.len() {
                let (status, body) = parse(text, step, 5).unwrap();
                assert_eq!((status, &body[..]), (200, &b"hello"[..]), "step {step}");
            }
            assert_eq!(parse(text, 7, 4).unwrap_err().kind, Kind::BadAnswer);
            for cut in 1..text.len() {
                assert_eq!(parse(&text[..cut], 9, 5).unwrap_err().detail, "cut short", "cut at {cut}");
            }
        }
    }

    #[test]
    fn media_of_any_case() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Type: Application/JSON ; charset=utf-8\r\nContent-Length: 0";
        assert_eq!(Head::parse(text).unwrap().media, JSON);
    }

    #[test]
    fn hostile_heads() {
        let long = format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "x".repeat(HEAD));
        for text in [
            "HTTP/1.0 200 OK\r\n\r\n",
            "HTTP/1.1 2000 OK\r\nno colon\r\n\r\n",
            "HTTP/1.1 +20 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\nwho says that this is all?",
            "HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nContent-Length:\r\n 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+5\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffff\r\nx",
            "HTTP/1.1 200 OK\r\nAccessor-Block: 00\r\n\r\n",
            &long,
        ] {
            let error = parse(text.as_bytes(), 4096, 1000).unwrap_err();
            assert!(error.kind == Kind::BadAnswer && error.detail != "cut short", "{text:.80}: {error}");
        }
    }
}
