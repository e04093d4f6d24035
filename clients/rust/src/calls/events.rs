//! Server-sent events.

use super::*;

/// Which events to follow, and from where on.
#[derive(Debug, Clone, Default)]
pub struct EventOptions {
    /// Only those; empty for all. Gaps come always.
    pub kinds: Vec<EventKind>,
    /// Those after that position (1: with the oldest that is kept); `None` for those that
    /// happen from now on.
    pub after: Option<u64>,
}

pub(crate) fn events(options: &EventOptions, last: Option<u64>) -> Call {
    let mut query = Vec::new();
    if !options.kinds.is_empty() {
        let kinds: Vec<String> = options.kinds.iter().map(|kind| escape(kind.as_str())).collect();
        query.push(format!("kinds={}", kinds.join(",")));
    }
    if let (Some(after), None) = (options.after, last) {
        query.push(format!("after={after}"));
    }
    let mut call = Call::get(format!("/v1/events?{}", query.join("&"))).accept(EVENTS);
    call.last_event = last;
    call
}

/// The most bytes of an event.
const EVENT: usize = 1 << 20;

/// Reads server-sent events.
pub(crate) struct EventParser {
    /// What has come and is not read yet.
    pub text: Vec<u8>,
    /// How far `text` has been read,
    read: usize,
    /// and how far it was searched for a line's end.
    searched: usize,
    data: String,
    id: Option<u64>,
    /// The last id, also one without data.
    pub last: Option<u64>,
    /// How long to wait before connecting again.
    pub retry: Duration,
}

impl EventParser {
    pub fn new() -> Self {
        EventParser {
            text: Vec::new(),
            read: 0,
            searched: 0,
            data: String::new(),
            id: None,
            last: None,
            retry: Duration::from_secs(2),
        }
    }

    /// Forgets what a connection that broke off left behind.
    pub fn reset(&mut self) {
        self.text.clear();
        self.data.clear();
        (self.read, self.searched, self.id) = (0, 0, None);
    }

    /// The next event that has come as a whole.
    pub fn next(&mut self) -> Result<Option<Event>, Error> {
        while let Some(n) = self.text[self.searched..].iter().position(|&c| c == b'\n') {
            let end = self.searched + n;
            let line = String::from_utf8_lossy(&self.text[self.read..end]).into_owned();
            (self.read, self.searched) = (end + 1, end + 1);
            if let Some(event) = self.line(line.trim_end_matches('\r'))? {
                return Ok(Some(event));
            }
        }
        self.text.drain(..self.read);
        (self.read, self.searched) = (0, self.text.len());
        match self.text.len() + self.data.len() > EVENT {
            true => Err(Error::bad_answer("an event of more than 1 MiB")),
            false => Ok(None),
        }
    }

    fn line(&mut self, line: &str) -> Result<Option<Event>, Error> {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "" if line.is_empty() => {
                self.last = self.id.take().or(self.last);
                let data = std::mem::take(&mut self.data);
                if !data.is_empty() {
                    let value: Value =
                        serde_json::from_str(&data).map_err(|error| Error::bad_answer(format!("an event: {error}")))?;
                    return read(&value).map(Some);
                }
            }
            "data" => self.data.push_str(value),
            "id" => self.id = value.parse().ok(),
            "retry" => {
                // Neither a busy loop nor for ever.
                let retry = value.parse().unwrap_or(2000);
                self.retry = Duration::from_millis(retry).clamp(Duration::from_millis(10), Duration::from_secs(60));
            }
            _ => {}
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    /// What has come is searched once, however small its pieces are.
    #[test]
    fn a_long_event_byte_by_byte() {
        let mut parser = EventParser::new();
        let text =
            format!("id: 7\ndata: {{\"kind\":\"block\",\"position\":7,\"x\":\"{}\"}}\n\n", "x".repeat(EVENT / 2));
        let begun = Instant::now();
        let mut events = Vec::new();
        for byte in text.bytes() {
            parser.text.push(byte);
            events.extend(parser.next().unwrap());
        }
        assert_eq!((events.len(), events[0].position, parser.last), (1, 7, Some(7)));
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }
}
