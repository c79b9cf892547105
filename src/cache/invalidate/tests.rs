//! Selecting and removing, against a real store and a made-up embedder.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::cache::outcome::Tier;
use crate::cache::{Ask, Fresh, Parts};
use crate::call::{Call, Keys, Scope, SecretKey};
use crate::clock::Clock;
use crate::config::{Config, Migrate, Overrides};
use crate::dialect::{Dialect, Finish};
use crate::embed::Embedder;
use crate::ids::KeyId;
use crate::store::{SqliteStore, Stores, Writer, WriterHandle, WriterSizes};
use crate::telemetry::metrics::Metrics;

const START: u64 = 1_800_000_000_000;
const HOUR: u64 = 3_600_000;

/// A cache on a store in a directory of its own.
struct Place {
    cache: Arc<Cache>,
    stores: Stores,
    writer: WriterHandle,
    clock: Clock,
    config: Config,
    dir: tempfile::TempDir,
}

/// Three subjects and a little of everything else.
fn subjects(text: &str) -> Vec<f32> {
    let text = text.to_lowercase();
    let of = |words: &[&str]| words.iter().filter(|word| text.contains(**word)).count() as f32;
    let vector = [of(&["refund", "money back"]), of(&["weather", "rain"]), of(&["rust", "code"]), 0.2];
    let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.iter().map(|x| x / norm).collect()
}

impl Place {
    async fn new() -> Self {
        Self::at(tempfile::tempdir().unwrap(), Clock::manual(START)).await
    }

    async fn at(dir: tempfile::TempDir, clock: Clock) -> Self {
        let config = Config::load(None, std::iter::empty(), &Overrides::default()).unwrap();
        let stores = SqliteStore::open(&dir.path().join("remora.db"), Migrate::Auto).await.unwrap().stores();
        let sizes = WriterSizes { ledger: 8, entries: 4_096, decisions: 8, flush: Duration::from_millis(5) };
        let (writer, _) = Writer::spawn(&stores, sizes);
        let cache = Arc::new(Cache::new(Parts {
            settings: config.cache.clone(),
            secret: SecretKey::new([7; 32]),
            clock: clock.clone(),
            guards: crate::cache::decide::Guards::without(&[]),
            embedder: Embedder::fixed(4, |text| Ok(subjects(text))),
            weights: None,
            store: Arc::clone(&stores.entries),
            search: None,
            shared: None,
            blind: config.store.blind,
            decisions: Arc::clone(&stores.decisions),
            writer: writer.clone(),
            metrics: Arc::new(Metrics::new(std::iter::empty(), std::iter::empty()).unwrap()),
        }));
        cache.load().await.unwrap();
        Self { cache, stores, writer, clock, config, dir }
    }

    /// As after a start of the program.
    async fn restart(self) -> Self {
        self.writer.flush(Duration::from_secs(60)).await.unwrap();
        Self::at(self.dir, self.clock).await
    }

    fn keys(&self, tenant: &str, prompt: &str) -> Keys {
        let body = json!({ "model": "m", "messages": [{ "role": "user", "content": prompt }] }).to_string();
        let call = Call::read(Dialect::Chat, &Bytes::from(body), &self.config.server.limits, 2.0).unwrap();
        let tenant = TenantId::new(tenant);
        let scope =
            Scope { tenant: &tenant, namespace: "", share: "", upstream: "u", dialect: Dialect::Chat, variant: "" };
        Keys::of(self.cache.secret(), &scope, &call)
    }

    /// An answer as the pipeline makes it, of tenant `t`.
    async fn fresh(&self, prompt: &str, answer: &str) -> Fresh {
        self.fresh_of("t", prompt, answer).await
    }

    async fn fresh_of(&self, tenant: &str, prompt: &str, answer: &str) -> Fresh {
        let keys = self.keys(tenant, prompt);
        let vector = self.cache.vector(&TenantId::new(tenant), &keys, prompt).await.unwrap();
        let body: Value = json!({
            "id": "x", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{ "index": 0, "message": { "role": "assistant", "content": answer }, "finish_reason": "stop" }],
        });
        Fresh {
            tenant: TenantId::new(tenant),
            writer: KeyId::new(format!("{tenant}/k")),
            keys,
            namespace: String::new(),
            dialect: Dialect::Chat,
            model: "m".into(),
            body: Bytes::from(body.to_string()),
            finish: Finish::Stop,
            completion_tokens: Some(3),
            token_limit: None,
            tags: Vec::new(),
            ttl: Duration::from_secs(30 * 24 * 3_600),
            text: Some(prompt.into()),
            vector: Some(vector),
            epoch: self.cache.epoch(),
        }
    }

    async fn store(&self, prompt: &str, answer: &str) -> EntryId {
        self.cache.commit(self.fresh(prompt, answer).await).unwrap().entry.id
    }

    async fn selector(&self, filter: Filter) -> Arc<Selector> {
        Arc::new(self.cache.selector(filter).await.unwrap())
    }

    /// Prompts that a dry run shows, in its order.
    async fn shown(&self, filter: Filter) -> Vec<String> {
        let selection = self.cache.selection(&self.selector(filter).await).await.unwrap();
        selection.entries.iter().flat_map(|selected| self.cache.prompts(&selected.meta)).collect()
    }

    async fn order(&self, filter: Filter) -> Order {
        Order {
            selector: self.selector(filter).await,
            expect: None,
            expect_count: None,
            action: "cache.invalidate",
            actor: "test".into(),
            reason: None,
            what: "{}".into(),
        }
    }

    async fn invalidate(&self, filter: Filter) -> Removed {
        self.cache.invalidate(self.order(filter).await, &*self.stores.audit).await.unwrap()
    }

    async fn is_hit(&self, prompt: &str) -> bool {
        let keys = self.keys("t", prompt);
        self.cache.exact(&TenantId::new("t"), &keys.fingerprint, Ask::default()).await.is_ok()
    }

    async fn stored(&self) -> u64 {
        self.writer.flush(Duration::from_secs(60)).await.unwrap();
        self.stores.entries.counts().await.unwrap().entries
    }
}

fn text(text: &str) -> Filter {
    Filter { text: Some(text.into()), ..Filter::default() }
}

fn answer_text(text: &str) -> Filter {
    Filter { answer_text: Some(text.into()), ..Filter::default() }
}

fn near(text: &str, radius: f32) -> Filter {
    Filter { near: Some(Near { text: text.into(), radius }), ..Filter::default() }
}

fn all() -> Filter {
    Filter { all: true, ..Filter::default() }
}

const REFUND: &str = "How do I get a REFUND?";
const MONEY: &str = "I want my money back";
const WEATHER: &str = "Is rain part of the weather in ÅRHUS?";

async fn stocked() -> Place {
    let place = Place::new().await;
    for (prompt, answer) in
        [(REFUND, "Within 30 days."), (MONEY, "Ask support."), (WEATHER, "Yes, says the \"Refund\" song.")]
    {
        place.store(prompt, answer).await;
        place.clock.advance_ms(HOUR);
    }
    place
}

#[tokio::test]
async fn texts_and_subjects_pick_what_they_should() {
    let place = stocked().await;
    let cases: [(Filter, &[&str]); 12] = [
        (text("refund"), &[REFUND]),
        (text("århus?"), &[WEATHER]),
        (text("i"), &[REFUND, MONEY, WEATHER]),
        (text("nothing"), &[]),
        (answer_text("\"refund\" SONG"), &[WEATHER]),
        (answer_text("assistant"), &[REFUND, MONEY, WEATHER]),
        (answer_text("finish_reason"), &[]),
        (near("a refund", 0.8), &[REFUND, MONEY]),
        (near("rain", 0.8), &[WEATHER]),
        (near("a refund", 0.001), &[REFUND, MONEY, WEATHER]),
        (Filter { near: near("refund", 0.8).near, ..text("back") }, &[MONEY]),
        (Filter { near: near("refund", 0.8).near, ..text("rain") }, &[]),
    ];
    for (filter, expected) in cases {
        assert_eq!(place.shown(filter.clone()).await, expected, "{filter:?}");
    }
    let selection = place.cache.selection(&place.selector(near("refund", 0.001)).await).await.unwrap();
    let cosines: Vec<f32> = selection.entries.iter().map(|selected| selected.cosine.unwrap()).collect();
    assert!(cosines[0] > 0.99 && cosines[2] < 0.2 && cosines.is_sorted_by(|a, b| a >= b), "{cosines:?}");
}

#[tokio::test]
async fn metadata_narrows_and_all_parts_must_hold() {
    let place = stocked().await;
    let tag = |n: &str| ("n".to_owned(), n.to_owned());
    let tagged = Fresh { tags: vec![tag("1"), tag("2")], ..place.fresh("Write code", "Here.").await };
    place.cache.commit(tagged).unwrap();
    let exact = Fresh { finish: Finish::ToolCalls, ..place.fresh("Call the tool", "No words.").await };
    let exact = place.cache.commit(exact).unwrap().entry.id;
    let count = async |filter: Filter| {
        let selection = place.cache.selection(&place.selector(filter).await).await.unwrap();
        assert_eq!(selection.points, selection.entries.len());
        selection.entries.len()
    };
    let filter = Filter::default;
    let hours = |n: u64| Some(Duration::from_millis(n * HOUR));
    for (filter, expected) in [
        (filter(), 0),
        (all(), 5),
        (Filter { tags: vec![tag("1")], ..filter() }, 1),
        (Filter { tags: vec![tag("2"), tag("1")], ..filter() }, 1),
        (Filter { tags: vec![tag("1"), tag("3")], ..filter() }, 0),
        (Filter { tags: vec![tag("1")], ..all() }, 1),
        (Filter { dialect: Some(Dialect::Chat), ..filter() }, 5),
        (Filter { dialect: Some(Dialect::Embeddings), ..filter() }, 0),
        (Filter { tier: Some(Tier::Exact), ..filter() }, 1),
        (Filter { tier: Some(Tier::Semantic), ..filter() }, 4),
        (Filter { older_than: hours(2), ..filter() }, 2),
        (Filter { younger_than: hours(2), ..filter() }, 3),
        (Filter { older_than: hours(1), younger_than: hours(3), ..filter() }, 2),
        (Filter { writer: Some("t/k".into()), model: Some("m".into()), ..text("refund") }, 1),
        (Filter { tenant: Some(TenantId::new("u")), ..text("refund") }, 0),
        (Filter { id: Some(exact), ..filter() }, 1),
        (Filter { id: Some(exact), ..text("tool") }, 0),
    ] {
        assert_eq!(count(filter.clone()).await, expected, "{filter:?}");
    }
}

#[tokio::test]
async fn what_a_dry_run_counts_is_what_is_removed_whatever_the_filter() {
    let mut rng = fastrand::Rng::with_seed(3);
    let place = Place::new().await;
    let words = ["refund", "rain", "rust", "money back", "weather"];
    let mut removals = 0;
    for _ in 0..40 {
        for _ in 0..30 {
            let prompt = format!("{} and {} {}", rng.choice(words).unwrap(), rng.choice(words).unwrap(), rng.u8(..));
            let tenant = *rng.choice(["t", "u"].iter()).unwrap();
            let mut fresh = place.fresh_of(tenant, &prompt, rng.choice(words).unwrap()).await;
            fresh.tags = vec![("n".into(), rng.u8(0..3).to_string())];
            place.cache.commit(fresh).unwrap();
            place.clock.advance_ms(rng.u64(0..2 * HOUR));
        }
        // What has expired is not counted, but goes from the store as well.
        place.cache.sweep();
        let mut filter = Filter { tenant: rng.bool().then(|| TenantId::new("t")), ..Filter::default() };
        match rng.u8(0..6) {
            0 => filter.text = Some(rng.choice(words).unwrap().to_owned()),
            1 => filter.answer_text = Some(rng.choice(words).unwrap().to_owned()),
            2 => filter.near = near(rng.choice(words).unwrap(), rng.f32().max(0.01)).near,
            3 => filter.tags = vec![("n".into(), "1".into())],
            4 => filter.older_than = Some(Duration::from_millis(rng.u64(0..40 * HOUR))),
            _ => filter.younger_than = Some(Duration::from_millis(rng.u64(0..40 * HOUR))),
        }
        let (before, planned) =
            (place.cache.sizes(), place.cache.selection(&place.selector(filter.clone()).await).await.unwrap());
        let mut order = place.order(filter.clone()).await;
        (order.expect, order.expect_count) = (Some(planned.plan()), Some(planned.entries.len()));
        let removed = place.cache.invalidate(order, &*place.stores.audit).await.unwrap();
        let told = (removed.entries, removed.points, removed.bytes, removed.as_planned);
        assert_eq!(told, (planned.entries.len(), planned.points, planned.bytes, Some(true)), "{filter:?}");
        assert_eq!(place.cache.sizes().entries, before.entries - removed.entries);
        assert_eq!(place.stored().await, (before.entries - removed.entries) as u64, "{filter:?}");
        assert_eq!(place.shown(filter).await, [""; 0]);
        removals += removed.entries;
    }
    assert!(removals > 100, "{removals}");
}

#[tokio::test]
async fn an_answer_that_was_under_way_is_not_stored_if_it_is_meant() {
    let place = stocked().await;
    let filters = [
        text("new refund"),
        answer_text("fresh"),
        near("refund", 0.8),
        Filter { model: Some("m".into()), ..Filter::default() },
        Filter { younger_than: Some(Duration::from_secs(1)), ..Filter::default() },
        Filter { older_than: Some(Duration::ZERO), ..Filter::default() },
        Filter { tier: Some(Tier::Semantic), ..Filter::default() },
        all(),
    ];
    for (n, filter) in filters.into_iter().enumerate() {
        let prompt = format!("A new refund question {n}");
        let under_way = place.fresh(&prompt, "A fresh answer.").await;
        place.invalidate(filter.clone()).await;
        assert_eq!(place.cache.commit(under_way).err(), Some(Reason::Invalidated), "{filter:?}");
        assert!(!place.is_hit(&prompt).await);
        let later = place.fresh(&prompt, "A fresh answer.").await;
        place.cache.commit(later).unwrap();
        assert!(place.is_hit(&prompt).await, "{filter:?}");
    }
    for filter in [text("rain"), answer_text("stale"), near("rain", 0.8), text("older")] {
        let other = place.fresh("Another refund question", "A fresh answer.").await;
        place.invalidate(filter.clone()).await;
        assert!(place.cache.commit(other).is_ok(), "{filter:?}");
    }
    let old = Filter { older_than: Some(Duration::from_secs(1)), ..Filter::default() };
    let young = place.fresh("One more refund question", "A fresh answer.").await;
    place.invalidate(old).await;
    assert!(place.cache.commit(young).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_of_before_slips_in_while_an_invalidation_runs() {
    for round in 0..20 {
        let place = Arc::new(Place::new().await);
        let mut before = Vec::new();
        for n in 0..40 {
            before.push(place.fresh(&format!("refund {round} {n}"), "Old.").await);
        }
        let cache = Arc::clone(&place.cache);
        let committer = tokio::task::spawn_blocking(move || {
            before.into_iter().filter(|fresh| cache.commit(fresh.clone()).is_ok()).count()
        });
        place.invalidate(text("refund")).await;
        committer.await.unwrap();
        assert_eq!(place.cache.sizes().entries, 0);
        assert_eq!(place.stored().await, 0);
    }
}

#[tokio::test]
async fn what_only_the_store_has_is_removed_as_well() {
    let stray = async |filter: &dyn Fn(EntryId) -> Filter| {
        let place = stocked().await;
        let id = place.store("Where is my refund for code 7?", "In the mail.").await;
        place.stored().await;
        // As after an eviction that found the queue full.
        let meta = place.cache.list(&Filter { id: Some(id), ..Filter::default() }, None, 1).remove(0);
        place.cache.forget(&meta).unwrap();
        let removed = place.invalidate(filter(id)).await;
        let left = place.restart().await;
        (removed.strays, left.is_hit("Where is my refund for code 7?").await)
    };
    let tenant = || Some(TenantId::new("t"));
    assert_eq!(stray(&|_| text("CODE 7")).await, (1, false));
    assert_eq!(stray(&|_| near("code for a refund", 0.9)).await, (1, false));
    assert_eq!(stray(&|_| answer_text("the mail")).await, (1, false));
    assert_eq!(stray(&|id| Filter { id: Some(id), ..Filter::default() }).await, (1, false));
    assert_eq!(stray(&|id| Filter { id: Some(id), tenant: tenant(), ..Filter::default() }).await, (1, false));
    assert_eq!(
        stray(&|_| Filter { tier: Some(Tier::Semantic), tenant: tenant(), ..Filter::default() }).await,
        (1, false)
    );
    assert_eq!(stray(&|_| all()).await, (1, false));
    assert_eq!(stray(&|_| text("rain")).await, (0, true));
    assert_eq!(stray(&|_| near("rain", 0.9)).await, (0, true));
    assert_eq!(stray(&|_| answer_text("30 days")).await, (0, true));
    assert_eq!(stray(&|_| Filter { tier: Some(Tier::Exact), ..Filter::default() }).await, (0, true));
    assert_eq!(stray(&|_| Filter { id: Some(EntryId::at(START)), ..Filter::default() }).await, (0, true));
}

#[tokio::test]
async fn a_selection_that_is_not_as_expected_is_refused_and_leaves_no_trace() {
    let place = stocked().await;
    let plan = place.cache.selection(&place.selector(text("refund")).await).await.unwrap().plan();
    let under_way = place.fresh("refund under way", "Fresh.").await;
    let wrong = Order { expect_count: Some(2), ..place.order(text("refund")).await };
    let refused = place.cache.invalidate(wrong, &*place.stores.audit).await.unwrap_err();
    assert!(matches!(refused, InvalidateError::Changed { expected: 2, found: 1 }), "{refused}");
    assert!(place.is_hit(REFUND).await && place.stores.audit.trail(None, 9).await.unwrap().is_empty());
    place.cache.commit(under_way).unwrap();
    // The plan is another now: that is told, and no reason to refuse.
    let changed = Order { expect: Some(plan), ..place.order(text("refund")).await };
    let removed = place.cache.invalidate(changed, &*place.stores.audit).await.unwrap();
    assert_eq!((removed.entries, removed.as_planned), (2, Some(false)));
    let trail = place.stores.audit.trail(None, 9).await.unwrap();
    assert_eq!((trail.len(), trail[0].id), (1, removed.audit));
}

#[tokio::test]
async fn without_the_store_nothing_is_served_and_the_next_call_removes_the_rest() {
    let place = stocked().await;
    place.stored().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let broken = SqliteStore::open(&elsewhere.path().join("remora.db"), Migrate::Auto).await.unwrap();
    broken.close().await;
    let order = place.order(text("refund")).await;
    let failed = place.cache.invalidate(order, &*broken.stores().audit).await.unwrap_err();
    assert!(matches!(failed, InvalidateError::Store(_)), "{failed}");
    assert!(!place.is_hit(REFUND).await);
    assert_eq!(place.stored().await, 3, "no removal from the store without its row");
    let removed = place.invalidate(text("refund")).await;
    assert_eq!((removed.entries, removed.strays), (0, 1));
    assert!(!place.restart().await.is_hit(REFUND).await);
}

#[tokio::test]
async fn vectors_of_another_space_are_not_compared_after_a_restart() {
    let place = stocked().await;
    place.stored().await;
    let page = place.stores.entries.scan(0, None, 10).await.unwrap();
    for loaded in page {
        let entry = place.stores.entries.entry(&loaded.meta.entry.tenant, loaded.meta.entry.id).await.unwrap().unwrap();
        let mut points = loaded.points;
        points.iter_mut().for_each(|point| point.space = Some("another@1/4".into()));
        let delete = EntryWrite::Delete { tenant: entry.tenant.clone(), entry: entry.id };
        let put = EntryWrite::Put { entry: Arc::new(entry), points };
        place.stores.entries.apply(&[delete, put]).await.unwrap();
    }
    let place = place.restart().await;
    assert_eq!(place.shown(near("refund", 0.001)).await, [""; 0]);
    assert_eq!(place.shown(text("refund")).await, [REFUND]);
    assert_eq!(place.invalidate(near("refund", 0.001)).await.strays, 0);
}

#[tokio::test]
async fn what_is_not_loaded_yet_is_not_passed_over() {
    let place = stocked().await;
    place.cache.loaded.store(false, Ordering::Release);
    let refused = place.cache.invalidate(place.order(all()).await, &*place.stores.audit).await.unwrap_err();
    assert!(matches!(refused, InvalidateError::Loading), "{refused}");
    let refused = place.cache.selection(&place.selector(all()).await).await.unwrap_err();
    assert!(matches!(refused, InvalidateError::Loading), "{refused}");
    let place = place.restart().await;
    assert!(place.invalidate(all()).await.entries > 0);
}

#[tokio::test]
async fn who_obeys_late_counts_ages_from_when_it_was_said() {
    let place = Place::new().await;
    place.store("What is the refund policy?", "30 days").await;
    let young = place.selector(Filter { younger_than: Some(Duration::from_secs(60)), ..Filter::default() }).await;
    let old = place.selector(Filter { older_than: Some(Duration::from_secs(60)), ..Filter::default() }).await;
    let meant = |wanted: &Selector, at, now| place.cache.on_shelf(wanted, START + at, START + now).len();
    assert_eq!((meant(&young, 30_000, 70_000), meant(&old, 30_000, 70_000)), (1, 0));
    assert_eq!((meant(&young, 70_000, 70_000), meant(&old, 70_000, 70_000)), (0, 1));
    assert_eq!(meant(&young, 30_000, 31 * 24 * HOUR), 0, "what has expired meanwhile is gone anyway");
}
