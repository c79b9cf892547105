//! Roll-ups of the ledger, and corrections of what its rows say.
//!
//! Roll-ups are made from the rows, in the transaction that adds them: a row is in both or in neither, and one that is there
//! already adds nothing to either. Corrections are rows of their own beside the ledger, which is never changed: both prices stay.

use std::collections::BTreeMap;

use super::traits::BoxFuture;
use super::{LedgerRow, Tokens};
use crate::clock::UnixMs;
use crate::ids::{RequestId, TenantId};

/// What a report can be grouped and narrowed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dimension {
    /// Who.
    Tenant,
    /// With which virtual key.
    Key,
    /// End user named by the caller.
    User,
    /// Model asked for.
    Model,
    /// A tag, as `name=value`.
    Tag,
    /// HTTP method and path.
    Route,
}

/// Length of a report's time slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// An hour.
    Hour,
    /// A day in UTC.
    Day,
}

impl Slot {
    /// Its length, milliseconds.
    pub fn ms(self) -> u64 {
        match self {
            Self::Hour => 3_600_000,
            Self::Day => 86_400_000,
        }
    }
}

/// A question to the roll-ups.
///
/// Users and tags are rolled up by day and apart from each other and from routes, so that no combination can make the roll-ups
/// as large as the ledger: a question names one of user, tag and route at most, in `by` and `only` together; others are refused
/// by [`UsageAsk::check`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageAsk {
    /// From this time on; a multiple of [`UsageAsk::grain`].
    pub since: UnixMs,
    /// Before this time; a multiple of [`UsageAsk::grain`].
    pub until: UnixMs,
    /// Groups, in the order of the columns.
    pub by: Vec<Dimension>,
    /// Whether each slot of time is a group of its own.
    pub slot: Option<Slot>,
    /// Only rows with these values.
    pub only: BTreeMap<Dimension, String>,
    /// Only tags of this name are groups; for [`Dimension::Tag`] in `by`.
    pub tag_name: Option<String>,
    /// Most groups; the dearest are kept. 0 is all.
    pub limit: u32,
    /// Most rows, whichever they are: one more than fit in an answer, so that memory is bounded and too many are noticed. 0 is all.
    pub most_rows: u32,
}

impl UsageAsk {
    /// What `since` and `until` are multiples of: days for questions about users and tags, hours for all others.
    pub fn grain(&self) -> Slot {
        let names = |dimension| self.by.contains(&dimension) || self.only.contains_key(&dimension);
        if names(Dimension::User) || names(Dimension::Tag) { Slot::Day } else { Slot::Hour }
    }

    /// Whether the roll-ups can answer it.
    ///
    /// # Errors
    /// Why they cannot, and what to ask instead.
    pub fn check(&self) -> Result<(), UsageAskError> {
        let of_a_set = [Dimension::User, Dimension::Tag, Dimension::Route];
        let named = of_a_set.into_iter().filter(|set| self.by.contains(set) || self.only.contains_key(set)).count();
        if named > 1 {
            return Err(UsageAskError::Together);
        }
        if self.by.iter().enumerate().any(|(at, one)| self.by.iter().take(at).any(|other| other == one)) {
            return Err(UsageAskError::Twice);
        }
        if self.tag_name.is_some() && !self.by.contains(&Dimension::Tag) {
            return Err(UsageAskError::TagName);
        }
        if self.only.get(&Dimension::Tag).is_some_and(|tag| !tag.contains('=')) {
            return Err(UsageAskError::TagValue);
        }
        let grain = self.grain();
        if grain == Slot::Day && self.slot == Some(Slot::Hour) {
            return Err(UsageAskError::Hours);
        }
        if !self.since.is_multiple_of(grain.ms()) || !self.until.is_multiple_of(grain.ms()) {
            return Err(UsageAskError::Grain(match grain {
                Slot::Hour => "full hours",
                Slot::Day => "midnights in UTC",
            }));
        }
        if self.since > self.until {
            return Err(UsageAskError::Backwards);
        }
        Ok(())
    }
}

/// A question that the roll-ups cannot answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UsageAskError {
    /// See [`UsageAsk`].
    #[error("user, tag and route are summed apart from each other; ask for one of them at a time")]
    Together,
    /// A dimension is there twice.
    #[error("a report cannot be grouped by the same thing twice; name each once")]
    Twice,
    /// A name without groups.
    #[error("the name of a tag narrows groups by tag; group by tag too, or leave the name out")]
    TagName,
    /// Not a tag.
    #[error("a tag to narrow a report to is `name=value`; give both")]
    TagValue,
    /// Too fine.
    #[error("users and tags are summed by day; ask for days instead of hours")]
    Hours,
    /// Between two slots.
    #[error("a report about this begins and ends at {0}; move its times there")]
    Grain(&'static str),
    /// It ends before it begins.
    #[error("a report ends after it begins; exchange the two times")]
    Backwards,
}

/// One group of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageRow {
    /// Start of its slot, if the question has slots.
    pub slot: Option<UnixMs>,
    /// Values of the dimensions asked for, in that order; `None` if the requests had none.
    pub group: Vec<Option<String>>,
    /// What was summed.
    pub sums: Sums,
}

/// Sums over ledger rows, corrections included. Money is in nano-dollars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Rows, those of checks excepted.
    pub requests: u64,
    /// Hits by equal request.
    pub hits_exact: u64,
    /// Hits by similar prompt.
    pub hits_semantic: u64,
    /// Requests that joined an equal one in flight.
    pub coalesced: u64,
    /// Refused by limits, budgets or rights.
    pub refused: u64,
    /// Failed or cancelled.
    pub failed: u64,
    /// Checks of hits.
    pub checks: u64,
    /// Rows whose cost is not known although an upstream was paid.
    pub unpriced: u64,
    /// Rows whose tokens were counted here.
    pub estimated: u64,
    /// Tokens that were billed, told or estimated.
    pub billed: Tokens,
    /// Tokens that were replayed from the cache.
    pub replayed: Tokens,
    /// Paid for answers.
    pub cost: i64,
    /// Paid for checks.
    pub check: i64,
    /// Paid for vectors.
    pub embedding: i64,
    /// Not paid because of the cache.
    pub saved_gross: i64,
    /// The same less what the cache cost.
    pub saved_net: i64,
}

impl Sums {
    /// All that was paid.
    pub fn total(&self) -> i64 {
        self.cost.saturating_add(self.check).saturating_add(self.embedding)
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            hits_exact: self.hits_exact.saturating_add(other.hits_exact),
            hits_semantic: self.hits_semantic.saturating_add(other.hits_semantic),
            coalesced: self.coalesced.saturating_add(other.coalesced),
            refused: self.refused.saturating_add(other.refused),
            failed: self.failed.saturating_add(other.failed),
            checks: self.checks.saturating_add(other.checks),
            unpriced: self.unpriced.saturating_add(other.unpriced),
            estimated: self.estimated.saturating_add(other.estimated),
            billed: self.billed.plus(&other.billed),
            replayed: self.replayed.plus(&other.replayed),
            cost: self.cost.saturating_add(other.cost),
            check: self.check.saturating_add(other.check),
            embedding: self.embedding.saturating_add(other.embedding),
            saved_gross: self.saved_gross.saturating_add(other.saved_gross),
            saved_net: self.saved_net.saturating_add(other.saved_net),
        }
    }
}

/// What a request's row says of money, and what it should say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Correction {
    /// The request.
    pub request: RequestId,
    /// When that began.
    pub started_at: UnixMs,
    /// When it was corrected.
    pub at: UnixMs,
    /// What the ledger says, earlier corrections included.
    pub before: Rated,
    /// What it says from now on.
    pub after: Rated,
}

impl Correction {
    /// As it is made of `row`, which has been corrected by `earlier` ones; nothing if the ledger says something else than `before`, or
    /// if it is made already. It is later than the one before it, even if the clock of whoever makes it is not.
    pub(super) fn made(&self, row: &LedgerRow, earlier: &[Self]) -> Option<Self> {
        let time = super::forms::stored;
        let last = earlier.last();
        let follows = match last {
            Some(last) => self.before == last.after,
            None => self.before == Rated::of(row),
        };
        let again = |one: &Self| (time(one.at), &one.before, &one.after) == (time(self.at), &self.before, &self.after);
        if !follows || time(self.started_at) != time(row.started_at) || earlier.iter().any(again) {
            return None;
        }
        let at = last.map_or(self.at, |last| self.at.max(last.at.saturating_add(1)));
        Some(Self { at, ..self.clone() })
    }
}

/// The money of one request, nano-dollars; `None` is not known. As in [`LedgerRow`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rated {
    /// [`LedgerRow::cost_nano_usd`].
    pub cost: Option<i64>,
    /// [`LedgerRow::embedding_nano_usd`].
    pub embedding: Option<i64>,
    /// [`LedgerRow::saved_gross_nano_usd`].
    pub saved_gross: Option<i64>,
    /// [`LedgerRow::saved_nano_usd`].
    pub saved_net: Option<i64>,
    /// [`LedgerRow::price_version`].
    pub price_version: Option<String>,
}

impl Rated {
    /// As the row was written.
    pub fn of(row: &LedgerRow) -> Self {
        Self {
            cost: row.cost_nano_usd,
            embedding: row.embedding_nano_usd,
            saved_gross: row.saved_gross_nano_usd,
            saved_net: row.saved_nano_usd,
            price_version: row.price_version.clone(),
        }
    }
}

/// How far the time in a row's id may be from the one in the row, milliseconds.
const APART: u64 = 3_600_000;

/// Bytes before those of all rows that began in this time, and the last that such a row may have: ids lead with the time at which they
/// were made, so a walk through a day need not begin at the first row there is, nor end at the last.
pub(super) fn ids_between(since: UnixMs, until: UnixMs) -> (Vec<u8>, Vec<u8>) {
    const LATEST: u64 = (1 << 48) - 1;
    let time = |ms: u64| ms.min(LATEST).to_be_bytes().into_iter().skip(2);
    let first = match since.saturating_sub(APART) {
        // No id sorts before nothing.
        0 => Vec::new(),
        ms => time(ms).collect(),
    };
    (first, time(until.saturating_add(APART)).chain([u8::MAX; 10]).collect())
}

/// Rounds of [`UsageStore::fold`] at a start: enough for what a short stop has left.
const AT_START: u32 = 25;

/// Brings together what was added before there were sums, or by an older program. A start neither waits for all of it nor fails for
/// it: reports lack the rest until the sweep has done it.
pub(super) async fn fold_at_start(store: &dyn UsageStore) {
    for _ in 0..AT_START {
        match store.fold().await {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "sums of the ledger cannot be brought together now; reports lack some rows until they are");
                return;
            }
        }
    }
    tracing::info!("sums of the ledger are brought together in the background; reports lack some rows until they are");
}

/// Reports and corrections.
pub trait UsageStore: Send + Sync {
    /// The groups of a question, by slot and then dearest first. It counts every row that has been added and every correction
    /// made before, but those rows that an older program has added since the last [`UsageStore::fold`].
    ///
    /// A group has the text `other` in the place of models, users, routes or tags where a tenant has used thousands in a slot.
    fn usage<'a>(&'a self, ask: &'a UsageAsk) -> BoxFuture<'a, Vec<UsageRow>>;

    /// Adds corrections to the ledger and their differences to the roll-ups, in one transaction. One whose `before` is not what
    /// the ledger says, or that is made already, is left out. One that is not later than the one before it gets the time after that.
    /// Returns how many were made.
    fn correct<'a>(&'a self, corrections: &'a [Correction]) -> BoxFuture<'a, u64>;

    /// Corrections of one request, oldest first.
    fn corrections(&self, request: RequestId) -> BoxFuture<'_, Vec<Correction>>;

    /// Up to `limit` corrections by request and time, those that follow `after`. An empty page is the end.
    fn correction_page(&self, after: Option<(RequestId, UnixMs)>, limit: u32) -> BoxFuture<'_, Vec<Correction>>;

    /// Up to `limit` rows that started at `since` or later and before `until`, by request id, those that follow `after`, each
    /// with what the ledger says of its money now. An empty page is the end.
    fn rated_page<'a>(
        &'a self,
        tenant: Option<&'a TenantId>,
        since: UnixMs,
        until: UnixMs,
        after: Option<RequestId>,
        limit: u32,
    ) -> BoxFuture<'a, Vec<(LedgerRow, Rated)>>;

    /// Brings together what has been added, some of it; returns how much, so nothing is left when that is 0. Reports are the same
    /// before and after, but faster after. A store that has nothing to bring together does nothing.
    fn fold(&self) -> BoxFuture<'_, u64> {
        Box::pin(async { Ok(0) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_that_the_sums_cannot_answer_is_refused_and_says_what_to_ask_instead() {
        let day = Slot::Day.ms();
        let good = UsageAsk { since: day, until: 2 * day, by: vec![Dimension::Tag], ..UsageAsk::default() };
        assert_eq!((good.check(), good.grain()), (Ok(()), Slot::Day));
        let routes = UsageAsk { until: 2 * day + Slot::Hour.ms(), by: vec![Dimension::Route], ..good.clone() };
        assert_eq!((routes.check(), routes.grain()), (Ok(()), Slot::Hour));
        let only = |dimension, text: &str| BTreeMap::from([(dimension, text.to_owned())]);
        let bad = [
            (UsageAsk { only: only(Dimension::User, "u"), ..good.clone() }, UsageAskError::Together),
            (UsageAsk { by: vec![Dimension::Key, Dimension::Key], ..good.clone() }, UsageAskError::Twice),
            (UsageAsk { tag_name: Some("team".into()), ..routes.clone() }, UsageAskError::TagName),
            (UsageAsk { only: only(Dimension::Tag, "team"), ..good.clone() }, UsageAskError::TagValue),
            (UsageAsk { slot: Some(Slot::Hour), ..good.clone() }, UsageAskError::Hours),
            (UsageAsk { until: routes.until, ..good.clone() }, UsageAskError::Grain("midnights in UTC")),
            (UsageAsk { since: 1, ..routes }, UsageAskError::Grain("full hours")),
            (UsageAsk { since: 3 * day, ..good }, UsageAskError::Backwards),
        ];
        for (ask, error) in bad {
            assert_eq!(ask.check(), Err(error), "{ask:?}");
        }
    }

    #[test]
    fn rows_of_a_time_are_between_the_ids_of_that_time_and_others_are_not() {
        let (begin, end) = (1_795_651_200_000, 1_795_737_600_000);
        let (first, last) = ids_between(begin, end);
        let within = |at| {
            let id = RequestId::at(at).to_bytes().to_vec();
            id > first && id <= last
        };
        assert!(within(begin) && within(end - 1));
        assert!(!within(begin - 2 * APART) && !within(end + 2 * APART));
        let (first, last) = ids_between(0, u64::MAX);
        assert_eq!((first, last), (Vec::new(), vec![u8::MAX; 16]));
    }

    /// One whose sums are never brought together.
    struct Endless {
        asked: std::sync::atomic::AtomicU32,
        fails: bool,
    }

    impl UsageStore for Endless {
        fn fold(&self) -> BoxFuture<'_, u64> {
            self.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Box::pin(async { if self.fails { Err(super::super::StoreError::Closed) } else { Ok(7) } })
        }

        fn usage<'a>(&'a self, _: &'a UsageAsk) -> BoxFuture<'a, Vec<UsageRow>> {
            unreachable!()
        }

        fn correct<'a>(&'a self, _: &'a [Correction]) -> BoxFuture<'a, u64> {
            unreachable!()
        }

        fn corrections(&self, _: RequestId) -> BoxFuture<'_, Vec<Correction>> {
            unreachable!()
        }

        fn correction_page(&self, _: Option<(RequestId, UnixMs)>, _: u32) -> BoxFuture<'_, Vec<Correction>> {
            unreachable!()
        }

        fn rated_page<'a>(
            &'a self,
            _: Option<&'a TenantId>,
            _: UnixMs,
            _: UnixMs,
            _: Option<RequestId>,
            _: u32,
        ) -> BoxFuture<'a, Vec<(LedgerRow, Rated)>> {
            unreachable!()
        }
    }

    #[tokio::test]
    async fn a_start_goes_on_although_sums_are_left_or_fail() {
        for (fails, rounds) in [(false, AT_START), (true, 1)] {
            let store = Endless { asked: 0.into(), fails };
            fold_at_start(&store).await;
            assert_eq!(store.asked.into_inner(), rounds);
        }
    }
}
