//! The file of a backup, block by block.
//!
//! ```text
//! "RemoraBk"  header block  secret block  row blocks …  trailer block  BLAKE3 of all bytes before
//! block: kind u8 | rows u32 | bytes unpacked u64 | bytes packed u64 | BLAKE3 of these and of what follows | packed bytes
//! ```
//!
//! Numbers are little-endian; what is packed is deflate. Header and trailer are JSON, so that a later program can say more
//! in them. A block of rows is rows of one table, each with its length before it. Every byte is under the digest at the
//! end, and each block under its own, so that damage is found before anything is unpacked.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

use super::super::TransferError;

const MAGIC: &[u8; 8] = b"RemoraBk";
/// Format of files with REM data; the newest that this program reads.
pub(super) const FORMAT: u32 = 5;
/// Format of files with ledger rows that have attempts, and corrections.
pub(super) const LEDGER_FORMAT: u32 = 4;
/// Format of files with specs, keys and tokens.
pub(super) const DIRECTORY_FORMAT: u32 = 3;
/// Format of files with data keys of sealed tenants in the header.
pub(super) const SEALED_FORMAT: u32 = 2;
/// Format of files without data keys.
pub(super) const UNSEALED_FORMAT: u32 = 1;
/// Kind of the block with the header.
pub(super) const HEADER: u8 = 0x10;
/// Kind of the block with the secret.
pub(super) const SECRET: u8 = 0x11;
/// Kind of the last block. Kinds below `HEADER` are tables.
pub(super) const TRAILER: u8 = 0x12;
/// Bytes before the packed ones, without the checksum.
const HEAD: usize = 1 + 4 + 8 + 8;

/// One block, unpacked.
pub(super) struct Block {
    pub(super) kind: u8,
    pub(super) rows: u32,
    pub(super) bytes: Vec<u8>,
}

/// Writes blocks to a file that only its owner can read, under a temporary name. Dropped without
/// [`BlockWriter::finish`], it leaves nothing.
pub(super) struct BlockWriter {
    file: BufWriter<File>,
    hasher: blake3::Hasher,
    path: PathBuf,
    temporary: Option<PathBuf>,
    written: u64,
}

impl Drop for BlockWriter {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // Nothing can be done about it, and nobody reads it.
            let _ = std::fs::remove_file(temporary);
        }
    }
}

impl BlockWriter {
    pub(super) fn create(path: &Path) -> Result<Self, TransferError> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".part");
        let temporary = PathBuf::from(temporary);
        let opened = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary);
        let file = opened.map_err(|error| failed(path, &error))?;
        let mut writer = Self {
            file: BufWriter::with_capacity(1 << 18, file),
            hasher: blake3::Hasher::new(),
            path: path.to_owned(),
            temporary: Some(temporary),
            written: 0,
        };
        writer.put(MAGIC)?;
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), TransferError> {
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|error| failed(&self.path, &error))
    }

    pub(super) fn block(&mut self, kind: u8, rows: u32, bytes: &[u8]) -> Result<(), TransferError> {
        let mut encoder = DeflateEncoder::new(Vec::with_capacity(bytes.len() / 3), Compression::fast());
        let packed = encoder.write_all(bytes).and_then(|()| encoder.finish());
        let packed = packed.map_err(|error| failed(&self.path, &error))?;
        let mut head = Vec::with_capacity(HEAD);
        head.push(kind);
        head.extend_from_slice(&rows.to_le_bytes());
        head.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        head.extend_from_slice(&(packed.len() as u64).to_le_bytes());
        let checksum = checksum(&head, &packed);
        self.put(&head)?;
        self.put(&checksum)?;
        self.put(&packed)
    }

    /// Writes the digest, makes the file durable and gives it its name; returns its size.
    pub(super) fn finish(mut self) -> Result<u64, TransferError> {
        let digest = *self.hasher.finalize().as_bytes();
        self.put(&digest)?;
        let path = self.path.clone();
        let io = |error: std::io::Error| failed(&path, &error);
        self.file.flush().map_err(io)?;
        self.file.get_ref().sync_all().map_err(io)?;
        if let Some(temporary) = &self.temporary {
            std::fs::rename(temporary, &path).map_err(io)?;
        }
        self.temporary = None;
        if let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(directory).and_then(|directory| directory.sync_all()).map_err(io)?;
        }
        Ok(self.written)
    }
}

/// Reads blocks from a file and checks each, and all of it at the end.
pub(super) struct BlockReader {
    file: BufReader<File>,
    hasher: blake3::Hasher,
    path: PathBuf,
    left: u64,
    done: bool,
}

impl BlockReader {
    pub(super) fn open(path: &Path) -> Result<Self, TransferError> {
        let file = File::open(path).map_err(|error| failed(path, &error))?;
        let metadata = file.metadata().map_err(|error| failed(path, &error))?;
        let mut reader = Self {
            file: BufReader::with_capacity(1 << 18, file),
            hasher: blake3::Hasher::new(),
            path: path.to_owned(),
            left: metadata.len(),
            done: false,
        };
        if reader.left < MAGIC.len() as u64 || reader.take(MAGIC.len() as u64)? != MAGIC {
            return Err(TransferError::NotABackup { path: path.to_owned() });
        }
        Ok(reader)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn damaged(&self, problem: impl Into<String>) -> TransferError {
        TransferError::Damaged { path: self.path.clone(), problem: problem.into() }
    }

    /// The next bytes. Never asks for more memory than the file is long.
    fn take(&mut self, count: u64) -> Result<Vec<u8>, TransferError> {
        if count > self.left {
            return Err(self.damaged("it ends early"));
        }
        self.left -= count;
        let mut bytes = vec![0; usize::try_from(count).map_err(|_| self.damaged("a block is too large"))?];
        self.file.read_exact(&mut bytes).map_err(|error| failed(&self.path, &error))?;
        if !self.done {
            self.hasher.update(&bytes);
        }
        Ok(bytes)
    }

    fn number(&mut self) -> Result<([u8; 8], u64), TransferError> {
        let bytes = self.take(8)?;
        let bytes = <[u8; 8]>::try_from(bytes.as_slice()).map_err(|_| self.damaged("it ends early"))?;
        Ok((bytes, u64::from_le_bytes(bytes)))
    }

    /// The next block; after the trailer only the digest may follow, which is checked with it.
    pub(super) fn next(&mut self) -> Result<Block, TransferError> {
        let kind = self.take(1)?;
        let rows = self.take(4)?;
        let (raw_bytes, raw) = self.number()?;
        let (packed_bytes, length) = self.number()?;
        let checksum_found = self.take(32)?;
        let packed = self.take(length)?;
        let mut head = Vec::with_capacity(HEAD);
        head.extend_from_slice(&kind);
        head.extend_from_slice(&rows);
        head.extend_from_slice(&raw_bytes);
        head.extend_from_slice(&packed_bytes);
        if checksum(&head, &packed)[..] != checksum_found {
            return Err(self.damaged("the checksum of a block is wrong"));
        }
        let mut bytes = Vec::new();
        let unpacked = DeflateDecoder::new(&packed[..]).take(raw.saturating_add(1)).read_to_end(&mut bytes);
        if unpacked.is_err() || bytes.len() as u64 != raw {
            return Err(self.damaged("a block cannot be unpacked"));
        }
        let rows = <[u8; 4]>::try_from(rows.as_slice()).map_err(|_| self.damaged("it ends early"))?;
        let kind = kind.first().copied().unwrap_or_default();
        if kind == TRAILER {
            self.done = true;
            let digest = *self.hasher.finalize().as_bytes();
            if self.take(32)? != digest || self.left > 0 {
                return Err(self.damaged("the digest of the file is wrong"));
            }
        }
        Ok(Block { kind, rows: u32::from_le_bytes(rows), bytes })
    }
}

fn checksum(head: &[u8], packed: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new().update(head).update(packed).finalize().as_bytes()
}

fn failed(path: &Path, error: &std::io::Error) -> TransferError {
    TransferError::File { path: path.to_owned(), problem: error.to_string() }
}
