//! What is stored: made-up answers with clustered vectors, in partitions of uneven size.
//!
//! Vectors are those of the index bench: clusters of about twenty, cosine near 0.8 inside a cluster, centres that differ
//! in 32 directions only. All partitions share the clusters, as the same questions are asked of several models. That is
//! the hard case for an index over all partitions, which must then walk past what belongs to others.

use std::borrow::Cow;

use bytes::Bytes;
use remora::ids::{EntryId, KeyId, PointId, TenantId};
use remora::store::{Digest, Entry, EntryWrite, Point};

use crate::testing::Points;

/// Numbers in a vector.
pub(crate) const DIMENSIONS: usize = 384;
/// The embedding space of the model in the binary, so that a started program takes the vectors into memory.
pub(crate) const SPACE: &str = "all-minilm-l6-v2-int8@66273468afad.1/384";
/// Queries of each measurement.
pub(crate) const QUERIES: usize = 200;
/// Share of the first partition, in thousandths; the others share the rest like 1, 1/2, 1/3...
const FIRST: usize = 600;
/// Partitions.
const PARTITIONS: usize = 13;
/// Bytes of an answer.
const BODY: usize = 600;
const START_MS: u64 = 1_700_000_000_000;

/// The vectors of a run.
pub(crate) struct Data {
    vectors: Vec<Vec<f32>>,
    /// Partition of each vector.
    places: Vec<u8>,
    /// Vectors like the stored ones that are not stored.
    pub(crate) queries: Vec<Vec<f32>>,
}

/// The one tenant.
pub(crate) fn tenant() -> TenantId {
    TenantId::new("acme")
}

/// The digest of a partition.
pub(crate) fn partition(number: u8) -> Digest {
    *blake3::hash(&[number]).as_bytes()
}

/// Id of the point with this number.
pub(crate) fn point_id(number: usize) -> PointId {
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&(START_MS + number as u64).to_be_bytes()[2..]);
    PointId::from_bytes(bytes)
}

impl Data {
    /// `count` entries.
    pub(crate) fn new(count: usize) -> Self {
        let mut vectors = Points::clustered(1, count + QUERIES, DIMENSIONS).vectors;
        let queries = vectors.split_off(count);
        let mut random = fastrand::Rng::with_seed(2);
        let places = (0..count).map(|_| place(&mut random)).collect();
        Self { vectors, places, queries }
    }

    /// Those of the first `count` points that are of this partition, with their numbers.
    pub(crate) fn of(&self, partition: u8, count: usize) -> impl Iterator<Item = (usize, &Vec<f32>)> {
        let all = self.vectors.iter().zip(&self.places).enumerate().take(count);
        all.filter(move |(_, (_, place))| **place == partition).map(|(number, (vector, _))| (number, vector))
    }

    /// The write that stores the entry with this number.
    pub(crate) fn put(&self, number: usize) -> EntryWrite {
        let mut random = fastrand::Rng::with_seed(number as u64);
        let (writer, at) = (KeyId::new("acme/search"), START_MS + number as u64);
        let partition = partition(self.places[number]);
        let mut id = [0; 16];
        id.copy_from_slice(&point_id(number).to_bytes());
        let entry = Entry {
            id: EntryId::from_bytes(id),
            tenant: tenant(),
            partition,
            namespace: String::new(),
            dialect: Cow::Borrowed("chat"),
            model: "gpt-4o-mini".into(),
            body: Bytes::from((0..BODY).map(|_| random.alphanumeric() as u8).collect::<Vec<_>>()),
            finish: Cow::Borrowed("stop"),
            completion_tokens: Some(230),
            token_limit: None,
            writer: writer.clone(),
            tags: Vec::new(),
            created_at: at,
            expires_at: u64::MAX >> 1,
        };
        let point = Point {
            id: point_id(number),
            entry: entry.id,
            tenant: tenant(),
            partition,
            fingerprint: *blake3::hash(&number.to_le_bytes()).as_bytes(),
            normalised: Some(*blake3::hash(format!("n{number}").as_bytes()).as_bytes()),
            prompt: Some(format!("How do I reset the password of account number {number}?")),
            space: Some(SPACE.into()),
            vector: Some(self.vectors[number].clone()),
            contradicts: 0,
            writer,
            created_at: at,
        };
        EntryWrite::Put { entry: entry.into(), points: vec![point] }
    }
}

/// A partition by chance: the first most often, the others in falling order.
fn place(random: &mut fastrand::Rng) -> u8 {
    if random.usize(..1_000) < FIRST {
        return 0;
    }
    let weights = (1..PARTITIONS).map(|rank| 1.0 / rank as f64);
    let mut left = random.f64() * weights.clone().sum::<f64>();
    for (rank, weight) in (1..).zip(weights) {
        left -= weight;
        if left <= 0.0 {
            return rank;
        }
    }
    1
}
