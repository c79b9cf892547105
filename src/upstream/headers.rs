//! Which headers travel.

use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method};

use crate::tenant::Credential;

/// Headers of one connection only (RFC 9110, 7.6.1) and those that the HTTP client sets itself.
const HOP: [HeaderName; 11] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::HOST,
    header::CONTENT_LENGTH,
    header::EXPECT,
    HeaderName::from_static("keep-alive"),
];

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// Where a request stands in its caller's traces. It says something of the caller and its systems, so an upstream, which is
/// somebody else, gets it only if that is wished; then it is written anew.
const TRACES: [HeaderName; 3] =
    [HeaderName::from_static("traceparent"), HeaderName::from_static("tracestate"), HeaderName::from_static("baggage")];

/// Our own controls and those of gateways whose controls we accept.
const CONTROL_PREFIXES: [&str; 5] = ["x-remora-", "x-portkey-cache-", "helicone-", "cf-aig-", "x-bf-cache-"];

/// What of an upstream's answer speaks of its own connection, its own host or its own users.
const UPSTREAM_ONLY: [HeaderName; 6] = [
    header::SET_COOKIE,
    header::SERVER,
    header::ALT_SVC,
    header::STRICT_TRANSPORT_SECURITY,
    HeaderName::from_static("cache-status"),
    HeaderName::from_static("x-request-id"),
];

/// The headers of a request to upstream. `identity` asks for a body without content coding, for answers we must read.
pub fn towards_upstream(from: &HeaderMap, credential: &Credential, method: &Method, identity: bool) -> HeaderMap {
    let named = named_in_connection(from);
    let mut out = HeaderMap::with_capacity(from.len());
    for (name, value) in from {
        let text = name.as_str();
        let dropped = HOP.contains(name)
            || TRACES.contains(name)
            || named.iter().any(|n| n == text)
            || CONTROL_PREFIXES.iter().any(|prefix| text.starts_with(prefix))
            || (identity && name == header::ACCEPT_ENCODING);
        if !dropped {
            out.append(name.clone(), value.clone());
        }
    }
    if identity && method == Method::POST {
        out.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    if let Credential::Held(secret) = credential {
        for name in ["authorization", "x-api-key", "api-key", "cookie", "openai-organization", "openai-project"] {
            out.remove(name);
        }
        // Anthropic takes a key in this header only, and whoever speaks its language and uses that header means the same.
        let anthropic = from.contains_key("anthropic-version")
            && from.contains_key(X_API_KEY)
            && !from.contains_key(header::AUTHORIZATION);
        let (name, text) = if anthropic {
            (X_API_KEY, secret.expose().to_owned())
        } else {
            (header::AUTHORIZATION, format!("Bearer {}", secret.expose()))
        };
        if let (Ok(mut value), false) = (HeaderValue::from_str(&text), secret.expose().is_empty()) {
            value.set_sensitive(true);
            out.insert(name, value);
        }
    }
    out
}

/// The headers of an upstream's answer that the client gets.
pub fn towards_client(from: &HeaderMap) -> HeaderMap {
    let named = named_in_connection(from);
    let mut out = HeaderMap::with_capacity(from.len() + 8);
    for (name, value) in from {
        let text = name.as_str();
        let dropped = HOP.contains(name)
            || UPSTREAM_ONLY.contains(name)
            || named.iter().any(|n| n == text)
            || text.starts_with("x-remora-");
        if !dropped {
            out.append(name.clone(), value.clone());
        }
    }
    if let Some(id) = from.get("x-request-id") {
        out.insert("x-upstream-request-id", id.clone());
    }
    out
}

fn named_in_connection(from: &HeaderMap) -> Vec<String> {
    let lines = from.get_all(header::CONNECTION).iter().filter_map(|v| v.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(|name| name.trim().to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn hop_headers_and_controls_stay_behind_and_the_rest_travels() {
        let from = map(&[
            ("connection", "keep-alive, X-Secret-Hop"),
            ("x-secret-hop", "1"),
            ("te", "trailers"),
            ("host", "a"),
            ("content-length", "3"),
            ("x-remora-ttl", "1m"),
            ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            ("baggage", "user=42"),
            ("helicone-user-id", "u"),
            ("cf-aig-skip-cache", "true"),
            ("accept-encoding", "gzip"),
            ("authorization", "Bearer mine"),
            ("openai-beta", "x"),
            ("x-stainless-lang", "python"),
        ]);
        let out = towards_upstream(&from, &Credential::Caller, &Method::POST, true);
        let expected = map(&[
            ("authorization", "Bearer mine"),
            ("openai-beta", "x"),
            ("x-stainless-lang", "python"),
            ("accept-encoding", "identity"),
        ]);
        assert_eq!(out, expected);
    }

    #[test]
    fn a_held_credential_replaces_everything_by_which_the_caller_could_be_known() {
        let from = map(&[("authorization", "Bearer rk-1"), ("x-api-key", "rk-1"), ("openai-project", "p")]);
        let held = Credential::Held(Secret::new("sk-up".to_owned()));
        assert_eq!(towards_upstream(&from, &held, &Method::GET, false), map(&[("authorization", "Bearer sk-up")]));
        let from = map(&[("x-api-key", "rk-1"), ("anthropic-version", "2023-06-01")]);
        let expected = map(&[("x-api-key", "sk-up"), ("anthropic-version", "2023-06-01")]);
        assert_eq!(towards_upstream(&from, &held, &Method::POST, false), expected);
        let none = Credential::Held(Secret::new(String::new()));
        let from = map(&[("authorization", "Bearer rk-1"), ("x-api-key", "rk-1")]);
        assert!(towards_upstream(&from, &none, &Method::GET, false).is_empty());
    }

    #[test]
    fn an_answer_cannot_set_our_headers_cookies_or_transport_policy() {
        let from = map(&[
            ("content-type", "application/json"),
            ("set-cookie", "a=b"),
            ("x-remora-cache", "HIT"),
            ("cache-status", "other; hit"),
            ("alt-svc", "h3"),
            ("x-request-id", "req_1"),
            ("openai-processing-ms", "5"),
        ]);
        let expected = map(&[
            ("content-type", "application/json"),
            ("openai-processing-ms", "5"),
            ("x-upstream-request-id", "req_1"),
        ]);
        assert_eq!(towards_client(&from), expected);
    }
}
