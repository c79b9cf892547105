//! What ledger rows and corrections add to the roll-ups: pure, so that both databases sum alike.
//!
//! Sums are kept in sets, four fine ones and a coarse one beside each for reports that name nothing finer than the tenant, so that no combination of what callers may choose freely can make them as large as the ledger.
//! Within a set, what one tenant adds to one slot is bounded too: beyond that callers' texts become [`OTHER`], and no sum is
//! lost. Each program counts the groups that it has added itself, so the bound holds for each program that writes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};

use super::forms::stored;
use super::{AUDIT_OF, Dimension, LedgerRow, Rated, Slot, Sums, Tokens, UsageAsk, UsageRow};
use crate::ids::KeyId;

/// In the place of a text where a tenant has used too many.
pub(super) const OTHER: &str = "other";
/// Longest text of a group, bytes: an index has room for a few such.
const TEXT: usize = 256;
/// Groups that are remembered of all tenants and slots together; the oldest slots are forgotten first.
const REMEMBERED: usize = 1 << 19;

/// A set of groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    /// By hour and route.
    HourRoute,
    /// By day and route.
    DayRoute,
    /// By day and user.
    DayUser,
    /// By day and tag. A row with several tags is in several groups, one without any in one without.
    DayTag,
    /// By hour and tenant alone: a report that names no key, model or route reads hundreds of times less here.
    HourTenant,
    /// By day and tenant alone.
    DayTenant,
    /// By day, tenant and user, whatever the key and model.
    DayTenantUser,
    /// By day, tenant and tag, whatever the key and model.
    DayTenantTag,
}

impl Kind {
    /// Its number in the database.
    pub(super) fn code(self) -> i16 {
        match self {
            Self::HourRoute => 1,
            Self::DayRoute => 2,
            Self::DayUser => 3,
            Self::DayTag => 4,
            Self::HourTenant => 5,
            Self::DayTenant => 6,
            Self::DayTenantUser => 7,
            Self::DayTenantTag => 8,
        }
    }

    fn slot(self) -> Slot {
        match self {
            Self::HourRoute | Self::HourTenant => Slot::Hour,
            _ => Slot::Day,
        }
    }

    /// Groups of one tenant in one slot.
    pub(super) fn most(self) -> usize {
        match self {
            Self::HourRoute | Self::DayRoute | Self::HourTenant | Self::DayTenant => 2_000,
            Self::DayUser | Self::DayTag | Self::DayTenantUser | Self::DayTenantTag => 10_000,
        }
    }

    /// Whether keys and models are told apart.
    fn is_fine(self) -> bool {
        matches!(self, Self::HourRoute | Self::DayRoute | Self::DayUser | Self::DayTag)
    }

    /// Whether its groups are tags.
    fn has_tags(self) -> bool {
        matches!(self, Self::DayTag | Self::DayTenantTag)
    }

    /// The set with the hours of a set of days, where questions may begin and end between days.
    fn hours(self) -> Option<Self> {
        match self {
            Self::DayRoute => Some(Self::HourRoute),
            Self::DayTenant => Some(Self::HourTenant),
            _ => None,
        }
    }
}

/// What the rows of one sum have in common; empty where they have nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Group {
    pub(super) kind: Kind,
    /// Start of the slot, as stored.
    pub(super) slot: i64,
    pub(super) tenant: String,
    pub(super) key: String,
    pub(super) model: String,
    /// Route, user or name of a tag.
    pub(super) label: String,
    /// Value of a tag.
    pub(super) value: String,
}

impl Group {
    /// The same with callers' texts replaced, at first by little.
    fn coarser(&self, step: u8) -> Self {
        let mut coarse = self.clone();
        let tags = self.kind.has_tags();
        if tags {
            coarse.value = OTHER.to_owned();
        }
        if step > 0 || !tags {
            coarse.label = OTHER.to_owned();
        }
        if step > 0 && self.kind.is_fine() {
            coarse.model = OTHER.to_owned();
        }
        coarse
    }
}

/// Number of sums.
pub(super) const MEASURES: usize = 34;
/// The sums as the databases name them, in the order of [`Delta`].
pub(super) const COLUMNS: [&str; MEASURES] = [
    "requests",
    "hits_exact",
    "hits_semantic",
    "coalesced",
    "refused",
    "failed",
    "checks",
    "unpriced",
    "estimated",
    "billed_input",
    "billed_cache_read",
    "billed_cache_write",
    "billed_cache_write_1h",
    "billed_output",
    "billed_reasoning",
    "billed_audio_input",
    "billed_audio_output",
    "billed_image_input",
    "billed_image_output",
    "replayed_input",
    "replayed_cache_read",
    "replayed_cache_write",
    "replayed_cache_write_1h",
    "replayed_output",
    "replayed_reasoning",
    "replayed_audio_input",
    "replayed_audio_output",
    "replayed_image_input",
    "replayed_image_output",
    "cost",
    "check_cost",
    "embedding",
    "saved_gross",
    "saved_net",
];

/// What is added to each sum; a correction may take something off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delta(pub(super) [i64; MEASURES]);

impl Delta {
    /// Of a row as it was written.
    pub(super) fn of_row(row: &LedgerRow) -> Self {
        let check = row.is_check();
        // What became of a check is its verdict, not an outcome of a request.
        let came = |outcome: &str| u64::from(!check && row.outcome == outcome);
        let semantic = row.tier.as_deref() == Some("semantic");
        let (billed, replayed) = match row.tokens_source.as_deref() {
            Some("replayed") => (Tokens::default(), row.tokens),
            Some(_) => (row.tokens, Tokens::default()),
            None => (Tokens::default(), Tokens::default()),
        };
        let cost = row.cost_nano_usd.unwrap_or(0);
        Self::of(&Sums {
            requests: u64::from(!check),
            hits_exact: if semantic { 0 } else { came("hit") },
            hits_semantic: if semantic { came("hit") } else { 0 },
            coalesced: came("coalesced"),
            refused: came("refused"),
            failed: came("failed") + came("cancelled"),
            checks: u64::from(check),
            unpriced: u64::from(row.is_unpriced()),
            estimated: u64::from(row.tokens_source.as_deref() == Some("estimated")),
            billed,
            replayed,
            cost: if check { 0 } else { cost },
            check: if check { cost } else { 0 },
            embedding: row.embedding_nano_usd.unwrap_or(0),
            saved_gross: row.saved_gross_nano_usd.unwrap_or(0),
            saved_net: row.saved_nano_usd.unwrap_or(0),
        })
    }

    /// Of a correction of `row` from `before` to `after`.
    pub(super) fn of_correction(row: &LedgerRow, before: &Rated, after: &Rated) -> Self {
        let rated = |rated: &Rated| {
            Self::of_row(&LedgerRow {
                cost_nano_usd: rated.cost,
                embedding_nano_usd: rated.embedding,
                saved_gross_nano_usd: rated.saved_gross,
                saved_nano_usd: rated.saved_net,
                ..row.clone()
            })
        };
        let (mut delta, taken) = (rated(after), rated(before));
        for (sum, off) in delta.0.iter_mut().zip(taken.0) {
            *sum = sum.saturating_sub(off);
        }
        delta
    }

    pub(super) fn of(sums: &Sums) -> Self {
        let Sums { requests, hits_exact, hits_semantic, coalesced, refused, failed, checks, unpriced, .. } = *sums;
        let Sums { estimated, billed, replayed, cost, check, embedding, saved_gross, saved_net, .. } = *sums;
        let counts = [requests, hits_exact, hits_semantic, coalesced, refused, failed, checks, unpriced, estimated];
        let counts = counts.into_iter().chain(billed.counts()).chain(replayed.counts()).map(stored);
        let money = [cost, check, embedding, saved_gross, saved_net];
        let mut delta = Self([0; MEASURES]);
        for (sum, value) in delta.0.iter_mut().zip(counts.chain(money)) {
            *sum = value;
        }
        delta
    }

    /// The sums, of which no count is below 0.
    pub(super) fn sums(self) -> Sums {
        let mut left = self.0.into_iter();
        let mut money = || left.next().unwrap_or(0);
        let mut count = || u64::try_from(money()).unwrap_or(0);
        let mut sums = Sums {
            requests: count(),
            hits_exact: count(),
            hits_semantic: count(),
            coalesced: count(),
            refused: count(),
            failed: count(),
            checks: count(),
            unpriced: count(),
            estimated: count(),
            billed: Tokens::of(std::array::from_fn(|_| count())),
            replayed: Tokens::of(std::array::from_fn(|_| count())),
            ..Sums::default()
        };
        sums.cost = money();
        sums.check = money();
        sums.embedding = money();
        sums.saved_gross = money();
        sums.saved_net = money();
        sums
    }

    /// Adds another to it.
    pub(super) fn add(&mut self, other: &Self) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum = sum.saturating_add(more);
        }
    }
}

/// What the rows of one transaction add, summed by group and in the order of the groups.
#[derive(Debug, Default)]
pub(super) struct Deltas(pub(super) BTreeMap<Group, Delta>);

impl Deltas {
    /// Adds a row as it was written.
    pub(super) fn add_row(&mut self, row: &LedgerRow, caps: &Caps) {
        self.add(row, &Delta::of_row(row), caps);
    }

    /// Adds what is said of a row in some set of groups.
    pub(super) fn add(&mut self, row: &LedgerRow, delta: &Delta, caps: &Caps) {
        // Two tags of a row may have become the same group, in which the row counts once.
        let groups: BTreeSet<Group> = groups_of(row).into_iter().map(|group| caps.admit(group)).collect();
        for group in groups {
            let sum = self.0.entry(group).or_insert(Delta([0; MEASURES]));
            sum.add(delta);
        }
    }
}

/// All groups that a row belongs to.
pub(super) fn groups_of(row: &LedgerRow) -> Vec<Group> {
    let group = |kind: Kind, label: &str, value: &str| {
        let at = stored(row.started_at);
        let fine = |text: Option<&str>| text.filter(|_| kind.is_fine()).unwrap_or_default().to_owned();
        Group {
            kind,
            slot: at - at % stored(kind.slot().ms()),
            tenant: row.tenant.as_ref().map_or(String::new(), |tenant| tenant.as_str().to_owned()),
            key: fine(row.key.as_ref().map(KeyId::as_str)),
            model: fine(row.model_asked.as_deref().map(cut)),
            label: cut(label).to_owned(),
            value: cut(value).to_owned(),
        }
    };
    let user = row.user.as_deref().unwrap_or_default();
    let mut groups = vec![
        group(Kind::HourRoute, &row.route, ""),
        group(Kind::DayRoute, &row.route, ""),
        group(Kind::DayUser, user, ""),
        group(Kind::HourTenant, "", ""),
        group(Kind::DayTenant, "", ""),
        group(Kind::DayTenantUser, user, ""),
    ];
    // The tag that says which request was checked has another value in each row: its groups would be the ledger again.
    let tags = row.tags.iter().filter(|(name, _)| name != AUDIT_OF);
    let mut tags: HashSet<(&str, &str)> = tags.map(|(name, value)| (cut(name), cut(value))).collect();
    if tags.is_empty() {
        tags.insert(("", ""));
    }
    for kind in [Kind::DayTag, Kind::DayTenantTag] {
        groups.extend(tags.iter().map(|(name, value)| group(kind, name, value)));
    }
    groups
}

/// A text as it is in a group.
pub(super) fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT)).unwrap_or(text)
}

/// Which groups this program has added, by slot, set and tenant.
#[derive(Debug, Default)]
pub(super) struct Caps(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    hash: RandomState,
    groups: BTreeMap<(i64, Kind), HashMap<String, HashSet<u64>>>,
    count: usize,
}

impl Caps {
    /// The group itself, or a coarser one if its tenant has used too many.
    fn admit(&self, group: Group) -> Group {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = &mut *seen;
        let hash = seen.hash.hash_one(&group);
        let known = seen.groups.entry((group.slot, group.kind)).or_default();
        let known = match known.get_mut(&group.tenant) {
            Some(known) => known,
            None => known.entry(group.tenant.clone()).or_default(),
        };
        if known.contains(&hash) {
            return group;
        }
        let admitted = if known.len() < group.kind.most() {
            group
        } else {
            // Models may be kept apart for a while yet; of keys there are only so many.
            let coarse = group.coarser(0);
            let room = known.contains(&seen.hash.hash_one(&coarse)) || known.len() < group.kind.most() * 2;
            if room { coarse } else { group.coarser(1) }
        };
        if known.insert(seen.hash.hash_one(&admitted)) {
            seen.count += 1;
        }
        while seen.count > REMEMBERED {
            let Some((_, oldest)) = seen.groups.pop_first() else { break };
            seen.count -= oldest.values().map(HashSet::len).sum::<usize>().min(seen.count);
        }
        admitted
    }
}

/// Where the answer to a question is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) kind: Kind,
    pub(super) since: i64,
    pub(super) until: i64,
}

/// The set that answers a question.
pub(super) fn kind_of(ask: &UsageAsk) -> Kind {
    let names = |dimension| ask.by.contains(&dimension) || ask.only.contains_key(&dimension);
    let fine = names(Dimension::Key) || names(Dimension::Model);
    if names(Dimension::User) {
        if fine { Kind::DayUser } else { Kind::DayTenantUser }
    } else if names(Dimension::Tag) {
        if fine { Kind::DayTag } else { Kind::DayTenantTag }
    } else {
        match (ask.slot == Some(Slot::Hour), fine || names(Dimension::Route)) {
            (true, true) => Kind::HourRoute,
            (true, false) => Kind::HourTenant,
            (false, true) => Kind::DayRoute,
            (false, false) => Kind::DayTenant,
        }
    }
}

/// Days where a question covers them whole, hours at its ends.
pub(super) fn parts_of(ask: &UsageAsk) -> Vec<Part> {
    let kind = kind_of(ask);
    let part = |kind, since, until| Part { kind, since: stored(since), until: stored(until) };
    let Some(hours) = kind.hours() else {
        return vec![part(kind, ask.since, ask.until)];
    };
    let day = Slot::Day.ms();
    let first = ask.since.div_ceil(day).saturating_mul(day);
    let last = ask.until - ask.until % day;
    let parts = if first < last {
        vec![part(hours, ask.since, first), part(kind, first, last), part(hours, last, ask.until)]
    } else {
        vec![part(hours, ask.since, ask.until)]
    };
    parts.into_iter().filter(|part| part.since < part.until).collect()
}

/// Columns of the roll-ups that a question groups by.
pub(super) fn columns_of(by: &[Dimension]) -> Vec<&'static str> {
    let mut columns = Vec::new();
    for dimension in by {
        columns.push(column_of(*dimension));
        if *dimension == Dimension::Tag {
            columns.push("value");
        }
    }
    columns
}

/// Columns and values that a question is narrowed to.
pub(super) fn filters_of(ask: &UsageAsk) -> Vec<(&'static str, String)> {
    let mut filters = Vec::new();
    for (dimension, value) in &ask.only {
        let column = column_of(*dimension);
        match (dimension, value.split_once('=')) {
            (Dimension::Tag, Some((name, value))) => {
                filters.push((column, cut(name).to_owned()));
                filters.push(("value", cut(value).to_owned()));
            }
            (Dimension::Tenant | Dimension::Key, _) => filters.push((column, value.clone())),
            _ => filters.push((column, cut(value).to_owned())),
        }
    }
    if let Some(name) = &ask.tag_name {
        filters.push(("label", cut(name).to_owned()));
    }
    filters
}

fn column_of(dimension: Dimension) -> &'static str {
    match dimension {
        Dimension::Tenant => "tenant",
        Dimension::Key => "key",
        Dimension::Model => "model",
        Dimension::User | Dimension::Route | Dimension::Tag => "label",
    }
}

/// The group of a report from the texts in [`columns_of`].
pub(super) fn group_of(by: &[Dimension], texts: impl IntoIterator<Item = String>) -> Vec<Option<String>> {
    let mut texts = texts.into_iter();
    let mut group = Vec::with_capacity(by.len());
    for dimension in by {
        let mut text = texts.next().filter(|text| !text.is_empty());
        if *dimension == Dimension::Tag {
            let value = texts.next().unwrap_or_default();
            text = text.map(|name| format!("{name}={value}"));
        }
        group.push(text);
    }
    group
}

/// Rows of a report in their order, the dearest groups only if the question is limited. A limit counts groups over all slots.
pub(super) fn ordered(ask: &UsageAsk, mut rows: Vec<UsageRow>) -> Vec<UsageRow> {
    let most = usize::try_from(ask.limit).unwrap_or(usize::MAX);
    if most > 0 && rows.len() > most {
        let mut totals: BTreeMap<&[Option<String>], i64> = BTreeMap::new();
        for row in &rows {
            let total = totals.entry(&row.group).or_default();
            *total = total.saturating_add(row.sums.total());
        }
        let mut totals: Vec<_> = totals.into_iter().collect();
        totals.sort_by_key(|(group, total)| (std::cmp::Reverse(*total), *group));
        let kept: HashSet<Vec<Option<String>>> = totals.iter().take(most).map(|(group, _)| group.to_vec()).collect();
        rows.retain(|row| kept.contains(&row.group));
    }
    rows.sort_by(|a, b| {
        let key = |row: &UsageRow| (row.slot, std::cmp::Reverse(row.sums.total()));
        key(a).cmp(&key(b)).then_with(|| a.group.cmp(&b.group))
    });
    rows
}
