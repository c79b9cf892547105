//! The data path: what happens to a request, in order. [`DataPlane::serve`] is the whole story; each stage it names is
//! a module of its own.
//!
//! ```text
//! authenticate → read and parse → plan → exact look-up → coalesce → embed → nearest → decide
//!     → hit: replay        → miss: forward, tee, store
//! ```
//!
//! A look-up is never an error here: whatever goes wrong in the cache is a reason to forward. Only this module and the
//! listener pick an HTTP status.

mod audit;
mod completion;
mod embeddings;
mod explain;
mod feedback;
mod forward;
mod limits;
mod meter;
mod pass;
mod prefixes;
mod reached;
mod refusal;
mod reply;
mod tab;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderValue;
use http::{HeaderMap, Method, Request, Response, header};
use tokio::time::timeout;

use self::audit::Background;
use self::prefixes::Prefixes;
use self::refusal::Refusal;
use self::reply::{AnswerHead, Served, SharedWhole, json};
use crate::account::Record;
use crate::cache::flight::Flights;
use crate::cache::outcome::{Outcome, Reason};
use crate::cache::{Cache, Hit};
use crate::call::Controls;
use crate::clock::Clock;
use crate::config::{self, Limits, UnknownPrice};
use crate::dialect::Dialect;
use crate::limit::Limiter;
use crate::price::PriceBook;
use crate::server::{RequestBody, Shutdown};
use crate::store::{LedgerStore, WriterHandle};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::trace::{self, Open, Stage};
use crate::tenant::{Directory, Principal};
use crate::upstream::{Upstream, UpstreamError, headers};

pub use self::explain::{ExplainError, ExplainRequest};
pub use self::feedback::{FeedbackBody, MOST_HOURS, WITHIN_HOURS, view as feedback_view};
pub use self::reply::{Body, BrokenOff};

/// Events of one flight kept for followers that come late, bytes.
const SHARED_BYTES: usize = 4 << 20;

/// Bytes of a body that are read although the request is refused without it, and how long they are waited for.
const UNREAD_BYTES: usize = 64 << 10;
const UNREAD_WAIT: Duration = Duration::from_millis(250);

/// What all replies of a flight begin with.
#[derive(Clone)]
enum Head {
    /// The cache answered after all.
    Hit(Arc<Hit>),
    /// A whole answer of upstream.
    Whole(SharedWhole),
    /// A stream begins.
    Stream(Arc<AnswerHead>),
    /// No answer.
    Failed(UpstreamError),
}

/// How a flight ended.
#[derive(Clone, Debug)]
enum End {
    /// In order.
    Complete,
    /// The upstream failed in the middle.
    Broken(UpstreamError),
}

/// Everything that requests share. Built by `app`, used by every connection.
pub struct DataPlane {
    directory: Arc<Directory>,
    cache: Arc<Cache>,
    upstream: Arc<Upstream>,
    flights: Arc<Flights<Head, End>>,
    background: Background,
    ledger: Arc<dyn LedgerStore>,
    limits: Limits,
    clock: Clock,
    writer: WriterHandle,
    metrics: Arc<Metrics>,
    limiter: Arc<Limiter>,
    prices: Arc<PriceBook>,
    prefixes: Prefixes,
    unknown_price: UnknownPrice,
    assumed_output: u64,
    shutdown: Shutdown,
}

/// What a data plane is made of.
pub struct Parts {
    /// Who may call.
    pub directory: Arc<Directory>,
    /// Where answers are looked for.
    pub cache: Arc<Cache>,
    /// Where requests are forwarded.
    pub upstream: Arc<Upstream>,
    /// Sizes and counts.
    pub limits: Limits,
    /// Wall-clock time.
    pub clock: Clock,
    /// The ledger, for feedback.
    pub ledger: Arc<dyn LedgerStore>,
    /// Where ledger rows go.
    pub writer: WriterHandle,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// What callers are held to.
    pub limiter: Arc<Limiter>,
    /// What models cost.
    pub prices: Arc<PriceBook>,
    /// What to do about models without a price.
    pub pricing: config::Prices,
    /// How careful savings are counted.
    pub savings: config::Savings,
    /// Tells when to end.
    pub shutdown: Shutdown,
}

/// One request on its way through the stages.
struct Exchange {
    dialect: Dialect,
    method: Method,
    /// What follows `/v1`, with the query.
    path: String,
    headers: HeaderMap,
    principal: Principal,
    controls: Controls,
    record: Record,
}

impl DataPlane {
    /// Puts a data plane together.
    pub fn new(parts: Parts) -> Self {
        Self {
            directory: parts.directory,
            cache: parts.cache,
            upstream: parts.upstream,
            flights: Flights::new(SHARED_BYTES),
            background: Background::default(),
            ledger: parts.ledger,
            limits: parts.limits,
            clock: parts.clock,
            writer: parts.writer,
            metrics: parts.metrics,
            limiter: parts.limiter,
            prices: parts.prices,
            prefixes: Prefixes::new(&parts.savings),
            unknown_price: parts.pricing.unknown,
            assumed_output: parts.pricing.assumed_output.into(),
            shutdown: parts.shutdown,
        }
    }

    /// What models cost.
    pub fn prices(&self) -> &PriceBook {
        &self.prices
    }

    /// Serves one request. Every path leaves exactly one ledger row, through the [`Record`].
    pub async fn serve(self: Arc<Self>, request: Request<RequestBody>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let path = head.uri.path();
        let dialect = Dialect::of(&head.method, path);
        let bodiless = head.method == Method::HEAD;
        let trailers = reply::reads_trailers(head.version, &head.headers);
        let record = Record::begin(route(&head.method, path), &self.clock, &self.writer, &self.metrics);
        record.with(|row| row.dialect = dialect.as_str().into());
        record.trace(&head.headers);
        let mut reply = match self.stages(head, body, dialect, &record).await {
            Ok(reply) => reply,
            Err(refusal) => refuse(&refusal, &record),
        };
        if reply.headers().get("x-remora-request-id").is_none() {
            Served::default().write(reply.headers_mut(), &record);
        }
        limits::write_allowance(reply.headers_mut(), &record.allowance());
        reply::tell_money(&mut reply, trailers, &record);
        record.replied(reply.status().as_u16());
        if bodiless || reply.body().is_empty() {
            // The body of such a reply is dropped unread, which is no sign of a client that left; its head is the end of it.
            record.finished();
        }
        reply
    }

    async fn stages(
        self: &Arc<Self>,
        head: http::request::Parts,
        body: RequestBody,
        dialect: Dialect,
        record: &Record,
    ) -> Result<Response<Body>, Refusal> {
        let expects = head.headers.contains_key(header::EXPECT);
        let exchange = match self.enter(head, dialect, record).await {
            Ok(exchange) => exchange,
            Err(refusal) => {
                // A connection whose request was not read cannot be used again, and clients that have it in their pool learn of
                // that from the failure of their next request. So what is small and on its way is read; not what is waiting
                // to be asked for.
                if !expects {
                    let _ = timeout(UNREAD_WAIT, body.collect(UNREAD_BYTES)).await;
                }
                return Err(refusal);
            }
        };
        if feedback::is_route(&exchange) {
            return self.feedback(exchange, body).await;
        }
        match dialect {
            Dialect::Chat | Dialect::Completions => self.completion(exchange, body).await,
            Dialect::Embeddings => self.embeddings(exchange, body).await,
            Dialect::Models => self.models(exchange).await,
            Dialect::Other => self.pass(exchange, body).await,
        }
    }

    /// All that is decided before the body is read: who asks, where, with which controls, and whether it has requests left.
    async fn enter(&self, head: http::request::Parts, dialect: Dialect, record: &Record) -> Result<Exchange, Refusal> {
        let target = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let Some(path) = target.strip_prefix("/v1").filter(|rest| rest.starts_with('/')) else {
            return Err(Refusal::unknown_route(head.uri.path()));
        };
        if climbs(head.uri.path()) {
            return Err(Refusal::climbing_path());
        }
        let _stage = record.stage(Stage::Authenticate);
        let principal = self.directory.authenticate(&head.headers)?;
        principal.may_call(head.uri.path())?;
        let controls = Controls::from_headers(&head.headers)?;
        record.with(|row| {
            row.tenant = Some(principal.tenant.clone());
            row.key = Some(principal.key.clone());
            row.user.clone_from(&controls.user);
            row.tags.clone_from(&controls.tags);
        });
        let exchange = Exchange {
            dialect,
            path: path.to_owned(),
            method: head.method,
            headers: head.headers,
            principal,
            controls,
            record: record.clone(),
        };
        self.count_request(&exchange).await?;
        Ok(exchange)
    }

    /// The headers of a request to upstream. `identity` asks for a body that can be read.
    fn towards_upstream(&self, exchange: &Exchange, identity: bool) -> HeaderMap {
        let Exchange { headers: caller, principal, method, .. } = exchange;
        let mut headers = headers::towards_upstream(caller, &principal.credential, method, identity);
        if self.upstream.settings().trace_context {
            trace::pass_on(caller, &mut headers);
        }
        headers
    }

    /// Tells upstream the span of a call, if it is to be told.
    fn tell_trace(&self, call: &Open, headers: &mut HeaderMap) {
        if self.upstream.settings().trace_context {
            call.tell(headers);
        }
    }

    /// Reads a body that must be understood.
    async fn read(&self, headers: &HeaderMap, body: RequestBody) -> Result<Bytes, Refusal> {
        let coding = headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes);
        if coding.is_some_and(|coding| !coding.eq_ignore_ascii_case(b"identity")) {
            return Err(Refusal::coded_body());
        }
        Ok(body.collect(self.limits.body_bytes).await?)
    }
}

impl Exchange {
    /// What outside the body changes the answer: the query and version headers.
    fn variant(&self) -> String {
        variant(&self.path, &self.headers)
    }

    /// Method and path, as in the ledger.
    fn route(&self) -> String {
        let path = self.path.split('?').next().unwrap_or_default();
        route(&self.method, &format!("/v1{path}"))
    }
}

fn variant(path: &str, headers: &HeaderMap) -> String {
    let mut text = path.split_once('?').map_or("", |(_, query)| query).to_owned();
    for name in ["openai-beta", "anthropic-version", "anthropic-beta"] {
        for value in headers.get_all(name) {
            text.push('\n');
            text.push_str(name);
            text.push_str(&String::from_utf8_lossy(value.as_bytes()));
        }
    }
    text
}

/// Whether a path has a segment `.` or `..`, plain or percent-encoded. Upstreams and what stands before them resolve such
/// segments, so that `/v1/../x` would reach with our credential what is not under the configured base URL.
fn climbs(path: &str) -> bool {
    let path = path.to_ascii_lowercase().replace("%2e", ".").replace("%2f", "/").replace("%5c", "/").replace('\\', "/");
    path.split('/').any(|segment| matches!(segment, "." | ".."))
}

fn route(method: &Method, path: &str) -> String {
    const LONGEST: usize = 200;
    let path = path.get(..LONGEST).unwrap_or(path);
    format!("{method} {path}")
}

fn refuse(refusal: &Refusal, record: &Record) -> Response<Body> {
    let outcome = if refusal.upstream { Outcome::Failed } else { Outcome::Refused };
    record.outcome(outcome, None, None);
    record.with(|row| row.reason = Some(refusal.code().into()));
    let mut reply = json(refusal.status, refusal.body(), record);
    if let Some(wait) = refusal.retry_after {
        // Rounded up: who comes back at that time is served.
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    if refusal.in_vain {
        reply.headers_mut().insert("x-should-retry", HeaderValue::from_static("false"));
    }
    if let Some(allowance) = &refusal.allowance {
        record.allow(**allowance);
    }
    if let Ok(reason) = HeaderValue::from_str(refusal.code()) {
        reply.headers_mut().insert("x-remora-reason", reason);
    }
    reply
}

/// A reply that was not looked for in the cache.
fn bypass(reason: Reason) -> Served {
    Served { outcome: Some(Outcome::Bypass), reason: Some(reason), ..Served::default() }
}
