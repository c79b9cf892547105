//! The command line as a client of the admin API of a running proxy.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use super::AdminAt;
use crate::upstream;

const WAIT: Duration = Duration::from_secs(60);

/// Why an answer is none.
pub(super) struct Refusal {
    /// What was answered; `None` if nothing was.
    pub(super) status: Option<StatusCode>,
    /// For people.
    pub(super) text: String,
}

impl From<String> for Refusal {
    fn from(text: String) -> Self {
        Self { status: None, text }
    }
}

impl From<Refusal> for String {
    fn from(refusal: Refusal) -> Self {
        refusal.text
    }
}

/// Asks the admin API. The token comes from `REMORA_ADMIN_TOKEN`.
pub(super) async fn ask(at: &AdminAt, method: Method, path: &str, body: Option<&Value>) -> Result<Value, String> {
    Ok(try_to(at, method, path, body).await?)
}

/// The same, for who has an answer to some refusals.
pub(super) async fn try_to(at: &AdminAt, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Refusal> {
    let (status, bytes) = exchange(at, method, path, body).await?;
    let value = json(at, path, status, &bytes)?;
    if status.is_success() {
        return Ok(value);
    }
    Err(Refusal { status: Some(status), text: refusal(status, &value) })
}

/// What a page answers, as it is: for answers that are not JSON.
pub(super) async fn download(at: &AdminAt, path: &str) -> Result<Bytes, String> {
    let (status, bytes) = exchange(at, Method::GET, path, None).await?;
    if status.is_success() {
        return Ok(bytes);
    }
    Err(refusal(status, &json(at, path, status, &bytes)?))
}

fn json(at: &AdminAt, path: &str, status: StatusCode, bytes: &[u8]) -> Result<Value, String> {
    let url = format!("{}{path}", at.admin.trim_end_matches('/'));
    serde_json::from_slice(bytes).map_err(|_| format!("{url} answered {status} with something that is not JSON"))
}

async fn exchange(
    at: &AdminAt,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<(StatusCode, Bytes), String> {
    let url = format!("{}{path}", at.admin.trim_end_matches('/'));
    let token = std::env::var("REMORA_ADMIN_TOKEN").ok();
    let nobody = |error| format!("no admin plane at {}: {error}; is `remora serve` running? (--admin URL)", at.admin);
    let sent = send(&url, method, token.as_deref(), body, nobody).await?;
    Ok((sent.status, sent.bytes))
}

/// What came back.
pub(super) struct Sent {
    pub(super) status: StatusCode,
    /// When to ask again, if that was said.
    pub(super) retry_after: Option<Duration>,
    pub(super) bytes: Bytes,
}

/// One request to a running proxy; `nobody` says that there is none.
pub(super) async fn send(
    url: &str,
    method: Method,
    token: Option<&str>,
    body: Option<&Value>,
    nobody: impl Fn(hyper_util::client::legacy::Error) -> String,
) -> Result<Sent, String> {
    let mut request = Request::builder().method(method).uri(url);
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    if body.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    let body = body.map(Value::to_string).unwrap_or_default();
    let request = request.body(Full::new(Bytes::from(body))).map_err(|error| format!("{url}: {error}"))?;
    let roots = upstream::roots(None).map_err(|error| error.to_string())?;
    let tls = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(upstream::tls(roots))
        .https_or_http()
        .enable_http1()
        .build();
    let client = Client::builder(TokioExecutor::new()).build(tls);
    let answer = tokio::time::timeout(WAIT, async {
        let answer = client.request(request).await.map_err(nobody)?;
        let status = answer.status();
        let told = answer.headers().get(header::RETRY_AFTER).and_then(|told| told.to_str().ok()?.parse().ok());
        let retry_after = told.map(Duration::from_secs);
        let bytes = answer.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
        Ok::<_, String>(Sent { status, retry_after, bytes })
    });
    answer.await.map_err(|_| format!("{url} did not answer in time"))?
}

/// Asks for all pages of a list; `plural` is the member that holds them.
pub(super) async fn list(at: &AdminAt, path: &str, plural: &str) -> Result<Vec<Value>, String> {
    let (mut rows, mut next) = (Vec::new(), None);
    loop {
        let sign = if path.contains('?') { '&' } else { '?' };
        let page = next.map_or_else(|| path.to_owned(), |next: String| format!("{path}{sign}cursor={}", escape(&next)));
        let mut answer = ask(at, Method::GET, &page, None).await?;
        let found = answer.get_mut(plural).map(Value::take);
        match found {
            Some(Value::Array(found)) => rows.extend(found),
            _ => return Err(format!("{}{page} answered without `{plural}`; is it the admin plane?", at.admin)),
        }
        next = match answer.get("next") {
            None | Some(Value::Null) => return Ok(rows),
            Some(Value::String(next)) => Some(next.clone()),
            Some(other) => Some(other.to_string()),
        };
    }
}

/// The path of a tenant, with what stands behind it.
pub(super) fn tenant_path(tenant: &str, rest: &str) -> String {
    format!("/admin/v1/tenants/{}{rest}", escape(tenant))
}

/// What a refusal says, with everything that was found wrong, each on a line of its own.
fn refusal(status: StatusCode, problem: &Value) -> String {
    let member = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let errors = problem.get("errors").and_then(Value::as_array).cloned().unwrap_or_default();
    if errors.is_empty() {
        return format!("{status}: {}", member(problem, "detail").unwrap_or_default());
    }
    // The detail says the same in one line.
    let mut text = status.to_string();
    for error in &errors {
        let what = member(error, "what").unwrap_or_else(|| error.to_string());
        match member(error, "place") {
            Some(place) => text.push_str(&format!("\n{place}: {what}")),
            None => text.push_str(&format!("\n{what}")),
        }
        if let Some(fix) = member(error, "fix") {
            text.push_str(&format!("\n    fix: {fix}"));
        }
    }
    text
}

/// Escapes a query value.
pub(super) fn escape(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|byte| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
