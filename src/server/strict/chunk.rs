//! Follows a chunked body (RFC 9112, 7.1) to find its end, and refuses what readers disagree about.
//!
//! Chunk extensions pass when they are printable and short; white space around the size does not. Trailers pass
//! here and are dropped by `RequestBody`.

use super::head::is_value_byte;

/// Bytes of one chunk extension. Nobody is known to send any; readers must skip them.
const EXTENSION_BYTES: usize = 256;
/// Bytes of all trailer fields together.
const TRAILER_BYTES: usize = 8 * 1024;

/// What came of the bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Followed {
    /// All of them belong to the body, which goes on.
    More,
    /// The body ended after this many.
    Done(usize),
    /// The byte at this place cannot follow what came before it.
    Broken(usize),
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    SizeStart,
    Size(u64),
    Extension(usize),
    SizeLf,
    Data(u64),
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
}

/// One chunked body.
#[derive(Debug, Default)]
pub(super) struct ChunkFollower {
    state: State,
    /// Size of the chunk whose size line is being read.
    size: u64,
    trailer_bytes: usize,
}

impl ChunkFollower {
    /// Reads on; chunk data is skipped, not looked at.
    pub(super) fn follow(&mut self, bytes: &[u8]) -> Followed {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if let State::Data(left) = &mut self.state {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len() - at);
                *left -= here as u64;
                at += here;
                if *left == 0 {
                    self.state = State::DataCr;
                }
                continue;
            }
            match self.step(byte) {
                None => return Followed::Broken(at),
                Some(true) => return Followed::Done(at + 1),
                Some(false) => at += 1,
            }
        }
        Followed::More
    }

    /// Takes one byte outside chunk data. `Some(true)` at the end of the body, `None` if it cannot stand here.
    fn step(&mut self, byte: u8) -> Option<bool> {
        self.state = match (self.state, byte) {
            (State::SizeStart, _) => State::Size(hex(byte)?),
            (State::Size(size), b'\r') => {
                self.size = size;
                State::SizeLf
            }
            (State::Size(size), b';') => {
                self.size = size;
                State::Extension(0)
            }
            // Fifteen digits are enough for any body, and what a signed 64-bit reader holds.
            (State::Size(size), _) if size < 1 << 56 => State::Size((size << 4) | hex(byte)?),
            (State::Extension(_), b'\r') => State::SizeLf,
            (State::Extension(len), _) if len < EXTENSION_BYTES && is_value_byte(byte) => State::Extension(len + 1),
            (State::SizeLf, b'\n') if self.size == 0 => State::TrailerStart,
            (State::SizeLf, b'\n') => State::Data(self.size),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::SizeStart,
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::EndLf, b'\n') => return Some(true),
            (State::TrailerName, b':') => State::TrailerValue,
            (State::TrailerStart | State::TrailerName, _) if self.trailer(byte) && byte.is_ascii_graphic() => {
                if byte == b':' {
                    return None;
                }
                State::TrailerName
            }
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::TrailerValue, _) if self.trailer(byte) => State::TrailerValue,
            (State::TrailerLf, b'\n') => State::TrailerStart,
            _ => return None,
        };
        Some(false)
    }

    fn trailer(&mut self, byte: u8) -> bool {
        self.trailer_bytes += 1;
        self.trailer_bytes <= TRAILER_BYTES && is_value_byte(byte)
    }
}

fn hex(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(body: &[u8]) -> Vec<Followed> {
        (0..body.len())
            .map(|cut| {
                let mut follower = ChunkFollower::default();
                match follower.follow(&body[..cut]) {
                    Followed::More => match follower.follow(&body[cut..]) {
                        Followed::Done(at) => Followed::Done(cut + at),
                        Followed::Broken(at) => Followed::Broken(cut + at),
                        Followed::More => Followed::More,
                    },
                    early => early,
                }
            })
            .collect()
    }

    #[test]
    fn a_body_ends_at_the_same_place_however_it_is_cut() {
        let body = b"4;a=b\r\nab\r\n\r\nA\r\n0123456789\r\n0\r\nX-T: 1\r\n\r\nGET /";
        assert_eq!(ChunkFollower::default().follow(body), Followed::Done(body.len() - 5));
        assert!(split(body).into_iter().all(|end| end == Followed::Done(body.len() - 5)));
    }

    #[test]
    fn ambiguous_chunk_lines_break_at_the_offending_byte() {
        for (body, at) in [
            (&b"4 \r\nabcd\r\n"[..], 1),
            (b" 4\r\n", 0),
            (b"0x4\r\n", 1),
            (b"+4\r\n", 0),
            (b"4\nabcd", 1),
            (b"4;a\nb\r\n", 3),
            (b"4\r\nabcdX", 7),
            (b"4\r\nabcd\n", 7),
            (b"\r\n", 0),
            (b"FFFFFFFFFFFFFFFFF\r\n", 15),
            (b"0\r\n\n", 3),
            (b"0\r\n: x\r\n", 3),
            (b"0\r\nA : x\r\n", 4),
        ] {
            assert_eq!(ChunkFollower::default().follow(body), Followed::Broken(at), "{:?}", body.escape_ascii());
        }
    }
}
