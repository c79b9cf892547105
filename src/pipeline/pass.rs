//! Routes that are passed through: every byte of the body, both ways.
//!
//! Bodies stream, except for requests on the routes of [`READ`], which are short and say what they will cost at most: these are
//! held to budgets like completions. What passes back is watched for its usage ([`super::meter`]).

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full};
use serde_json::Value;
use tokio::time::timeout;

use super::forward::is_coded;
use super::limits::Needs;
use super::meter::{Made, Meter, Passed};
use super::reached::Reached;
use super::refusal::Refusal;
use super::reply::Body;
use super::{DataPlane, Exchange, bypass, json};
use crate::cache::outcome::{Outcome, Reason};
use crate::call::PassedCall;
use crate::server::{BodyError, RequestBody};
use crate::telemetry::trace::Stage;
use crate::tenant::AuthError;
use crate::upstream::headers::towards_client;
use crate::upstream::{Answer, Outgoing, UpstreamError};

/// Routes whose requests are read although they are passed on: what they name decides what they may cost.
const READ: [&str; 5] = ["/messages", "/responses", "/images/generations", "/audio/speech", "/embeddings"];
/// Last segments of routes that no provider bills for, or that tell again what was billed before.
const FREE: [&str; 7] = ["count_tokens", "input_tokens", "cancel", "files", "uploads", "parts", "moderations"];

impl DataPlane {
    /// Anything under `/v1/` that has no dialect of its own.
    pub(super) async fn pass(
        self: &Arc<Self>,
        exchange: Exchange,
        body: RequestBody,
    ) -> Result<Response<Body>, Refusal> {
        // What ends a body that is passed on while it comes; upstream only sees a request that was broken off.
        let broken = Arc::new(OnceLock::new());
        let path = exchange.path.split('?').next().unwrap_or_default();
        let changes = !exchange.method.is_safe();
        let posted = exchange.method == Method::POST;
        let is_read = posted && READ.contains(&path);
        let bills = posted && !is_free(path);
        let (body, asked) =
            if changes && (is_read || exchange.principal.is_limited()) && !self.may_stay_unread(&exchange) {
                self.read_passed(&exchange, body, bills).await?
            } else {
                if changes {
                    self.admit_unread(&exchange, bills).await?;
                }
                let broken = Arc::clone(&broken);
                let body = body.map_err(move |error: BodyError| {
                    let _ = broken.set(error);
                    error.into()
                });
                (Outgoing::new(body), None)
            };
        let mut meter =
            bills.then(|| Meter::open(exchange.record.clone(), Arc::clone(&self.prices), asked, Made::on(path)));
        let answer = match self.ask(&exchange, body, bills && coding_is_ours(path)).await {
            Ok(answer) => answer,
            Err(error) => {
                meter.iter_mut().for_each(|meter| meter.failed(error));
                return Err(broken.get().map_or_else(|| error.into(), |error| (*error).into()));
            }
        };
        let idle = self.wait(&exchange);
        let (head, body) = answer.response.into_parts();
        meter.iter_mut().for_each(|meter| meter.answered(head.status, &head.headers));
        let mut reply = Response::new(Body::passed(body, answer.permit, idle, exchange.record.clone(), meter));
        *reply.status_mut() = head.status;
        *reply.headers_mut() = towards_client(&head.headers);
        self.passed_on(&exchange, head.status, reply)
    }

    /// Whether a compressed request, which cannot be read, may be passed on unread: where nothing depends on what it says.
    /// Elsewhere it is refused for what it is.
    fn may_stay_unread(&self, exchange: &Exchange) -> bool {
        is_coded(&exchange.headers) && !exchange.principal.is_limited() && self.lets_unpriced_pass(exchange)
    }

    /// Reads a request that is passed on, so that it is held to its models and its budgets. One that does not say what it wants
    /// is treated as one that is not read, except for a key that is limited to some models: it must not get around that.
    async fn read_passed(
        &self,
        exchange: &Exchange,
        body: RequestBody,
        bills: bool,
    ) -> Result<(Outgoing, Option<Passed>), Refusal> {
        let bytes = self.read(&exchange.headers, body).await?;
        match PassedCall::read(&bytes, &self.limits) {
            Ok(call) => {
                exchange.principal.may_use(&call.model)?;
                exchange.record.with(|row| {
                    row.model_asked = Some(call.model.clone());
                    row.stream = call.stream;
                });
                if !bills {
                    self.admit_unread(exchange, bills).await?;
                    return Ok((Outgoing::new(Full::new(bytes).map_err(|never| match never {})), None));
                }
                let needs = Needs::of_billed(bytes.len(), call.billed);
                self.admit(exchange, &call.model, needs).await?;
                let most = exchange.record.price().map(|price| needs.most_output(Some(&price), self.assumed_output));
                let PassedCall { model, stream, background, .. } = call;
                let reached = Reached::default();
                let outgoing = reached.body(bytes.clone());
                return Ok((outgoing, Some(Passed { model, body: bytes, reached, stream, background, most })));
            }
            Err(_) if exchange.principal.is_limited() && !bytes.is_empty() => return Err(AuthError::Model.into()),
            Err(_) => {
                self.admit_unread(exchange, bills).await?;
            }
        }
        Ok((Outgoing::new(Full::new(bytes).map_err(|never| match never {})), None))
    }

    /// `GET /v1/models`: upstream's list, cut down to what the key may use.
    pub(super) async fn models(self: &Arc<Self>, exchange: Exchange) -> Result<Response<Body>, Refusal> {
        let total = self.total(&exchange);
        timeout(total, self.list_models(exchange)).await.unwrap_or(Err(UpstreamError::TotalTimeout.into()))
    }

    async fn list_models(&self, exchange: Exchange) -> Result<Response<Body>, Refusal> {
        let body = Outgoing::new(Empty::<Bytes>::new().map_err(|never| match never {}));
        let answer = self.ask(&exchange, body, exchange.principal.is_limited()).await?;
        let (head, body) = answer.response.into_parts();
        let whole = self.read_whole(body, |_| {}).await?;
        drop(answer.permit);
        let kept = if exchange.principal.is_limited() && head.status.is_success() {
            only_allowed(&whole, |model| exchange.principal.may_use(model).is_ok()).ok_or(UpstreamError::Rubbish)?
        } else {
            whole
        };
        let mut reply = json(head.status, kept, &exchange.record);
        *reply.headers_mut() = towards_client(&head.headers);
        self.passed_on(&exchange, head.status, reply)
    }

    fn passed_on(
        &self,
        exchange: &Exchange,
        status: StatusCode,
        mut reply: Response<Body>,
    ) -> Result<Response<Body>, Refusal> {
        let outcome = if status.is_server_error() { Outcome::Failed } else { Outcome::Bypass };
        exchange.record.outcome(outcome, None, Some(Reason::Route));
        bypass(Reason::Route).write(reply.headers_mut(), &exchange.record);
        Ok(reply)
    }

    pub(super) async fn ask(
        &self,
        exchange: &Exchange,
        body: Outgoing,
        identity: bool,
    ) -> Result<Answer, UpstreamError> {
        let mut headers = self.towards_upstream(exchange, identity);
        if identity {
            headers.remove(header::ACCEPT_ENCODING);
        }
        let wait = self.upstream.settings().first_byte;
        let wait = exchange.controls.timeout.map_or(wait, |asked| asked.min(wait));
        exchange.record.upstream_sent(self.upstream.name());
        let mut open = exchange.record.stage(Stage::Upstream);
        self.tell_trace(&open, &mut headers);
        let answer = self.upstream.send(exchange.method.clone(), &exchange.path, headers, body, wait).await;
        exchange.record.upstream_answered(answer.as_ref().ok().map(|a| a.response.status().as_u16()));
        open.head();
        answer
    }

    /// Longest time for a whole answer.
    pub(super) fn total(&self, exchange: &Exchange) -> Duration {
        let total = self.upstream.settings().total;
        exchange.controls.timeout.map_or(total, |asked| asked.min(total))
    }

    fn wait(&self, exchange: &Exchange) -> Duration {
        let idle = self.upstream.settings().idle;
        exchange.controls.timeout.map_or(idle, |asked| asked.min(idle))
    }
}

/// Whether upstream is asked for an answer without content coding, because it tells its usage.
fn coding_is_ours(path: &str) -> bool {
    READ.contains(&path) || ["/images/", "/audio/"].iter().any(|start| path.starts_with(start))
}

/// Whether no provider bills for a `POST` to this path.
fn is_free(path: &str) -> bool {
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    match segments.as_slice() {
        // What is kept is made, changed or told again; only a run asks a model.
        ["chat", "completions", _] | ["conversations", ..] | ["threads"] | ["threads", _, "messages", ..] => true,
        ["threads", thread] => *thread != "runs",
        ["threads", _, "runs", _] => true,
        segments => segments.last().is_some_and(|last| FREE.contains(last)),
    }
}

fn only_allowed(list: &[u8], allowed: impl Fn(&str) -> bool) -> Option<Bytes> {
    let mut list: Value = serde_json::from_slice(list).ok()?;
    let models = list.get_mut("data")?.as_array_mut()?;
    models.retain(|model| model.get("id").and_then(Value::as_str).is_some_and(&allowed));
    serde_json::to_vec(&list).ok().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::is_free;

    #[test]
    fn what_asks_no_model_is_free_and_what_does_is_not() {
        for path in [
            "/chat/completions/chatcmpl-1",
            "/threads",
            "/threads/t",
            "/threads/t/messages",
            "/threads/t/runs/r",
            "/threads/t/runs/r/cancel",
            "/messages/count_tokens",
            "/conversations/c/items",
            "/files",
        ] {
            assert!(is_free(path), "{path}");
        }
        for path in [
            "/messages",
            "/responses",
            "/threads/runs",
            "/threads/t/runs",
            "/threads/t/runs/r/submit_tool_outputs",
            "/audio/transcriptions",
            "/images/edits",
            "/",
        ] {
            assert!(!is_free(path), "{path}");
        }
    }
}
