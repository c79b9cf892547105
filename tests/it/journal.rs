//! Sudden death under load: every reply that a client has read to its last byte has exactly one ledger row.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use remora::simulate::{self, Options};
use remora::store::{LedgerRow, UsageAsk};

use crate::child::{Home, Http, Running, chat_request, request, says, until};
use crate::rig::{chat, chat_stream};

/// Sudden deaths: as many as a test may take, or as many as somebody has patience for.
fn rounds() -> usize {
    std::env::var("REMORA_KILLS").ok().and_then(|count| count.parse().ok()).unwrap_or(200)
}

const CLIENTS: usize = 6;

/// Ids of the replies that were read to their last byte, by what they were.
type Read = Arc<Mutex<HashMap<String, &'static str>>>;

/// Reads a reply. It counts as read once its body has ended in order, or a stream's `[DONE]` has been seen.
async fn read(http: &Http, request: Request<Full<Bytes>>, kind: &'static str, read: &Read) -> Result<(), ()> {
    let (head, mut body) = http.request(request).await.map_err(|_| ())?.into_parts();
    let id = head.headers["x-remora-request-id"].to_str().unwrap().to_owned();
    let cached = head.headers.get("x-remora-cache").is_some_and(|value| value == "HIT");
    let kind = if cached { "hit" } else { kind };
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        text.extend_from_slice(&frame.map_err(|_| ())?.into_data().unwrap_or_default());
        if text.ends_with(b"data: [DONE]\n\n") {
            // Enough for a client that speaks this protocol.
            read.lock().unwrap().insert(id.clone(), kind);
        }
    }
    read.lock().unwrap().insert(id, kind);
    Ok(())
}

/// One client: misses and hits, whole and streamed, routes that are passed through, and refusals.
async fn client(running: (Http, std::net::SocketAddr), name: String, seen: Read, stop: Arc<AtomicBool>) {
    let (http, data) = running;
    for n in 0.. {
        let prompt = format!("question {n} of {name}");
        let key = [("authorization", "Bearer sk-one")];
        let requests = [
            (chat_request(data, "sk-one", &[], &chat(&prompt)), "whole"),
            (chat_request(data, "sk-one", &[], &chat(&prompt)), "whole"),
            (chat_request(data, "sk-one", &[], &chat_stream(&prompt)), "stream"),
            (chat_request(data, "sk-one", &[], &chat_stream(&format!("{prompt}, told slowly"))), "stream"),
            (request(Method::GET, data, "/v1/models", &key, Bytes::new()), "passed"),
            (request(Method::GET, data, "/elsewhere", &key, Bytes::new()), "refused"),
        ];
        for (request, kind) in requests {
            if stop.load(Ordering::Relaxed) || read(&http, request, kind, &seen).await.is_err() {
                return;
            }
        }
    }
}

/// Load until a random moment, then SIGKILL.
async fn live_and_die(mut running: Running, round: usize, seen: &Read) {
    let stop = Arc::new(AtomicBool::new(false));
    let before = seen.lock().unwrap().len();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let http: Http = Client::builder(TokioExecutor::new()).build_http();
            let name = format!("client {number} in round {round}");
            tokio::spawn(client((http, running.data), name, Arc::clone(seen), Arc::clone(&stop)))
        })
        .collect();
    until("some replies", || async { (seen.lock().unwrap().len() > before + 20).then_some(()) }).await;
    tokio::time::sleep(Duration::from_millis(fastrand::u64(0..150))).await;
    running.child.signal("KILL");
    running.child.ended().await;
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_hundreds_of_sudden_deaths_under_load_every_reply_has_exactly_one_row() {
    let sim = simulate::spawn(Options::default(), "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let home = Home::new(&sim.url()).exact();
    let seen = Read::default();
    for round in 0..rounds() {
        live_and_die(home.start().await, round, &seen).await;
    }
    let log = home.start().await.stop().await;
    says(&log, &["rows_lost=0", "rows_left_in_journal=0"]);
    assert!(!log.contains("ERROR"), "{log}");

    let store = home.store().await;
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let page = store.stores().ledger.page(after, 10_000).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.request);
        rows.extend(page);
    }
    let unique: HashSet<_> = rows.iter().map(|row| row.request.to_string()).collect();
    assert_eq!(unique.len(), rows.len(), "no request has two rows");
    let ask = UsageAsk { until: 4_102_444_800_000, ..UsageAsk::default() };
    let rolled = store.stores().usage.usage(&ask).await.unwrap();
    let told: Vec<_> =
        rolled.iter().map(|group| (group.sums.requests, group.sums.cost, group.sums.saved_gross)).collect();
    let sum = |money: fn(&LedgerRow) -> Option<i64>| rows.iter().filter_map(money).sum::<i64>();
    let (cost, saved) = (sum(|row| row.cost_nano_usd), sum(|row| row.saved_gross_nano_usd));
    assert!(cost > 0 && saved > 0, "{cost} {saved}");
    assert_eq!(told, [(rows.len() as u64, cost, saved)], "the roll-ups say what the rows say");
    store.close().await;
    let seen = seen.lock().unwrap();
    let mut lost: HashMap<&str, usize> = HashMap::new();
    seen.iter().filter(|(id, _)| !unique.contains(*id)).for_each(|(_, kind)| *lost.entry(kind).or_default() += 1);
    println!("{} replies read, {} rows, lost: {lost:?}", seen.len(), rows.len());
    assert!(lost.is_empty(), "of {} replies these have no row: {lost:?}", seen.len());
    for kind in ["hit", "whole", "stream", "passed", "refused"] {
        assert!(seen.values().filter(|seen| **seen == kind).count() >= rounds(), "too few of {kind}");
    }
    let left = home.path("remora.db.journal").read_dir().unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.collect::<Vec<_>>(), ["lock"], "an orderly end leaves nothing behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_programs_never_share_a_journal() {
    let shared = tempfile::tempdir().unwrap();
    let config = format!("[store]\njournal_dir = \"{}\"", shared.path().join("journal").display());
    let (first, second) = (Home::nowhere().exact().with(&config), Home::nowhere().exact().with(&config));
    let running = first.start().await;
    let said = second.refused(&[]).await;
    says(&said, &["another remora keeps its ledger journal here", "journal_dir"]);
    running.stop().await;
    second.start().await.stop().await;
}
