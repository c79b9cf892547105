//! Responses: status, the headers a client of OpenAI sees, and a body with the ordered faults.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};

use super::State;
use super::body::{End, Feed, ReplyBody, Script};
use super::connection::ResetSwitch;
use super::error::ApiError;
use super::fault::{BodyFault, Fault};
use super::stats::Flight;
use super::wire::to_json;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html");
const RUBBISH: Bytes = Bytes::from_static(b"<html><body><h1>It works!</h1>\x00\xff</body></html>");

/// The headers that are the same on every answer, as OpenAI names and writes them.
const FIXED: [(HeaderName, HeaderValue); 8] = [
    (HeaderName::from_static("openai-organization"), HeaderValue::from_static("org-simulated")),
    (HeaderName::from_static("openai-version"), HeaderValue::from_static("2020-10-01")),
    (HeaderName::from_static("x-ratelimit-limit-requests"), HeaderValue::from_static("10000")),
    (HeaderName::from_static("x-ratelimit-limit-tokens"), HeaderValue::from_static("2000000")),
    (HeaderName::from_static("x-ratelimit-remaining-requests"), HeaderValue::from_static("9999")),
    (HeaderName::from_static("x-ratelimit-remaining-tokens"), HeaderValue::from_static("1999976")),
    (HeaderName::from_static("x-ratelimit-reset-requests"), HeaderValue::from_static("6ms")),
    (HeaderName::from_static("x-ratelimit-reset-tokens"), HeaderValue::from_static("0s")),
];

/// A reply before its faults.
pub(super) enum Reply {
    /// All at once.
    Whole { bytes: Bytes, echo: Option<Echo> },
    /// Event by event.
    Events(Script),
}

/// What an echo says about the request it mirrors.
pub(super) struct Echo {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) headers: usize,
    pub(super) bytes: usize,
    pub(super) content_type: Option<HeaderValue>,
}

impl Reply {
    /// A JSON body.
    pub(super) fn json(body: Vec<u8>) -> Self {
        Self::Whole { bytes: body.into(), echo: None }
    }

    /// Nothing: a fault stands in its place.
    pub(super) fn none() -> Self {
        Self::Whole { bytes: Bytes::new(), echo: None }
    }
}

/// The response to a request that went well, but for its faults.
pub(super) fn ready(
    state: &State,
    reply: Reply,
    fault: Fault,
    mut flight: Flight,
    switch: ResetSwitch,
) -> Response<ReplyBody> {
    flight.head_sent(200);
    let mut headers = common_headers(state, &flight);
    let body = match (fault.body, reply) {
        (Some(BodyFault::Rubbish), _) => {
            headers.insert(CONTENT_TYPE, HTML);
            ReplyBody::whole(RUBBISH, End::Clean, Some(flight), switch)
        }
        (Some(BodyFault::Empty), reply) => {
            headers.insert(CONTENT_TYPE, if matches!(reply, Reply::Events(_)) { EVENT_STREAM } else { JSON });
            ReplyBody::whole(Bytes::new(), End::Clean, Some(flight), switch)
        }
        (_, Reply::Whole { bytes, echo }) => {
            describe(&mut headers, echo);
            whole(bytes, &fault, &mut headers, flight, switch)
        }
        (_, Reply::Events(events)) => {
            headers.insert(CONTENT_TYPE, EVENT_STREAM);
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            state.counters.stream();
            let end = fault.breaks.map_or(End::Clean, |(kind, _)| End::of(kind));
            let delay = fault.chunk_delay.unwrap_or(state.options.chunk_delay);
            ReplyBody::feed(Feed::new(events, delay, fault), end, flight, switch)
        }
    };
    response(StatusCode::OK, headers, body)
}

/// A refusal, with `retry-after` when the fault has one.
pub(super) fn error(
    state: &State,
    error: &ApiError,
    fault: &Fault,
    mut flight: Flight,
    switch: ResetSwitch,
) -> Response<ReplyBody> {
    flight.head_sent(error.status);
    let mut headers = common_headers(state, &flight);
    headers.insert(CONTENT_TYPE, JSON);
    if let Some(wait) = fault.retry_after.as_deref().and_then(|text| HeaderValue::from_str(text).ok()) {
        headers.insert(RETRY_AFTER, wait);
    }
    let body = ReplyBody::whole(to_json(&error.body()).into(), End::Clean, Some(flight), switch);
    response(StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), headers, body)
}

/// A plain JSON response outside the API, not counted.
pub(super) fn control(status: StatusCode, bytes: Vec<u8>, switch: ResetSwitch) -> Response<ReplyBody> {
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, JSON)]);
    response(status, headers, ReplyBody::whole(bytes.into(), End::Clean, None, switch))
}

fn response(status: StatusCode, headers: HeaderMap, body: ReplyBody) -> Response<ReplyBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// A body cut in half when a fault says so; `truncate` also announces the whole length.
fn whole(bytes: Bytes, fault: &Fault, headers: &mut HeaderMap, flight: Flight, switch: ResetSwitch) -> ReplyBody {
    let half = bytes.slice(..bytes.len() / 2);
    if fault.body == Some(BodyFault::Truncate) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
        return ReplyBody::whole(half, End::Cut, Some(flight), switch);
    }
    match fault.breaks.map(|(kind, _)| End::of(kind)) {
        // `error-event` in a body that is not a stream: an error member in a 200.
        Some(End::Clean) => {
            ReplyBody::whole(to_json(&ApiError::of_status(500).body()).into(), End::Clean, Some(flight), switch)
        }
        Some(end) => ReplyBody::whole(half, end, Some(flight), switch),
        None => ReplyBody::whole(bytes, End::Clean, Some(flight), switch),
    }
}

fn describe(headers: &mut HeaderMap, echo: Option<Echo>) {
    let Some(echo) = echo else {
        headers.insert(CONTENT_TYPE, JSON);
        return;
    };
    headers.insert(CONTENT_TYPE, echo.content_type.filter(|_| echo.bytes > 0).unwrap_or(JSON));
    let described = [
        ("x-echo-method", HeaderValue::from_str(echo.method.as_str())),
        ("x-echo-path", HeaderValue::from_str(&echo.path)),
        ("x-echo-headers", Ok(HeaderValue::from(echo.headers))),
        ("x-echo-bytes", Ok(HeaderValue::from(echo.bytes))),
    ];
    for (name, value) in described {
        if let Ok(value) = value {
            headers.insert(name, value);
        }
    }
}

fn common_headers(state: &State, flight: &Flight) -> HeaderMap {
    // Room for the fixed ones and those that follow, so that the map grows once.
    let mut headers = HeaderMap::with_capacity(24);
    for (name, value) in FIXED {
        headers.insert(name, value);
    }
    if let Ok(id) = HeaderValue::from_str(&format!("req_{}", state.unique())) {
        headers.insert("x-request-id", id);
    }
    headers.insert("openai-processing-ms", HeaderValue::from(flight.elapsed_ms()));
    headers
}
