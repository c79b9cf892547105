//! A proxy and a simulated upstream in this process, and a client to talk to them over real sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use remora::app::{App, Replacements};
use remora::clock::Clock;
use remora::config::{Config, Overrides};
use remora::embed::Embedder;
use remora::simulate::{self, Options};
use serde_json::{Value, json};

/// The whole arrangement. Dropping it stops everything and removes its files.
pub(crate) struct Rig {
    pub(crate) sim: simulate::Handle,
    pub(crate) app: Option<App>,
    pub(crate) client: Client<HttpConnector, Full<Bytes>>,
    change: Arc<dyn Fn(&mut Config) + Send + Sync>,
    clock: Clock,
    embedder: Option<Embedder>,
    pub(crate) dir: tempfile::TempDir,
}

/// How to arrange it.
pub(crate) struct Plan {
    pub(crate) simulate: Options,
    pub(crate) change: Arc<dyn Fn(&mut Config) + Send + Sync>,
    pub(crate) clock: Clock,
    /// The built-in model if `None`.
    pub(crate) embedder: Option<Embedder>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            simulate: Options::default(),
            change: Arc::new(|_| {}),
            clock: Clock::system(),
            embedder: Some(Embedder::fixed(8, bag_of_letters)),
        }
    }
}

/// A cheap stand-in for the model, for tests in which only equal texts must be near: letters counted in eight bins.
pub(crate) fn bag_of_letters(text: &str) -> Result<Vec<f32>, remora::embed::EmbedError> {
    let mut bins = [0.1_f32; 8];
    for (place, byte) in text.bytes().enumerate() {
        bins[(usize::from(byte) * 7 + place) % 8] += 1.0;
    }
    let norm = bins.iter().map(|x| x * x).sum::<f32>().sqrt();
    Ok(bins.iter().map(|x| x / norm).collect())
}

/// One answer, read to its end.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// `x-remora-cache`
    pub(crate) fn cache(&self) -> &str {
        self.header("x-remora-cache")
    }

    pub(crate) fn reason(&self) -> &str {
        self.header("x-remora-reason")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The text of the first choice of a whole chat answer.
    pub(crate) fn content(&self) -> String {
        self.json()["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned()
    }

    /// The text of the first choice, put together from the events of a stream.
    pub(crate) fn streamed(&self) -> String {
        let events = self.text();
        let data = events.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
        data.filter_map(|data| {
            let event: Value = serde_json::from_str(data).unwrap();
            event["choices"][0]["delta"]["content"].as_str().map(str::to_owned)
        })
        .collect()
    }
}

/// A chat request with one user turn.
pub(crate) fn chat(prompt: &str) -> Value {
    json!({ "model": "gpt-4o-mini", "messages": [{ "role": "user", "content": prompt }] })
}

/// The same, as a stream.
pub(crate) fn chat_stream(prompt: &str) -> Value {
    json!({ "model": "gpt-4o-mini", "stream": true, "messages": [{ "role": "user", "content": prompt }] })
}

impl Rig {
    /// Everything at its default, with the cheap embedder.
    pub(crate) async fn start() -> Self {
        Self::with(Plan::default()).await
    }

    /// With the built-in model.
    pub(crate) async fn with_model() -> Self {
        // Unoptimised builds on a busy machine take longer for a vector than a user would wait.
        let patient = |config: &mut Config| config.embedding.deadline = Duration::from_secs(20);
        Self::with(Plan { embedder: None, change: Arc::new(patient), ..Plan::default() }).await
    }

    pub(crate) async fn with(plan: Plan) -> Self {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let sim = simulate::spawn(plan.simulate, any).await.unwrap();
        let client = Client::builder(TokioExecutor::new()).build_http();
        let dir = tempfile::tempdir().unwrap();
        let Plan { change, clock, embedder, .. } = Plan { simulate: Options::default(), ..plan };
        let mut rig = Self { sim, app: None, client, change, clock, embedder, dir };
        rig.app = Some(rig.launch().await);
        rig
    }

    async fn launch(&self) -> App {
        let replace = Replacements {
            clock: Some(self.clock.clone()),
            embedder: self.embedder.clone(),
            ..Replacements::default()
        };
        App::start_with(self.config(), replace).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// The configuration that the proxy runs with.
    pub(crate) fn config(&self) -> Config {
        let overrides = Overrides {
            listen: Some("127.0.0.1:0".to_owned()),
            admin_listen: Some("127.0.0.1:0".to_owned()),
            rem_listen: Some("127.0.0.1:0".to_owned()),
            upstream: Some(format!("{}/v1", self.sim.url())),
            store: Some(format!("sqlite://{}", self.dir.path().join("remora.db").display())),
            redis: None,
        };
        let mut config = Config::load(None, std::iter::empty(), &overrides).unwrap_or_else(|p| panic!("{p}"));
        // Left to chance, one hit in fifty would go upstream a second time and be stored under its own words.
        config.cache.audit.rate = 0.0;
        (self.change)(&mut config);
        config
    }

    pub(crate) fn app(&self) -> &App {
        self.app.as_ref().unwrap()
    }

    /// Stops the proxy in order and starts it again on the same files.
    pub(crate) async fn restart(&mut self) {
        self.app.take().unwrap().stop_within(Duration::from_secs(10)).await;
        self.app = Some(self.launch().await);
    }

    /// Starts the proxy again after it has been taken out and stopped.
    pub(crate) async fn launch_again(&mut self) {
        self.app = Some(self.launch().await);
    }

    /// Waits until everything queued so far is in the store.
    pub(crate) async fn settle(&self) {
        for _ in 0..500 {
            let idle = self.app().metrics.in_flight_now() == 0;
            if idle && self.app().flush().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("requests are still in flight");
    }

    /// Sends a request to the data plane.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        key: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.app().data));
        if !key.is_empty() {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.exchange(request.body(Full::new(body)).unwrap()).await
    }

    /// Sends any request and reads the answer to its end.
    pub(crate) async fn exchange(&self, request: Request<Full<Bytes>>) -> Answer {
        let response = self.client.request(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: head.status, headers: head.headers, body }
    }

    /// A chat request.
    pub(crate) async fn chat(&self, key: &str, body: &Value) -> Answer {
        self.chat_with(key, &[], body).await
    }

    /// A chat request with headers.
    pub(crate) async fn chat_with(&self, key: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        self.send(Method::POST, "/v1/chat/completions", key, headers, Bytes::from(body.to_string())).await
    }

    /// A question to the admin plane.
    pub(crate) async fn admin(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let body = body.map(|b| b.to_string()).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.app().admin))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        self.exchange(request).await
    }

    /// The ledger row of an answer.
    pub(crate) async fn row(&self, answer: &Answer) -> Value {
        let id = answer.header("x-remora-request-id");
        let mut row = None;
        // The row is queued when the last task that works on the request lets go of it, which may be after the reply.
        for _ in 0..200 {
            self.settle().await;
            let told = self.admin(Method::GET, &format!("/admin/v1/requests/{id}"), None).await;
            if told.status == StatusCode::OK {
                return told.json();
            }
            row = Some(told);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no ledger row for {id}: {:?}", row.map(|told| told.text()))
    }
}
