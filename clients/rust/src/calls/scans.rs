//! Scans, page by page.

use super::*;

/// What a scan gives: all, unless told otherwise.
#[derive(Debug, Clone)]
pub struct ScanOptions {
    /// Only keys that begin with it.
    pub prefix: Vec<u8>,
    /// Where the walk begins, included.
    pub from: Option<Vec<u8>>,
    /// Where it ends, excluded.
    pub to: Option<Vec<u8>>,
    /// Whether it goes down.
    pub reverse: bool,
    /// The most pairs in all.
    pub limit: Option<u64>,
    /// Pairs of a page; default 1,000, at most 10,000. A verified scan takes 512 bytes for each,
    /// with its part of the proof.
    pub page: usize,
}

impl Default for ScanOptions {
    fn default() -> Self {
        ScanOptions { prefix: Vec::new(), from: None, to: None, reverse: false, limit: None, page: 1000 }
    }
}

impl ScanOptions {
    /// All keys that begin with a prefix.
    pub fn prefix(prefix: impl Into<Vec<u8>>) -> Self {
        ScanOptions { prefix: prefix.into(), ..ScanOptions::default() }
    }
}

pub(crate) type Pair = (Vec<u8>, Option<Vec<u8>>);

/// A page of a scan, and where the next one begins.
pub(crate) fn scan<'a>(
    id: &str,
    options: &'a ScanOptions,
    values: bool,
) -> Op<impl Read<(Vec<Pair>, Option<Vec<u8>>)> + 'a> {
    let page = options.limit.unwrap_or(u64::MAX).min(options.page.clamp(1, MANY) as u64);
    let mut path = at(id, &format!("/state?limit={page}"));
    let prefix = Some(&options.prefix).filter(|prefix| !prefix.is_empty());
    for (name, bound) in [("prefix", prefix), ("from", options.from.as_ref()), ("to", options.to.as_ref())] {
        if let Some(bytes) = bound {
            path.push_str(&format!("&{name}={}", hex(bytes)));
        }
    }
    if options.reverse {
        path.push_str("&reverse=true");
    }
    if !values {
        path.push_str("&values=false");
    }
    op(Call::get(path), move |answer: Answer| {
        let value = answer.value()?;
        let pairs: Vec<Pair> = read(&value["pairs"])?;
        let next: Option<Vec<u8>> = read(&value["next"])?;
        check_page(&pairs, next.as_deref(), options, values)?;
        Ok((pairs, next))
    })
}

/// A walk that goes back or stands still would never end.
fn check_page(pairs: &[Pair], next: Option<&[u8]>, options: &ScanOptions, values: bool) -> Result<(), Error> {
    let after = |a: &[u8], b: &[u8]| if options.reverse { a > b } else { a < b };
    let keys: Vec<&[u8]> = pairs.iter().map(|(key, _)| key.as_slice()).chain(next).collect();
    let inside = |key: &[u8]| {
        key.starts_with(&options.prefix)
            && options.from.as_deref().map_or(true, |from| key == from || after(from, key))
            && options.to.as_deref().map_or(true, |to| after(key, to))
    };
    let ordered = keys.windows(2).all(|two| after(two[0], two[1])) && !(pairs.is_empty() && next.is_some());
    let whole = pairs.iter().all(|(key, value)| inside(key) && value.is_some() == values);
    match ordered && whole && (pairs.len() as u64) <= options.limit.unwrap_or(u64::MAX) {
        true => Ok(()),
        false => Err(Error::bad_answer("its pairs are not those of the range, in order")),
    }
}
