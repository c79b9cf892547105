//! A request that this program does not answer as asked: one type, so that status, code and text are chosen in one
//! place. There is no conversion from an error of the cache or the store: those never become a refusal.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

use crate::call::{BadCall, BadControl};
use crate::dialect::{ErrorKind, error_body, error_event};
use crate::limit::{Allowance, Denied};
use crate::server::BodyError;
use crate::tenant::AuthError;
use crate::upstream::UpstreamError;

/// Status, shape and text of a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    kind: ErrorKind,
    code: &'static str,
    message: String,
    param: Option<String>,
    pub(super) retry_after: Option<Duration>,
    /// Whether upstream is to blame.
    pub(super) upstream: bool,
    /// Whether to try again at once is of no use, which SDKs are told.
    pub(super) in_vain: bool,
    /// What is left of the caller's limits.
    pub(super) allowance: Option<Box<Allowance>>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, kind: ErrorKind, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            code,
            message: message.into(),
            param: None,
            retry_after: None,
            upstream: false,
            in_vain: false,
            allowance: None,
        }
    }

    pub(super) fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, ErrorKind::InvalidRequest, code, message)
    }

    /// Name for the ledger and the reason header.
    pub(super) fn code(&self) -> &'static str {
        self.code
    }

    /// The body in the caller's dialect.
    pub(super) fn body(&self) -> Bytes {
        error_body(self.kind, &self.message, self.param.as_deref(), self.told_code())
    }

    /// The same as the last event of a stream.
    pub(super) fn event(&self) -> Bytes {
        error_event(self.kind, &self.message, self.param.as_deref(), self.told_code())
    }

    /// A wrong member is named by `param`; providers then leave `code` empty, and so do we.
    fn told_code(&self) -> Option<&'static str> {
        if self.param.is_some() { None } else { Some(self.code) }
    }

    pub(super) fn shutdown() -> Self {
        let text = "the proxy is shutting down and could not wait for the end of this answer; send the request again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, ErrorKind::Api, "server_shutdown", text)
    }

    pub(super) fn unknown_route(path: &str) -> Self {
        let text =
            format!("there is nothing at `{path}`: this proxy serves `/v1/…`; the base URL of an SDK must end in /v1");
        Self::new(StatusCode::NOT_FOUND, ErrorKind::NotFound, "unknown_endpoint", text)
    }

    pub(super) fn coded_body() -> Self {
        let text = "a compressed request body is not accepted on this route; send it without `Content-Encoding`";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, ErrorKind::InvalidRequest, "unsupported_content_encoding", text)
    }

    pub(super) fn climbing_path() -> Self {
        Self::bad_request("invalid_path", "the path must not have `.` or `..` segments; write it out")
    }

    pub(super) fn unpriced(model: &str) -> Self {
        let text = if model.is_empty() {
            "this endpoint has no price here, and requests without a price are refused (`unknown_price`)".to_owned()
        } else {
            format!("the model `{model}` has no price here, and requests without a price are refused (`unknown_price`)")
        };
        Self::new(StatusCode::FORBIDDEN, ErrorKind::Permission, "model_not_priced", text)
    }

    pub(super) fn only_if_cached() -> Self {
        let text = "the request asks for a cached answer only (`only-if-cached`), and there is none";
        Self::new(StatusCode::GATEWAY_TIMEOUT, ErrorKind::Api, "not_cached", text)
    }
}

impl From<AuthError> for Refusal {
    fn from(error: AuthError) -> Self {
        let (status, kind, code) = match error {
            AuthError::Missing => (StatusCode::UNAUTHORIZED, ErrorKind::Authentication, "missing_api_key"),
            AuthError::Unknown => (StatusCode::UNAUTHORIZED, ErrorKind::Authentication, "invalid_api_key"),
            AuthError::Mistyped => (StatusCode::UNAUTHORIZED, ErrorKind::Authentication, "mistyped_api_key"),
            AuthError::Malformed => (StatusCode::UNAUTHORIZED, ErrorKind::Authentication, "malformed_api_key"),
            AuthError::Expired => (StatusCode::UNAUTHORIZED, ErrorKind::Authentication, "expired_api_key"),
            AuthError::KeyDisabled => (StatusCode::FORBIDDEN, ErrorKind::Permission, "key_disabled"),
            AuthError::TenantDisabled => (StatusCode::FORBIDDEN, ErrorKind::Permission, "tenant_disabled"),
            AuthError::Route => (StatusCode::FORBIDDEN, ErrorKind::Permission, "route_not_allowed"),
            AuthError::Model => (StatusCode::FORBIDDEN, ErrorKind::Permission, "model_not_allowed"),
            AuthError::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, ErrorKind::Api, "directory_unavailable"),
            AuthError::Unreadable => (StatusCode::SERVICE_UNAVAILABLE, ErrorKind::Api, "key_unreadable"),
            AuthError::Credential => {
                (StatusCode::SERVICE_UNAVAILABLE, ErrorKind::Api, "upstream_credential_unreadable")
            }
        };
        let retry_after = (error == AuthError::Unavailable).then_some(Duration::from_secs(1));
        Self { retry_after, ..Self::new(status, kind, code, error.to_string()) }
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        let limited =
            |text: String| Self::new(StatusCode::TOO_MANY_REQUESTS, ErrorKind::RateLimit, "rate_limit_exceeded", text);
        match denied {
            Denied::Requests { whose, limit, retry_after, allowance } => Self {
                retry_after: Some(retry_after),
                allowance: Some(Box::new(allowance)),
                ..limited(format!("rate limit of the {whose} reached: {limit} requests per minute"))
            },
            Denied::Tokens { whose, per, limit, asked, retry_after: Some(wait), allowance } => Self {
                retry_after: Some(wait),
                allowance: Some(Box::new(allowance)),
                ..limited(format!(
                    "rate limit of the {whose} reached: {limit} tokens per {per}, and this request may need {asked}"
                ))
            },
            Denied::Tokens { whose, per, limit, asked, retry_after: None, allowance } => Self {
                in_vain: true,
                allowance: Some(Box::new(allowance)),
                ..limited(format!(
                    "this request may need {asked} tokens, more than the {whose} has per {per} ({limit}); ask for less with \
                     `max_tokens` or a shorter prompt"
                ))
            },
            Denied::Concurrency { whose, limit } => Self {
                retry_after: Some(Duration::from_secs(1)),
                ..limited(format!("limit of the {whose} reached: {limit} requests at the same time"))
            },
            Denied::Budget { name, usd, used, resets_in } => Self {
                retry_after: Some(resets_in),
                in_vain: true,
                ..Self::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    ErrorKind::InsufficientQuota,
                    "budget_exceeded",
                    format!(
                        "the budget `{name}` of ${usd} has no room for what this request may cost (${used} is spent or held \
                         for requests under way); it resets in {} s",
                        resets_in.as_secs()
                    ),
                )
            },
            Denied::Unavailable { retry_after } => Self {
                retry_after: Some(retry_after),
                ..Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    ErrorKind::Overloaded,
                    "limits_unavailable",
                    "limits cannot be checked now, and this tenant must not go on without; try again",
                )
            },
        }
    }
}

impl From<BadControl> for Refusal {
    fn from(error: BadControl) -> Self {
        Self { param: Some(error.header.to_owned()), ..Self::bad_request("invalid_header", error.to_string()) }
    }
}

impl From<BadCall> for Refusal {
    fn from(error: BadCall) -> Self {
        match &error {
            BadCall::Json(_) => Self::bad_request("invalid_json", error.to_string()),
            BadCall::Foreign => Self::bad_request("invalid_request", error.to_string()),
            BadCall::Param { param, .. } => {
                Self { param: Some(param.clone()), ..Self::bad_request("invalid_parameter", error.to_string()) }
            }
        }
    }
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        let status = match &error {
            BodyError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            BodyError::Idle | BodyError::Timeout => StatusCode::REQUEST_TIMEOUT,
            BodyError::Malformed | BodyError::Disconnected => StatusCode::BAD_REQUEST,
        };
        Self::new(status, ErrorKind::InvalidRequest, error.as_str(), error.to_string())
    }
}

impl From<UpstreamError> for Refusal {
    fn from(error: UpstreamError) -> Self {
        let status = match error {
            UpstreamError::Busy => StatusCode::SERVICE_UNAVAILABLE,
            _ if error.is_timeout() => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::BAD_GATEWAY,
        };
        let retry_after = (error == UpstreamError::Busy).then_some(Duration::from_secs(1));
        let kind = match error {
            UpstreamError::Busy => ErrorKind::Overloaded,
            _ if error.is_timeout() => ErrorKind::Timeout,
            _ => ErrorKind::Api,
        };
        let refusal = Self::new(status, kind, error.as_str(), error.to_string());
        Self { retry_after, upstream: true, ..refusal }
    }
}
