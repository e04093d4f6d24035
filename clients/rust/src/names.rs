use std::fmt;
use std::str::FromStr;

use crate::{Error, Kind};

/// 32 bytes: a block's header hash, or a state's root. Shown and parsed as hex.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        Hash::from_hex(digits.as_bytes()).ok_or_else(|| Error::new(Kind::BadBlockId, "not 32 bytes in hex"))
    }
}

impl Hash {
    pub(crate) fn from_hex(digits: &[u8]) -> Option<Hash> {
        if digits.len() != 64 {
            return None;
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Hash(hash))
    }
}

/// A key of the state: bytes, or a text that the server understands, which is hex
/// (with or without `0x`) or the name of a JAM state item such as `slot` or `account:7`.
///
/// Made by `into()` of `[u8; 31]`, `&[u8]`, `Vec<u8>`, `&str` or `String`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// The key itself.
    Bytes(Vec<u8>),
    /// Its name.
    Text(String),
}

impl Key {
    /// The key as a part of a path.
    pub(crate) fn path(&self) -> Result<String, Error> {
        match self {
            Key::Bytes(bytes) if !bytes.is_empty() => Ok(hex(bytes)),
            Key::Text(text) if !text.is_empty() => Ok(escape(text)),
            _ => Err(Error::new(Kind::BadKey, "the empty key")),
        }
    }

    /// The key as JSON has it.
    pub(crate) fn text(&self) -> String {
        match self {
            Key::Bytes(bytes) => hex(bytes),
            Key::Text(text) => text.clone(),
        }
    }
}

impl From<Vec<u8>> for Key {
    fn from(bytes: Vec<u8>) -> Self {
        Key::Bytes(bytes)
    }
}

impl From<&Vec<u8>> for Key {
    fn from(bytes: &Vec<u8>) -> Self {
        Key::Bytes(bytes.clone())
    }
}

impl From<&[u8]> for Key {
    fn from(bytes: &[u8]) -> Self {
        Key::Bytes(bytes.to_vec())
    }
}

impl<const N: usize> From<[u8; N]> for Key {
    fn from(bytes: [u8; N]) -> Self {
        Key::Bytes(bytes.to_vec())
    }
}

impl<const N: usize> From<&[u8; N]> for Key {
    fn from(bytes: &[u8; N]) -> Self {
        Key::Bytes(bytes.to_vec())
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Key::Text(text.to_string())
    }
}

impl From<String> for Key {
    fn from(text: String) -> Self {
        Key::Text(text)
    }
}

impl From<&Key> for Key {
    fn from(key: &Key) -> Self {
        key.clone()
    }
}

/// Bytes as lowercase hex.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = Vec::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(b"0123456789abcdef"[usize::from(byte >> 4)]);
        text.push(b"0123456789abcdef"[usize::from(byte & 15)]);
    }
    String::from_utf8(text).unwrap_or_default()
}

/// The bytes of a text in hex, without `0x`; `None` for any other text.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if digits.len() % 2 != 0 {
        return None;
    }
    let byte = |pair: &[u8]| Some(digit(pair[0])? << 4 | digit(pair[1])?);
    digits.chunks_exact(2).map(byte).collect()
}

fn digit(c: u8) -> Option<u8> {
    match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        b'A'..=b'F' => Some(c - b'A' + 10),
        _ => None,
    }
}

/// Percent-encodes what has a meaning in a path or a query, or none at all there.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// A block's name as a part of a path. Dots alone would be a step in the path.
pub(crate) fn block_path(name: &str) -> Result<String, Error> {
    if name.bytes().all(|c| c == b'.') {
        return Err(Error::new(Kind::BadBlockId, format!("{name:?} names no block")));
    }
    Ok(escape(name))
}
