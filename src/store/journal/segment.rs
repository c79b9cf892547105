//! One file of the journal: what is written to it and how it is read back.
//!
//! A file is a sequence of frames: length of the payload and its CRC-32, four bytes each, little-endian, then the payload,
//! which is one row (see [`encoding`](super::encoding)). There is no head, so that an empty file is a good one.
//!
//! Reading never fails on what is inside. A frame that does not fit its checksum is skipped by looking for the next one that
//! does; if there is none, the file just ends there, as after a write that was cut short.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

use super::super::LedgerRow;
use super::encoding::{decode, encode, request_of};
use crate::ids::RequestId;

/// Bytes before each payload.
const HEAD: usize = 8;
/// The least that a payload has: the version and the id.
const LEAST: usize = 17;
/// The most. Texts in a row are short; what claims to be longer is no frame.
const MOST: usize = 64 << 10;
/// The most that is read of one file. Files are far smaller; what is beyond was not written by this program.
const MOST_FILE: u64 = 64 << 20;

/// A row as a frame, with its checksum. `None` if the row is too long to be read back.
pub(super) fn frame(row: &LedgerRow) -> Option<(Vec<u8>, u32)> {
    let mut bytes = Vec::with_capacity(512);
    bytes.extend_from_slice(&[0; HEAD]);
    encode(row, &mut bytes);
    let (head, payload) = bytes.split_first_chunk_mut::<HEAD>()?;
    if payload.len() > MOST {
        return None;
    }
    let crc = crc32fast::hash(payload);
    let [a, b, c, d] = u32::try_from(payload.len()).ok()?.to_le_bytes();
    let [e, f, g, h] = crc.to_le_bytes();
    *head = [a, b, c, d, e, f, g, h];
    Some((bytes, crc))
}

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Reading {
    bytes: Vec<u8>,
    /// Payloads whose checksum is right, in their order, each request's last one only.
    payloads: Vec<Range<usize>>,
    /// Bytes at the end that are no frame.
    pub(super) torn: usize,
    /// Places in the middle that are no frame, and payloads that are no row of this program's version.
    pub(super) damaged: usize,
}

impl Reading {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let mut bytes = Vec::new();
        File::open(path)?.take(MOST_FILE).read_to_end(&mut bytes)?;
        Ok(Self::parse(bytes))
    }

    pub(super) fn parse(bytes: Vec<u8>) -> Self {
        let mut reading = Self { bytes, ..Self::default() };
        let mut at = 0;
        while at < reading.bytes.len() {
            let found = payload_at(&reading.bytes, at).or_else(|| {
                let next = (at + 1..reading.bytes.len()).find_map(|at| payload_at(&reading.bytes, at));
                match &next {
                    Some(_) => reading.damaged += 1,
                    None => reading.torn = reading.bytes.len() - at,
                }
                next
            });
            let Some(payload) = found else { break };
            at = payload.end;
            reading.payloads.push(payload);
        }
        reading.keep_last();
        reading
    }

    fn keep_last(&mut self) {
        let mut seen = HashSet::with_capacity(self.payloads.len());
        let mut kept: Vec<_> = self.payloads.drain(..).rev().filter(|at| seen.insert(id_of(&self.bytes, at))).collect();
        kept.reverse();
        self.payloads = kept;
    }

    /// Leaves out the rows of which a later file has another version.
    pub(super) fn without(&mut self, later: &Self) {
        let newer: HashSet<_> = later.payloads.iter().map(|at| id_of(&later.bytes, at)).collect();
        let bytes = &self.bytes;
        self.payloads.retain(|at| !newer.contains(&id_of(bytes, at)));
    }

    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        self.payloads.len()
    }

    /// The rows, `size` at a time. What is no row is left out and counted as damage.
    pub(super) fn batch(&mut self, from: usize, size: usize) -> Vec<LedgerRow> {
        let payloads = self.payloads.iter().skip(from).take(size);
        let rows: Vec<_> = payloads.clone().filter_map(|at| decode(self.bytes.get(at.clone())?)).collect();
        self.damaged += payloads.count() - rows.len();
        rows
    }
}

fn id_of(bytes: &[u8], at: &Range<usize>) -> Option<RequestId> {
    request_of(bytes.get(at.clone())?)
}

/// Where the payload is, if a frame begins at `at`.
fn payload_at(bytes: &[u8], at: usize) -> Option<Range<usize>> {
    let head = bytes.get(at..)?.first_chunk::<HEAD>()?;
    let [a, b, c, d, e, f, g, h] = *head;
    let len = usize::try_from(u32::from_le_bytes([a, b, c, d])).ok()?;
    if !(LEAST..=MOST).contains(&len) {
        return None;
    }
    let payload = at + HEAD..at + HEAD + len;
    (crc32fast::hash(bytes.get(payload.clone())?) == u32::from_le_bytes([e, f, g, h])).then_some(payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sample::{bare_row, row};

    const ROWS: u64 = 4;

    fn file(rows: &[LedgerRow]) -> Vec<u8> {
        rows.iter().flat_map(|row| frame(row).unwrap().0).collect()
    }

    fn sample() -> Vec<LedgerRow> {
        (0..ROWS).map(|n| if n % 2 == 0 { row("t", n) } else { bare_row(n) }).collect()
    }

    fn all(mut reading: Reading) -> Vec<LedgerRow> {
        let size = reading.len();
        reading.batch(0, size)
    }

    #[test]
    fn a_whole_file_is_read_back() {
        let reading = Reading::parse(file(&sample()));
        assert_eq!((reading.torn, reading.damaged, reading.len()), (0, 0, 4));
        assert_eq!(all(reading), sample());
        assert_eq!(all(Reading::parse(Vec::new())), []);
    }

    #[test]
    fn a_file_cut_at_any_byte_keeps_every_whole_row() {
        let (rows, bytes) = (sample(), file(&sample()));
        let ends: Vec<usize> = (0..=rows.len()).map(|n| file(&rows[..n]).len()).collect();
        for len in 0..=bytes.len() {
            let reading = Reading::parse(bytes[..len].to_vec());
            let whole = ends.iter().filter(|end| **end > 0 && **end <= len).count();
            assert_eq!((reading.damaged, reading.torn), (0, len - ends[whole]), "cut at {len}");
            assert_eq!(all(reading), rows[..whole], "cut at {len}");
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_costs_one_row_and_is_told() {
        let (rows, bytes) = (sample(), file(&sample()));
        let ends: Vec<usize> = (1..=rows.len()).map(|n| file(&rows[..n]).len()).collect();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                let hit = ends.iter().position(|end| at < *end).unwrap();
                let reading = Reading::parse(flipped);
                let last = hit + 1 == rows.len();
                assert_eq!((reading.torn > 0, reading.damaged), (last, usize::from(!last)), "byte {at} bit {bit}");
                let mut expected = rows.clone();
                expected.remove(hit);
                assert_eq!(all(reading), expected, "byte {at} bit {bit}");
            }
        }
    }

    #[test]
    fn zeros_at_the_end_are_a_torn_tail() {
        let mut bytes = file(&sample());
        bytes.extend([0; 4096]);
        let reading = Reading::parse(bytes);
        assert_eq!((reading.torn, reading.damaged, reading.len()), (4096, 0, 4));
    }

    #[test]
    fn the_last_version_of_a_row_is_the_one_that_counts() {
        let later = LedgerRow { outcome: "cancelled".into(), ..row("t", 0) };
        let mut reading = Reading::parse(file(&[row("t", 0), row("t", 1), later.clone()]));
        assert_eq!(reading.batch(0, 9), [row("t", 1), later]);
        reading.without(&Reading::parse(file(&[row("t", 1)])));
        assert_eq!(reading.batch(0, 9).len(), 1);
    }

    #[test]
    fn a_good_frame_of_another_version_counts_as_damage() {
        let mut bytes = file(&[row("t", 0)]);
        bytes[HEAD] = 99;
        let crc = crc32fast::hash(&bytes[HEAD..]).to_le_bytes();
        bytes[4..8].copy_from_slice(&crc);
        let mut reading = Reading::parse(bytes);
        assert_eq!((reading.batch(0, 9), reading.damaged), (Vec::new(), 1));
    }
}
