//! Errors in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`.

use serde_json::{Value, json};

/// A refusal by the simulated upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ApiError {
    /// HTTP status, 400 to 599.
    pub(super) status: u16,
    /// `error.type`.
    pub(super) kind: &'static str,
    /// `error.code`.
    pub(super) code: Option<&'static str>,
    /// `error.param`.
    pub(super) param: Option<&'static str>,
    /// `error.message`.
    pub(super) message: String,
}

impl ApiError {
    /// 400 with the offending parameter, if it is known.
    pub(super) fn bad_request(param: Option<&'static str>, message: impl Into<String>) -> Self {
        Self { status: 400, kind: "invalid_request_error", code: None, param, message: message.into() }
    }

    /// 401: no key, or a wrong one.
    pub(super) fn unauthorized() -> Self {
        Self {
            status: 401,
            kind: "invalid_request_error",
            code: Some("invalid_api_key"),
            param: None,
            message: "Incorrect API key provided, or none. (simulated)".into(),
        }
    }

    /// 404 for a model that does not exist.
    pub(super) fn no_such_model(model: &str) -> Self {
        Self {
            status: 404,
            kind: "invalid_request_error",
            code: Some("model_not_found"),
            param: Some("model"),
            message: format!("The model `{model}` does not exist or you do not have access to it. (simulated)"),
        }
    }

    /// An ordered fault or a random one: the usual type and code of this status.
    pub(super) fn of_status(status: u16) -> Self {
        let (kind, code) = match status {
            401 => return Self::unauthorized(),
            403 => ("invalid_request_error", Some("unsupported_country_region_territory")),
            404 => ("invalid_request_error", Some("not_found")),
            408 => ("server_error", Some("timeout")),
            409 => ("invalid_request_error", Some("conflict")),
            413 => ("invalid_request_error", Some("request_too_large")),
            429 => ("requests", Some("rate_limit_exceeded")),
            503 => ("server_error", Some("service_unavailable")),
            400..=499 => ("invalid_request_error", None),
            _ => ("server_error", None),
        };
        Self { status, kind, code, param: None, message: format!("Simulated failure with status {status}.") }
    }

    /// The response body.
    pub(super) fn body(&self) -> Value {
        json!({"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}})
    }
}
