//! A client that costs little: one connection, requests as ready bytes, answers read as bytes.
//!
//! A full HTTP client would take more of the machine than what is measured. This one understands just what hyper's
//! server writes: header names in lower case, a body with a length or in chunks.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::Fault;

/// Longest wait for one answer. Past it the run is worthless and ends.
const PATIENCE: Duration = Duration::from_secs(30);

/// One open connection.
pub(crate) struct Connection {
    socket: TcpStream,
    buffer: Vec<u8>,
}

/// One answer, as bytes, and when its parts came.
pub(crate) struct Answer<'c> {
    /// Status line and headers.
    pub(crate) head: &'c [u8],
    /// Body, with the framing of its chunks if it has chunks.
    pub(crate) body: &'c [u8],
    /// From the request's last byte to the body's first.
    pub(crate) first_byte: Duration,
    /// Longest wait between two reads of the body.
    pub(crate) pause: Duration,
    /// From the request's last byte to the answer's.
    pub(crate) whole: Duration,
}

#[derive(Clone, Copy)]
enum Framing {
    Length(usize),
    Chunked,
}

impl Connection {
    /// Opens a connection.
    pub(crate) async fn open(to: SocketAddr) -> Result<Self, Fault> {
        let socket = TcpStream::connect(to).await?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, buffer: Vec::with_capacity(64 << 10) })
    }

    /// Sends one request and reads the answer to its end.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Result<Answer<'_>, Fault> {
        timeout(PATIENCE, self.unbounded(request)).await?
    }

    async fn unbounded(&mut self, request: &[u8]) -> Result<Answer<'_>, Fault> {
        self.buffer.clear();
        self.socket.write_all(request).await?;
        let sent = Instant::now();
        let body_at = loop {
            self.more().await?;
            if let Some(end) = memmem::find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
        };
        let (head, _) = self.buffer.split_at(body_at);
        let framing = framing(head)?;
        while self.buffer.len() == body_at && !matches!(framing, Framing::Length(0)) {
            self.more().await?;
        }
        let first_byte = sent.elapsed();
        let (mut last, mut pause) = (first_byte, Duration::ZERO);
        while !self.is_whole(body_at, framing)? {
            self.more().await?;
            let now = sent.elapsed();
            pause = pause.max(now - last);
            last = now;
        }
        let (head, body) = self.buffer.split_at(body_at);
        Ok(Answer { head, body, first_byte, pause, whole: last })
    }

    async fn more(&mut self) -> Result<(), Fault> {
        match self.socket.read_buf(&mut self.buffer).await? {
            0 => Err("the connection was closed inside an answer".into()),
            _ => Ok(()),
        }
    }

    /// Nothing is pipelined, so an answer in chunks is over where the buffer ends with the last chunk.
    fn is_whole(&self, body_at: usize, framing: Framing) -> Result<bool, Fault> {
        let have = self.buffer.len() - body_at;
        match framing {
            Framing::Length(length) if have > length => Err("more bytes than the answer's length".into()),
            Framing::Length(length) => Ok(have == length),
            Framing::Chunked => Ok(self.buffer.ends_with(b"\r\n0\r\n\r\n")),
        }
    }
}

impl Answer<'_> {
    /// Whether the head has this header with this value.
    pub(crate) fn has(&self, header: &str, value: &str) -> bool {
        memmem::find(self.head, format!("\r\n{header}: {value}\r\n").as_bytes()).is_some()
    }

    /// Whether the body has this text.
    pub(crate) fn says(&self, text: &str) -> bool {
        memmem::find(self.body, text.as_bytes()).is_some()
    }
}

fn framing(head: &[u8]) -> Result<Framing, Fault> {
    const LENGTH: &[u8] = b"\r\ncontent-length: ";
    if memmem::find(head, b"\r\ntransfer-encoding: chunked\r\n").is_some() {
        return Ok(Framing::Chunked);
    }
    let at = memmem::find(head, LENGTH).ok_or("an answer without length and without chunks")?;
    let digits = head.iter().skip(at + LENGTH.len()).take_while(|byte| byte.is_ascii_digit());
    Ok(Framing::Length(digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'))))
}
