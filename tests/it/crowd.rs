//! Many clients of several tenants on several replicas at once, behind an upstream whose answers say whose they are.
//!
//! Each answer carries the caller's credential, the prompt and a number that only grows. So an answer to another prompt,
//! one of another tenant and one that is older than an invalidation can all be told from the answer alone.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::StatusCode;
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use remora::simulate::{self, KeyRule, Options};
use serde_json::{Value, json};

use crate::canned::{Canned, chat_answer, chunk, response, stream_head};
use crate::child::{Home, Http, PATIENCE, Running, chat_request};
use crate::rig::{Answer, chat, chat_stream};

/// Credentials, each a tenant of its own.
pub(crate) const TENANTS: [&str; 3] = ["sk-crowd-one", "sk-crowd-two", "sk-crowd-three"];
/// Numbers of prompts that are asked only once begin here.
const FRESH: usize = 1_000_000;

/// The upstream.
pub(crate) struct Oracle {
    canned: Canned,
    said: Arc<AtomicU64>,
    /// Cheap vectors: the built-in model would take most of the machine in an unoptimised build.
    vectors: simulate::Handle,
}

impl Oracle {
    pub(crate) async fn start() -> Self {
        let said = Arc::<AtomicU64>::default();
        let numbers = Arc::clone(&said);
        let canned = Canned::start(move |request| answer(request, numbers.fetch_add(1, Ordering::SeqCst) + 1)).await;
        let options = Options { require_key: KeyRule::None, ..Options::default() };
        let vectors = simulate::spawn(options, "127.0.0.1:0".parse().unwrap()).await.unwrap();
        Self { canned, said, vectors }
    }

    /// Number of its last answer.
    pub(crate) fn said(&self) -> u64 {
        self.said.load(Ordering::SeqCst)
    }

    /// A replica's directory and configuration: its journal is in it, so it is kept over restarts.
    pub(crate) fn home(&self, redis: Option<&str>) -> Home {
        let redis = redis.map(|url| format!("[redis]\nurl = \"{url}\"\n")).unwrap_or_default();
        Home::new(&format!("http://{}", self.canned.addr)).with(&format!(
            "[embedding]\nkind = \"openai\"\nmodel = \"text-embedding-3-small\"\ndimensions = 64\nurl = \"{}/v1\"\n\
             deadline = \"2s\"\n[cache.audit]\nrate = 0.0\n{redis}",
            self.vectors.url()
        ))
    }
}

fn answer(request: &str, number: u64) -> Vec<Vec<u8>> {
    let key = request.lines().find_map(|line| line.strip_prefix("authorization: Bearer ")).unwrap_or("nobody");
    let (_, body) = request.split_once("\r\n\r\n").unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    let text = format!("<{key}|{}|{number}>", body["messages"][0]["content"].as_str().unwrap());
    if body["stream"] != true {
        return vec![response("application/json", "", chat_answer(&text).as_bytes())];
    }
    let event = |delta: Value, finish: Value| {
        let choice = json!({ "index": 0, "delta": delta, "finish_reason": finish });
        format!("data: {}\n\n", json!({ "id": "c", "model": "m", "created": 1, "choices": [choice] }))
    };
    vec![
        stream_head(),
        chunk(&event(json!({ "role": "assistant", "content": "" }), Value::Null)),
        chunk(&event(json!({ "content": text }), Value::Null)),
        chunk(&(event(json!({}), "stop".into()) + "data: [DONE]\n\n")),
        b"0\r\n\r\n".to_vec(),
    ]
}

/// Credential, prompt and number in an answer of the oracle, in whatever it is wrapped.
pub(crate) fn read_mark(text: &str) -> Option<(String, usize, u64)> {
    let (_, rest) = text.split_once("<sk-")?;
    let mut parts = rest.split_once('>')?.0.split('|');
    let key = format!("sk-{}", parts.next()?);
    let prompt = number_of(parts.next()?)?;
    Some((key, prompt, parts.next()?.parse().ok()?))
}

/// A prompt in one of two ways that say the same in the same words.
pub(crate) fn wording(prompt: usize, plain: bool) -> String {
    if plain {
        format!("what is the tale of number {prompt:07}")
    } else {
        format!("What is the tale of number {prompt:07}?")
    }
}

fn number_of(prompt: &str) -> Option<usize> {
    prompt.trim_end_matches('?').rsplit_once(' ')?.1.parse().ok()
}

/// Starts a replica on the database at `store`.
pub(crate) async fn start(home: &Home, store: &str) -> Running {
    home.serve(&["--store", store]).ready().await
}

/// Where a replica is.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) data: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Place {
    pub(crate) fn of(running: &Running) -> Self {
        Self { data: running.data, admin: running.admin }
    }
}

/// Where the replicas are now; one that is down stays at its old place until it is up again.
pub(crate) type Places = Arc<Mutex<Vec<Place>>>;

/// What the clients ask for.
pub(crate) struct Wishes {
    /// First of the prompts that are asked again and again.
    pub(crate) from: AtomicUsize,
    pub(crate) width: usize,
    /// Prompts that were asked once.
    fresh: AtomicUsize,
}

impl Wishes {
    pub(crate) fn new(width: usize) -> Arc<Self> {
        Arc::new(Self { from: AtomicUsize::new(0), width, fresh: AtomicUsize::new(FRESH) })
    }

    fn next(&self, random: &mut fastrand::Rng) -> usize {
        if random.u8(..8) == 0 {
            return self.fresh.fetch_add(1, Ordering::Relaxed);
        }
        self.from.load(Ordering::Relaxed) + random.usize(..self.width)
    }
}

/// A request whose answer was read to its last byte.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) id: String,
    pub(crate) tenant: usize,
    pub(crate) prompt: usize,
    pub(crate) cache: String,
    pub(crate) tier: String,
    pub(crate) number: u64,
    pub(crate) streamed: bool,
    pub(crate) began: Instant,
    pub(crate) took: Duration,
}

impl Seen {
    pub(crate) fn is_hit(&self) -> bool {
        self.cache == "HIT"
    }

    pub(crate) fn is_fresh(&self) -> bool {
        self.prompt >= FRESH
    }
}

/// What the clients saw.
#[derive(Default)]
pub(crate) struct Saw {
    pub(crate) seen: Vec<Seen>,
    /// Answers to another prompt.
    pub(crate) wrong: Vec<String>,
    /// Answers that another tenant's request made.
    pub(crate) crossed: Vec<String>,
    /// Answers with another status than 200.
    pub(crate) refused: Vec<String>,
    /// Exchanges that broke before the last byte, and were made again elsewhere.
    pub(crate) broken: u64,
}

impl Saw {
    /// Nobody got what was not for them, and nobody was refused.
    pub(crate) fn is_right(&self) {
        for (what, faults) in [("wrong", &self.wrong), ("crossed", &self.crossed), ("refused", &self.refused)] {
            assert!(faults.is_empty(), "{} {what}, as in {:?}", faults.len(), &faults[..faults.len().min(3)]);
        }
    }

    pub(crate) fn between(&self, from: Instant, to: Instant) -> Vec<&Seen> {
        self.seen.iter().filter(|seen| seen.began >= from && seen.began + seen.took <= to).collect()
    }

    /// Requests by outcome and tier, for people.
    pub(crate) fn summary(&self) -> String {
        let mut kinds: BTreeMap<String, Vec<Duration>> = BTreeMap::new();
        for seen in &self.seen {
            let kind = format!("{} {}{}", seen.cache, seen.tier, if seen.streamed { " streamed" } else { "" });
            kinds.entry(kind).or_default().push(seen.took);
        }
        let mut text = format!("{} requests, {} exchanges broken", self.seen.len(), self.broken);
        for (kind, mut took) in kinds {
            took.sort_unstable();
            let at = |hundredths: usize| took[(took.len() - 1) * hundredths / 100];
            let (half, most, slowest) = (at(50), at(99), at(100));
            text.push_str(&format!("; {kind} {} (p50 {half:.1?}, p99 {most:.1?}, slowest {slowest:.1?})", took.len()));
        }
        text
    }
}

/// The clients. They ask without end, with a short pause after each answer.
pub(crate) struct Crowd {
    stop: Arc<AtomicBool>,
    saw: Arc<Mutex<Saw>>,
    clients: Vec<tokio::task::JoinHandle<()>>,
}

impl Crowd {
    pub(crate) fn start(clients: usize, places: &Places, wishes: &Arc<Wishes>) -> Self {
        let (stop, saw) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Saw>>::default());
        let one = |number: usize| {
            let member = Member {
                tenant: number % TENANTS.len(),
                http: Client::builder(TokioExecutor::new()).build_http(),
                places: Arc::clone(places),
                saw: Arc::clone(&saw),
            };
            let (stop, wishes) = (Arc::clone(&stop), Arc::clone(wishes));
            tokio::spawn(async move {
                let mut random = fastrand::Rng::new();
                while !stop.load(Ordering::Relaxed) {
                    member.ask(wishes.next(&mut random), &mut random).await;
                    tokio::time::sleep(Duration::from_millis(random.u64(2..12))).await;
                }
            })
        };
        let clients = (0..clients).map(one).collect();
        Self { stop, saw, clients }
    }

    /// Answers so far.
    pub(crate) fn count(&self) -> usize {
        self.saw.lock().unwrap().seen.len()
    }

    /// Ends it once every open request has its answer.
    pub(crate) async fn end(self) -> Saw {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.unwrap();
        }
        Arc::into_inner(self.saw).unwrap().into_inner().unwrap()
    }
}

/// One client.
struct Member {
    tenant: usize,
    http: Http,
    places: Places,
    saw: Arc<Mutex<Saw>>,
}

impl Member {
    /// Asks until there is an answer, each time on another replica.
    async fn ask(&self, prompt: usize, random: &mut fastrand::Rng) {
        let (plain, streamed) = (random.bool(), random.u8(..3) == 0);
        let text = wording(prompt, plain);
        let body = if streamed { chat_stream(&text) } else { chat(&text) };
        let mut replica = random.usize(..);
        let first = Instant::now();
        loop {
            let place = {
                let places = self.places.lock().unwrap();
                places[replica % places.len()]
            };
            let began = Instant::now();
            match tokio::time::timeout(PATIENCE, self.exchange(place.data, &body, streamed)).await {
                Ok(Ok(Got { status, id, cache, tier, text })) if status == StatusCode::OK => {
                    let took = began.elapsed();
                    return self.judge(prompt, &text, |number| Seen {
                        id,
                        tenant: self.tenant,
                        prompt,
                        cache,
                        tier,
                        number,
                        streamed,
                        began,
                        took,
                    });
                }
                Ok(Ok(got)) => {
                    let refused = format!("{} {}", got.status, got.text);
                    return self.saw.lock().unwrap().refused.push(refused);
                }
                Ok(Err(())) => self.saw.lock().unwrap().broken += 1,
                Err(_) => return self.saw.lock().unwrap().refused.push("no answer".to_owned()),
            }
            assert!(first.elapsed() < 2 * PATIENCE, "no replica answers");
            replica = replica.wrapping_add(1);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn judge(&self, prompt: usize, text: &str, seen: impl FnOnce(u64) -> Seen) {
        let mut saw = self.saw.lock().unwrap();
        let Some((key, about, number)) = read_mark(text) else {
            return saw.wrong.push(format!("{prompt}: {text}"));
        };
        if key != TENANTS[self.tenant] {
            saw.crossed.push(format!("{}: {text}", TENANTS[self.tenant]));
        }
        if about != prompt {
            saw.wrong.push(format!("{prompt}: {text}"));
        }
        saw.seen.push(seen(number));
    }

    /// Reads an answer. It counts as read once its body has ended in order, or a stream's `[DONE]` has been seen.
    async fn exchange(&self, to: SocketAddr, body: &Value, streamed: bool) -> Result<Got, ()> {
        let request = chat_request(to, TENANTS[self.tenant], &[], body);
        let (head, mut body) = self.http.request(request).await.map_err(|_| ())?.into_parts();
        let mut text = Vec::new();
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => text.extend_from_slice(&frame.into_data().unwrap_or_default()),
                Err(_) if streamed && text.ends_with(b"data: [DONE]\n\n") => break,
                Err(_) => return Err(()),
            }
        }
        let answer = Answer { status: head.status, headers: head.headers, body: text.into() };
        let text = match (answer.status, streamed) {
            (StatusCode::OK, true) => answer.streamed(),
            (StatusCode::OK, false) => answer.content(),
            _ => answer.text(),
        };
        let header = |name: &str| answer.header(name).to_owned();
        Ok(Got {
            status: answer.status,
            id: header("x-remora-request-id"),
            cache: header("x-remora-cache"),
            tier: header("x-remora-tier"),
            text,
        })
    }
}

/// An answer.
struct Got {
    status: StatusCode,
    id: String,
    cache: String,
    tier: String,
    text: String,
}

/// The slowest one in a hundred. Of none it is nothing.
pub(crate) fn p99(seen: &[&Seen]) -> Duration {
    let mut all: Vec<_> = seen.iter().map(|seen| seen.took).collect();
    all.sort_unstable();
    all.get(all.len() * 99 / 100).copied().unwrap_or_default()
}
