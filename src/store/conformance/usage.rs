//! Promises about reports and corrections: they say what the rows say, to the last nano-dollar.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{KeyId, RequestId, TenantId};
use crate::store::sample::{attempt, bare_row, request_id, row, tenant};
use crate::store::{Correction, Dimension, LedgerRow, Rated, Slot, Stores, Sums, Tokens, UsageAsk};

use Dimension::{Key, Model, Route, Tag, Tenant, User};

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;
/// Some midnight.
const BEGIN: u64 = 20_000 * DAY;

fn pick<T: Clone>(random: &mut fastrand::Rng, from: &[T]) -> T {
    from[random.usize(..from.len())].clone()
}

/// A row of the three days from [`BEGIN`], of any kind.
pub(in crate::store) fn any_row(random: &mut fastrand::Rng, number: u64) -> LedgerRow {
    let owner = pick(random, &[None, Some("ann"), Some("bob")]);
    let maybe = |random: &mut fastrand::Rng| random.bool().then(|| random.i64(-1_000..1_000_000_000_000));
    let tag = |random: &mut fastrand::Rng| {
        (pick(random, &["team", "größe", "\0"]).to_owned(), pick(random, &["", "a=b", "\u{10}"]).to_owned())
    };
    let check = random.u8(..8) == 0;
    LedgerRow {
        request: request_id(number),
        started_at: BEGIN + random.u64(..3 * DAY),
        tenant: owner.map(tenant),
        key: owner.map(|owner| KeyId::new(format!("{owner}/{}", random.u8(..2)))),
        user: pick(random, &[None, Some("zoë"), Some("\0\u{10}")]).map(str::to_owned),
        tags: (0..random.usize(..4)).map(|_| tag(random)).collect(),
        route: pick(random, &["POST /v1/chat/completions", "GET /v1/models"]).to_owned(),
        model_asked: pick(random, &[None, Some("gpt-4o"), Some("gpt-5")]).map(str::to_owned),
        outcome: pick(random, &["hit", "miss", "coalesced", "refused", "failed", "cancelled", "audit"]).into(),
        tier: pick(random, &[None, Some("exact"), Some("semantic")]).map(Cow::Borrowed),
        tokens: Tokens::of(std::array::from_fn(|_| random.u64(..5_000))),
        tokens_source: pick(random, &[None, Some("billed"), Some("estimated"), Some("replayed"), Some("unknown")])
            .map(Cow::Borrowed),
        cost_nano_usd: maybe(random),
        embedding_nano_usd: maybe(random),
        saved_gross_nano_usd: maybe(random),
        saved_nano_usd: maybe(random),
        attempts: if check {
            vec![crate::store::Attempt { kind: "check".into(), ..attempt(1, 1) }]
        } else {
            Vec::new()
        },
        ..row("ann", number)
    }
}

/// What one row adds to a report, told apart from how the stores do it.
fn sums_of(row: &LedgerRow, rated: &Rated) -> Sums {
    let mut sums = Sums::default();
    let source = row.tokens_source.as_deref();
    if row.outcome == "audit" || row.attempts.iter().any(|attempt| attempt.kind == "check") {
        sums.checks = 1;
        sums.check = rated.cost.unwrap_or(0);
    } else {
        sums.requests = 1;
        sums.cost = rated.cost.unwrap_or(0);
        match (row.outcome.as_ref(), row.tier.as_deref()) {
            ("hit", Some("semantic")) => sums.hits_semantic = 1,
            ("hit", _) => sums.hits_exact = 1,
            ("coalesced", _) => sums.coalesced = 1,
            ("refused", _) => sums.refused = 1,
            ("failed" | "cancelled", _) => sums.failed = 1,
            _ => {}
        }
    }
    match source {
        Some("replayed") => sums.replayed = row.tokens,
        Some(_) => sums.billed = row.tokens,
        None => {}
    }
    sums.estimated = u64::from(source == Some("estimated"));
    sums.unpriced = u64::from(rated.cost.is_none() && !matches!(source, None | Some("replayed")));
    sums.embedding = rated.embedding.unwrap_or(0);
    sums.saved_gross = rated.saved_gross.unwrap_or(0);
    sums.saved_net = rated.saved_net.unwrap_or(0);
    sums
}

type Place = (Option<u64>, Vec<Option<String>>);
type Rows = BTreeMap<RequestId, (LedgerRow, Rated)>;

/// The values of a row in one dimension; several for tags.
fn values(row: &LedgerRow, dimension: Dimension) -> BTreeSet<Option<String>> {
    let one = |text: Option<&str>| BTreeSet::from([text.map(str::to_owned)]);
    match dimension {
        Tenant => one(row.tenant.as_ref().map(TenantId::as_str)),
        Key => one(row.key.as_ref().map(KeyId::as_str)),
        User => one(row.user.as_deref()),
        Model => one(row.model_asked.as_deref()),
        Route => one(Some(&row.route)),
        Tag if row.tags.is_empty() => one(None),
        Tag => row.tags.iter().map(|(name, value)| Some(format!("{name}={value}"))).collect(),
    }
}

/// The answer to a question, from the rows.
fn expected(rows: &Rows, ask: &UsageAsk) -> BTreeMap<Place, Sums> {
    let mut found = BTreeMap::new();
    for (row, rated) in rows.values().filter(|(row, _)| (ask.since..ask.until).contains(&row.started_at)) {
        if ask.only.iter().any(|(dimension, text)| !values(row, *dimension).contains(&Some(text.clone()))) {
            continue;
        }
        let slot = ask.slot.map(|slot| row.started_at - row.started_at % slot.ms());
        let mut groups = vec![Vec::new()];
        for dimension in &ask.by {
            let mut longer = Vec::new();
            for group in groups {
                for value in values(row, *dimension) {
                    let named = |name: &String| value.as_ref().is_some_and(|tag| tag.starts_with(&format!("{name}=")));
                    let only = ask.only.get(dimension).is_some_and(|only| value.as_ref() != Some(only));
                    if only || (*dimension == Tag && !ask.tag_name.as_ref().is_none_or(named)) {
                        continue;
                    }
                    longer.push([group.clone(), vec![value]].concat());
                }
            }
            groups = longer;
        }
        for group in groups {
            let sums: &mut Sums = found.entry((slot, group)).or_default();
            *sums = sums.plus(&sums_of(row, rated));
        }
    }
    found
}

fn asks() -> Vec<UsageAsk> {
    let hours = UsageAsk { since: BEGIN + 5 * HOUR, until: BEGIN + 2 * DAY + 7 * HOUR, ..UsageAsk::default() };
    let days = UsageAsk { since: BEGIN, until: BEGIN + 2 * DAY, ..UsageAsk::default() };
    let mut asks = Vec::new();
    for by in [vec![], vec![Tenant], vec![Key, Model, Tenant], vec![Route], vec![Route, Tenant]] {
        for slot in [None, Some(Slot::Hour), Some(Slot::Day)] {
            asks.push(UsageAsk { by: by.clone(), slot, ..hours.clone() });
        }
        asks.push(UsageAsk { since: BEGIN + HOUR, until: BEGIN + 2 * HOUR, by, ..UsageAsk::default() });
    }
    for by in [vec![User], vec![Tenant, User], vec![Tag], vec![Model, Tag]] {
        asks.push(UsageAsk { by: by.clone(), slot: Some(Slot::Day), ..days.clone() });
        asks.push(UsageAsk { by, ..days.clone() });
    }
    let only = |dimension, text: &str| BTreeMap::from([(dimension, text.to_owned())]);
    asks.push(UsageAsk { by: vec![Model], only: only(Tenant, "ann"), ..hours });
    asks.push(UsageAsk { by: vec![Model], only: only(User, "\0\u{10}"), ..days.clone() });
    asks.push(UsageAsk { by: vec![Tag], only: only(Tag, "team=a=b"), ..days.clone() });
    asks.push(UsageAsk { only: only(Tag, "\0="), ..days.clone() });
    asks.push(UsageAsk { by: vec![Tag], tag_name: Some("größe".into()), ..days });
    asks.push(UsageAsk { by: vec![Tenant], since: BEGIN, until: BEGIN, ..UsageAsk::default() });
    asks
}

/// All reports say what the rows say, in their order.
async fn compare(stores: &Stores, rows: &Rows) {
    for ask in asks() {
        let told = stores.usage.usage(&ask).await.unwrap();
        let order: Vec<_> = told.iter().map(|row| (row.slot, std::cmp::Reverse(row.sums.total()))).collect();
        assert!(order.is_sorted(), "{ask:?}: {told:#?}");
        let count = told.len();
        let told: BTreeMap<Place, Sums> = told.into_iter().map(|row| ((row.slot, row.group), row.sums)).collect();
        assert_eq!(told.len(), count, "{ask:?}: no group is there twice");
        assert_eq!(told, expected(rows, &ask), "{ask:?}");
    }
    for slot in [None, Some(Slot::Day)] {
        let all = UsageAsk { since: BEGIN, until: BEGIN + 3 * DAY, by: vec![Tenant, Model], ..UsageAsk::default() };
        let mut totals: Vec<(i64, Vec<Option<String>>)> =
            expected(rows, &all).into_iter().map(|((_, group), sums)| (-sums.total(), group)).collect();
        totals.sort();
        let dearest: BTreeSet<_> = totals.into_iter().take(2).map(|(_, group)| group).collect();
        let told = stores.usage.usage(&UsageAsk { limit: 2, slot, ..all.clone() }).await.unwrap();
        assert_eq!(told.into_iter().map(|row| row.group).collect::<BTreeSet<_>>(), dearest, "{slot:?}");
        let rows = stores.usage.usage(&UsageAsk { most_rows: 3, slot, ..all }).await.unwrap();
        assert_eq!(rows.len(), 3, "{slot:?}");
    }
    let only = BTreeMap::from([(Tenant, "ann".to_owned())]);
    let hours = UsageAsk {
        since: BEGIN,
        until: BEGIN + DAY,
        by: vec![Model],
        slot: Some(Slot::Hour),
        only,
        ..UsageAsk::default()
    };
    let whole = expected(rows, &UsageAsk { slot: None, ..hours.clone() });
    let dearest = whole.into_iter().max_by_key(|(_, sums)| sums.total()).map(|((_, group), _)| group);
    let wanted: BTreeMap<Place, Sums> =
        expected(rows, &hours).into_iter().filter(|((_, group), _)| Some(group) == dearest.as_ref()).collect();
    let told = stores.usage.usage(&UsageAsk { limit: 1, ..hours }).await.unwrap();
    let told: BTreeMap<Place, Sums> = told.into_iter().map(|row| ((row.slot, row.group), row.sums)).collect();
    assert_eq!(told, wanted, "the dearest with all of its hours");
}

async fn fold(stores: &Stores) {
    while stores.usage.fold().await.unwrap() > 0 {}
}

fn correction(row: &LedgerRow, before: &Rated, at: u64, cost: Option<i64>) -> Correction {
    let after = Rated {
        cost,
        embedding: Some(7),
        saved_gross: before.saved_gross.map(|saved| saved * 2),
        saved_net: None,
        price_version: Some("new\0".into()),
    };
    Correction { request: row.request, started_at: row.started_at, at, before: before.clone(), after }
}

pub(super) async fn reports_say_what_rows_and_corrections_say(stores: &Stores) {
    for seed in 0..3 {
        let mut random = fastrand::Rng::with_seed(seed);
        let base = seed * 1_000;
        let rows: Vec<LedgerRow> = (0..240).map(|number| any_row(&mut random, base + number)).collect();
        let mut all: Rows = BTreeMap::new();
        for (row, rated) in read(stores).await.into_iter().chain(rows.iter().map(|row| (row.clone(), Rated::of(row)))) {
            all.insert(row.request, (row, rated));
        }
        // Two that write at once, some of it both and some of it twice.
        let (one, other) = (&rows[..160], &rows[80..]);
        let write = async |part: &[LedgerRow]| {
            for chunk in part.chunks(37) {
                stores.ledger.append(chunk).await.unwrap();
                stores.ledger.append(&[chunk, &chunk[..1]].concat()).await.unwrap();
            }
        };
        tokio::join!(write(one), write(other));
        compare(stores, &all).await;

        let mut corrections = Vec::new();
        for (at, (row, rated)) in all.values_mut().enumerate() {
            if at % 7 != 0 {
                continue;
            }
            let made = correction(row, rated, BEGIN + 9 * DAY + seed, (at % 2 == 0).then_some(at as i64));
            *rated = made.after.clone();
            corrections.push(made);
        }
        assert_eq!(stores.usage.correct(&corrections).await.unwrap(), corrections.len() as u64);
        assert_eq!(stores.usage.correct(&corrections).await.unwrap(), 0, "each is made once");
        compare(stores, &all).await;
        fold(stores).await;
        compare(stores, &all).await;
        assert_eq!(read(stores).await, all.values().cloned().collect::<Vec<_>>());
    }
}

/// All rows with what the ledger says of them, by small pages.
async fn read(stores: &Stores) -> Vec<(LedgerRow, Rated)> {
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let page = stores.usage.rated_page(None, 0, u64::MAX, after, 50).await.unwrap();
        let Some((last, _)) = page.last() else { return rows };
        after = Some(last.request);
        rows.extend(page);
    }
}

pub(super) async fn a_correction_is_made_of_what_the_ledger_says_and_counts_in_what_was_spent(stores: &Stores) {
    let billed = Some(Cow::Borrowed("billed"));
    let first = LedgerRow { cost_nano_usd: Some(100), tokens_source: billed.clone(), ..row("ann", 1) };
    let second = LedgerRow { cost_nano_usd: None, tokens_source: billed, tags: first.tags.clone(), ..row("ann", 2) };
    stores.ledger.append(&[first.clone(), second.clone(), row("bob", 3)]).await.unwrap();
    let one = correction(&first, &Rated::of(&first), 10, Some(30));
    let again = Correction { at: 11, before: one.after.clone(), ..correction(&first, &one.after, 11, Some(40)) };
    let priced = correction(&second, &Rated::of(&second), 10, Some(5));
    let of_nothing = correction(&row("ann", 9), &Rated::of(&row("ann", 9)), 10, Some(1));
    let elsewhen = Correction { started_at: 77, ..priced.clone() };
    let made = [one.clone(), again.clone(), of_nothing, elsewhen, priced.clone()];
    assert_eq!(stores.usage.correct(&made).await.unwrap(), 3);
    let stale = Correction { at: 12, ..one.clone() };
    assert_eq!(stores.usage.correct(&[stale]).await.unwrap(), 0);
    // Of a replica whose clock is behind, and twice.
    let back = Correction { at: 3, before: again.after.clone(), after: again.before.clone(), ..again.clone() };
    let forth = Correction { at: 4, before: back.after.clone(), after: again.after.clone(), ..again.clone() };
    let late = [back, forth];
    assert_eq!(stores.usage.correct(&late).await.unwrap(), 2);
    let late = late.into_iter().zip(12..).map(|(one, at)| Correction { at, ..one }).collect::<Vec<_>>();
    let made = [&[one.clone(), again.clone()], late.as_slice()].concat();
    assert_eq!(stores.usage.correct(&made).await.unwrap(), 0, "a copy makes none twice");

    assert_eq!(stores.usage.corrections(first.request).await.unwrap(), made);
    assert_eq!(stores.usage.corrections(request_id(9)).await.unwrap(), []);
    assert_eq!(stores.usage.correction_page(None, 2).await.unwrap(), [one, again.clone()]);
    assert_eq!(
        stores.usage.correction_page(Some((first.request, 13)), 2).await.unwrap(),
        std::slice::from_ref(&priced)
    );
    assert_eq!(stores.ledger.request(first.request).await.unwrap(), Some(first.clone()), "the row stays as it was");

    for owner in [Some(tenant("ann")), None] {
        let spent = stores.ledger.spend(owner.as_ref(), 0, 100, 100).await.unwrap();
        let ann: Vec<_> = spent.iter().filter(|spent| spent.tenant == Some(tenant("ann"))).collect();
        assert_eq!(ann.len(), 1, "{spent:?}");
        assert_eq!((ann[0].nano_usd, ann[0].requests, ann[0].unpriced), (45, 2, 0));
        let none = stores.ledger.spend(owner.as_ref(), 3, 100, 100).await.unwrap();
        assert!(none.iter().all(|spent| spent.tenant == Some(tenant("bob"))), "{none:?}");
    }
}

pub(super) async fn rated_pages_have_the_rows_of_a_time_and_what_the_ledger_says_of_them(stores: &Stores) {
    let rows = [row("ann", 1), row("bob", 2), row("ann", 3), bare_row(4), row("ann", 5)];
    stores.ledger.append(&rows).await.unwrap();
    let made = correction(&rows[2], &Rated::of(&rows[2]), 9, Some(1));
    assert_eq!(stores.usage.correct(std::slice::from_ref(&made)).await.unwrap(), 1);
    let with = |at: usize| (rows[at].clone(), if at == 2 { made.after.clone() } else { Rated::of(&rows[at]) });
    let page = async |owner: Option<&str>, since, until, after: Option<u64>, limit| {
        let owner = owner.map(tenant);
        stores.usage.rated_page(owner.as_ref(), since, until, after.map(request_id), limit).await.unwrap()
    };
    assert_eq!(page(None, 2, 5, None, 9).await, [with(1), with(2), with(3)]);
    assert_eq!(page(None, 2, 5, Some(2), 1).await, [with(2)]);
    assert_eq!(page(Some("ann"), 0, 9, Some(1), 9).await, [with(2), with(4)]);
    assert_eq!(page(Some("eve"), 0, 9, None, 9).await, []);
}

pub(super) async fn sums_beyond_63_bits_stay_there_and_the_report_is_made(stores: &Stores) {
    let of_key = |number: u64, cost| LedgerRow {
        key: Some(KeyId::new(format!("ann/{number}"))),
        cost_nano_usd: Some(cost),
        saved_nano_usd: Some(-cost),
        ..row("ann", number)
    };
    stores.ledger.append(&[of_key(1, i64::MAX), of_key(2, i64::MAX), of_key(3, 5)]).await.unwrap();
    let ask = UsageAsk { until: DAY, by: vec![Model], limit: 9, ..UsageAsk::default() };
    for ask in [UsageAsk { slot: Some(Slot::Day), ..ask.clone() }, ask] {
        let told = stores.usage.usage(&ask).await.unwrap();
        let sums: Vec<_> = told.iter().map(|row| (row.sums.requests, row.sums.cost, row.sums.saved_net)).collect();
        assert_eq!(sums, [(3, i64::MAX, -i64::MAX)]);
    }
}
