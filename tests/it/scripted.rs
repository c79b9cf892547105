//! An upstream that answers each prompt as the test says, and an embedder that places prompts where the test wants them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex};

use http::Method;
use remora::clock::Clock;
use remora::config::{Config, KeySpec, Secret, Share, Tenant, TenantCache, TenantKey, TenantSpec};
use remora::embed::Embedder;
use serde_json::{Value, json};

use crate::canned::{Canned, chat_answer, chunk, response, stream_head};
use crate::child::until;
use crate::rig::{Answer, Plan, Rig};

/// Prompts about different ones of these are at right angles.
const TOPICS: [&str; 5] = ["tides", "parcel", "garden", "invoice", "museum"];

/// "please" turns a prompt a little (cosine 0.97, which serves while nothing is learnt), "loosely" turns it more and the
/// other way (0.85, which does not).
fn place(text: &str) -> Vec<f32> {
    let text = text.to_lowercase();
    let topic = TOPICS.iter().position(|topic| text.contains(topic)).unwrap_or(TOPICS.len());
    let angle = if text.contains("please") {
        -(0.97_f32.acos())
    } else if text.contains("loosely") {
        0.85_f32.acos()
    } else {
        0.0
    };
    let mut vector = vec![0.0; 2 * TOPICS.len() + 2];
    (vector[2 * topic], vector[2 * topic + 1]) = (angle.cos(), angle.sin());
    vector
}

pub(crate) fn by_topic() -> Embedder {
    Embedder::fixed(2 * TOPICS.len() + 2, |text| Ok(place(text)))
}

/// What the upstream does with prompts.
#[derive(Default)]
struct Script {
    answers: HashMap<String, String>,
    /// Prompts whose answers wait until they are released.
    held: HashSet<String>,
    /// Whole answers tell no usage.
    silent: bool,
    /// Prompts that fail.
    failing: HashSet<String>,
    /// Prompts in the order in which they arrived.
    seen: Vec<String>,
}

/// See the module.
pub(crate) struct Scripted {
    pub(crate) canned: Canned,
    script: Arc<(Mutex<Script>, Condvar)>,
}

impl Scripted {
    /// Answers with the text for the prompt; a prompt without one gets its own text back.
    pub(crate) async fn start(answers: &[(&str, &str)]) -> Self {
        let script = Arc::new((Mutex::new(Script::default()), Condvar::new()));
        let own = Arc::clone(&script);
        let canned = Canned::start(move |request| reply(&own, request)).await;
        let scripted = Self { canned, script };
        answers.iter().for_each(|(prompt, answer)| scripted.says(prompt, answer));
        scripted
    }

    pub(crate) fn says(&self, prompt: &str, answer: &str) {
        self.script.0.lock().unwrap().answers.insert(prompt.to_owned(), answer.to_owned());
    }

    pub(crate) fn hold(&self, prompt: &str) {
        self.script.0.lock().unwrap().held.insert(prompt.to_owned());
    }

    pub(crate) fn release(&self, prompt: &str) {
        self.script.0.lock().unwrap().held.remove(prompt);
        self.script.1.notify_all();
    }

    /// From now on whole answers tell no usage.
    pub(crate) fn tell_no_usage(&self) {
        self.script.0.lock().unwrap().silent = true;
    }

    pub(crate) fn fail(&self, prompt: &str) {
        self.script.0.lock().unwrap().failing.insert(prompt.to_owned());
    }

    /// How often the prompt has arrived.
    pub(crate) fn arrivals(&self, prompt: &str) -> usize {
        self.script.0.lock().unwrap().seen.iter().filter(|seen| *seen == prompt).count()
    }

    /// How many requests have arrived.
    pub(crate) fn count(&self) -> usize {
        self.script.0.lock().unwrap().seen.len()
    }

    /// A proxy in front of it.
    pub(crate) async fn rig(&self, change: impl Fn(&mut Config) + Send + Sync + 'static) -> Rig {
        self.rig_at(Clock::system(), change).await
    }

    pub(crate) async fn rig_at(&self, clock: Clock, change: impl Fn(&mut Config) + Send + Sync + 'static) -> Rig {
        let url = format!("http://{}/v1", self.canned.addr);
        let both = move |config: &mut Config| {
            config.upstream.url.clone_from(&url);
            change(config);
        };
        Rig::with(Plan { change: Arc::new(both), clock, embedder: Some(by_topic()), ..Plan::default() }).await
    }
}

fn reply(script: &(Mutex<Script>, Condvar), request: &str) -> Vec<Vec<u8>> {
    let body = request.split_once("\r\n\r\n").unwrap().1;
    let body: Value = serde_json::from_str(body).unwrap();
    let prompt = body["messages"].as_array().unwrap().last().unwrap()["content"].as_str().unwrap().to_owned();
    let mut state = script.0.lock().unwrap();
    state.seen.push(prompt.clone());
    state = script.1.wait_while(state, |state| state.held.contains(&prompt)).unwrap();
    if state.failing.contains(&prompt) {
        let body = "{\"error\":{\"message\":\"broken\",\"type\":\"server_error\"}}";
        let head = "HTTP/1.1 500 Internal Server Error\r\ncontent-type: application/json\r\nconnection: close\r\n";
        return vec![format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()];
    }
    let text = state.answers.get(&prompt).unwrap_or(&prompt).clone();
    let silent = state.silent;
    drop(state);
    if body["stream"] != true {
        let mut answer: Value = serde_json::from_str(&chat_answer(&text)).unwrap();
        if silent {
            answer.as_object_mut().unwrap().remove("usage");
        }
        return vec![response("application/json", "", answer.to_string().as_bytes())];
    }
    let choice = |delta: Value, finish: Value| {
        let choice = json!({ "index": 0, "delta": delta, "finish_reason": finish });
        format!("data: {}\n\n", json!({ "id": "c", "model": "m", "created": 1, "choices": [choice] }))
    };
    let events = choice(json!({ "content": text }), Value::Null) + &choice(json!({}), "stop".into());
    vec![[stream_head(), chunk(&format!("{events}data: [DONE]\n\n")), b"0\r\n\r\n".to_vec()].concat()]
}

/// A declared tenant `shop` whose keys share answers: `SHOP[n]`.
pub(crate) fn shop(config: &mut Config) {
    let key = |(name, secret): (&str, &str)| TenantKey {
        name: name.to_owned(),
        secret: Secret::new(secret.to_owned()),
        spec: KeySpec::default(),
    };
    config.server.passthrough = false;
    config.tenants = vec![Tenant {
        name: "shop".into(),
        keys: ["one", "two", "three"].into_iter().zip(SHOP).map(key).collect(),
        upstream_api_key: None,
        spec: TenantSpec {
            cache: TenantCache { share: Some(Share::Tenant), ..TenantCache::default() },
            ..TenantSpec::default()
        },
    }];
}

/// The keys of [`shop`].
pub(crate) const SHOP: [&str; 3] =
    ["rk-shop-one-0123456789abcdef", "rk-shop-two-0123456789abcdef", "rk-shop-three-0123456789abcdef"];

/// A chat request, for one that must be looked up only: 504 if nothing is found.
pub(crate) async fn is_served(rig: &Rig, key: &str, body: &Value) -> bool {
    rig.chat_with(key, &[("cache-control", "only-if-cached")], body).await.status == 200
}

/// Cache result, tier and reason.
pub(crate) fn line(answer: &Answer) -> (&str, &str, &str) {
    (answer.cache(), answer.header("x-remora-tier"), answer.reason())
}

/// What the admin plane answers to a question that must succeed.
pub(crate) async fn told(rig: &Rig, path: &str) -> Value {
    rig.settle().await;
    let answer = rig.admin(Method::GET, path, None).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

/// The rows of a list.
pub(crate) async fn rows(rig: &Rig, path: &str) -> Vec<Value> {
    told(rig, path).await["data"].as_array().unwrap().clone()
}

/// Sum over all series of a family that have these labels.
pub(crate) async fn metric(rig: &Rig, family: &str, labels: &[&str]) -> f64 {
    let text = rig.admin(Method::GET, "/metrics", None).await.text();
    let is_of = |line: &&str| line.split(['{', ' ']).next() == Some(family) && labels.iter().all(|l| line.contains(l));
    text.lines().filter(is_of).map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// Waits until a series is at least this.
pub(crate) async fn reaches(rig: &Rig, family: &str, labels: &[&str], least: f64) {
    until(family, || async { (metric(rig, family, labels).await >= least).then_some(()) }).await;
}

/// Waits until so many candidates have been compared with fresh answers, and what follows from it is done.
pub(crate) async fn compared(rig: &Rig, count: usize) {
    reaches(rig, "remora_cache_comparisons_total", &[], count as f64).await;
    // Linking follows the comparison without a wait.
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    rig.settle().await;
}
