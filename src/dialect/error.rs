//! Refusals in OpenAI's shape, as a body and as an event in a stream that has already begun.
//!
//! The text is always our own, never an upstream's or a database's. It must never pick the HTTP status; the pipeline does.

use bytes::Bytes;

use super::members::push_string;

/// The `type` member of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request is at fault.
    InvalidRequest,
    /// No or a wrong credential.
    Authentication,
    /// The credential may not do this.
    Permission,
    /// No such thing.
    NotFound,
    /// Too many requests or tokens in a time.
    RateLimit,
    /// A budget is spent.
    InsufficientQuota,
    /// Remora or its upstream is at fault.
    Api,
    /// Upstream did not answer in time.
    Timeout,
    /// No capacity now.
    Overloaded,
}

impl ErrorKind {
    /// The text of the `type` member.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request_error",
            Self::Authentication => "authentication_error",
            Self::Permission => "permission_error",
            Self::NotFound => "not_found_error",
            Self::RateLimit => "rate_limit_error",
            Self::InsufficientQuota => "insufficient_quota",
            Self::Api => "api_error",
            Self::Timeout => "timeout_error",
            Self::Overloaded => "overloaded_error",
        }
    }
}

/// `{"error":{"message","type","param","code"}}`; `param` is the request member at fault, `code` a short machine name.
pub fn error_body(kind: ErrorKind, message: &str, param: Option<&str>, code: Option<&str>) -> Bytes {
    let mut out = Vec::with_capacity(96 + message.len());
    push_error(&mut out, kind, message, param, code);
    out.into()
}

/// The same as one event, for a stream that fails after its first byte. The stream then ends, **without** `[DONE]`.
pub fn error_event(kind: ErrorKind, message: &str, param: Option<&str>, code: Option<&str>) -> Bytes {
    let mut out = Vec::with_capacity(104 + message.len());
    out.extend_from_slice(b"data: ");
    push_error(&mut out, kind, message, param, code);
    out.extend_from_slice(b"\n\n");
    out.into()
}

fn push_error(out: &mut Vec<u8>, kind: ErrorKind, message: &str, param: Option<&str>, code: Option<&str>) {
    out.extend_from_slice(br#"{"error":{"message":"#);
    push_string(out, message);
    for (name, value) in [("type", Some(kind.as_str())), ("param", param), ("code", code)] {
        out.push(b',');
        push_string(out, name);
        out.push(b':');
        match value {
            Some(value) => push_string(out, value),
            None => out.extend_from_slice(b"null"),
        }
    }
    out.extend_from_slice(b"}}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_all_four_members_and_escapes_its_text() {
        let body = error_body(ErrorKind::InsufficientQuota, "budget \"day\" is spent\n", None, Some("budget_exceeded"));
        assert_eq!(
            body,
            &br#"{"error":{"message":"budget \"day\" is spent\n","type":"insufficient_quota","param":null,"code":"budget_exceeded"}}"#[..]
        );
    }

    #[test]
    fn an_error_event_is_one_line_and_no_terminator() {
        let event = error_event(ErrorKind::Timeout, "upstream\nstalled", Some("model"), None);
        assert_eq!(
            event,
            &b"data: {\"error\":{\"message\":\"upstream\\nstalled\",\"type\":\"timeout_error\",\"param\":\"model\",\"code\":null}}\n\n"[..]
        );
    }
}
