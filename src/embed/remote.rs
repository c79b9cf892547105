//! A remote embedder: any OpenAI-compatible `POST {url}/embeddings`.
//!
//! One text a call, no retry: the request that waits for the vector has a deadline of tens of milliseconds and a good
//! answer without it. The number of calls under way is bounded, a breaker leaves a failing endpoint alone, the reply is
//! capped while it is read, and every vector is checked. The deadline belongs to the caller, who drops the future.
//!
//! Must never put the credential into an error, nor trust the endpoint's word on what it returns.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Request, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::breaker::Breaker;
use super::reading::{Reading, digest, head, unit};
use super::{Bill, Counters, EmbedError};
use crate::config::Secret;

/// Longest text whose vector is taken to stand for all of it. Endpoints do not tell their window, and some cut a longer
/// text without a word; 2,000 bytes of English are about 450 tokens, and the common windows are 512 and up. Of a longer
/// text this much is sent, and the digest of the whole must match exactly.
const WINDOW_BYTES: usize = 2000;
/// Bytes of a token, about, where the endpoint does not tell.
const TOKEN_BYTES: u64 = 4;
/// How long a failing endpoint is left alone at first.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const IDLE: Duration = Duration::from_secs(60);

/// Where and how to ask; see [`crate::config::EmbeddingKind::OpenAi`].
pub(super) struct Endpoint<'a> {
    pub(super) url: &'a str,
    pub(super) model: &'a str,
    pub(super) api_key: Option<&'a Secret>,
    pub(super) dimensions: usize,
}

pub(super) struct Remote {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    uri: Uri,
    authorization: Option<HeaderValue>,
    model: String,
    dimensions: usize,
    permits: Semaphore,
    in_flight_limit: usize,
    breaker: Breaker,
    patience: Duration,
    counters: Arc<Counters>,
}

#[derive(Serialize)]
struct Question<'a> {
    model: &'a str,
    input: &'a str,
    encoding_format: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<usize>,
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Item>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: Option<u64>,
    /// All that Voyage tells.
    #[serde(default)]
    total_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    index: usize,
    embedding: Vec<f32>,
}

impl Remote {
    /// At most `in_flight` calls at a time; `patience` is what callers allow a call.
    pub(super) fn new(
        endpoint: &Endpoint<'_>,
        in_flight: usize,
        patience: Duration,
        counters: Arc<Counters>,
    ) -> Result<Self, EmbedError> {
        let uri = format!("{}/embeddings", endpoint.url.trim_end_matches('/'))
            .parse::<Uri>()
            .ok()
            .filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some())
            .ok_or_else(|| EmbedError::Model("the url is not an absolute http or https URL".to_owned()))?;
        let in_flight_limit = in_flight.clamp(1, Semaphore::MAX_PERMITS);
        Ok(Self {
            client: client(in_flight_limit)?,
            uri,
            authorization: endpoint.api_key.map(bearer).transpose()?,
            model: endpoint.model.to_owned(),
            dimensions: endpoint.dimensions,
            permits: Semaphore::new(in_flight_limit),
            in_flight_limit,
            breaker: Breaker::new(FIRST_WAIT),
            patience,
            counters,
        })
    }

    /// Calls under way.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight_limit.saturating_sub(self.permits.available_permits())
    }

    /// Asks for the vector of one text.
    pub(super) async fn run(&self, text: &str) -> Result<Reading, EmbedError> {
        let _permit = self.permits.try_acquire().map_err(|_| EmbedError::QueueFull)?;
        let call = self.breaker.begin(Instant::now(), self.patience)?;
        self.counters.inferences.fetch_add(1, Ordering::Relaxed);
        let sent = head(text, WINDOW_BYTES);
        let answer = self.exchange(sent).await;
        match &answer {
            // A complaint about this text says nothing about the endpoint's health.
            Ok(_) | Err(EmbedError::RemoteStatus(400 | 413 | 422)) => call.succeeded(),
            Err(_) => call.failed(Instant::now()),
        }
        let unseen = (sent.len() < text.len()).then(|| digest(std::iter::once(text)));
        let (vector, told) = answer?;
        let bill = Bill { tokens: told.unwrap_or(sent.len() as u64 / TOKEN_BYTES + 1), told: told.is_some() };
        Ok(Reading { vector, unseen, bill: Some(bill) })
    }

    /// The vector, and the tokens that are billed for it if the endpoint tells.
    async fn exchange(&self, text: &str) -> Result<(Arc<[f32]>, Option<u64>), EmbedError> {
        let response = self.client.request(self.request(text)?).await.map_err(|error| unreachable(&error))?;
        let status = response.status();
        if !status.is_success() {
            return Err(EmbedError::RemoteStatus(status.as_u16()));
        }
        let body = Limited::new(response.into_body(), self.largest_reply()).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                EmbedError::BadVector("the reply is too large")
            } else {
                unreachable(error.as_ref())
            }
        })?;
        self.vector(&body.to_bytes())
    }

    fn request(&self, text: &str) -> Result<Request<Full<Bytes>>, EmbedError> {
        let question = Question {
            model: &self.model,
            input: text,
            encoding_format: "float",
            dimensions: takes_dimensions(&self.model).then_some(self.dimensions),
        };
        let body = serde_json::to_vec(&question).map_err(|error| EmbedError::Model(error.to_string()))?;
        let mut request = Request::post(self.uri.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("remora/", env!("CARGO_PKG_VERSION")));
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        request.body(Full::from(body)).map_err(|error| EmbedError::Model(error.to_string()))
    }

    fn vector(&self, body: &[u8]) -> Result<(Arc<[f32]>, Option<u64>), EmbedError> {
        let answer: Answer =
            serde_json::from_slice(body).map_err(|_| EmbedError::BadVector("the reply is not an embedding"))?;
        let told = answer.usage.and_then(|usage| usage.prompt_tokens.or(usage.total_tokens));
        match <[Item; 1]>::try_from(answer.data) {
            Ok([Item { index: 0, embedding }]) => Ok((unit(embedding, self.dimensions)?, told)),
            _ => Err(EmbedError::BadVector("the reply is not one vector for one text")),
        }
    }

    /// Bytes of a reply: a float with its comma and blanks takes at most about 32, pretty-printed.
    fn largest_reply(&self) -> usize {
        self.dimensions.saturating_mul(64).saturating_add(64 * 1024)
    }
}

/// OpenAI's third generation takes the wished length; older models and many other servers refuse the member. For them
/// `dimensions` only says what to expect.
fn takes_dimensions(model: &str) -> bool {
    model.rsplit('/').next().is_some_and(|name| name.starts_with("text-embedding-3"))
}

fn bearer(key: &Secret) -> Result<HeaderValue, EmbedError> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", key.expose()))
        .map_err(|_| EmbedError::Model("the API key has characters that a header cannot carry".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn client(idle: usize) -> Result<Client<HttpsConnector<HttpConnector>, Full<Bytes>>, EmbedError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| EmbedError::Model(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let connector =
        HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_all_versions().wrap_connector(tcp);
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(idle)
        .build(connector))
}

/// What went wrong, with its causes. hyper's errors name neither headers nor bodies.
fn unreachable(error: &dyn std::error::Error) -> EmbedError {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    EmbedError::RemoteUnreachable(text)
}

#[cfg(test)]
mod tests;
