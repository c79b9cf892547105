//! The routes: from a request to a plan (which fault, which reply), and from there to a response.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::State;
use super::answer;
use super::body::{ReplyBody, STALL, Script};
use super::connection::ResetSwitch;
use super::control;
use super::embeddings;
use super::error::ApiError;
use super::events::{Dialect, Events};
use super::fault::{BeforeHead, Fault, MODEL_PREFIX, Subject};
use super::foreign::Foreign;
use super::models;
use super::reply::{self, Reply};
use super::request::{ChatRequest, CompletionRequest, EmbeddingRequest};
use super::stats::{Flight, Route};
use super::wire;

/// Largest request body taken.
const MAX_BODY: usize = 64 * 1024 * 1024;
/// Longest wait for a request body.
const BODY_DEADLINE: Duration = Duration::from_secs(60);

/// What a request gets, once it was read.
struct Plan {
    fault: Fault,
    reply: Result<Reply, ApiError>,
}

impl Plan {
    fn refuse(error: ApiError) -> Self {
        Self { fault: Fault::default(), reply: Err(error) }
    }
}

/// Answers one request.
///
/// # Errors
/// Closes the connection without an answer when a fault orders it.
pub(super) async fn answer(
    state: Arc<State>,
    switch: ResetSwitch,
    request: Request<Incoming>,
) -> Result<Response<ReplyBody>, io::Error> {
    let (parts, body) = request.into_parts();
    if !parts.uri.path().starts_with("/v1/") {
        let bytes = body_bytes(body).await.unwrap_or_default();
        return Ok(control::answer(&state, &parts, &bytes, switch));
    }
    let route = route_of(parts.uri.path());
    let mut flight = Flight::begin(Arc::clone(&state.counters), route);
    note_nonce(&state, &parts);
    let plan = match body_bytes(body).await {
        Ok(bytes) => {
            let plan = plan(&state, route, &parts, &bytes);
            state.counters.keep_last(parts, bytes);
            plan
        }
        Err(error) => Plan::refuse(error),
    };
    sleep_for(plan.fault.latency.unwrap_or(state.options.latency)).await;
    match plan.fault.before_head {
        Some(BeforeHead::Status(status)) => {
            Ok(reply::error(&state, &ApiError::of_status(status), &plan.fault, flight, switch))
        }
        Some(BeforeHead::Reset) => {
            switch.press();
            close(&mut flight)
        }
        Some(BeforeHead::Close) => close(&mut flight),
        Some(BeforeHead::Hang) => {
            sleep(STALL).await;
            close(&mut flight)
        }
        None => Ok(match plan.reply {
            Ok(ready) => reply::ready(&state, ready, plan.fault, flight, switch),
            Err(error) => reply::error(&state, &error, &plan.fault, flight, switch),
        }),
    }
}

fn close<T>(flight: &mut Flight) -> Result<T, io::Error> {
    flight.finish();
    Err(io::Error::other("simulated close"))
}

async fn sleep_for(wait: Duration) {
    if !wait.is_zero() {
        sleep(wait).await;
    }
}

async fn body_bytes(body: Incoming) -> Result<Bytes, ApiError> {
    match timeout(BODY_DEADLINE, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(_)) => Err(ApiError::of_status(413)),
        Err(_) => Err(ApiError::of_status(408)),
    }
}

fn route_of(path: &str) -> Route {
    match path {
        "/v1/chat/completions" => Route::Chat,
        "/v1/completions" => Route::Completions,
        "/v1/embeddings" => Route::Embeddings,
        "/v1/messages" => Route::Messages,
        "/v1/responses" => Route::Responses,
        _ if path == "/v1/models" || path.starts_with("/v1/models/") => Route::Models,
        _ => Route::Echo,
    }
}

fn note_nonce(state: &State, parts: &Parts) {
    let header = parts.headers.get("x-nonce").map(http::HeaderValue::as_bytes);
    let query = || parts.uri.query()?.split('&').find_map(|pair| pair.strip_prefix("nonce=")).map(str::as_bytes);
    if let Some(nonce) = header.or_else(query) {
        state.counters.nonce(nonce);
    }
}

fn authorized(state: &State, headers: &HeaderMap) -> bool {
    let bearer = headers.get(http::header::AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    let key = bearer.or_else(|| headers.get("x-api-key").map(http::HeaderValue::as_bytes));
    state.options.require_key.admits(key)
}

fn plan(state: &State, route: Route, parts: &Parts, body: &Bytes) -> Plan {
    if !authorized(state, &parts.headers) {
        return Plan::refuse(ApiError::unauthorized());
    }
    let planned = match (route, &parts.method) {
        (Route::Chat, &Method::POST) => plan_chat(state, parts, body),
        (Route::Completions, &Method::POST) => plan_completion(state, parts, body),
        (Route::Embeddings, &Method::POST) => plan_embedding(state, parts, body),
        (Route::Messages, &Method::POST) => plan_foreign(state, parts, body, Foreign::Messages),
        (Route::Responses, &Method::POST) => plan_foreign(state, parts, body, Foreign::Responses),
        (Route::Chat | Route::Completions | Route::Embeddings | Route::Messages | Route::Responses, _) => {
            Err(ApiError::of_status(405))
        }
        (Route::Models, &Method::GET) => plan_models(state, parts),
        (Route::Models | Route::Echo, _) => plan_echo(state, parts, body),
    };
    planned.unwrap_or_else(Plan::refuse)
}

fn plan_chat(state: &State, parts: &Parts, body: &Bytes) -> Result<Plan, ApiError> {
    let request = ChatRequest::parse(body)?;
    let question = request.question();
    let subject = Subject { path: parts.uri.path(), model: &request.model, prompt: &question };
    let fault = fault_for(state, parts, subject, || request.conversation())?;
    if fault.before_head.is_some() {
        return Ok(Plan { fault, reply: Ok(Reply::none()) });
    }
    models::check(&request.model)?;
    let mut answer = answer::chat(&request, state.book.answer(&request), state.options.tokens, &fault);
    answer.usage.cached = answer.usage.cached.max(state.prefixes.read(&request, state.options.prompt_cache));
    let head = state.head("chatcmpl-", &request.model);
    let top = (request.logprobs == Some(true)).then(|| request.top_logprobs.unwrap_or(0));
    let reply = if request.stream == Some(true) {
        let usage = request.stream_options.unwrap_or_default().include_usage == Some(true);
        Reply::Events(Script::Made(Box::new(Events::new(Dialect::Chat, head, answer, top, usage, &fault))))
    } else {
        Reply::json(wire::chat_body(&head, &answer, top, !fault.no_usage))
    };
    Ok(Plan { fault, reply: Ok(reply) })
}

fn plan_completion(state: &State, parts: &Parts, body: &Bytes) -> Result<Plan, ApiError> {
    let request = CompletionRequest::parse(body)?;
    let prompts = request.prompts()?;
    let prompt = prompts.first().map_or("", AsRef::as_ref);
    let subject = Subject { path: parts.uri.path(), model: &request.model, prompt };
    let fault = fault_for(state, parts, subject, || blake3::hash(prompt.as_bytes()))?;
    if fault.before_head.is_some() {
        return Ok(Plan { fault, reply: Ok(Reply::none()) });
    }
    models::check(&request.model)?;
    let answer = answer::completion(&request, &prompts, state.options.tokens, &fault);
    let head = state.head("cmpl-", &request.model);
    let reply = if request.stream == Some(true) {
        let usage = request.stream_options.unwrap_or_default().include_usage == Some(true);
        let events = Events::new(Dialect::Text, head, answer, request.logprobs, usage, &fault);
        Reply::Events(Script::Made(Box::new(events)))
    } else {
        Reply::json(wire::text_body(&head, &answer, request.logprobs, !fault.no_usage))
    };
    Ok(Plan { fault, reply: Ok(reply) })
}

fn plan_foreign(state: &State, parts: &Parts, body: &Bytes, dialect: Foreign) -> Result<Plan, ApiError> {
    let chat = dialect.as_chat(body)?;
    let request = ChatRequest::parse(&chat)?;
    let question = request.question();
    let subject = Subject { path: parts.uri.path(), model: &request.model, prompt: &question };
    let fault = fault_for(state, parts, subject, || request.conversation())?;
    if fault.before_head.is_some() {
        return Ok(Plan { fault, reply: Ok(Reply::none()) });
    }
    models::check(&request.model)?;
    let answer = answer::chat(&request, state.book.answer(&request), state.options.tokens, &fault);
    let head = state.head(dialect.prefix(), &request.model);
    let reply = if request.stream == Some(true) {
        Reply::Events(Script::Named(dialect.events(&head, &answer)))
    } else {
        Reply::json(dialect.whole(&head, &answer))
    };
    Ok(Plan { fault, reply: Ok(reply) })
}

fn plan_embedding(state: &State, parts: &Parts, body: &Bytes) -> Result<Plan, ApiError> {
    let request = EmbeddingRequest::parse(body)?;
    let inputs = request.inputs()?;
    let prompt = inputs.first().map_or("", AsRef::as_ref);
    let subject = Subject { path: parts.uri.path(), model: &request.model, prompt };
    let fault = fault_for(state, parts, subject, || blake3::hash(prompt.as_bytes()))?;
    models::check(&request.model)?;
    Ok(Plan { fault, reply: embeddings::body(&request).map(Reply::json) })
}

fn plan_models(state: &State, parts: &Parts) -> Result<Plan, ApiError> {
    let path = parts.uri.path();
    let fault = fault_for(state, parts, Subject { path, model: "", prompt: "" }, || blake3::hash(path.as_bytes()))?;
    let reply = match path.strip_prefix("/v1/models/") {
        Some(id) => models::check(id).map(|()| models::one(id)),
        None => Ok(models::list()),
    };
    Ok(Plan { fault, reply: reply.map(|value| Reply::json(wire::to_json(&value))) })
}

/// The request's own bytes and content type; a description of it when it has no body.
fn plan_echo(state: &State, parts: &Parts, body: &Bytes) -> Result<Plan, ApiError> {
    let path = parts.uri.path();
    let fault = fault_for(state, parts, Subject { path, model: "", prompt: "" }, || blake3::hash(path.as_bytes()))?;
    let whole_path = parts.uri.path_and_query().map_or(path, |whole| whole.as_str());
    let echo = reply::Echo {
        method: parts.method.clone(),
        path: whole_path.to_owned(),
        headers: parts.headers.len(),
        bytes: body.len(),
        content_type: parts.headers.get(http::header::CONTENT_TYPE).cloned(),
    };
    let bytes = if body.is_empty() {
        let description = json!({"object": "echo", "method": parts.method.as_str(), "path": whole_path,
            "headers": parts.headers.len(), "bytes": 0});
        wire::to_json(&description).into()
    } else {
        body.clone()
    };
    Ok(Plan { fault, reply: Ok(Reply::Whole { bytes, echo: Some(echo) }) })
}

/// The fault of a request: ordered by its header, else by its model's name, else by the script, else by chance.
fn fault_for(
    state: &State,
    parts: &Parts,
    subject: Subject<'_>,
    conversation: impl FnOnce() -> blake3::Hash,
) -> Result<Fault, ApiError> {
    let header = parts.headers.get("x-simulate").and_then(|value| value.to_str().ok());
    let ordered = header.or_else(|| subject.model.strip_prefix(MODEL_PREFIX));
    let fault = match ordered {
        Some(directives) => {
            Fault::parse(directives).map_err(|wrong| ApiError::bad_request(Some("x-simulate"), wrong))?
        }
        None => match state.script.load().fault_for(subject) {
            Some(scripted) => scripted,
            None => state.fault_by_chance(),
        },
    };
    match fault.times {
        Some(times) if state.occurrence(subject.model, conversation()) > times => Ok(Fault::default()),
        _ => Ok(fault),
    }
}
