//! The provider side: one pooled client, deadlines per hop, and errors that say which hop failed.
//!
//! Requests are built anew, never forwarded byte for byte: only headers that pass [`headers::towards_upstream`] go out
//! and only those that pass [`headers::towards_client`] come back.
//!
//! Must never follow a redirect, use a proxy from the environment, or put an upstream's error text into our own.

mod connect;
pub mod headers;

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use self::connect::Within;
use crate::config;

/// Idle connections are closed before a provider's load balancer does it under a request.
const POOL_IDLE: Duration = Duration::from_secs(30);
/// How often an HTTP/2 connection with open requests is asked whether it is alive, and how long it may think about that.
const PING: Duration = Duration::from_secs(20);
const PING_ANSWER: Duration = Duration::from_secs(10);
/// Longest wait for a free place when too many requests are in flight.
const QUEUE_WAIT: Duration = Duration::from_secs(10);

/// Models that are remembered not to take the question for usage.
const MODELS: usize = 1_024;

/// A request body on its way upstream.
pub type Outgoing = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// One upstream and its connections.
pub struct Upstream {
    name: String,
    base: Uri,
    prefix: String,
    client: Client<Within<HttpsConnector<HttpConnector>>, Outgoing>,
    settings: config::Upstream,
    places: Arc<Semaphore>,
    /// Models whose streams are refused if they are asked for usage. Behind one address may be servers of several kinds.
    no_usage: RwLock<HashSet<String>>,
}

/// An answer whose body has not been read. The permit counts the request as in flight until it is dropped.
pub struct Answer {
    /// Head and body.
    pub response: Response<Incoming>,
    /// To be kept until the body has been read.
    pub permit: OwnedSemaphorePermit,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum UpstreamError {
    /// TCP, TLS or name resolution failed.
    #[error("the upstream cannot be reached")]
    Unreachable,
    /// Connecting took too long.
    #[error("connecting to the upstream took too long")]
    ConnectTimeout,
    /// The connection broke before the answer's head.
    #[error("the upstream closed the connection before it answered")]
    Closed,
    /// The answer's head took too long.
    #[error("the upstream did not answer in time")]
    FirstByteTimeout,
    /// The connection broke inside the answer.
    #[error("the upstream broke off its answer")]
    BrokenOff,
    /// The answer paused too long.
    #[error("the upstream paused too long in its answer")]
    IdleTimeout,
    /// The whole request took too long.
    #[error("the request took longer than its deadline")]
    TotalTimeout,
    /// Too many requests in flight.
    #[error("too many requests to the upstream are in flight")]
    Busy,
    /// The answer is larger than the limit.
    #[error("the answer of the upstream is larger than the limit of this proxy")]
    TooLarge,
    /// The answer is not what was asked for.
    #[error("the upstream answered something that is not in the format of this endpoint")]
    Rubbish,
}

impl UpstreamError {
    /// Name in error bodies, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "upstream_unreachable",
            Self::ConnectTimeout => "upstream_connect_timeout",
            Self::Closed => "upstream_closed",
            Self::FirstByteTimeout => "upstream_timeout",
            Self::BrokenOff => "upstream_broken_off",
            Self::IdleTimeout => "upstream_idle_timeout",
            Self::TotalTimeout => "deadline_exceeded",
            Self::Busy => "upstream_busy",
            Self::TooLarge => "upstream_response_too_large",
            Self::Rubbish => "upstream_bad_response",
        }
    }

    /// Whether an upstream that had the request kept us waiting. One that cannot be connected to in time is down.
    pub fn is_timeout(self) -> bool {
        matches!(self, Self::FirstByteTimeout | Self::IdleTimeout | Self::TotalTimeout)
    }
}

/// The upstream cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Not an absolute http or https URL.
    #[error("upstream url `{0}` is not an http:// or https:// URL")]
    Url(String),
    /// The certificate file cannot be used.
    #[error("upstream ca_file {path}: {problem}; give a PEM file of certificates")]
    CaFile {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl Upstream {
    /// Prepares the client; connects to nothing yet.
    ///
    /// # Errors
    /// A URL or certificate file that cannot be used.
    pub fn new(settings: &config::Upstream) -> Result<Self, SetupError> {
        let bad_url = || SetupError::Url(settings.url.clone());
        let base: Uri = settings.url.parse().map_err(|_| bad_url())?;
        if base.authority().is_none() || !matches!(base.scheme_str(), Some("http" | "https")) {
            return Err(bad_url());
        }
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(settings.connect));
        tcp.set_keepalive(Some(Duration::from_secs(60)));
        let tls = tls(roots(settings.ca_file.as_deref())?);
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_all_versions().wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(settings.max_in_flight)
            // Over HTTP/2 all requests share a connection; when its other end is gone without a word, they would all wait
            // for their deadlines, and so would the next ones.
            .http2_keep_alive_interval(PING)
            .http2_keep_alive_timeout(PING_ANSWER)
            .build(Within::new(connector, settings.connect));
        Ok(Self {
            name: settings.name.clone(),
            prefix: base.path().trim_end_matches('/').to_owned(),
            base,
            client,
            places: Arc::new(Semaphore::new(settings.max_in_flight)),
            settings: settings.clone(),
            no_usage: RwLock::default(),
        })
    }

    /// Whether streams of this model have been refused because they were asked for usage.
    pub fn refuses_usage(&self, model: &str) -> bool {
        self.no_usage.read().unwrap_or_else(PoisonError::into_inner).contains(model)
    }

    /// A stream of this model was refused because it was asked for usage, and not without that. It is not tried again while this
    /// process lives.
    pub fn refused_usage(&self, model: &str) {
        let mut models = self.no_usage.write().unwrap_or_else(PoisonError::into_inner);
        if models.len() < MODELS && models.insert(model.to_owned()) {
            let upstream = &self.name;
            tracing::warn!(upstream, model, "upstream takes no `stream_options`: usage of streams is estimated");
        }
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is, as in `https://api.openai.com/v1`. Answers belong to this place and not to the name, which stays the
    /// same when `--upstream` points elsewhere.
    pub fn place(&self) -> String {
        let (scheme, authority) = (self.base.scheme_str(), self.base.authority().map(http::uri::Authority::as_str));
        let place = format!("{}://{}", scheme.unwrap_or_default(), authority.unwrap_or_default());
        format!("{}{}", place.to_ascii_lowercase(), self.prefix)
    }

    /// Its deadlines.
    pub fn settings(&self) -> &config::Upstream {
        &self.settings
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> usize {
        self.settings.max_in_flight.saturating_sub(self.places.available_permits())
    }

    /// Sends one request and waits for the head of the answer. `path` is what follows `/v1`, with the query.
    ///
    /// # Errors
    /// The hop that failed.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Outgoing,
        first_byte: Duration,
    ) -> Result<Answer, UpstreamError> {
        let place = timeout(QUEUE_WAIT, Arc::clone(&self.places).acquire_owned()).await;
        let Ok(Ok(permit)) = place else { return Err(UpstreamError::Busy) };
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = self.target(path)?;
        *request.headers_mut() = headers;
        match timeout(first_byte, self.client.request(request)).await {
            Ok(Ok(response)) => Ok(Answer { response, permit }),
            Ok(Err(error)) => Err(classify(&error)),
            Err(_) => Err(UpstreamError::FirstByteTimeout),
        }
    }

    fn target(&self, path: &str) -> Result<Uri, UpstreamError> {
        let mut parts = self.base.clone().into_parts();
        let target = format!("{}{path}", self.prefix);
        parts.path_and_query = Some(target.parse().map_err(|_| UpstreamError::Unreachable)?);
        Uri::from_parts(parts).map_err(|_| UpstreamError::Unreachable)
    }
}

/// Client side of TLS 1.2 and 1.3 with these certificate authorities.
pub fn tls(roots: RootCertStore) -> rustls::ClientConfig {
    let provider = rustls::crypto::ring::default_provider();
    // These are the versions that the provider is made for; the builder has nothing to object to.
    #[expect(clippy::expect_used, reason = "cannot fail for the provider's own default versions")]
    rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .expect("the provider supports its own default versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// The public certificate authorities, and those in the file.
///
/// # Errors
/// The file cannot be used.
pub fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, SetupError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = ca_file {
        let failed = |problem: String| SetupError::CaFile { path: path.display().to_string(), problem };
        let certificates = CertificateDer::pem_file_iter(path).map_err(|e| failed(e.to_string()))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|e| failed(e.to_string()))?;
            roots.add(certificate).map_err(|e| failed(e.to_string()))?;
        }
    }
    Ok(roots)
}

fn classify(error: &hyper_util::client::legacy::Error) -> UpstreamError {
    if !error.is_connect() {
        return UpstreamError::Closed;
    }
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let io = cause.downcast_ref::<std::io::Error>();
        if io.is_some_and(|io| io.kind() == std::io::ErrorKind::TimedOut) {
            return UpstreamError::ConnectTimeout;
        }
        source = cause.source();
    }
    UpstreamError::Unreachable
}
