//! What traffic leaves behind, on both databases.

use serde_json::json;

use super::*;
use crate::config::{MasterKey, Migrate, Seal, StoreUrl};
use crate::ids::{EntryId, KeyId};
use crate::rem::{Load, Query, Rem, RemParts, Start, Traverse};
use crate::store::postgres::tests::EmptyDatabase;
use crate::store::rem::{Direction, FILLED_NOTE, RemEdges, RemExported, Scope, SqlCaps, normalise};
use crate::store::sample::{alert_row, attempt, delete, entry, entry_id, point, put_entry, row as ledger_row, tenant};
use crate::store::{Database, Entry, LedgerRow, Point, Sealed};

mod owners;
mod prompts;

const NOW: UnixMs = 1_700_000_000_000;
const MINUTE: u64 = 60_000;

fn settings() -> FillSettings {
    FillSettings {
        enabled: true,
        fill: true,
        keep: Duration::from_secs(30 * 24 * 3_600),
        pause: Duration::from_millis(1),
    }
}

fn filler(stores: &Stores, clock: &Clock) -> Filler {
    with(stores, clock, settings(), None)
}

fn with(stores: &Stores, clock: &Clock, settings: FillSettings, embedder: Option<Embedder>) -> Filler {
    Filler::new(FillParts { stores: stores.clone(), embedder, settings, clock: clock.clone() }).unwrap()
}

fn scope() -> Scope {
    Scope { tenant: tenant("t"), key: KeyId::new("t/default") }
}

/// An entry of the dialect `chat` with a text and a prompt.
async fn stored(stores: &Stores, number: u64, prompt: Option<&str>, text: &str, at: UnixMs) {
    let body = json!({"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]});
    let entry = Entry {
        dialect: "chat".into(),
        body: body.to_string().into(),
        created_at: at,
        expires_at: at + 1_000 * MINUTE,
        ..entry("t", number)
    };
    let point = Point { prompt: prompt.map(str::to_owned), ..point("t", number, 0) };
    stores.entries.apply(&[put_entry(entry, vec![point])]).await.unwrap();
}

fn asked(at: UnixMs, number: u64) -> LedgerRow {
    LedgerRow {
        request: RequestId::from_bytes(((u128::from(at) << 80) | u128::from(number)).to_be_bytes()),
        started_at: at,
        attempts: Vec::new(),
        entry: None,
        outcome: "miss".into(),
        tags: vec![("team".into(), "search".into())],
        cost_nano_usd: Some(2_000_000),
        embedding_nano_usd: None,
        ..ledger_row("t", number)
    }
}

async fn named(stores: &Stores, name: &str) -> Vec<RemRow> {
    let found = stores.rem.as_ref().unwrap().rem_named(&scope(), &[normalise(name)], &[], 100).await.unwrap();
    found.into_iter().map(|found| found.row).collect()
}

async fn edges_of(stores: &Stores, id: RemId) -> Vec<(String, String, f64)> {
    let wanted = RemEdges { kinds: &[], min_weight: 0.0, limit: 100 };
    let edges = stores.rem.as_ref().unwrap().rem_edges_from(&scope(), &[id], wanted).await.unwrap();
    let mut edges: Vec<_> = edges.into_iter().map(|edge| (edge.kind, edge.target, edge.weight)).collect();
    edges.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    edges
}

async fn everything(stores: &Stores) -> Vec<RemExported> {
    stores.rem.as_ref().unwrap().rem_export(None, 1_000).await.unwrap()
}

/// Runs a test on both databases.
async fn on_both<F: Future<Output = ()>>(test: impl Fn(Stores) -> F) {
    let home = tempfile::tempdir().unwrap();
    let sqlite = Database::open(&StoreUrl::Sqlite(home.path().join("a.db")), Migrate::Auto).await.unwrap();
    test(sqlite.stores()).await;
    sqlite.close().await;
    let postgres = EmptyDatabase::new().await;
    let database = Database::open(&postgres.url, Migrate::Auto).await.unwrap();
    test(database.stores()).await;
    database.close().await;
}

#[tokio::test]
async fn rem_an_answer_becomes_a_resource_and_goes_with_its_entry() {
    on_both(async |stores| {
        let clock = Clock::manual(NOW);
        stored(&stores, 1, Some("How long do\nrefunds take?"), "Five days.", NOW).await;
        stored(&stores, 2, None, "No prompt is recorded.", NOW).await;
        stored(&stores, 3, Some(&"word ".repeat(100)), "Long.", NOW).await;
        let mut filler = filler(&stores, &clock);
        assert!(!filler.work().await.unwrap());
        let rows = named(&stores, "how long do refunds take?").await;
        let [row] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!((row.text.as_str(), row.label.as_str(), row.made), ("Five days.", &*entry("t", 1).model, true));
        assert_eq!(row.uri, Some(format!("remora:entry/{}", entry_id(1))));
        assert_eq!((row.owner.to_string().as_str(), row.entry), ("key:t/default", Some(entry_id(1))));
        assert_eq!(row.id.to_string(), entry_id(1).to_string());
        assert_eq!(row.tags, entry("t", 1).tags.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>());
        assert_eq!(named(&stores, &format!("entry-{}", entry_id(2))).await.len(), 1);
        let long = named(&stores, ["word"; 40].join(" ").as_str()).await;
        assert_eq!(long.len(), 1, "cut at a word, to 200 characters at most");
        let by_alias = named(&stores, &format!("entry-{}", entry_id(1))).await;
        assert_eq!(by_alias.iter().map(|row| row.id).collect::<Vec<_>>(), [row.id], "what edges call it");
        stores.entries.apply(&[delete("t", 1)]).await.unwrap();
        assert!(named(&stores, "how long do refunds take?").await.is_empty());
        assert!(!filler.work().await.unwrap());
        assert_eq!(everything(&stores).await.len(), 2);
    })
    .await;
}

#[tokio::test]
async fn rem_new_entries_are_found_at_once_and_others_once_a_minute() {
    on_both(async |stores| {
        let clock = Clock::manual(NOW);
        let mut filler = filler(&stores, &clock);
        filler.work().await.unwrap();
        let rows = async || everything(&stores).await.len();
        // Its identity is one of long ago, as of one that was written late.
        stored(&stores, 1, Some("late"), "x", NOW).await;
        filler.work().await.unwrap();
        assert_eq!(rows().await, 0);
        let new = EntryId::at(NOW);
        let body = json!({"choices": [{"message": {"role": "assistant", "content": "y"}}]}).to_string();
        let entry = Entry { id: new, dialect: "chat".into(), body: body.into(), expires_at: 2 * NOW, ..entry("t", 2) };
        let point = Point { entry: new, prompt: Some("new".into()), ..point("t", 2, 0) };
        stores.entries.apply(&[put_entry(entry, vec![point])]).await.unwrap();
        filler.work().await.unwrap();
        assert_eq!((rows().await, named(&stores, "new").await.len()), (1, 1));
        clock.advance_ms(ROUND_MS);
        filler.work().await.unwrap();
        assert_eq!((rows().await, named(&stores, "late").await.len()), (2, 1));
    })
    .await;
}

#[tokio::test]
async fn rem_embeddings_are_no_resources_and_calls_of_tools_have_no_text() {
    on_both(async |stores| {
        let of = |number, dialect: &'static str, body: &'static str| {
            let entry = Entry { dialect: dialect.into(), body: body.into(), expires_at: NOW * 2, ..entry("t", number) };
            put_entry(entry, vec![point("t", number, 0)])
        };
        let tools = r#"{"choices":[{"message":{"content":null,"tool_calls":[{"id":"a"}]}}]}"#;
        stores.entries.apply(&[of(1, "embeddings", "{}"), of(2, "chat", tools)]).await.unwrap();
        filler(&stores, &Clock::manual(NOW)).work().await.unwrap();
        let rows = everything(&stores).await;
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].row.as_ref().map(|row| (row.entry, row.text.as_str())), Some((Some(entry_id(2)), "")));
    })
    .await;
}

#[tokio::test]
async fn rem_requests_get_edges_and_what_they_name_becomes_entities_and_sessions() {
    on_both(async |stores| {
        let clock = Clock::manual(NOW);
        let began = NOW - 100 * MINUTE;
        stored(&stores, 7, Some("refunds?"), "Five days.", began).await;
        let hit = LedgerRow {
            outcome: "hit".into(),
            entry: Some(entry_id(7)),
            similarity: Some(0.925),
            ..asked(began + MINUTE, 2)
        };
        let later = asked(began + 40 * MINUTE, 3);
        let nobody = LedgerRow { tenant: None, key: None, user: Some("ghost".into()), ..asked(began, 4) };
        let refused = LedgerRow { outcome: "refused".into(), model_asked: Some("made-up".into()), ..asked(began, 5) };
        stores.ledger.append(&[asked(began, 1), hit.clone(), later.clone(), nobody, refused]).await.unwrap();
        filler(&stores, &clock).work().await.unwrap();

        for (name, kind) in
            [("gpt-4o", "model"), ("openai", "upstream"), ("Zoë", "user"), ("t/default", "key"), ("team=search", "tag")]
        {
            let rows = named(&stores, name).await;
            assert_eq!(rows.iter().map(|row| row.label.as_str()).collect::<Vec<_>>(), [kind], "{name}");
            assert_eq!((rows[0].table, &rows[0].owner), (RemTable::Entities, &scope().owner()));
        }
        assert!(named(&stores, "made-up").await.is_empty() && named(&stores, "ghost").await.is_empty());

        let id = |row: &LedgerRow| RemId::from_bytes(row.request.to_bytes());
        let sessions = named(&stores, "session of Zoë").await;
        let mut sessions: Vec<&RemRow> = sessions.iter().collect();
        sessions.sort_by_key(|row| row.starts_at);
        let [first, second] = sessions[..] else { panic!("{sessions:?}") };
        assert_eq!(first.text, "2 requests, 1 answered from the cache, cost $0.004");
        assert_eq!(second.text, "1 request, 0 answered from the cache, cost $0.002");
        assert_eq!((first.starts_at, first.ends_at), (Some(began), Some(began + MINUTE + 1)));
        assert_eq!((first.previous.as_deref(), second.previous.as_deref()), (None, Some(&*first.name)));
        let edges = edges_of(&stores, id(&hit)).await;
        let shown: Vec<(&str, &str, String)> = edges.iter().map(|(k, t, w)| (&**k, &**t, format!("{w:.3}"))).collect();
        let one = || "1.000".to_owned();
        assert_eq!(
            shown,
            [
                ("answered_by", "gpt-4o-2024-11-20", one()),
                ("answered_by", "openai", one()),
                ("asked_by", "Zoë", one()),
                ("in_session", &*first.name, one()),
                ("served_from", &*format!("entry-{}", entry_id(7)), "0.925".to_owned()),
                ("tagged", "team=search", one()),
            ]
        );

        // Another replica, or this one after a crash, does all of it again, and nothing changes.
        let before = everything(&stores).await;
        stores.notes.set_note(FILLED_NOTE, None).await.unwrap();
        filler(&stores, &clock).work().await.unwrap();
        assert_eq!(everything(&stores).await, before);
        // A request of the first session that ends late counts once, and does not begin one of its own.
        stores.ledger.append(&[asked(began + 2 * MINUTE, 6)]).await.unwrap();
        let mut again = filler(&stores, &clock);
        stores.notes.set_note(FILLED_NOTE, None).await.unwrap();
        again.work().await.unwrap();
        let sessions = named(&stores, "session of Zoë").await;
        assert_eq!(sessions.len(), 2);
        assert!(sessions.iter().any(|row| row.text.starts_with("3 requests, 1 answered")), "{sessions:?}");
    })
    .await;
}

#[tokio::test]
async fn rem_rows_that_come_late_are_read_once_more() {
    on_both(async |stores| {
        let clock = Clock::manual(NOW);
        let mut filler = filler(&stores, &clock);
        stores.ledger.append(&[asked(NOW - 1_000, 1)]).await.unwrap();
        filler.work().await.unwrap();
        // It began before the other, and ended after it.
        let late = LedgerRow { user: Some("late".into()), ..asked(NOW - 5_000, 2) };
        stores.ledger.append(std::slice::from_ref(&late)).await.unwrap();
        filler.work().await.unwrap();
        assert!(named(&stores, "late").await.is_empty(), "it is behind the place that was reached");
        clock.advance_ms(ROUND_MS);
        filler.work().await.unwrap();
        assert_eq!(named(&stores, "late").await.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn rem_an_upstream_that_stood_in_for_another_and_alerts_of_budgets_are_seen() {
    on_both(async |stores| {
        let clock = Clock::manual(NOW);
        let tried =
            |number, upstream: &str| crate::store::Attempt { upstream: upstream.into(), ..attempt(NOW, number) };
        let row = LedgerRow { attempts: vec![tried(1, "first"), tried(2, "second")], ..asked(NOW, 1) };
        stores.ledger.append(&[row]).await.unwrap();
        let quiet = json!({"details": {"key": null}, "quiet": true}).to_string();
        let payload = json!({"text": "80% of $10", "details": {"key": null, "percent": 80}}).to_string();
        let alert = |number, kind: &str, payload: &str| crate::store::AlertRow {
            at: NOW - number,
            kind: kind.into(),
            title: format!("budget {number}"),
            payload: payload.into(),
            ..alert_row("t", number)
        };
        let of_key = json!({"details": {"key": "other"}}).to_string();
        let silent = alert(4, "budget_threshold", &quiet);
        let told =
            [alert(1, "budget_threshold", &payload), alert(2, "test", "{}"), alert(3, "budget_forecast", &of_key)];
        for row in told.into_iter().chain([silent]) {
            assert!(stores.alerts.raise(&row, &[]).await.unwrap());
        }
        filler(&stores, &clock).work().await.unwrap();
        let second = &named(&stores, "second").await[0];
        assert_eq!(edges_of(&stores, second.id).await, [("fallback_of".to_owned(), "first".to_owned(), 1.0)]);
        let moments = named(&stores, "budget 1").await;
        let [moment] = &moments[..] else { panic!("{moments:?}") };
        assert_eq!((moment.label.as_str(), moment.text.as_str()), ("budget_alert", "budget 1. 80% of $10"));
        assert_eq!((&moment.owner, moment.starts_at), (&Owner::Public, Some(NOW - 1)));
        assert!(named(&stores, "budget 2").await.is_empty());
        assert!(named(&stores, "budget 3").await.is_empty(), "that of another key is not shown to this one");
        assert!(named(&stores, "budget 4").await.is_empty(), "nobody was told of it by itself");
    })
    .await;
}

#[tokio::test]
async fn rem_texts_get_vectors_and_near_ones_of_one_owner_are_linked() {
    on_both(async |stores| {
        let clock = Clock::manual(NOW);
        for (number, text) in [(1, "a"), (2, "b"), (3, "c"), (4, "bad")] {
            stored(&stores, number, Some(text), text, NOW).await;
        }
        let embedder = Embedder::fixed(2, |text| match text {
            "a" => Ok(vec![1.0, 0.0]),
            "b" => Ok(vec![0.96, 0.28]),
            "c" => Ok(vec![0.0, 1.0]),
            _ => Err(crate::embed::EmbedError::Empty),
        });
        let mut filler = with(&stores, &clock, settings(), Some(embedder.clone()));
        for _ in 0..4 {
            filler.work().await.unwrap();
        }
        let rows = everything(&stores).await;
        assert_eq!(rows.iter().map(|row| row.vectors.len()).sum::<usize>(), 3);
        let edges: Vec<_> =
            rows.iter().flat_map(|row| &row.edges).filter(|(_, edge)| edge.kind == "similar_to").collect();
        let [(owner, edge)] = edges[..] else { panic!("{edges:?}") };
        assert_eq!((owner, edge.weight), (&scope().owner(), 0.96));
        assert!([1, 2].map(|number| format!("entry-{}", entry_id(number))).contains(&edge.target));
        assert_eq!(
            stores.rem.as_ref().unwrap().rem_unembedded(&embedder.space().to_string(), 9).await.unwrap().len(),
            1
        );
    })
    .await;
}

#[tokio::test]
async fn rem_nothing_is_filled_if_it_is_off_and_what_is_old_is_forgotten() {
    on_both(async |stores| {
        let clock = Clock::manual(NOW);
        stored(&stores, 1, Some("a"), "a", NOW).await;
        stores.ledger.append(&[asked(NOW, 1)]).await.unwrap();
        with(&stores, &clock, FillSettings { fill: false, ..settings() }, None).work().await.unwrap();
        assert!(everything(&stores).await.is_empty());
        let mut filler = filler(&stores, &clock);
        filler.work().await.unwrap();
        assert!(everything(&stores).await.len() > 5);
        clock.advance_ms(31 * 24 * 60 * MINUTE);
        stores.entries.apply(&[delete("t", 1)]).await.unwrap();
        for _ in 0..3 {
            filler.work().await.unwrap();
        }
        assert_eq!(everything(&stores).await, []);
    })
    .await;
}

#[tokio::test]
async fn rem_nothing_of_a_sealed_tenant_reaches_the_database() {
    on_both(async |stores| {
        let clock = Clock::manual(NOW);
        let master = MasterKey::parse(&"a".repeat(64)).unwrap();
        let sealed = Sealed::over(&stores, &Seal::All, Some(&master), None).await.unwrap().unwrap();
        let above = sealed.stores();
        stored(&above, 1, Some("canary prompt"), "canary text", NOW).await;
        above.ledger.append(&[asked(NOW, 1)]).await.unwrap();
        let mut filler = filler(&above, &clock);
        filler.work().await.unwrap();
        assert_eq!(everything(&stores).await, []);
        let rem = above.rem.as_ref().unwrap();
        assert!(!rem.rem_keeps_texts(&tenant("t")));
        // The last line: whoever did not ask first.
        let row = made(RemId::from_bytes([1; 16]), RemTable::Entities, scope().owner(), "canary", "x", NOW);
        let dropped = sealed.stats().dropped;
        rem.rem_apply(&tenant("t"), &[put(row)]).await.unwrap();
        assert_eq!((everything(&stores).await, sealed.stats().dropped), (vec![], dropped + 1));
    })
    .await;
}

#[tokio::test]
async fn rem_what_was_written_before_a_tenant_was_sealed_is_not_found_and_goes() {
    on_both(async |stores| {
        let clock = Clock::manual(NOW);
        stored(&stores, 1, Some("canary prompt"), "canary text", NOW).await;
        stores.ledger.append(&[asked(NOW, 1)]).await.unwrap();
        filler(&stores, &clock).work().await.unwrap();
        let rem = stores.rem.clone().unwrap();
        let left = |number: u8| made(RemId::from_bytes([number; 16]), RemTable::Entities, Owner::Public, "x", "x", NOW);
        let many: Vec<RemWrite> = (1..=250).map(|number| put(left(number))).collect();
        rem.rem_apply(&tenant("t"), &many).await.unwrap();
        for other in ["a", "z"] {
            rem.rem_apply(&tenant(other), &[put(left(1))]).await.unwrap();
        }
        let master = MasterKey::parse(&"a".repeat(64)).unwrap();
        let seal = Seal::Tenants(vec!["t".to_owned(), "unknown".to_owned()]);
        let sealed = Sealed::over(&stores, &seal, Some(&master), None).await.unwrap().unwrap();
        let above = sealed.stores();
        assert_eq!(named(&stores, "canary prompt").await.len(), 1);
        assert!(named(&above, "canary prompt").await.is_empty());
        let (scope, rem) = (scope(), above.rem.clone().unwrap());
        let ids = [RemId::from_bytes(entry_id(1).to_bytes()), RemId::from_bytes(asked(NOW, 1).request.to_bytes())];
        let found = rem.rem_rows(&scope, &ids).await.unwrap();
        assert_eq!(found.iter().map(|row| row.table).collect::<Vec<_>>(), [RemTable::Requests]);
        assert!(rem.rem_list(&scope, RemTable::Entities, None, 10).await.unwrap().is_empty());
        let caps = crate::store::rem::SqlCaps { rows: 10, bytes: 10_000, time: Duration::from_secs(30) };
        let sql = above.sql.clone().unwrap();
        let refused = sql.select(&scope, "SELECT name FROM resources", caps).await.unwrap_err();
        assert!(refused.to_string().contains("being deleted"), "{refused}");

        let asks = crate::rem::Rem::new(crate::rem::RemParts {
            store: rem,
            sql: sql.clone(),
            embedder: Some(Embedder::fixed(2, |_| Ok(vec![1.0, 0.0]))),
            caps,
            deadline: Duration::from_secs(30),
            clock: clock.clone(),
        });
        for text in ["LOOKUP x", "FUZZY x", "SEARCH x", "TRAVERSE x"] {
            let fault = asks.run(&scope, &crate::rem::parse(text).unwrap()).await.unwrap_err();
            assert_eq!(fault.code, crate::rem::Code::Sealed, "{text}");
        }

        // It goes even if nothing else is done here.
        let mut filler = with(&above, &clock, FillSettings { enabled: false, ..settings() }, None);
        assert!(filler.work().await.unwrap(), "a step is bounded");
        assert!(everything(&stores).await.len() > 2);
        while filler.work().await.unwrap() {}
        let left: Vec<TenantId> = everything(&stores).await.into_iter().map(|whole| whole.tenant).collect();
        assert_eq!(left, [tenant("a"), tenant("z")]);
        assert_eq!(sql.select(&scope, "SELECT count(*) AS n FROM requests", caps).await.unwrap().rows, [[json!(1)]]);
        // What comes from a replica with other settings goes, too.
        let late = made(ids[1], RemTable::Entities, Owner::Public, "x", "x", NOW);
        stores.rem.as_ref().unwrap().rem_apply(&tenant("t"), &[put(late)]).await.unwrap();
        assert!(!filler.work().await.unwrap());
        clock.advance_ms(60 * MINUTE);
        while filler.work().await.unwrap() {}
        assert_eq!(everything(&stores).await.len(), 2);
        sql.forget(&tenant("t"), None).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn rem_what_was_deleted_of_a_tenant_does_not_come_back_from_the_ledger() {
    on_both(async |stores| {
        let clock = Clock::manual(NOW);
        stores.ledger.append(&[asked(NOW - 1, 1)]).await.unwrap();
        filler(&stores, &clock).work().await.unwrap();
        assert!(crate::transfer::forget_rem(&stores, &tenant("t"), NOW).await.unwrap() > 5);
        assert!(!stores.rem.as_ref().unwrap().rem_owns(&tenant("t"), &scope().owner()).await.unwrap());
        stores.notes.set_note(FILLED_NOTE, None).await.unwrap();
        filler(&stores, &clock).work().await.unwrap();
        assert_eq!(everything(&stores).await, []);
        stores.ledger.append(&[asked(NOW + 1, 2)]).await.unwrap();
        filler(&stores, &clock).work().await.unwrap();
        assert!(stores.rem.as_ref().unwrap().rem_owns(&tenant("t"), &scope().owner()).await.unwrap());
        assert_eq!(named(&stores, "Zoë").await.len(), 1, "what is asked later is seen");
    })
    .await;
}

#[tokio::test]
async fn rem_a_store_that_fails_stops_nothing() {
    let home = tempfile::tempdir().unwrap();
    let open =
        async |name: &str| Database::open(&StoreUrl::Sqlite(home.path().join(name)), Migrate::Auto).await.unwrap();
    let database = open("a.db").await;
    let stores = database.stores();
    let mut filler = filler(&stores, &Clock::manual(NOW));
    assert_eq!(filler.step().await, settings().pause);
    // What could not be written is written when the store is back, entities with the edges that leave them.
    let away = open("away.db").await;
    let rem = std::mem::replace(&mut filler.rem, away.stores().rem.unwrap());
    away.close().await;
    let tried = |number, name: &str| crate::store::Attempt { upstream: name.into(), ..attempt(NOW, number) };
    let row = LedgerRow { attempts: vec![tried(1, "first"), tried(2, "second")], ..asked(NOW, 1) };
    stores.ledger.append(&[row]).await.unwrap();
    filler.ledger(NOW).await.unwrap_err();
    filler.rem = rem;
    filler.ledger(NOW).await.unwrap();
    assert_eq!(named(&stores, "Zoë").await.len(), 1);
    let second = &named(&stores, "second").await[0];
    assert_eq!(edges_of(&stores, second.id).await, [("fallback_of".to_owned(), "first".to_owned(), 1.0)]);
    database.close().await;
    assert_eq!(filler.step().await, settings().pause * 10, "it waits longer, and goes on");
}

#[tokio::test]
async fn rem_what_is_written_while_a_tenants_data_is_deleted_is_taken_back_and_what_comes_after_is_there() {
    on_both(async |stores| {
        let clock = Clock::manual(NOW);
        let mut filler = filler(&stores, &clock);
        stores.ledger.append(&[asked(NOW - 2, 1)]).await.unwrap();
        filler.ledger(NOW).await.unwrap();
        assert!(everything(&stores).await.len() > 5);
        // The deletion began and ended before these rows were there, so it has met none of them.
        stores.notes.set_note(&format!("{FORGOTTEN_NOTES}t"), Some(&(NOW - 1).to_string())).await.unwrap();
        stores.ledger.append(&[LedgerRow { user: Some("later".into()), ..asked(NOW, 2) }]).await.unwrap();
        filler.ledger(NOW).await.unwrap();
        filler.take_back().await.unwrap();
        assert_eq!(everything(&stores).await, []);
        filler.work().await.unwrap();
        assert_eq!((named(&stores, "later").await.len(), named(&stores, "Zoë").await.len()), (1, 0));
        assert_eq!(named(&stores, "t/default").await.len(), 1);
    })
    .await;
}
