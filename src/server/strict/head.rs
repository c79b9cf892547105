//! One HTTP/1 request head, checked line by line as its bytes come in.
//!
//! The rules are those of RFC 9112 and RFC 9110 without the leniencies that they allow a server. One is kept: a
//! single empty line before the request line, which old clients send after a body (RFC 9112, 2.2).

use std::ops::Range;

use memchr::memchr;

use super::refusal::Refusal;

/// The longest method name that is read.
const METHOD_BYTES: usize = 32;
/// What a request line has besides its target, at most: method, two spaces, version.
const LINE_OVERHEAD: usize = METHOD_BYTES + " HTTP/1.1 ".len();

/// Sizes of one head.
#[derive(Clone, Copy, Debug)]
pub(in crate::server) struct HeadLimits {
    /// Request line and fields with their line ends.
    pub(in crate::server) head_bytes: usize,
    /// Number of fields.
    pub(in crate::server) headers: usize,
    /// Bytes of the request target.
    pub(in crate::server) uri_bytes: usize,
}

/// How the body that follows a head is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyFraming {
    /// By `Content-Length`; 0 when there is no body.
    Length(u64),
    /// By chunks.
    Chunked,
}

/// A head that passed all checks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CompleteHead {
    /// Bytes of the head, the final empty line included.
    pub(super) len: usize,
    /// What follows.
    pub(super) body: BodyFraming,
}

/// Checks one head. All positions count from the first byte of the head.
#[derive(Debug, Default)]
pub(super) struct HeadParser {
    /// Bytes that have been searched for a line end.
    scanned: usize,
    /// Where the line that is being received starts.
    line_start: usize,
    empty_line_skipped: bool,
    has_request_line: bool,
    facts: Facts,
}

#[derive(Debug, Default)]
struct Facts {
    http10: bool,
    headers: usize,
    authority: Option<Range<usize>>,
    host: Option<Range<usize>>,
    length: Option<u64>,
    chunked: bool,
}

impl HeadParser {
    /// Reads on in `bytes`, which must start with the first byte of the head and may reach past its end.
    ///
    /// `None` means that more bytes are needed; the next call gets the same bytes and more.
    pub(super) fn feed(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<Option<CompleteHead>, Refusal> {
        loop {
            let unread = bytes.get(self.scanned..).unwrap_or_default();
            let Some(at) = memchr(b'\n', unread) else {
                self.scanned = bytes.len();
                self.check_incomplete(bytes, limits)?;
                return Ok(None);
            };
            let end = self.scanned + at;
            let start = self.line_start;
            let line = bytes.get(start..end).unwrap_or_default();
            self.scanned = end + 1;
            self.line_start = end + 1;
            let line = line.strip_suffix(b"\r").ok_or(Refusal::BareLineFeed)?;
            if !self.has_request_line && line.len() > limits.uri_bytes + LINE_OVERHEAD {
                return Err(Refusal::UriTooLong);
            }
            if self.line_start > limits.head_bytes {
                return Err(Refusal::HeadTooLarge);
            }
            if !line.is_empty() {
                self.line(line, start, limits)?;
            } else if self.has_request_line {
                return self.finish(bytes).map(Some);
            } else if std::mem::replace(&mut self.empty_line_skipped, true) {
                return Err(Refusal::RequestLine);
            }
        }
    }

    /// What can be said before a line is complete, so that a flood without line ends is not waited for.
    fn check_incomplete(&self, bytes: &[u8], limits: &HeadLimits) -> Result<(), Refusal> {
        let line = bytes.get(self.line_start..).unwrap_or_default();
        if !self.has_request_line {
            if line.first().is_some_and(|&first| first != b'\r' && !is_token_byte(first)) {
                return Err(Refusal::RequestLine);
            }
            if line.len() > limits.uri_bytes + LINE_OVERHEAD + 1 {
                return Err(Refusal::UriTooLong);
            }
        }
        if bytes.len() > limits.head_bytes { Err(Refusal::HeadTooLarge) } else { Ok(()) }
    }

    fn line(&mut self, line: &[u8], start: usize, limits: &HeadLimits) -> Result<(), Refusal> {
        if self.has_request_line {
            return self.facts.field_line(line, start, limits);
        }
        self.has_request_line = true;
        self.facts.request_line(line, start, limits)
    }

    /// The checks that need the whole head.
    fn finish(&self, bytes: &[u8]) -> Result<CompleteHead, Refusal> {
        let facts = &self.facts;
        let host = facts.host.clone().and_then(|range| bytes.get(range));
        let authority = facts.authority.clone().and_then(|range| bytes.get(range));
        match (authority, host) {
            (_, None) if !facts.http10 => return Err(Refusal::MissingHost),
            (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
                return Err(Refusal::HostMismatch);
            }
            _ => {}
        }
        let body = match (facts.chunked, facts.length) {
            (true, Some(_)) => return Err(Refusal::LengthAndEncoding),
            (true, None) if facts.http10 => return Err(Refusal::TransferEncoding),
            (true, None) => BodyFraming::Chunked,
            (false, length) => BodyFraming::Length(length.unwrap_or(0)),
        };
        Ok(CompleteHead { len: self.line_start, body })
    }
}

impl Facts {
    fn request_line(&mut self, line: &[u8], start: usize, limits: &HeadLimits) -> Result<(), Refusal> {
        let method_end = memchr(b' ', line).ok_or(Refusal::RequestLine)?;
        let (method, rest) = line.split_at(method_end);
        let rest = rest.get(1..).unwrap_or_default();
        let target_end = memchr(b' ', rest).ok_or(Refusal::RequestLine)?;
        let (target, version) = rest.split_at(target_end);
        if method.is_empty() || method.len() > METHOD_BYTES || !method.iter().copied().all(is_token_byte) {
            return Err(Refusal::RequestLine);
        }
        self.http10 = match version {
            b" HTTP/1.1" => false,
            b" HTTP/1.0" => true,
            [b' ', b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
                if major.is_ascii_digit() && minor.is_ascii_digit() =>
            {
                return Err(Refusal::Version);
            }
            _ => return Err(Refusal::RequestLine),
        };
        if matches!(method, b"TRACE" | b"CONNECT") {
            return Err(Refusal::Method);
        }
        if target.len() > limits.uri_bytes {
            return Err(Refusal::UriTooLong);
        }
        self.target(method, target, start + method_end + 1)
    }

    /// Origin form, `OPTIONS *`, or absolute form of `http` and `https`.
    fn target(&mut self, method: &[u8], target: &[u8], at: usize) -> Result<(), Refusal> {
        let path = match target {
            [b'/', ..] => target,
            b"*" if method == b"OPTIONS" => return Ok(()),
            _ => {
                let scheme = scheme_len(target).ok_or(Refusal::Target)?;
                let rest = target.get(scheme..).unwrap_or_default();
                let len = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
                let (authority, path) = rest.split_at(len);
                if !is_authority(authority) {
                    return Err(Refusal::Target);
                }
                self.authority = Some(at + scheme..at + scheme + len);
                path
            }
        };
        if all(path, is_target_byte) { Ok(()) } else { Err(Refusal::Target) }
    }

    fn field_line(&mut self, line: &[u8], start: usize, limits: &HeadLimits) -> Result<(), Refusal> {
        if matches!(line, [b' ' | b'\t', ..]) {
            return Err(Refusal::FoldedLine);
        }
        self.headers += 1;
        if self.headers > limits.headers {
            return Err(Refusal::TooManyHeaders);
        }
        let colon = line.iter().position(|&byte| !is_token_byte(byte)).ok_or(Refusal::HeaderName)?;
        let (name, rest) = line.split_at(colon);
        let Some((b':', rest)) = rest.split_first() else { return Err(Refusal::HeaderName) };
        if name.is_empty() {
            return Err(Refusal::HeaderName);
        }
        if !all(rest, is_value_byte) {
            return Err(Refusal::HeaderValue);
        }
        // The lengths are told apart first: it is the cheapest question, and nearly always enough.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.host(rest, start + colon + 1),
            14 if name.eq_ignore_ascii_case(b"content-length") => self.content_length(trim(rest)),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.transfer_encoding(trim(rest)),
            _ => Ok(()),
        }
    }

    fn host(&mut self, raw: &[u8], at: usize) -> Result<(), Refusal> {
        if self.host.is_some() {
            return Err(Refusal::DuplicateHost);
        }
        let value = trim(raw);
        if !is_authority(value) {
            return Err(Refusal::BadHost);
        }
        let lead = raw.iter().take_while(|&&byte| is_blank(byte)).count();
        self.host = Some(at + lead..at + lead + value.len());
        Ok(())
    }

    fn content_length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.length.is_some() {
            return Err(Refusal::DuplicateContentLength);
        }
        self.length = Some(decimal(value).ok_or(Refusal::ContentLength)?);
        Ok(())
    }

    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.chunked {
            return Err(Refusal::DuplicateTransferEncoding);
        }
        self.chunked = true;
        if value.eq_ignore_ascii_case(b"chunked") { Ok(()) } else { Err(Refusal::TransferEncoding) }
    }
}

/// Digits only; at most 18 of them, which no real body reaches and every reader holds in 64 bits.
fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 {
        return None;
    }
    value.iter().try_fold(0u64, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u64::from(byte - b'0')))
}

fn scheme_len(target: &[u8]) -> Option<usize> {
    [&b"http://"[..], &b"https://"[..]]
        .into_iter()
        .find(|scheme| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
        .map(<[u8]>::len)
}

/// Whether the text is `name`, `name:port`, `[v6]` or `[v6]:port`, without user information.
pub(in crate::server) fn is_authority(text: &[u8]) -> bool {
    let (host, port) = match text {
        [b'[', rest @ ..] => {
            let Some(end) = memchr(b']', rest) else { return false };
            let (address, rest) = rest.split_at(end);
            let address = std::str::from_utf8(address).unwrap_or_default();
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            (&b"v6"[..], rest.get(1..).unwrap_or_default())
        }
        _ => text.split_at(memchr(b':', text).unwrap_or(text.len())),
    };
    let port_fits = match port {
        [] => true,
        [b':', digits @ ..] => decimal(digits).is_some_and(|port| port <= u64::from(u16::MAX)),
        _ => false,
    };
    let host_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~');
    port_fits && !host.is_empty() && all(host, host_byte)
}

/// Without early exit, which lets the compiler look at many bytes at a time.
fn all(bytes: &[u8], allowed: impl Fn(u8) -> bool) -> bool {
    bytes.iter().fold(0, |bad, &byte| bad | u8::from(!allowed(byte))) == 0
}

fn trim(mut value: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = value
        && is_blank(*first)
    {
        value = rest;
    }
    while let [rest @ .., last] = value
        && is_blank(*last)
    {
        value = rest;
    }
    value
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// RFC 9110, 5.6.2.
const TOKEN: [bool; 256] = byte_set(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz");

#[expect(clippy::indexing_slicing, reason = "runs in the compiler; a byte is always within 256")]
const fn byte_set(members: &[u8]) -> [bool; 256] {
    let mut set = [false; 256];
    let mut at = 0;
    while at < members.len() {
        set[members[at] as usize] = true;
        at += 1;
    }
    set
}

/// By table: names are short, and a look-up is one instruction.
fn is_token_byte(byte: u8) -> bool {
    TOKEN.get(usize::from(byte)).copied().unwrap_or(false)
}

/// RFC 9110, 5.5: visible characters, space, tab and what was once Latin-1. Without branches, as the next one, so
/// that the compiler can test many bytes at once.
pub(super) fn is_value_byte(byte: u8) -> bool {
    ((byte >= 0x20) & (byte != 0x7f)) | (byte == b'\t')
}

/// RFC 3986 plus `[]^|`, which clients send unescaped; a subset of what `http::Uri` takes.
fn is_target_byte(byte: u8) -> bool {
    let forbidden = (byte == b'"')
        | (byte == b'#')
        | (byte == b'<')
        | (byte == b'>')
        | (byte == b'\\')
        | (byte == b'`')
        | (byte == b'{')
        | (byte == b'}');
    (byte > 0x20) & (byte < 0x7f) & !forbidden
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { head_bytes: 400, headers: 5, uri_bytes: 100 };

    fn whole(head: &str) -> Result<Option<CompleteHead>, Refusal> {
        HeadParser::default().feed(head.as_bytes(), &LIMITS)
    }

    #[test]
    fn a_head_gives_the_same_verdict_whole_and_byte_by_byte() {
        for head in [
            "POST /v1/x?a[]=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
            "\r\nGET / HTTP/1.1\r\nHost: a:80\r\n\r\n",
            "GET http://A.b:8/x HTTP/1.1\r\nhost:\t a.B:8 \r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n",
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/3.0\r\nHost: a\r\n\r\n",
        ] {
            let mut parser = HeadParser::default();
            let slow =
                (1..=head.len()).find_map(|end| parser.feed(&head.as_bytes()[..end], &LIMITS).transpose()).transpose();
            assert_eq!(slow, whole(head), "{head:?}");
        }
    }

    #[test]
    fn authorities_are_names_or_addresses_with_an_optional_port() {
        for good in ["a", "a.b-c_d", "127.0.0.1:65535", "[::1]", "[::1]:80"] {
            assert!(is_authority(good.as_bytes()), "{good}");
        }
        for bad in ["", ":80", "a:", "a:b", "a:70000", "u@a", "a/b", "a b", "a,b", "[::1", "[x]", "[::1]a", "a:1:2"] {
            assert!(!is_authority(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn whatever_target_passes_is_a_uri_for_hyper_too() {
        for byte in 0..=255u8 {
            for target in [vec![b'/', byte, b'x'], vec![b'/', b'?', byte]] {
                if all(&target, is_target_byte) {
                    assert!(http::Uri::try_from(target.as_slice()).is_ok(), "{byte:#x}");
                }
            }
        }
    }
}
