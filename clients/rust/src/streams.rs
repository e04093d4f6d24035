//! Streams of imports and events, written once: see client.rs.

macro_rules! streams {
    ($($async:tt)?) => {
        /// The results of blocks that are imported one after the other. See
        /// [`Client::import_many`].
        ///
        /// A call for the next one that is given up, as a future may be, ends it: then
        /// nobody knows what became of that block.
        pub struct ImportMany<I> {
            client: Client,
            blocks: I,
            stream: Option<(Conn, Option<Framing>, Vec<u8>)>,
            lines: u64,
            /// The server answered a line before it had read all of it.
            broken: bool,
            /// A block was taken, and its result not given.
            owing: bool,
            over: bool,
        }

        impl<I> std::fmt::Debug for ImportMany<I> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct("ImportMany").field("client", &self.client).field("lines", &self.lines).finish_non_exhaustive()
            }
        }

        impl<I: Iterator<Item = NewBlock>> ImportMany<I> {
            $($async)? fn step(&mut self) -> Option<Result<Imported>> {
                if self.over {
                    return None;
                }
                if self.owing {
                    self.over = true;
                    return Some(Err(Error::new(Kind::Connection, "the call for the result before was given up")));
                }
                let Some(block) = self.blocks.next() else {
                    self.over = true;
                    return wait!(self.finish()).err().map(Err);
                };
                self.lines += 1;
                self.owing = true;
                let line = wait!(self.line(&block));
                self.owing = false;
                let line = match line {
                    Ok(line) => line,
                    Err(error) => {
                        self.over = true;
                        return Some(Err(error));
                    }
                };
                let result = calls::import_line(&line, self.lines, block.hash);
                self.over = result.as_ref().err().is_some_and(|error| error.kind == Kind::BadAnswer);
                Some(result)
            }

            /// Sends a block, and takes the line that answers it.
            $($async)? fn line(&mut self, block: &NewBlock) -> Result<Vec<u8>> {
                let config = &self.client.shared.config;
                let call = calls::import_many();
                let deadline = config.deadline(&call);
                let mut bytes = Vec::new();
                if self.stream.is_none() {
                    bytes = config.request(&call, true)?;
                    let conn = wait!(Conn::open(config, deadline))?;
                    self.stream = Some((conn, None, Vec::new()));
                }
                let Some((conn, framing, text)) = &mut self.stream else {
                    return Err(Error::bad_answer("no stream"));
                };
                let line = block.to_json().to_string();
                bytes.extend(format!("{:x}\r\n{line}\n\r\n", line.len() + 1).bytes());
                if let Some(framing) = framing {
                    if *framing == Framing::Length(0) {
                        return wait!(take_line(conn, framing, text, deadline));
                    }
                    if self.broken {
                        return Err(Error::new(Kind::Connection, "the stream ended before its time"));
                    }
                    let sent = wait!(conn.stream.send(&bytes, &mut conn.incoming, deadline));
                    self.broken = !matches!(sent, Ok(true));
                    return match (wait!(take_line(conn, framing, text, deadline)), sent) {
                        (Err(end), Err(error)) if end.kind == Kind::Connection => Err(Error::io("send", error)),
                        (line, _) => line,
                    };
                }
                let (head, whole) = wait!(conn.ask(&bytes, &[], deadline))?;
                self.broken = !whole;
                if head.status != 200 || head.media != crate::wire::LINES {
                    let body = wait!(conn.body(&head, head.limit(&config.options), deadline))?;
                    return Err(Answer { head, body }.refused());
                }
                wait!(take_line(conn, framing.insert(head.framing), text, deadline))
            }

            /// Ends the request.
            $($async)? fn finish(&mut self) -> Result<()> {
                let Some((mut conn, Some(mut framing), mut text)) = self.stream.take().filter(|_| !self.broken) else {
                    return Ok(());
                };
                let deadline = self.client.shared.config.deadline(&calls::import_many());
                let sent = wait!(conn.stream.send(b"0\r\n\r\n", &mut conn.incoming, deadline));
                while !framing.pull(&mut conn.incoming, &mut text, LINE)? {
                    if !wait!(conn.fill(deadline))? {
                        return Err(cut_short());
                    }
                }
                if !text.is_empty() || !conn.incoming.is_empty() {
                    return Err(Error::bad_answer("more lines than blocks"));
                }
                self.client.keep(conn, matches!(sent, Ok(true)));
                Ok(())
            }
        }

        /// The most bytes of an answer's line.
        const LINE: usize = 1 << 20;

        $($async)? fn take_line(conn: &mut Conn, framing: &mut Framing, text: &mut Vec<u8>, deadline: Option<Instant>) -> Result<Vec<u8>> {
            // What came early is there already.
            let mut searched = 0;
            loop {
                let end = framing.pull(&mut conn.incoming, text, LINE)?;
                if let Some(n) = text[searched..].iter().position(|&c| c == b'\n') {
                    return Ok(text.drain(..=searched + n).collect());
                }
                searched = text.len();
                if end {
                    return Err(Error::bad_answer("fewer lines than blocks"));
                }
                if !wait!(conn.fill(deadline))? {
                    return Err(Error::new(Kind::Connection, "the stream ended before its time"));
                }
            }
        }

        /// What happens to the store. Connections that break off are made again, after the
        /// last position that is known; only the server's refusal ends it.
        pub struct Events {
            client: Client,
            options: EventOptions,
            parser: EventParser,
            /// The connection, and once its answer has begun how that goes on. It is kept
            /// where a call for the next event is over before that.
            stream: Option<(Conn, Option<Framing>)>,
            /// When the connection was made, or has said something.
            heard: Instant,
            again: Option<Instant>,
            over: bool,
        }

        impl std::fmt::Debug for Events {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct("Events").field("client", &self.client).field("position", &self.position()).finish_non_exhaustive()
            }
        }

        /// The server says something every 15 s.
        const SILENCE: Duration = Duration::from_secs(45);
        /// How long something may take that is there already.
        const GLANCE: Duration = Duration::from_millis(20);

        impl Events {
            /// The position after which it would go on.
            pub fn position(&self) -> Option<u64> {
                self.parser.last.or(self.options.after)
            }

            /// The next event, if it comes in time. [`Kind::Deadline`] doesn't end it, nor
            /// does it lose anything.
            pub $($async)? fn next_within(&mut self, time: Duration) -> Result<Event> {
                let deadline = Instant::now().checked_add(time);
                wait!(self.step(deadline)).unwrap_or_else(|| Err(Error::new(Kind::Connection, "it has ended")))
            }

            $($async)? fn step(&mut self, deadline: Option<Instant>) -> Option<Result<Event>> {
                if self.over {
                    return None;
                }
                let next = wait!(self.wait(deadline));
                // Of the errors of connections only the caller's deadline gets here.
                self.over = next.as_ref().err().is_some_and(|error| error.status != 0 || error.kind != Kind::Deadline);
                Some(next)
            }

            $($async)? fn wait(&mut self, deadline: Option<Instant>) -> Result<Event> {
                let late = |now: Instant| deadline.is_some_and(|deadline| now >= deadline);
                loop {
                    if let Some(event) = self.parser.next()? {
                        return Ok(event);
                    }
                    let now = Instant::now();
                    if late(now) {
                        return Err(Error::deadline());
                    }
                    let silence = match (&self.stream, self.again) {
                        (None, Some(again)) if again > now => {
                            wait!(sleep(deadline.map_or(again, |deadline| again.min(deadline)) - now));
                            continue;
                        }
                        (None, _) => now + SILENCE,
                        // What has come while the caller was away is taken first.
                        (Some(_), _) => (self.heard + SILENCE).max(now + GLANCE),
                    };
                    if let Err(error) = wait!(self.more(Some(deadline.map_or(silence, |deadline| deadline.min(silence))))) {
                        if error.kind != Kind::Deadline || !late(Instant::now()) || self.heard.elapsed() >= SILENCE {
                            self.later(error)?;
                        }
                    }
                }
            }

            /// Lets the connection go, and makes another one after a while, unless the error
            /// is the end.
            fn later(&mut self, error: Error) -> Result<()> {
                let broken = error.status == 0 && matches!(error.kind, Kind::Connection | Kind::Deadline);
                if !broken && error.status != 429 && error.status < 500 {
                    return Err(error);
                }
                self.stream = None;
                self.parser.reset();
                let time = self.parser.retry.max(error.retry_after.unwrap_or_default());
                self.again = Instant::now().checked_add(time.min(Duration::from_secs(60)));
                Ok(())
            }

            /// Connects, and waits until the stream is there.
            $($async)? fn connect(&mut self, deadline: Option<Instant>) -> Result<()> {
                while !matches!(self.stream, Some((_, Some(_)))) {
                    wait!(self.more(deadline))?;
                }
                Ok(())
            }

            /// Makes a connection if there is none, or takes more of what it says.
            $($async)? fn more(&mut self, deadline: Option<Instant>) -> Result<()> {
                let config = &self.client.shared.config;
                if self.stream.is_none() {
                    let bytes = config.request(&calls::events(&self.options, self.parser.last), false)?;
                    let mut conn = wait!(Conn::open(config, deadline))?;
                    let sent = wait!(conn.stream.send(&bytes, &mut conn.incoming, deadline));
                    sent.map_err(|error| Error::io("send", error))?;
                    self.heard = Instant::now();
                    self.stream = Some((conn, None));
                }
                let Some((conn, framing)) = &mut self.stream else {
                    return Ok(());
                };
                if let Some(framing) = framing {
                    let before = self.parser.text.len();
                    let over = framing.pull(&mut conn.incoming, &mut self.parser.text, usize::MAX)?;
                    match self.parser.text.len() > before {
                        true => return Ok(()),
                        false if over => return Err(cut_short()),
                        false => {}
                    }
                } else if let Some(head) = conn.incoming.head()? {
                    if head.status == 200 && head.media == crate::wire::EVENTS {
                        *framing = Some(head.framing);
                        return Ok(());
                    }
                    // Taken: half of a body is no head.
                    let Some((mut conn, _)) = self.stream.take() else {
                        return Ok(());
                    };
                    let body = wait!(conn.body(&head, head.limit(&config.options), deadline))?;
                    return Err(Answer { head, body }.refused());
                }
                if !wait!(conn.fill(deadline))? {
                    return Err(cut_short());
                }
                self.heard = Instant::now();
                Ok(())
            }
        }
    };
}
pub(crate) use streams;
