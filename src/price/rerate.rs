//! What the ledger says of money, priced anew: after a price was wrong or missing.
//!
//! Rows of the ledger never change. Each row whose money is another now gets a correction beside it, so both stay. A row is priced as
//! of when it began, call by call, at the prices of today's book; what that has no price for stays as it is. A second run finds nothing.
//!
//! The saving of a hit is counted again only if the price of its model is another one (the digest in its version tells). Whether
//! the provider's prompt cache was warm is not in the row; it counts as warm if it is counted at all, which is too little where it was not.

use super::{PriceBook, PromptCache, Service};
use crate::clock::UnixMs;
use crate::config::glob_matches;
use crate::ids::{RequestId, TenantId};
use crate::store::{Attempt, Correction, LedgerRow, Rated, StoreError, Tokens, UsageStore};

/// Rows read at once.
const PAGE: u32 = 1_000;
/// Rows looked at in one run; the rest is for the next one.
const MOST: u64 = 50_000;

/// What is to be priced anew.
#[derive(Clone, Debug, Default)]
pub struct Rerate {
    /// Only rows of this tenant.
    pub tenant: Option<TenantId>,
    /// Only requests for models that match this glob; one that was not read is for the model that its answer names.
    pub model: Option<String>,
    /// Rows that began at this time or later.
    pub since: UnixMs,
    /// Rows that began before this time.
    pub until: UnixMs,
    /// Only rows behind this one: [`Rerated::next`] of the run before.
    pub after: Option<RequestId>,
    /// Nothing is written.
    pub dry_run: bool,
    /// The time of the corrections.
    pub now: UnixMs,
    /// What the provider's prompt cache counts as having been for a hit whose saving is counted again.
    pub prompt_cache: PromptCache,
}

/// Sums over the rows that were looked at, nano-dollars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Paid for answers and checks.
    pub cost: i64,
    /// Paid for vectors.
    pub embedding: i64,
    /// Saved gross.
    pub saved_gross: i64,
    /// Saved net.
    pub saved_net: i64,
    /// Rows whose cost is not known.
    pub unpriced: u64,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rerated {
    /// Rows that were asked for.
    pub rows: u64,
    /// Rows of which the ledger says something else now, or would in a run that writes.
    pub changed: u64,
    /// Rows that were corrected by somebody else meanwhile, and stay as those have made them; another run looks at them again.
    pub left_out: u64,
    /// What the ledger said.
    pub before: Amounts,
    /// What it says now, or would.
    pub after: Amounts,
    /// The last row that was looked at, if there may be more.
    pub next: Option<RequestId>,
}

impl Amounts {
    fn add(&mut self, row: &LedgerRow, rated: &Rated) {
        let Rated { cost, embedding, saved_gross, saved_net, price_version: _ } = rated;
        for (sum, amount) in [
            (&mut self.cost, cost),
            (&mut self.embedding, embedding),
            (&mut self.saved_gross, saved_gross),
            (&mut self.saved_net, saved_net),
        ] {
            *sum = sum.saturating_add(amount.unwrap_or(0));
        }
        let billed = row.tokens_source.as_deref().is_some_and(|source| source != "replayed");
        self.unpriced += u64::from(cost.is_none() && billed);
    }
}

/// Prices rows anew, up to a number of them; [`Rerated::next`] says where to go on.
///
/// # Errors
/// The store failed. What was corrected until then stays, and a run from the beginning does the rest.
pub async fn rerate(book: &PriceBook, store: &dyn UsageStore, ask: &Rerate) -> Result<Rerated, StoreError> {
    let mut told = Rerated { next: ask.after, ..Rerated::default() };
    let mut looked_at = 0;
    loop {
        let page = store.rated_page(ask.tenant.as_ref(), ask.since, ask.until, told.next, PAGE).await?;
        let Some((last, _)) = page.last() else {
            told.next = None;
            return Ok(told);
        };
        told.next = Some(last.request);
        looked_at += page.len() as u64;
        let mut corrections = Vec::new();
        for (row, before) in page {
            let model = row.model_asked.as_deref().or(row.model_answered.as_deref()).unwrap_or_default();
            if ask.model.as_deref().is_some_and(|glob| !glob_matches(glob, model)) {
                continue;
            }
            let after = anew(book, &row, &before, ask.prompt_cache);
            told.rows += 1;
            told.before.add(&row, &before);
            told.after.add(&row, &after);
            if after != before {
                let (request, started_at) = (row.request, row.started_at);
                corrections.push(Correction { request, started_at, at: ask.now, before, after });
            }
        }
        let meant = corrections.len() as u64;
        let made = if ask.dry_run || meant == 0 { meant } else { store.correct(&corrections).await? };
        told.changed += made;
        told.left_out += meant.saturating_sub(made);
        if looked_at >= MOST {
            return Ok(told);
        }
    }
}

/// A call that was billed.
struct Call<'a> {
    model: Option<&'a str>,
    tokens: Tokens,
    source: &'a str,
    service: Option<&'a str>,
}

impl<'a> Call<'a> {
    fn of(row: &'a LedgerRow, attempt: &'a Attempt) -> Option<Self> {
        let Attempt { model, tokens, tokens_source, service, .. } = attempt;
        Some(Self {
            model: model.as_deref().or(row.model_asked.as_deref()).or(row.model_answered.as_deref()),
            tokens: *tokens,
            source: tokens_source.as_deref()?,
            service: service.as_deref(),
        })
    }

    /// Of a row from before calls had rows of their own.
    fn whole(row: &'a LedgerRow) -> Option<Self> {
        let source = row.tokens_source.as_deref().filter(|source| *source != "replayed")?;
        let model = row.model_asked.as_deref().or(row.model_answered.as_deref());
        Some(Self { model, tokens: row.tokens, source, service: row.service.as_deref() })
    }
}

/// The money of a row at the prices of this book.
fn anew(book: &PriceBook, row: &LedgerRow, before: &Rated, prompt_cache: PromptCache) -> Rated {
    let mut version = before.price_version.clone();
    let mut sum = |calls: Vec<Call<'_>>, known: Option<i64>, telling: bool| {
        let mut sum = 0_i64;
        for call in &calls {
            let price = call.model.and_then(|model| book.price(model, row.started_at));
            let Some(price) = price.filter(|_| call.source != "unknown") else { return known };
            let Some(cost) = price.billed(&call.tokens, call.service) else { return known };
            sum = sum.saturating_add(cost.0);
            if telling {
                version = Some(price.version.to_string());
            }
        }
        if calls.is_empty() { known } else { Some(sum) }
    };
    let attempts = |embedding: bool| {
        let of_kind = row.attempts.iter().filter(move |attempt| (attempt.kind == "embedding") == embedding);
        of_kind.filter_map(|attempt| Call::of(row, attempt)).collect::<Vec<_>>()
    };
    let calls = if row.attempts.is_empty() { Call::whole(row).into_iter().collect() } else { attempts(false) };
    let cost = sum(calls, before.cost, true);
    let embedding = sum(attempts(true), before.embedding, false);
    let mut saved_gross = before.saved_gross;
    let replayed = row.model_asked.as_deref().filter(|_| row.tokens_source.as_deref() == Some("replayed"));
    if let Some(price) = replayed.and_then(|model| book.price(model, row.started_at)) {
        let same = saved_gross.is_some() && digest(before.price_version.as_deref()) == digest(Some(&price.version));
        if !same {
            let service = Service::from_name(row.service.as_deref());
            saved_gross = Some(price.cost(&price.without_us(&row.tokens, prompt_cache), service).0);
            version = Some(price.version.to_string());
        }
    }
    if (cost, embedding, saved_gross) == (before.cost, before.embedding, before.saved_gross) {
        return before.clone();
    }
    let check = if row.is_check() { cost } else { Some(0) };
    let saved_net = saved_gross
        .zip(embedding)
        .zip(check)
        .map(|((gross, embedding), check)| gross.saturating_sub(embedding).saturating_sub(check));
    Rated { cost, embedding, saved_gross, saved_net, price_version: version }
}

/// What of a version tells whether a price is the same.
fn digest(version: Option<&str>) -> Option<&str> {
    version?.rsplit_once('#').map(|(_, digest)| digest)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::store::sample::{row, tenant};
    use crate::store::{BoxFuture, UsageAsk, UsageRow};

    /// A ledger in memory.
    #[derive(Default)]
    struct Ledger {
        rows: Vec<LedgerRow>,
        corrections: Mutex<Vec<Correction>>,
    }

    impl Ledger {
        fn rated(&self, row: &LedgerRow) -> Rated {
            let corrections = self.corrections.lock().unwrap();
            let last = corrections.iter().rev().find(|correction| correction.request == row.request);
            last.map_or_else(|| Rated::of(row), |correction| correction.after.clone())
        }
    }

    impl UsageStore for Ledger {
        fn usage<'a>(&'a self, _: &'a UsageAsk) -> BoxFuture<'a, Vec<UsageRow>> {
            unreachable!()
        }

        fn correct<'a>(&'a self, corrections: &'a [Correction]) -> BoxFuture<'a, u64> {
            Box::pin(async move {
                let mut made = 0;
                for correction in corrections {
                    let row = self.rows.iter().find(|row| row.request == correction.request).unwrap();
                    if self.rated(row) == correction.before {
                        self.corrections.lock().unwrap().push(correction.clone());
                        made += 1;
                    }
                }
                Ok(made)
            })
        }

        fn corrections(&self, _: RequestId) -> BoxFuture<'_, Vec<Correction>> {
            unreachable!()
        }

        fn correction_page(&self, _: Option<(RequestId, UnixMs)>, _: u32) -> BoxFuture<'_, Vec<Correction>> {
            unreachable!()
        }

        fn rated_page<'a>(
            &'a self,
            tenant: Option<&'a TenantId>,
            since: UnixMs,
            until: UnixMs,
            after: Option<RequestId>,
            limit: u32,
        ) -> BoxFuture<'a, Vec<(LedgerRow, Rated)>> {
            let fits = move |row: &&LedgerRow| {
                (since..until).contains(&row.started_at)
                    && after.is_none_or(|after| row.request > after)
                    && tenant.is_none_or(|tenant| row.tenant.as_ref() == Some(tenant))
            };
            let page = self.rows.iter().filter(fits).take(limit as usize);
            let page: Vec<_> = page.map(|row| (row.clone(), self.rated(row))).collect();
            Box::pin(async { Ok(page) })
        }
    }

    fn book(models: &str) -> PriceBook {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("prices.json");
        std::fs::write(&path, format!(r#"{{"version":"ours","models":[{models}]}}"#)).unwrap();
        PriceBook::load(Some(&path)).unwrap()
    }

    /// 1,000 tokens of input and 100 of output that were billed.
    fn call(kind: &'static str, model: &str) -> Attempt {
        Attempt {
            number: 1,
            kind: kind.into(),
            started_at: 0,
            upstream: "openai".to_owned(),
            model: Some(model.to_owned()),
            status: Some(200),
            latency_us: 1,
            tokens: Tokens { input: 1_000, output: 100, ..Tokens::default() },
            tokens_source: Some("billed".into()),
            service: None,
            cost_nano_usd: None,
            price_version: None,
        }
    }

    fn miss(number: u64, attempts: Vec<Attempt>) -> LedgerRow {
        let tokens = Tokens { input: 1_000, output: 100, ..Tokens::default() };
        let source = if attempts.is_empty() { "replayed" } else { "billed" };
        LedgerRow {
            outcome: "miss".into(),
            model_asked: Some("m".to_owned()),
            tokens,
            tokens_source: Some(source.into()),
            cost_nano_usd: if attempts.is_empty() { Some(0) } else { None },
            embedding_nano_usd: Some(0),
            saved_gross_nano_usd: Some(0),
            saved_nano_usd: Some(0),
            price_version: None,
            attempts,
            ..row("acme", number)
        }
    }

    /// Each kind of row, none of which has a price yet.
    fn ledger() -> Ledger {
        let unknown = Attempt { tokens_source: Some("unknown".into()), ..call("completion", "m") };
        let batch = Attempt { service: Some("batch".into()), ..call("completion", "m") };
        let mut rows = vec![
            miss(10, vec![call("completion", "m")]),
            miss(11, vec![call("completion", "m"), batch]),
            miss(12, vec![call("check", "m"), call("embedding", "e")]),
            LedgerRow { saved_gross_nano_usd: None, saved_nano_usd: None, ..miss(13, Vec::new()) },
            miss(14, vec![unknown]),
            miss(15, vec![call("completion", "another")]),
            LedgerRow { tenant: Some(tenant("other")), ..miss(16, vec![call("completion", "m")]) },
            // From before calls had rows of their own.
            LedgerRow { attempts: Vec::new(), ..miss(17, vec![call("completion", "m")]) },
            miss(18, vec![call("completion", "m")]),
        ];
        rows.last_mut().unwrap().started_at = 9_999;
        Ledger { rows, ..Ledger::default() }
    }

    fn ask() -> Rerate {
        Rerate {
            tenant: Some(tenant("acme")),
            since: 10,
            until: 9_999,
            now: 50,
            prompt_cache: PromptCache { warm: true, from: 512 },
            ..Rerate::default()
        }
    }

    const M: &str = r#"{"names":["m"],"prices":[{"input":"1","output":"10","cache_read":"0.1","batch":{"input":"0.5","output":"5"}}]},
        {"names":["e"],"input":"0.2","output":"0"}"#;

    #[tokio::test]
    async fn rows_that_had_no_price_get_it_and_a_second_run_finds_nothing() {
        let (ledger, book) = (ledger(), book(M));
        let dry = rerate(&book, &ledger, &Rerate { dry_run: true, ..ask() }).await.unwrap();
        assert!(ledger.corrections.lock().unwrap().is_empty());
        let told = rerate(&book, &ledger, &ask()).await.unwrap();
        assert_eq!(told, dry);
        assert_eq!((told.rows, told.changed, told.next), (7, 5, None));
        assert_eq!(told.before, Amounts { unpriced: 6, ..Amounts::default() });
        // A call costs 0.002 dollars, in a batch half of it; a vector of 1,000 tokens 0.0002.
        let (call, vector) = (2_000_000, 200_000);
        // 512 tokens would have come from a warm cache: 896 of 1,000 in steps of 128.
        let hit = 896 * 100 + 104 * 1_000 + 1_000_000;
        let cost = call + (call + call / 2) + call + call;
        let expected =
            Amounts { cost, embedding: vector, saved_gross: hit, saved_net: hit - vector - call, unpriced: 2 };
        assert_eq!(told.after, expected);
        let again = rerate(&book, &ledger, &Rerate { now: 60, ..ask() }).await.unwrap();
        assert_eq!((again.rows, again.changed, again.before, again.after), (7, 0, expected, expected));
        let version = book.price("m", 10).unwrap().version.to_string();
        for correction in ledger.corrections.lock().unwrap().iter() {
            assert_eq!(correction.after.price_version.as_deref(), Some(&*version));
            assert_eq!((correction.before.price_version.as_deref(), correction.at), (None, 50));
        }
    }

    #[tokio::test]
    async fn a_saving_stays_while_its_price_is_the_same_by_whatever_version() {
        let book = book(M);
        let version = format!("earlier#{}", digest(Some(&book.price("m", 0).unwrap().version)).unwrap());
        let cold = LedgerRow {
            saved_gross_nano_usd: Some(2_000_000),
            saved_nano_usd: Some(2_000_000),
            price_version: Some(version),
            ..miss(20, Vec::new())
        };
        let other = LedgerRow { price_version: Some("earlier#000000".to_owned()), ..cold.clone() };
        let batch = LedgerRow { service: Some("batch".into()), ..other.clone() };
        for (row, changed, saved) in [(cold, 0, 2_000_000), (other, 1, 1_193_600), (batch, 1, 641_600)] {
            let ledger = Ledger { rows: vec![row], ..Ledger::default() };
            let told = rerate(&book, &ledger, &ask()).await.unwrap();
            assert_eq!((told.changed, told.after.saved_gross), (changed, saved));
        }
    }

    #[tokio::test]
    async fn a_prompt_cache_that_is_left_out_takes_nothing_off_a_saving() {
        let row = LedgerRow { saved_gross_nano_usd: None, saved_nano_usd: None, ..miss(25, Vec::new()) };
        let ledger = Ledger { rows: vec![row], ..Ledger::default() };
        let cold = Rerate { prompt_cache: PromptCache { warm: false, from: 512 }, ..ask() };
        assert_eq!(rerate(&book(M), &ledger, &cold).await.unwrap().after.saved_gross, 2_000_000);
    }

    #[tokio::test]
    async fn a_call_whose_request_was_not_read_is_priced_by_what_its_answer_is_from() {
        let unread = Attempt { model: None, ..call("completion", "m") };
        let row = LedgerRow { model_asked: None, model_answered: Some("m".to_owned()), ..miss(30, vec![unread]) };
        let ledger = Ledger { rows: vec![row], ..Ledger::default() };
        let of_m = Rerate { model: Some("m".to_owned()), ..ask() };
        assert_eq!(rerate(&book(M), &ledger, &of_m).await.unwrap().after.cost, 2_000_000);
    }

    #[tokio::test]
    async fn a_row_is_priced_as_of_when_it_began() {
        let book = book(
            r#"{"names":["m"],"prices":[{"input":"1","output":"0"},{"from":"1970-01-02","input":"3","output":"0"}]}"#,
        );
        let day = 86_400_000;
        let of = |number| LedgerRow { started_at: number, ..miss(number, vec![call("completion", "m")]) };
        let ledger = Ledger { rows: vec![of(day - 1), of(day)], ..Ledger::default() };
        let told = rerate(&book, &ledger, &Rerate { until: u64::MAX, ..ask() }).await.unwrap();
        assert_eq!(told.after.cost, 1_000_000 + 3_000_000);
    }

    #[tokio::test]
    async fn many_rows_are_done_in_runs_that_follow_each_other() {
        let rows = (0..60_500)
            .map(|number| miss(100 + number, vec![call("completion", if number % 2 == 0 { "m" } else { "o" })]));
        let ledger = Ledger { rows: rows.collect(), ..Ledger::default() };
        let book = book(M);
        let of_m = Rerate { model: Some("m*".to_owned()), until: u64::MAX, dry_run: true, ..ask() };
        let first = rerate(&book, &ledger, &of_m).await.unwrap();
        assert_eq!(first.rows, 50_000, "the rows name `m` whatever was called for them");
        let second = rerate(&book, &ledger, &Rerate { after: first.next, ..of_m.clone() }).await.unwrap();
        assert_eq!((second.rows, second.next), (10_500, None));
        assert_eq!(first.changed + second.changed, 30_250);
        let none = rerate(&book, &ledger, &Rerate { model: Some("x*".to_owned()), ..of_m }).await.unwrap();
        assert_eq!((none.rows, none.changed), (0, 0));
        assert!(none.next.is_some(), "rows that are not asked for count too");
    }
}
