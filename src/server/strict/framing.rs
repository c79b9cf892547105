//! Where one HTTP/1 message ends and the next begins.

use super::chunk::{ChunkFollower, Followed};
use super::head::{BodyFraming, HeadLimits, HeadParser};
use super::refusal::Refusal;

/// What to do with the bytes of one call of [`Framing::scan`].
#[derive(Debug, PartialEq, Eq)]
pub(in crate::server) struct Scan {
    /// How many from the front are fine.
    pub(in crate::server) pass: usize,
    /// What the rest is.
    pub(in crate::server) then: Then,
}

/// What follows the bytes that are fine.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::server) enum Then {
    /// Nothing: all are fine.
    All,
    /// A head that is not complete; keep it and call again with these bytes and more.
    Hold,
    /// A head that must not be served.
    Refuse(Refusal),
    /// A body that is malformed.
    Broken,
}

#[derive(Debug)]
enum State {
    Head(HeadParser),
    Length(u64),
    Chunked(ChunkFollower),
}

/// Follows the bytes of one connection.
#[derive(Debug)]
pub(in crate::server) struct Framing {
    limits: HeadLimits,
    state: State,
    heads: u64,
}

impl Framing {
    /// At the start of a connection.
    pub(in crate::server) fn new(limits: HeadLimits) -> Self {
        Self { limits, state: State::Head(HeadParser::default()), heads: 0 }
    }

    /// Heads that passed so far; a refused one is not among them.
    pub(in crate::server) fn heads(&self) -> u64 {
        self.heads
    }

    /// Whether the next byte is one of a head.
    pub(in crate::server) fn at_head(&self) -> bool {
        matches!(self.state, State::Head(_))
    }

    /// Reads on. After `Hold`, `bytes` must start with what was held. After `Refuse` or `Broken` the connection has
    /// no more requests, and this must not be called again.
    pub(in crate::server) fn scan(&mut self, bytes: &[u8]) -> Scan {
        let mut pass = 0;
        loop {
            let rest = bytes.get(pass..).unwrap_or_default();
            if rest.is_empty() {
                return Scan { pass, then: Then::All };
            }
            self.state = match &mut self.state {
                State::Head(parser) => match parser.feed(rest, &self.limits) {
                    Ok(None) => return Scan { pass, then: Then::Hold },
                    Err(refusal) => return Scan { pass, then: Then::Refuse(refusal) },
                    Ok(Some(head)) => {
                        self.heads += 1;
                        pass += head.len;
                        match head.body {
                            BodyFraming::Length(0) => State::Head(HeadParser::default()),
                            BodyFraming::Length(left) => State::Length(left),
                            BodyFraming::Chunked => State::Chunked(ChunkFollower::default()),
                        }
                    }
                },
                State::Length(left) => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    pass += here;
                    match *left - here as u64 {
                        0 => State::Head(HeadParser::default()),
                        left => State::Length(left),
                    }
                }
                State::Chunked(follower) => match follower.follow(rest) {
                    Followed::More => return Scan { pass: bytes.len(), then: Then::All },
                    Followed::Broken(at) => return Scan { pass: pass + at, then: Then::Broken },
                    Followed::Done(len) => {
                        pass += len;
                        State::Head(HeadParser::default())
                    }
                },
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipelined_requests_are_followed_to_the_head_that_is_bad() {
        let mut framing = Framing::new(HeadLimits { head_bytes: 100, headers: 9, uri_bytes: 50 });
        let good = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi\
                    POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
        let bytes = format!("{good}GET / HTTP/1.1\r\n\r\n");
        let scan = framing.scan(bytes.as_bytes());
        assert_eq!(scan, Scan { pass: good.len(), then: Then::Refuse(Refusal::MissingHost) });
        assert_eq!(framing.heads(), 2);
    }
}
