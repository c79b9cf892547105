//! Errors as RFC 9457 problem details. All members are always there, so that programs can rely on them.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::rem::{Code, Fault};
use crate::server::BodyError;
use crate::store::StoreError;

/// Content type of a problem document.
pub const PROBLEM_TYPE: &str = "application/problem+json";

/// For the metrics: what a request was, if that is seen only in its body, and what became of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    /// Type of the query.
    pub(super) kind: Option<&'static str>,
    /// Code of the fault; nothing is `ok`.
    pub(super) status: Option<&'static str>,
}

/// An error, as it is sent.
#[derive(Debug)]
pub(in crate::rem) struct Problem {
    status: StatusCode,
    code: &'static str,
    /// Boxed, because it is the other half of so many results.
    words: Box<Words>,
    retry_after: Option<Duration>,
    /// What the query was, as far as is known.
    kind: Option<&'static str>,
}

/// What an error says.
#[derive(Debug, Default)]
struct Words {
    detail: String,
    position: Option<usize>,
    hint: Option<String>,
    parameter: Option<String>,
    /// Of a batch: which stage.
    stage: Option<String>,
}

impl Problem {
    pub(in crate::rem) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        let words = Box::new(Words { detail: detail.into(), ..Words::default() });
        Self { status, code, words, retry_after: None, kind: None }
    }

    /// The same words for what is not there and for what is not the caller's.
    pub(in crate::rem) fn not_found(detail: &'static str) -> Self {
        Self::new(StatusCode::NOT_FOUND, Code::NotFound.as_str(), detail)
    }

    /// The same, in this stage of a batch.
    pub(in crate::rem) fn in_stage(mut self, stage: String) -> Self {
        self.words.stage = Some(stage);
        self
    }

    /// The same, of a query of this type.
    pub(in crate::rem) fn of_kind(self, kind: &'static str) -> Self {
        Self { kind: Some(kind), ..self }
    }

    /// The same, for a caller who may try again then.
    pub(in crate::rem) fn again_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// For programs and metrics.
    pub(in crate::rem) fn code(&self) -> &'static str {
        self.code
    }

    /// The document.
    pub(in crate::rem) fn document(&self) -> Value {
        let Words { detail, position, hint, parameter, stage } = &*self.words;
        let mut document = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("error"),
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": detail,
            "position": position,
            "hint": hint,
            "parameter": parameter,
        });
        if let (Some(stage), Some(members)) = (stage, document.as_object_mut()) {
            members.insert("stage".to_owned(), stage.as_str().into());
        }
        document
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        let Fault { code, detail, position, hint, parameter } = fault;
        let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::BAD_REQUEST);
        let wait = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(Duration::from_secs(1));
        let words = Box::new(Words { detail, position, hint, parameter, stage: None });
        Self { status, code: code.as_str(), words, retry_after: wait, kind: None }
    }
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        let code = match error {
            BodyError::TooLarge => Code::TooLarge,
            BodyError::Idle | BodyError::Timeout => Code::Timeout,
            BodyError::Malformed | BodyError::Disconnected => Code::ParseError,
        };
        Fault::new(code, error.to_string()).into()
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "a request to the sidecar found the store failing");
        Fault::new(Code::Unavailable, "the store cannot be read or written now; try again").into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = self.document().to_string();
        let mut response = (self.status, [(header::CONTENT_TYPE, PROBLEM_TYPE)], body).into_response();
        if let Some(wait) = self.retry_after {
            // Whole seconds, and never so few that it would be too early.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(Told { kind: self.kind, status: Some(self.code) });
        response
    }
}

/// The document of what the listener refuses by itself.
pub fn refusal(status: StatusCode, code: &'static str, detail: &str) -> Bytes {
    Problem::new(status, code, detail).document().to_string().into()
}
