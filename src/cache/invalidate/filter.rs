//! Which answers are meant: a filter in words, and the same made ready to be compared.
//!
//! All parts that are given must hold. Parts about an entry (tenant, model, tags, age …) are compared with its metadata,
//! `answer_text` with its body. `text` and `near` are about points: one and the same prompt must meet both, and its answer
//! is then meant with all its other prompts, because an answer that a matching prompt can get must not be served to
//! anyone.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cache::outcome::Tier;
use crate::cache::shelf::Meta;
use crate::dialect::Dialect;
use crate::ids::{EntryId, KeyId, TenantId};
use crate::store::{Entry, EntryFilter, Point};

/// Radius of [`Near`] if none is given: the floor below which nothing is served by similarity either.
pub const DEFAULT_RADIUS: f32 = 0.80;

/// Which entries are meant. All parts that are given must hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    /// Owner.
    pub tenant: Option<TenantId>,
    /// This entry.
    pub id: Option<EntryId>,
    /// Model asked for.
    pub model: Option<String>,
    /// `x-remora-namespace`.
    pub namespace: Option<String>,
    /// Each of them is one of its `x-remora-tags`.
    pub tags: Vec<(String, String)>,
    /// Key whose requests made them.
    pub writer: Option<String>,
    /// Wire format.
    pub dialect: Option<Dialect>,
    /// `Semantic`: others than equal requests can find it. `Exact`: only they can.
    pub tier: Option<Tier>,
    /// At least this old.
    pub older_than: Option<Duration>,
    /// Less than this old.
    pub younger_than: Option<Duration>,
    /// A stored prompt contains this, in upper or lower case.
    pub text: Option<String>,
    /// The stored answer contains this, in upper or lower case.
    pub answer_text: Option<String>,
    /// A stored prompt is near this.
    pub near: Option<Near>,
    /// Really all, if nothing else is given.
    pub all: bool,
}

/// Everything about a subject.
#[derive(Debug, Clone, PartialEq)]
pub struct Near {
    /// The subject, as a user would ask about it.
    pub text: String,
    /// Least cosine between it and a prompt, within 0..=1.
    pub radius: f32,
}

impl Filter {
    /// Whether nothing narrows the filter.
    pub fn is_open(&self) -> bool {
        *self == Self { all: self.all, ..Self::default() }
    }

    /// The filter for other replicas; see [`Filter::from_json`].
    pub(crate) fn to_json(&self) -> String {
        // A new part must be told to other replicas too.
        let Self {
            tenant,
            id,
            model,
            namespace,
            tags,
            writer,
            dialect,
            tier,
            older_than,
            younger_than,
            text,
            answer_text,
            near,
            all,
        } = self;
        let millis = |duration: &Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let told = Told {
            tenant: tenant.as_ref().map(|tenant| tenant.as_str().to_owned()),
            id: id.map(|id| id.to_string()),
            model: model.clone(),
            namespace: namespace.clone(),
            tags: tags.clone(),
            writer: writer.clone(),
            dialect: dialect.map(|dialect| dialect.as_str().to_owned()),
            tier: tier.map(|tier| tier.as_str().to_owned()),
            older_than_ms: older_than.as_ref().map(millis),
            younger_than_ms: younger_than.as_ref().map(millis),
            text: text.clone(),
            answer_text: answer_text.clone(),
            near: near.as_ref().map(|near| (near.text.clone(), near.radius.to_bits())),
            all: *all,
        };
        serde_json::to_string(&told).unwrap_or_default()
    }

    /// A filter that another replica told. `None` if it has a part that this program does not know.
    pub(in crate::cache) fn from_json(text: &str) -> Option<Self> {
        let told: Told = serde_json::from_str(text).ok()?;
        Some(Self {
            tenant: told.tenant.map(TenantId::new),
            id: told.id.map(|id| id.parse()).transpose().ok()?,
            model: told.model,
            namespace: told.namespace,
            tags: told.tags,
            writer: told.writer,
            dialect: known(told.dialect, known_dialect)?,
            tier: known(told.tier, known_tier)?,
            older_than: told.older_than_ms.map(Duration::from_millis),
            younger_than: told.younger_than_ms.map(Duration::from_millis),
            text: told.text,
            answer_text: told.answer_text,
            near: told.near.map(|(text, radius)| Near { text, radius: f32::from_bits(radius) }),
            all: told.all,
        })
    }

    /// What can be told from the metadata alone.
    pub(in crate::cache) fn holds(&self, facts: &Facts<'_>, now: u64) -> bool {
        let age = Duration::from_millis(now.saturating_sub(facts.created_at));
        self.tenant.as_ref().is_none_or(|tenant| tenant == facts.tenant)
            && self.id.is_none_or(|id| id == facts.id)
            && self.model.as_deref().is_none_or(|model| model == facts.model)
            && self.namespace.as_deref().is_none_or(|namespace| namespace == facts.namespace)
            && self.tags.iter().all(|tag| facts.tags.contains(tag))
            && self.writer.as_deref().is_none_or(|writer| writer == facts.writer.as_str())
            && self.dialect.is_none_or(|dialect| dialect.as_str() == facts.dialect)
            && self.older_than.is_none_or(|least| age >= least)
            && self.younger_than.is_none_or(|limit| age < limit)
    }

    /// As much of it as the store can filter by.
    pub(super) fn stored(&self) -> EntryFilter {
        EntryFilter {
            model: self.model.clone(),
            namespace: self.namespace.clone(),
            tag: self.tags.first().cloned(),
            writer: self.writer.as_deref().map(KeyId::new),
        }
    }
}

/// A [`Filter`] on its way to other replicas. The radius is told by its bits, to be the same everywhere.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Told {
    tenant: Option<String>,
    id: Option<String>,
    model: Option<String>,
    namespace: Option<String>,
    tags: Vec<(String, String)>,
    writer: Option<String>,
    dialect: Option<String>,
    tier: Option<String>,
    older_than_ms: Option<u64>,
    younger_than_ms: Option<u64>,
    text: Option<String>,
    answer_text: Option<String>,
    near: Option<(String, u32)>,
    all: bool,
}

/// `None` only if there is a name that stands for nothing.
fn known<T>(name: Option<String>, meaning: impl Fn(&str) -> Option<T>) -> Option<Option<T>> {
    match name {
        Some(name) => meaning(&name).map(Some),
        None => Some(None),
    }
}

fn known_dialect(name: &str) -> Option<Dialect> {
    Some(Dialect::from_name(name)).filter(|dialect| dialect.as_str() == name)
}

fn known_tier(name: &str) -> Option<Tier> {
    [Tier::Exact, Tier::Semantic].into_iter().find(|tier| tier.as_str() == name)
}

/// What of an entry is compared without looking at its points or its body.
pub(in crate::cache) struct Facts<'a> {
    id: EntryId,
    tenant: &'a TenantId,
    model: &'a str,
    namespace: &'a str,
    dialect: &'a str,
    writer: &'a KeyId,
    tags: &'a [(String, String)],
    created_at: u64,
}

impl<'a> From<&'a Meta> for Facts<'a> {
    fn from(meta: &'a Meta) -> Self {
        Self {
            id: meta.id,
            tenant: &meta.tenant,
            model: &meta.model,
            namespace: &meta.namespace,
            dialect: meta.dialect,
            writer: &meta.writer,
            tags: &meta.tags,
            created_at: meta.created_at,
        }
    }
}

impl<'a> From<&'a Entry> for Facts<'a> {
    fn from(entry: &'a Entry) -> Self {
        Self {
            id: entry.id,
            tenant: &entry.tenant,
            model: &entry.model,
            namespace: &entry.namespace,
            dialect: &entry.dialect,
            writer: &entry.writer,
            tags: &entry.tags,
            created_at: entry.created_at,
        }
    }
}

/// A filter ready to be compared: texts folded, the subject embedded.
#[derive(Debug, Clone)]
pub struct Selector {
    pub(super) filter: Filter,
    text: Option<String>,
    answer_text: Option<String>,
    /// Of the filter's `near`; unit norm, in `space`.
    vector: Option<Arc<[f32]>>,
    space: String,
}

impl Selector {
    /// `vector` is that of the filter's `near`, in the embedding space `space`.
    pub(super) fn new(filter: Filter, vector: Option<Arc<[f32]>>, space: String) -> Self {
        let (text, answer_text) = (filter.text.as_deref().map(folded), filter.answer_text.as_deref().map(folded));
        Self { filter, text, answer_text, vector, space }
    }

    /// Whether it may mean answers to requests of this tenant for this model in this namespace.
    pub(super) fn may_concern(&self, tenant: &TenantId, model: &str, namespace: &str) -> bool {
        let filter = &self.filter;
        filter.tenant.as_ref().is_none_or(|meant| meant == tenant)
            && filter.model.as_deref().is_none_or(|meant| meant == model)
            && filter.namespace.as_deref().is_none_or(|meant| meant == namespace)
    }

    /// Whether it means nothing: no part is given and neither is `all`.
    pub(super) fn is_void(&self) -> bool {
        self.filter.is_open() && !self.filter.all
    }

    /// Whether points must be looked at, besides the metadata.
    pub(super) fn needs_points(&self) -> bool {
        self.text.is_some() || self.filter.near.is_some()
    }

    /// Whether the answer itself must be looked at.
    pub(in crate::cache) fn needs_body(&self) -> bool {
        self.answer_text.is_some()
    }

    /// The vector that points are compared with, and the least cosine.
    pub(super) fn sphere(&self) -> Option<(&[f32], f32)> {
        Some((self.vector.as_deref()?, self.filter.near.as_ref()?.radius))
    }

    /// Whether an entry that can (or cannot) be found by other than equal requests is of the tier that is meant.
    pub(super) fn tier_holds(&self, has_words: bool) -> bool {
        self.filter.tier.is_none_or(|tier| (tier == Tier::Semantic) == has_words)
    }

    /// Whether the prompt has the text in it.
    pub(super) fn prompt_holds(&self, prompt: &str) -> bool {
        self.text.as_ref().is_none_or(|text| folded(prompt).contains(text))
    }

    /// Whether the answer has the text in it: in any string below `choices`, which is where all dialects with words keep
    /// them.
    pub(super) fn answer_holds(&self, body: &[u8]) -> bool {
        let Some(text) = &self.answer_text else { return true };
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        body.get("choices").is_some_and(|choices| any_string(choices, &|found| folded(found).contains(text)))
    }

    /// Whether an entry that is not on the shelf, or not yet, is meant. `points` are all of its points.
    pub(in crate::cache) fn means(&self, entry: &Entry, points: &[Point], now: u64) -> bool {
        !self.is_void()
            && self.filter.holds(&Facts::from(entry), now)
            && self.tier_holds(points.iter().any(|point| point.prompt.is_some()))
            && (!self.needs_points() || points.iter().any(|point| self.point_holds(point)))
            && self.answer_holds(&entry.body)
    }

    /// Whether an entry may be meant, of whose points nothing is known.
    pub(in crate::cache) fn may_mean(&self, entry: &Entry, now: u64) -> bool {
        !self.is_void() && self.filter.holds(&Facts::from(entry), now) && self.answer_holds(&entry.body)
    }

    fn point_holds(&self, point: &Point) -> bool {
        let Some(prompt) = &point.prompt else { return false };
        let near = self.sphere().is_none_or(|(vector, radius)| {
            let own = point.vector.as_deref().filter(|_| point.space.as_deref() == Some(self.space.as_str()));
            own.is_some_and(|own| cosine(own, vector) >= radius)
        });
        near && self.prompt_holds(prompt)
    }
}

/// For comparing without regard to upper and lower case.
fn folded(text: &str) -> String {
    text.to_lowercase()
}

/// The inner product of two vectors of norm 1.
fn cosine(a: &[f32], b: &[f32]) -> f32 {
    if a.len() == b.len() { a.iter().zip(b).map(|(a, b)| a * b).sum() } else { -1.0 }
}

fn any_string(value: &Value, wanted: &impl Fn(&str) -> bool) -> bool {
    match value {
        Value::String(text) => wanted(text),
        Value::Array(items) => items.iter().any(|item| any_string(item, wanted)),
        Value::Object(members) => members.values().any(|member| any_string(member, wanted)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_is_told_is_the_filter() {
        let full = Filter {
            tenant: Some(TenantId::new("t")),
            id: Some(EntryId::at(7)),
            model: Some("m".into()),
            namespace: Some(String::new()),
            tags: vec![("a".into(), "b=c".into()), ("a".into(), "\u{0}".into())],
            writer: Some("k".into()),
            dialect: Some(Dialect::Embeddings),
            tier: Some(Tier::Semantic),
            older_than: Some(Duration::from_millis(1_500)),
            younger_than: Some(Duration::ZERO),
            text: Some("Straße".into()),
            answer_text: Some("\"".into()),
            near: Some(Near { text: "refunds".into(), radius: 0.1 + 0.2 }),
            all: true,
        };
        for filter in [full, Filter::default(), Filter { all: true, ..Filter::default() }] {
            assert_eq!(Filter::from_json(&filter.to_json()), Some(filter));
        }
    }

    #[test]
    fn a_filter_with_a_part_that_is_not_known_is_not_understood() {
        let told = Filter::default().to_json();
        assert!(Filter::from_json(&told.replacen('{', "{\"colour\":\"red\",", 1)).is_none());
        assert!(Filter::from_json(&told.replace("\"tier\":null", "\"tier\":\"third\"")).is_none());
        assert!(Filter::from_json(&told.replace("\"dialect\":null", "\"dialect\":\"latin\"")).is_none());
        assert!(Filter::from_json("").is_none());
    }
}
