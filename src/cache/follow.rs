//! What is learnt from a fresh answer: a label for the candidate that was near, and a link to the group that says the same.
//!
//! Runs in the background once the reply has gone, for misses with a near candidate and for audits. Bounded: what finds no
//! place is not learnt from, which costs a label and nothing else.
//!
//! Invariants: a prompt joins a group only if both answers are strictly the [same](super::likeness::Likeness) and say
//! something by themselves; what has been invalidated meanwhile stays so; one answer is stored once.

use super::Cache;
use super::commit::Committed;
use super::considered::Considered;
use super::decide::{Features, Guard, GuardSet, Guards, Observation, Source, Turn};
use super::invalidate::Epoch;
use super::likeness::{Likeness, stands_alone};
use super::shelf::{Body, MOST_WRITERS, Meta};
use crate::dialect::{Dialect, answer_text};
use crate::ids::{EntryId, PointId, TenantId};
use crate::store::{DecisionWrite, EntryWrite};

/// Near groups whose answers are compared with a fresh one.
const COMPARED: usize = 5;
/// Points of one group; beyond it another prompt is not linked, for it adds nothing that the others do not say.
const MOST_POINTS: usize = 256;
/// Tags of one entry.
const MOST_TAGS: usize = 64;

/// A fresh answer, and what the semantic tier had seen before it was asked for.
#[derive(Debug)]
pub struct Fresh {
    /// What was near.
    pub considered: Box<Considered>,
    /// Wire format of the answer.
    pub dialect: Dialect,
    /// The answer as one JSON document.
    pub body: bytes::Bytes,
    /// How it was stored, if it was.
    pub committed: Option<Committed>,
    /// [`Cache::epoch`] from before upstream was asked.
    pub epoch: Epoch,
    /// Whether this is the audit of a hit.
    pub audit: bool,
}

/// What has been learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lessons {
    /// Whether the candidate's answer would have been right, if that could be told.
    pub right: Option<bool>,
    /// The group that the prompt was linked to.
    pub linked: Option<EntryId>,
    /// Groups that turned out to be one.
    pub merged: usize,
}

impl Cache {
    /// Learns from a fresh answer.
    pub async fn follow(&self, fresh: Fresh) -> Lessons {
        let mut lessons = Lessons { right: None, linked: None, merged: 0 };
        let Some(text) = answer_text(fresh.dialect, &fresh.body) else { return lessons };
        let considered = &fresh.considered;
        let tenant = &considered.tenant;
        let chosen = considered.chosen().map(|chosen| chosen.entry);
        let mut same = Vec::new();
        // The candidate first: if a guard has set another group before it, it need not be the nearest.
        let others = considered.groups().iter().copied().filter(|group| Some(*group) != chosen);
        for group in chosen.into_iter().chain(others).take(COMPARED) {
            let Some(stored) = self.text_of(tenant, group).await else { continue };
            let likeness = Likeness::of(&text, &stored, &self.embedder, tenant.as_str()).await;
            if Some(group) == chosen {
                lessons.right = match likeness {
                    Likeness::Same => Some(true),
                    Likeness::Different => Some(false),
                    Likeness::Unsure => None,
                };
            }
            if likeness == Likeness::Same {
                same.push(group);
            }
        }
        if chosen.is_some() {
            self.metrics.learning.compared(lessons.right);
        }
        if let Some(right) = lessons.right {
            // A would-be hit that went upstream tells as much about hits as one that was served and asked again.
            let source = if fresh.audit || considered.would_serve() { Source::Audit } else { Source::Miss };
            self.label(considered, right, source);
        }
        let Some((first, rest)) = same.split_first().filter(|_| stands_alone(&text)) else { return lessons };
        for group in rest {
            lessons.merged += usize::from(self.merge(tenant, *group, *first, fresh.epoch));
        }
        if let Some(committed) = &fresh.committed
            && self.link(committed, *first, fresh.epoch)
        {
            lessons.linked = Some(*first);
        }
        lessons
    }

    async fn text_of(&self, tenant: &TenantId, entry: EntryId) -> Option<String> {
        let meta = self.shelf.get(tenant, entry, self.clock.now_ms())?;
        let body = match self.shelf.body(entry) {
            Some(body) => body,
            None => self.fetch(tenant, entry).await.ok()?,
        };
        match body.as_ref() {
            Body::Completion(replay) => answer_text(Dialect::from_name(meta.dialect), replay.body()),
            Body::Item(_) => None,
        }
    }

    /// Takes a label in, for the learner and for the decision's row.
    pub(super) fn label(&self, considered: &Considered, right: bool, source: Source) {
        let Some(chosen) = considered.chosen() else { return };
        let observation = Observation { inputs: chosen.inputs, right };
        self.learn(&considered.tenant, &considered.model, observation, source, considered.budget);
        let label = DecisionWrite::Label { request: considered.request, right, label: source.as_str().into() };
        if self.writer.decision(label).is_err() {
            tracing::debug!("the queue of decisions is full: a label is learnt but not recorded");
        }
    }

    /// Takes an observation in.
    pub(super) fn learn(&self, tenant: &TenantId, model: &str, observation: Observation, source: Source, budget: f64) {
        let seat = self.learners.of(tenant, model);
        let (fit_due, turn) = seat.lock().label(observation, source, budget);
        seat.changed(fit_due);
        self.metrics
            .learning
            .labels
            .with_label_values(&[source.as_str(), if observation.right { "right" } else { "wrong" }])
            .inc();
        if source == Source::Audit {
            self.metrics.learning.checked(tenant.as_str(), observation.right);
        }
        if let Some(turn) = turn {
            self.tell(tenant, model, turn);
        }
    }

    fn tell(&self, tenant: &TenantId, model: &str, Turn { from, to, audited }: Turn) {
        let (from, to) = (from.as_str(), to.as_str());
        self.metrics.learning.turn(tenant.as_str(), to);
        tracing::warn!(
            %tenant,
            model,
            from,
            to,
            wrong_of_hits = format!("{:.4}", audited.share),
            low = format!("{:.4}", audited.low),
            high = format!("{:.4}", audited.high),
            "the error budget changes how the semantic tier serves"
        );
    }

    /// Moves the prompt of a fresh answer into a group with the same answer, and drops the fresh copy.
    fn link(&self, committed: &Committed, to: EntryId, epoch: Epoch) -> bool {
        let (entry, point) = (&committed.entry, &committed.point);
        if to == entry.id || point.prompt.is_none() {
            return false;
        }
        let Ok(_admission) = self.admit(epoch, entry, std::slice::from_ref(point)) else { return false };
        let _one_at_a_time = self.reshaping();
        let now = self.clock.now_ms();
        let Some(target) = self.shelf.get(&entry.tenant, to, now) else { return false };
        let (Some(tags), true) = (union(&target.tags, &entry.tags), target.points.len() < MOST_POINTS) else {
            return false;
        };
        // The group may not outlive what this caller asked for.
        if target.expires_at > entry.expires_at {
            return false;
        }
        let Some(own) = self.shelf.forget(&entry.tenant, entry.id) else { return false };
        let contradicts = self.contradictions(point.prompt.as_deref().unwrap_or_default(), &target);
        let joined = self.shelf.change(&entry.tenant, to, |target| {
            let mut joined = target.clone();
            joined.absorb(&own, tags.clone());
            joined.waivers.add(contradicts);
            Some(joined)
        });
        let Some((_, gone)) = joined else {
            self.points.remove(&own.points);
            return false;
        };
        self.points.lead(&own.points, to);
        self.drop_all(&gone);
        let link = EntryWrite::Link {
            tenant: entry.tenant.clone(),
            point: point.id,
            from: entry.id,
            to,
            contradicts: contradicts.bits(),
            tags,
        };
        if self.writer.entry(link).is_err() {
            tracing::debug!("the write queue is full: a link does not survive a restart");
        }
        self.metrics.learning.links.with_label_values(&["linked"]).inc();
        true
    }

    /// Makes one group of two that have the same answer.
    fn merge(&self, tenant: &TenantId, from: EntryId, to: EntryId, epoch: Epoch) -> bool {
        // What was taken out meanwhile may have been half of this; another miss will tell again.
        let Ok(_admission) = self.admit_any(epoch) else { return false };
        let _one_at_a_time = self.reshaping();
        let now = self.clock.now_ms();
        let (Some(source), Some(target)) = (self.shelf.get(tenant, from, now), self.shelf.get(tenant, to, now)) else {
            return false;
        };
        let Some(tags) = union(&target.tags, &source.tags) else { return false };
        if target.expires_at > source.expires_at || source.points.len() + target.points.len() > MOST_POINTS {
            return false;
        }
        let Some(source) = self.shelf.forget(tenant, from) else { return false };
        let joined = self.shelf.change(tenant, to, |target| {
            let mut joined = target.clone();
            joined.absorb(&source, tags.clone());
            Some(joined)
        });
        let Some((_, gone)) = joined else {
            self.points.remove(&source.points);
            return false;
        };
        self.points.lead(&source.points, to);
        self.drop_all(&gone);
        if self.writer.entry(EntryWrite::Merge { tenant: tenant.clone(), from, to, tags }).is_err() {
            tracing::debug!("the write queue is full: a merge does not survive a restart");
        }
        self.metrics.learning.links.with_label_values(&["merged"]).inc();
        true
    }

    /// Takes one prompt out of its group, for good. Returns whether it was there.
    pub(super) fn unlink(&self, tenant: &TenantId, entry: EntryId, point: PointId) -> bool {
        let _one_at_a_time = self.reshaping();
        let Some(meta) = self.shelf.get(tenant, entry, self.clock.now_ms()) else { return false };
        let Some(at) = meta.points.iter().position(|id| *id == point) else { return false };
        let fingerprint = self.points.get(tenant, point).map(|point| point.fingerprint);
        self.removed.note(entry, self.clock.now_ms());
        self.take_back(fingerprint.as_slice());
        if meta.points.len() == 1 {
            self.shelf.forget(tenant, entry);
        } else {
            self.shelf.change(tenant, entry, |meta| {
                let mut left = meta.clone();
                left.points.remove(at);
                left.fingerprints.retain(|key| Some(*key) != fingerprint);
                Some(left)
            });
        }
        self.points.remove(&[point]);
        let drop = EntryWrite::DropPoint { tenant: tenant.clone(), entry, point };
        if self.writer.entry(drop).is_err() {
            tracing::warn!(%entry, "the write queue is full: an unlinked prompt may come back with a restart");
        }
        self.metrics.learning.links.with_label_values(&["unlinked"]).inc();
        true
    }

    /// The guards that object between a prompt and every prompt of a group that has the same answer.
    fn contradictions(&self, prompt: &str, group: &Meta) -> GuardSet {
        let new = Features::of(prompt);
        let all: GuardSet = Guard::ALL.into_iter().collect();
        let points = group.points.iter().filter_map(|id| self.points.get(&group.tenant, *id)).take(COMPARED);
        let mut any = false;
        let objections = points.fold(all, |left, point| {
            any = true;
            left.and(Guards::all().objections(&new, point.features()))
        });
        if any { objections } else { GuardSet::default() }
    }
}

impl Meta {
    /// Takes over the prompts of another answer that says the same.
    fn absorb(&mut self, other: &Self, tags: Vec<(String, String)>) {
        self.fingerprints.extend(&other.fingerprints);
        self.points.extend(&other.points);
        self.own &= other.own;
        self.bytes = self.bytes.saturating_add(other.bytes.saturating_sub(other.body_bytes));
        for writer in &other.writers {
            if self.writers.len() < MOST_WRITERS && !self.writers.contains(writer) {
                self.writers.push(writer.clone());
            }
        }
        self.tags = tags;
    }
}

/// Both lists, each tag once; nothing if that is too much.
fn union(one: &[(String, String)], other: &[(String, String)]) -> Option<Vec<(String, String)>> {
    let mut all = one.to_vec();
    all.extend(other.iter().filter(|tag| !one.contains(tag)).cloned());
    (all.len() <= MOST_TAGS).then_some(all)
}
