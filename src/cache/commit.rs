//! Taking in a new answer. It is found from the moment this returns; the store follows through its queue.

use std::sync::Arc;

use bytes::Bytes;

use super::decide::{GuardSet, Waivers};
use super::invalidate::Epoch;
use super::lookup::{Vector, body_of};
use super::outcome::Reason;
use super::shelf::{MOST_WRITERS, Meta};
use super::{Body, Cache, PointMeta};
use crate::cache::decide::normalise;
use crate::call::Keys;
use crate::dialect::{Dialect, Finish};
use crate::ids::{EntryId, KeyId, PointId, TenantId};
use crate::store::{Digest, Entry, EntryWrite, Point};

/// Bytes that an entry costs besides its texts and vectors.
const OVERHEAD: u64 = 512;

/// An answer as it was stored.
#[derive(Debug, Clone)]
pub struct Committed {
    /// The answer.
    pub entry: Arc<Entry>,
    /// Its prompt.
    pub point: Arc<Point>,
}

/// A finished answer to a completion request, complete and fit to be stored.
#[derive(Debug, Clone)]
pub struct Fresh {
    /// Owner.
    pub tenant: TenantId,
    /// Whose request made it.
    pub writer: KeyId,
    /// Keys of the request.
    pub keys: Keys,
    /// `x-remora-namespace`.
    pub namespace: String,
    /// Wire format of `body`.
    pub dialect: Dialect,
    /// Model asked for.
    pub model: String,
    /// The answer as one JSON document.
    pub body: Bytes,
    /// How it ended.
    pub finish: Finish,
    /// Its length in tokens, if upstream told.
    pub completion_tokens: Option<u64>,
    /// The request's token limit.
    pub token_limit: Option<u64>,
    /// `x-remora-tags`.
    pub tags: Vec<(String, String)>,
    /// Lifetime.
    pub ttl: std::time::Duration,
    /// The last user turn, if the answer may be found by similarity.
    pub text: Option<String>,
    /// Its vector.
    pub vector: Option<Vector>,
    /// [`Cache::epoch`] from before upstream was asked.
    pub epoch: Epoch,
}

/// One item of an embeddings answer.
#[derive(Debug, Clone)]
pub struct FreshItem {
    /// Owner.
    pub tenant: TenantId,
    /// Whose request made it.
    pub writer: KeyId,
    /// Key of the item.
    pub key: Digest,
    /// `x-remora-namespace`.
    pub namespace: String,
    /// Model asked for.
    pub model: String,
    /// The item as JSON.
    pub body: Bytes,
    /// `x-remora-tags`.
    pub tags: Vec<(String, String)>,
    /// Lifetime.
    pub ttl: std::time::Duration,
    /// [`Cache::epoch`] from before upstream was asked.
    pub epoch: Epoch,
}

impl Cache {
    /// Stores a finished answer. Consumes it, so that nothing is stored twice or by accident.
    ///
    /// # Errors
    /// Why it was not stored.
    pub fn commit(&self, fresh: Fresh) -> Result<Committed, Reason> {
        // A tool call is an answer to exactly this request; the point gets no words by which others could find it.
        let text = fresh.text.filter(|_| fresh.finish == Finish::Stop);
        let vector = fresh.vector.filter(|_| text.is_some());
        let normalised = text.as_ref().map(|text| fresh.keys.normalised(&self.secret, &normalise(text)));
        let now = self.clock.now_ms();
        let partition = match &vector {
            Some(vector) => vector.partition,
            None => fresh.keys.partition(&self.secret, "", None),
        };
        let entry = Entry {
            id: EntryId::at(now),
            tenant: fresh.tenant.clone(),
            partition,
            namespace: fresh.namespace,
            dialect: fresh.dialect.as_str().into(),
            model: fresh.model,
            body: fresh.body,
            finish: fresh.finish.as_str().into(),
            completion_tokens: fresh.completion_tokens,
            token_limit: fresh.token_limit,
            writer: fresh.writer.clone(),
            tags: fresh.tags,
            created_at: now,
            expires_at: now.saturating_add(millis(fresh.ttl)),
        };
        let point = Point {
            id: PointId::at(now),
            entry: entry.id,
            tenant: fresh.tenant,
            partition,
            fingerprint: fresh.keys.fingerprint,
            normalised,
            prompt: text,
            space: vector.as_ref().map(|_| self.embedder.space().to_string()),
            vector: vector.map(|vector| vector.values.to_vec()),
            contradicts: 0,
            writer: fresh.writer,
            created_at: now,
        };
        let body = body_of(fresh.dialect, entry.body.clone()).ok_or(Reason::CacheFault)?;
        self.take_in(entry, point, body, fresh.epoch)
    }

    /// Stores one item of an embeddings answer.
    ///
    /// # Errors
    /// Why it was not stored.
    pub fn commit_item(&self, fresh: FreshItem) -> Result<EntryId, Reason> {
        let now = self.clock.now_ms();
        let entry = Entry {
            id: EntryId::at(now),
            tenant: fresh.tenant.clone(),
            partition: fresh.key,
            namespace: fresh.namespace,
            dialect: Dialect::Embeddings.as_str().into(),
            model: fresh.model,
            body: fresh.body,
            finish: "".into(),
            completion_tokens: None,
            token_limit: None,
            writer: fresh.writer.clone(),
            tags: fresh.tags,
            created_at: now,
            expires_at: now.saturating_add(millis(fresh.ttl)),
        };
        let point = Point {
            id: PointId::at(now),
            entry: entry.id,
            tenant: fresh.tenant,
            partition: fresh.key,
            fingerprint: fresh.key,
            normalised: None,
            prompt: None,
            space: None,
            vector: None,
            contradicts: 0,
            writer: fresh.writer,
            created_at: now,
        };
        let body = Body::Item(entry.body.clone());
        self.take_in(entry, point, body, fresh.epoch).map(|committed| committed.entry.id)
    }

    fn take_in(&self, entry: Entry, point: Point, body: Body, epoch: Epoch) -> Result<Committed, Reason> {
        if entry.body.len() > self.settings.max_entry_bytes {
            return Err(Reason::EntryTooLarge);
        }
        if !self.writers.may_write(&entry.writer, self.clock.now_ms()) {
            return Err(Reason::WriteRate);
        }
        let _admission = self.admit(epoch, &entry, std::slice::from_ref(&point))?;
        let id = entry.id;
        let meta = Meta { own: true, ..meta_of(&entry, entry.body.len() as u64, std::slice::from_ref(&point)) };
        self.add_point(&point).map_err(|_| Reason::CacheFault)?;
        // Queued before it can be found, so that whoever finds it and takes it out queues the deletion behind it.
        let committed = Committed { entry: Arc::new(entry), point: Arc::new(point.clone()) };
        if self.changes().is_some() {
            self.pending.note(&committed);
        }
        let stored = self.writer.entry(EntryWrite::Put { entry: Arc::clone(&committed.entry), points: vec![point] });
        if stored.is_err() {
            self.pending.arrived(id);
            tracing::debug!(entry = %id, "the write queue is full: this entry will not survive a restart");
        }
        self.shelf.keep_body(id, Arc::new(body));
        self.share(&committed.entry, &committed.point.fingerprint);
        let (writer, bytes) = (meta.writer.clone(), meta.bytes);
        let gone = self.shelf.put(meta);
        self.drop_all(&gone);
        self.hold_to_share(&writer, id, bytes);
        Ok(committed)
    }

    /// Makes a point findable.
    pub(super) fn add_point(&self, point: &Point) -> Result<(), crate::index::IndexError> {
        let Some(prompt) = &point.prompt else { return Ok(()) };
        let meta = PointMeta::of(point, prompt);
        // A vector of another embedding space is kept in the store but cannot be compared here.
        let space = self.embedder.space();
        let vector = point.vector.as_deref().filter(|vector| vector.len() == space.dimensions);
        self.points.add(point.id, meta, vector)
    }

    /// Removes the points and stored rows of answers that have left the shelf.
    pub(super) fn drop_all(&self, gone: &[Arc<Meta>]) {
        for meta in gone {
            self.points.remove(&meta.points);
            self.metrics.evictions.inc();
            let delete = EntryWrite::Delete { tenant: meta.tenant.clone(), entry: meta.id };
            if self.writer.entry(delete).is_err() {
                tracing::warn!(entry = %meta.id, "the write queue is full: an evicted entry stays in the store");
            }
        }
    }
}

/// What the shelf keeps of a stored entry.
pub(super) fn meta_of(entry: &Entry, body_bytes: u64, points: &[Point]) -> Meta {
    let point_bytes = |point: &Point| {
        let prompt = point.prompt.as_ref().map_or(0, String::len);
        let vector = point.vector.as_ref().map_or(0, |vector| vector.len() * size_of::<f32>());
        (prompt + vector) as u64
    };
    let mut writers = vec![entry.writer.clone()];
    let mut waivers = Waivers::default();
    for point in points {
        if writers.len() < MOST_WRITERS && !writers.contains(&point.writer) {
            writers.push(point.writer.clone());
        }
        waivers.add(GuardSet::from_bits(point.contradicts));
    }
    Meta {
        id: entry.id,
        tenant: entry.tenant.clone(),
        namespace: entry.namespace.as_str().into(),
        model: entry.model.as_str().into(),
        dialect: Dialect::from_name(&entry.dialect).as_str(),
        fingerprints: points.iter().map(|point| point.fingerprint).collect(),
        points: points.iter().filter(|point| point.prompt.is_some()).map(|point| point.id).collect(),
        bytes: body_bytes + points.iter().map(point_bytes).sum::<u64>() + OVERHEAD,
        body_bytes: body_bytes + OVERHEAD,
        completion_tokens: entry.completion_tokens,
        token_limit: entry.token_limit,
        writer: entry.writer.clone(),
        writers,
        own: false,
        waivers,
        tags: entry.tags.clone(),
        created_at: entry.created_at,
        expires_at: entry.expires_at,
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
