//! The program's end and its beginning after that: signals, drain, sudden death, certificates, secrets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use remora::simulate::{self, Options};
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};

use crate::child::{Home, Running, chat_request, says, try_exchange, until};
use crate::rig::{Answer, chat, chat_stream};

async fn simulator(options: Options) -> simulate::Handle {
    simulate::spawn(options, "127.0.0.1:0".parse().unwrap()).await.unwrap()
}

/// A stream that has begun: its id, and the rest of its body.
struct Open {
    id: String,
    seen: Vec<u8>,
    body: Incoming,
}

impl Open {
    async fn begin(running: &Running, prompt: &str) -> Self {
        let request = chat_request(running.data, "sk-one", &[], &chat_stream(prompt));
        let (head, mut body) = running.client.request(request).await.unwrap().into_parts();
        assert_eq!(head.status, StatusCode::OK);
        let id = head.headers["x-remora-request-id"].to_str().unwrap().to_owned();
        let seen = body.frame().await.unwrap().unwrap().into_data().unwrap().to_vec();
        Self { id, seen, body }
    }

    /// All that came, and whether the body ended in order.
    async fn rest(mut self) -> (String, bool) {
        let mut in_order = true;
        while let Some(frame) = self.body.frame().await {
            match frame {
                Ok(frame) => self.seen.extend_from_slice(&frame.into_data().unwrap_or_default()),
                Err(_) => in_order = false,
            }
        }
        (String::from_utf8(self.seen).unwrap(), in_order)
    }
}

/// The ledger of a program that has ended.
async fn ledger(home: &Home) -> Vec<remora::store::LedgerRow> {
    let store = home.store().await;
    let rows = store.stores().ledger.recent(None, 10_000).await.unwrap();
    store.close().await;
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn open_requests_finish_after_either_signal_and_the_program_ends_with_0() {
    for signal in ["TERM", "INT"] {
        let slow = Options {
            latency: Duration::from_millis(400),
            chunk_delay: Duration::from_millis(15),
            ..Options::default()
        };
        let sim = simulator(slow).await;
        let home = Home::new(&sim.url()).exact();
        let mut running = home.start().await;
        let open = Open::begin(&running, "Tell me a story").await;
        let id = open.id.clone();
        let client = running.client.clone();
        let whole = tokio::spawn({
            let request = chat_request(running.data, "sk-one", &[], &chat("Tell me another story"));
            async move { try_exchange(&client, request).await.unwrap() }
        });
        until("both are in flight", || async { (sim.stats().requests == 2).then_some(()) }).await;

        running.child.signal(signal);
        running.no_new_connections().await;
        let (text, in_order) = open.rest().await;
        assert!(in_order && text.ends_with("data: [DONE]\n\n"), "{text}");
        let whole = whole.await.unwrap();
        assert_eq!((whole.status, whole.cache()), (StatusCode::OK, "MISS"));
        assert!(whole.content().contains("another story"));

        let status = running.child.ended().await;
        let log = running.child.log();
        assert_eq!(status.code(), Some(0), "{log}");
        let steps = [
            format!("signal=\"SIG{signal}\""),
            "draining: no new connections, open requests run on".to_owned(),
            "connections closed plane=\"data\"".to_owned(),
            "connections closed plane=\"admin\"".to_owned(),
            "write queue emptied rows_lost=0 entries_lost=0".to_owned(),
            "store closed, bye".to_owned(),
        ];
        let mut rest = log.as_str();
        for step in &steps {
            let at =
                rest.find(step.as_str()).unwrap_or_else(|| panic!("`{step}` is missing or out of order in:\n{log}"));
            rest = &rest[at..];
            assert_eq!(log.matches(step.as_str()).count(), 1, "{step}");
        }
        assert!(!log.contains("ERROR") && !log.contains("WARN"), "{log}");

        let rows = ledger(&home).await;
        assert_eq!(rows.len(), 2);
        assert!(rows.iter().all(|row| row.outcome == "miss" && row.entry.is_some()), "{rows:?}");
        assert!(rows.iter().any(|row| row.request.to_string() == id));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_draining_the_admin_plane_says_so_and_stays_alive() {
    let slow = Options { chunk_delay: Duration::from_millis(200), ..Options::default() };
    let sim = simulator(slow).await;
    let home = Home::new(&sim.url()).exact();
    let mut running = home.start().await;
    let open = Open::begin(&running, "Tell me a story").await;
    running.child.signal("TERM");
    running.no_new_connections().await;
    let status = async |path: &str| running.admin_with(Method::GET, path, &[("connection", "close")], "").await.status;
    assert_eq!(status("/readyz").await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(status("/livez").await, StatusCode::OK);
    assert_eq!(status("/metrics").await, StatusCode::OK);
    running.child.signal("TERM");
    drop(open);
    assert_eq!(running.child.ended().await.code(), Some(0));
}

/// What a client must see of a stream that the end of the program cuts short, and what must be on record.
async fn check_cut(home: &Home, open: Open, running: &mut Running) {
    let id = open.id.clone();
    let (text, in_order) = open.rest().await;
    assert!(in_order, "the error event ends the stream; the connection is not torn: {text}");
    assert!(!text.contains("[DONE]"), "{text}");
    let last = text.trim_end().rsplit("\n\n").next().unwrap().trim_start_matches("data: ");
    let event: Value = serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {last}"));
    says(&event["error"].to_string(), &["server_shutdown"]);
    assert_eq!(running.child.ended().await.code(), Some(0), "{}", running.child.log());
    let rows = ledger(home).await;
    let row = rows.iter().find(|row| row.request.to_string() == id).expect("the ledger row of the stream");
    assert_eq!((&*row.outcome, row.reason.as_deref(), row.entry), ("failed", Some("server_shutdown"), None));
    // What was cut is not an answer.
    let running = home.start().await;
    assert_eq!(running.told("/admin/v1/cache/stats").await["entries"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_hurries() {
    let slow = Options { chunk_delay: Duration::from_millis(500), tokens: 4_000, ..Options::default() };
    let sim = simulator(slow).await;
    let home = Home::new(&sim.url()).exact().with("[server]\ndrain = \"1h\"");
    let mut running = home.start().await;
    let open = Open::begin(&running, "Tell me a long story").await;
    running.child.signal("TERM");
    running.no_new_connections().await;
    running.child.signal("INT");
    check_cut(&home, open, &mut running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_longer_than_the_drain_is_told_and_on_record() {
    let slow = Options { chunk_delay: Duration::from_millis(500), tokens: 4_000, ..Options::default() };
    let sim = simulator(slow).await;
    let home = Home::new(&sim.url()).exact().with("[server]\ndrain = \"200ms\"");
    let mut running = home.start().await;
    let open = Open::begin(&running, "Tell me a long story").await;
    let whole = tokio::spawn({
        let client = running.client.clone();
        let body = json!({ "model": "sim-fault-latency=600s", "messages": [{ "role": "user", "content": "Wait" }] });
        let request = chat_request(running.data, "sk-one", &[], &body);
        async move { try_exchange(&client, request).await }
    });
    until("both are in flight", || async { (sim.stats().requests == 2).then_some(()) }).await;
    running.child.signal("TERM");
    check_cut(&home, open, &mut running).await;
    // A whole answer has not begun: its client is told, or finds the connection closed, but is not left waiting.
    if let Ok(answer) = whole.await.unwrap() {
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.text());
    }
    let rows = ledger(&home).await;
    assert_eq!(rows.len(), 2, "the whole answer that never came has its row, too: {rows:?}");
    assert!(rows.iter().all(|row| row.entry.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_during_the_start_ends_it_in_order() {
    let home = Home::nowhere();
    let mut child = home.serve(&[]);
    child.logged("listening").await;
    child.signal("TERM");
    assert_eq!(child.ended().await.code(), Some(0), "{}", child.log());
    home.start().await.stop().await;
}

/// Clients that ask one new question after another until told to stop; what they got an answer to.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<tokio::task::JoinHandle<()>>,
    answered: Arc<std::sync::Mutex<Vec<(String, Answer)>>>,
}

impl Load {
    fn start(running: &Running, round: usize) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(std::sync::Mutex::new(Vec::new())));
        let clients = (0..4).map(|client| {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            let (http, data) = (running.client.clone(), running.data);
            tokio::spawn(async move {
                for n in 0.. {
                    let prompt = format!("question {n} of client {client} in round {round}");
                    let request = chat_request(data, "sk-one", &[], &chat(&prompt));
                    match try_exchange(&http, request).await {
                        Ok(answer) => answered.lock().unwrap().push((prompt, answer)),
                        Err(_) => return,
                    }
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                }
            })
        });
        Self { clients: clients.collect(), stop, answered }
    }

    fn so_far(&self) -> Vec<(String, Answer)> {
        self.answered.lock().unwrap().clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_five_sudden_deaths_under_load_everything_written_is_a_hit_and_nothing_is_damaged() {
    let sim = simulator(Options::default()).await;
    let home = Home::new(&sim.url()).exact();
    let mut kept: Vec<(String, Answer)> = Vec::new();
    for round in 0..5 {
        let mut running = home.start().await;
        for (prompt, answer) in &kept {
            let again = running.chat("sk-one", &chat(prompt)).await;
            assert_eq!((again.cache(), again.content()), ("HIT", answer.content()), "round {round}: {prompt}");
        }
        let load = Load::start(&running, round);
        until("some answers", || async { (load.so_far().len() >= 30).then_some(()) }).await;
        let marked = load.so_far();
        // The flush interval later they are in the store. The writers keep order, so the last ones stand for all.
        for (prompt, answer) in marked.iter().rev().take(8) {
            let found = || async {
                let path = format!("/admin/v1/cache/search?q={}", prompt.replace(' ', "%20"));
                (!running.told(&path).await["data"].as_array().unwrap().is_empty()).then_some(())
            };
            until("the entry is in the store", found).await;
            running.row(answer).await;
        }
        running.child.signal("KILL");
        running.child.ended().await;
        load.stop.store(true, Ordering::Relaxed);
        for client in load.clients {
            client.await.unwrap();
        }
        assert!(load.answered.lock().unwrap().iter().all(|(_, answer)| answer.status == StatusCode::OK));
        kept.extend(marked);
    }
    let running = home.start().await;
    for (prompt, answer) in &kept {
        let again = running.chat("sk-one", &chat(prompt)).await;
        assert_eq!((again.cache(), again.content()), ("HIT", answer.content()), "{prompt}");
    }
    let log = running.stop().await;
    assert!(!log.contains("ERROR"), "{log}");

    let store = home.store().await;
    let rows = store.stores().ledger.recent(None, 100_000).await.unwrap();
    let unique: std::collections::HashSet<_> = rows.iter().map(|row| row.request.to_string()).collect();
    assert_eq!(unique.len(), rows.len());
    assert_eq!(store.stores().ledger.count().await.unwrap(), rows.len() as u64);
    let lost: Vec<_> = kept.iter().filter(|(_, a)| !unique.contains(a.header("x-remora-request-id"))).collect();
    assert!(lost.is_empty(), "{} rows lost", lost.len());
    let asked = rows.iter().filter(|row| row.outcome == "miss").count();
    assert!(asked as u64 <= sim.stats().requests, "no row without its request");
    store.close().await;
}

const TENANTS: &str = "[server]\npassthrough = true\n\
    [[tenant]]\nname = \"acme\"\n[[tenant.key]]\nname = \"app\"\nsecret_env = \"ACME_KEY\"\n\
    [[tenant]]\nname = \"umbrella\"\n[[tenant.key]]\nname = \"app\"\nsecret_env = \"UMBRELLA_KEY\"\n";
const KEYS: [&str; 3] = ["rk-acme-0123456789abcdef", "rk-umbrella-0123456789abcdef", "sk-somebody-else"];

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_each_tenants_hits_and_a_lost_secret_means_misses() {
    let sim = simulator(Options { require_key: simulate::KeyRule::None, ..Options::default() }).await;
    let home = Home::new(&sim.url()).exact().with(TENANTS).env("ACME_KEY", KEYS[0]).env("UMBRELLA_KEY", KEYS[1]);
    let question = chat("Who is on call?");
    let mut entries = Vec::new();
    let running = home.start().await;
    for key in KEYS {
        let answer = running.chat(key, &question).await;
        assert_eq!(answer.cache(), "MISS", "{}", answer.text());
        entries.push(answer.header("x-remora-entry").to_owned());
    }
    running.stop().await;

    let running = home.start().await;
    for (key, entry) in KEYS.iter().zip(&entries) {
        let answer = running.chat(key, &question).await;
        assert_eq!((answer.cache(), answer.header("x-remora-entry")), ("HIT", entry.as_str()));
    }
    assert_eq!(sim.stats().requests, 3);
    running.stop().await;

    let secret = home.path("remora.db.key");
    let old = std::fs::read(&secret).unwrap();
    std::fs::remove_file(&secret).unwrap();
    let running = home.start().await;
    for key in KEYS {
        let answer = running.chat(key, &question).await;
        assert_eq!(answer.cache(), "MISS", "{}", answer.text());
        assert!(!entries.contains(&answer.header("x-remora-entry").to_owned()));
    }
    assert_eq!(sim.stats().requests, 6);
    let log = running.stop().await;
    says(&log, &["WARN", "the secret file was missing", "remora.db.key"]);
    assert_ne!(std::fs::read(&secret).unwrap(), old);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&secret).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

/// Writes a new self-signed pair.
fn write_pair(home: &Home) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    home.write("key.pem", made.signing_key.serialize_pem());
    home.write("cert.pem", made.cert.pem());
    made.cert.der().clone()
}

type Https = Client<hyper_rustls::HttpsConnector<hyper_util::client::legacy::connect::HttpConnector>, Full<Bytes>>;

/// A client that trusts only this certificate, and chooses HTTP/2 by ALPN if `http2`.
fn https(trusted: &CertificateDer<'static>, http2: bool) -> Https {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let builder = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls).https_only();
    let connector = if http2 { builder.enable_all_versions().build() } else { builder.enable_http1().build() };
    Client::builder(TokioExecutor::new()).build(connector)
}

/// Version and body of the answer to a question over TLS, and what the cache said.
async fn ask(client: &Https, port: u16, prompt: &str) -> Result<(Version, Answer), String> {
    let mut request = chat_request(([127, 0, 0, 1], port).into(), "sk-one", &[], &chat(prompt));
    *request.uri_mut() = format!("https://localhost:{port}/v1/chat/completions").parse().unwrap();
    let response = client.request(request).await.map_err(|error| format!("{error:?}"))?;
    let (head, body) = response.into_parts();
    let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
    Ok((head.version, Answer { status: head.status, headers: head.headers, body }))
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_http2_by_alpn_and_a_certificate_that_is_exchanged_while_running() {
    let sim = simulator(Options::default()).await;
    let home = Home::new(&sim.url()).exact().with("[server.tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"");
    let old = write_pair(&home);
    let running = home.start().await;
    let port = running.data.port();
    let h2 = https(&old, true);
    let (version, first) = ask(&h2, port, "Is this safe?").await.unwrap();
    assert_eq!((version, first.status, first.cache()), (Version::HTTP_2, StatusCode::OK, "MISS"));
    let (version, second) = ask(&https(&old, false), port, "Is this safe?").await.unwrap();
    assert_eq!((version, second.cache(), second.content()), (Version::HTTP_11, "HIT", first.content()));
    let clear = chat_request(running.data, "sk-one", &[], &chat("Is this safe?"));
    assert!(try_exchange(&running.client, clear).await.is_err(), "clear text is not served on a TLS port");

    home.write("cert.pem", "half written");
    running.child.logged("TLS certificate kept").await;
    assert_eq!(ask(&https(&old, true), port, "Is this safe?").await.unwrap().1.cache(), "HIT");

    let new = write_pair(&home);
    running.child.logged("TLS certificate exchanged").await;
    assert_eq!(ask(&https(&new, true), port, "Is this safe?").await.unwrap().1.cache(), "HIT");
    assert!(ask(&https(&old, true), port, "Is this safe?").await.is_err(), "the old certificate is out of use");
    // A connection that was open goes on.
    assert_eq!(ask(&h2, port, "Is this safe?").await.unwrap().1.cache(), "HIT");
    let log = running.stop().await;
    assert!(!log.contains("PRIVATE KEY"), "{log}");
}
