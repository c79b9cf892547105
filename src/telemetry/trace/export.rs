//! Sends spans to a collector: OTLP over HTTP with protobuf bodies, in batches, from a task of its own.
//!
//! A collector that is away costs spans and nothing else. What it asks to be sent again is sent again, with growing pauses and
//! for a while; meanwhile the queue fills and what finds no place is dropped where it ends.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};
use prost::Message;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::spans::{Attributes, spans};
use super::{Finished, TraceSeries, Tracer};
use crate::config::Secret;

/// Most requests whose spans are sent together.
const BATCH: usize = 128;
/// How long spans wait for company.
const LINGER: Duration = Duration::from_secs(1);
/// How long one try may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Tries of one batch.
const TRIES: u32 = 5;
/// The pause after the first try; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause that the collector may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Connections that are not used are given back after this.
const IDLE: Duration = Duration::from_secs(60);
/// Bytes of an answer that are read.
const ANSWER: usize = 64 << 10;

/// Where spans go and what they say of this program.
pub struct Settings {
    /// Where to post, as in `http://collector:4318/v1/traces`.
    pub target: Uri,
    /// Sent with each post.
    pub headers: Vec<(HeaderName, Secret)>,
    /// Certificate authorities and versions of TLS.
    pub tls: rustls::ClientConfig,
    /// Part of the requests without a trace of their own that get one: 0 to 1.
    pub ratio: f64,
    /// Ended requests that may wait.
    pub room: usize,
    /// Name of the upstream, for requests that did not need it.
    pub upstream: String,
    /// Its host and port.
    pub server: (String, u16),
    /// Tells this process from others of its kind.
    pub instance: String,
}

/// Takes spans from the queue and sends them.
pub struct Exporter {
    settings: Settings,
    queue: mpsc::Receiver<Finished>,
    series: TraceSeries,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    closing: watch::Receiver<bool>,
    /// The last batch was lost, and the log has it.
    failing: bool,
}

/// What came of a try.
enum Tried {
    /// The collector has all but so many.
    Taken(u64),
    /// It will never take it.
    Refused(String),
    /// It may take it later.
    Later(String, Option<Duration>),
}

impl Exporter {
    /// The two ends of the queue. Set `closing` to end [`Exporter::run`] when all that waits has been tried once.
    pub fn new(settings: Settings, series: TraceSeries, closing: watch::Receiver<bool>) -> (Tracer, Self) {
        let (tracer, queue) = Tracer::new(settings.ratio, settings.room, series.clone());
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(PATIENCE));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(settings.tls.clone())
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        (tracer, Self { settings, queue, series, client, closing, failing: false })
    }

    /// Sends until it is told to end.
    pub async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut closing = self.closing.clone();
        loop {
            tokio::select! {
                taken = self.queue.recv_many(&mut batch, BATCH) => if taken == 0 { return },
                _ = closing.wait_for(|closing| *closing) => break,
            }
            let until = Instant::now() + LINGER;
            while batch.len() < BATCH && !*closing.borrow() {
                let room = BATCH - batch.len();
                let more = self.queue.recv_many(&mut batch, room);
                tokio::select! {
                    taken = timeout_at(until, more) => if !matches!(taken, Ok(1..)) { break },
                    _ = closing.wait_for(|closing| *closing) => {}
                }
            }
            self.deliver(&batch).await;
            batch.clear();
        }
        self.queue.close();
        while self.queue.recv_many(&mut batch, BATCH).await > 0 {
            self.deliver(&batch).await;
            batch.clear();
        }
    }

    async fn deliver(&mut self, batch: &[Finished]) {
        let count: u64 = batch.iter().map(Finished::spans).sum();
        let body = Bytes::from(self.request(batch).encode_to_vec());
        let mut pause = FIRST_PAUSE;
        let mut closing = self.closing.clone();
        for left in (0..TRIES).rev() {
            let tried = timeout(PATIENCE, self.post(body.clone())).await;
            let (why, wait) = match tried.unwrap_or_else(|_| Tried::Later("no answer in time".to_owned(), None)) {
                Tried::Taken(rejected) => {
                    let rejected = rejected.min(count);
                    self.series.exported.inc_by(count - rejected);
                    self.lose("refused", rejected, "the collector rejected a part of a batch");
                    self.failing = rejected > 0;
                    return;
                }
                Tried::Refused(why) => return self.lose("refused", count, &why),
                Tried::Later(why, wait) => (why, wait),
            };
            if left == 0 || *closing.borrow() {
                return self.lose("failed", count, &why);
            }
            // Not all replicas at once.
            let wait = wait.unwrap_or(pause).mul_f64(1.0 + fastrand::f64() / 5.0);
            tokio::select! {
                () = sleep(wait) => {}
                _ = closing.wait_for(|closing| *closing) => {}
            }
            pause *= 2;
        }
    }

    fn lose(&mut self, reason: &str, spans: u64, why: &str) {
        if spans == 0 {
            return;
        }
        self.series.dropped.with_label_values(&[reason]).inc_by(spans);
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(spans, why, "spans were lost; see remora_trace_spans_dropped_total for how many");
        }
    }

    fn request(&self, batch: &[Finished]) -> ExportTraceServiceRequest {
        let mut about = Attributes::default();
        about.text("service.name", "remora");
        about.text("service.version", env!("CARGO_PKG_VERSION"));
        about.text("service.instance.id", &self.settings.instance);
        about.text("telemetry.sdk.name", "remora");
        about.text("telemetry.sdk.language", "rust");
        about.text("telemetry.sdk.version", env!("CARGO_PKG_VERSION"));
        let scope = InstrumentationScope {
            name: "remora".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let spans = batch.iter().flat_map(|finished| spans(finished, &self.settings)).collect();
        let resource = Resource { attributes: about.done(), ..Resource::default() };
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, schema_url: String::new() }];
        let resource_spans = vec![ResourceSpans { resource: Some(resource), scope_spans, schema_url: String::new() }];
        ExportTraceServiceRequest { resource_spans }
    }

    async fn post(&self, body: Bytes) -> Tried {
        let mut request = Request::new(Full::from(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.settings.target.clone();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("remora/", env!("CARGO_PKG_VERSION"))));
        for (name, secret) in &self.settings.headers {
            if let Ok(mut value) = HeaderValue::from_str(secret.expose()) {
                value.set_sensitive(true);
                headers.insert(name.clone(), value);
            }
        }
        let response = match self.client.request(request).await {
            Ok(response) => response,
            // It names neither URLs nor headers.
            Err(error) => return Tried::Later(error.to_string(), None),
        };
        let (head, body) = response.into_parts();
        let answered = format!("answered {}", head.status.as_u16());
        match head.status {
            status if status.is_success() => {
                let body = Limited::new(body, ANSWER).collect().await.map(http_body_util::Collected::to_bytes);
                let told = body.ok().and_then(|body| ExportTraceServiceResponse::decode(body).ok());
                let rejected = told.and_then(|told| told.partial_success).map_or(0, |part| part.rejected_spans);
                Tried::Taken(u64::try_from(rejected).unwrap_or(0))
            }
            // The four that the protocol names; all others are not to be tried again.
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Tried::Later(answered, pause(&head.headers)),
            _ => Tried::Refused(answered),
        }
    }
}

fn pause(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_PAUSE))
}
