//! Routes that are passed through: every byte of the body, both ways, as a stream.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full};
use serde_json::Value;
use tokio::time::timeout;

use super::refusal::Refusal;
use super::reply::Body;
use super::{DataPlane, Exchange, bypass, json};
use crate::cache::outcome::{Outcome, Reason};
use crate::call::model_of;
use crate::json::Node;
use crate::server::{BodyError, RequestBody};
use crate::tenant::AuthError;
use crate::upstream::headers::{towards_client, towards_upstream};
use crate::upstream::{Answer, Outgoing, UpstreamError};

impl DataPlane {
    /// Anything under `/v1/` that has no dialect of its own.
    pub(super) async fn pass(
        self: &Arc<Self>,
        exchange: Exchange,
        body: RequestBody,
    ) -> Result<Response<Body>, Refusal> {
        if !exchange.method.is_safe() {
            self.admit_unread(&exchange).await?;
        }
        // What ends a body that is passed on while it comes; upstream only sees a request that was broken off.
        let broken = Arc::new(OnceLock::new());
        let body = if exchange.principal.is_limited() && !exchange.method.is_safe() {
            self.check_model(&exchange, body).await?
        } else {
            let broken = Arc::clone(&broken);
            Outgoing::new(body.map_err(move |error: BodyError| {
                let _ = broken.set(error);
                error.into()
            }))
        };
        let answer = match self.ask(&exchange, body, false).await {
            Ok(answer) => answer,
            Err(error) => return Err(broken.get().map_or_else(|| error.into(), |error| (*error).into())),
        };
        let idle = self.wait(&exchange);
        let (head, body) = answer.response.into_parts();
        let mut reply = Response::new(Body::passed(body, answer.permit, idle, exchange.record.clone()));
        *reply.status_mut() = head.status;
        *reply.headers_mut() = towards_client(&head.headers);
        self.passed_on(&exchange, head.status, reply)
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
        let whole = self.read_whole(body).await?;
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
        let mut headers: HeaderMap =
            towards_upstream(&exchange.headers, &exchange.principal.credential, &exchange.method, identity);
        if identity {
            headers.remove(header::ACCEPT_ENCODING);
        }
        let wait = self.upstream.settings().first_byte;
        let wait = exchange.controls.timeout.map_or(wait, |asked| asked.min(wait));
        exchange.record.upstream_sent(self.upstream.name());
        let answer = self.upstream.send(exchange.method.clone(), &exchange.path, headers, body, wait).await;
        exchange.record.upstream_answered(answer.as_ref().ok().map(|a| a.response.status().as_u16()));
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

    /// A key that is limited to some models must not get around it by a route we do not read.
    async fn check_model(&self, exchange: &Exchange, body: RequestBody) -> Result<Outgoing, Refusal> {
        let bytes = self.read(&exchange.headers, body).await?;
        if !bytes.is_empty() {
            let root = Node::parse(&bytes, &self.limits).map_err(|_| AuthError::Model)?;
            let model = model_of(&root).map_err(|_| AuthError::Model)?;
            exchange.principal.may_use(&model)?;
        }
        Ok(Outgoing::new(Full::new(bytes).map_err(|never| match never {})))
    }
}

fn only_allowed(list: &[u8], allowed: impl Fn(&str) -> bool) -> Option<Bytes> {
    let mut list: Value = serde_json::from_slice(list).ok()?;
    let models = list.get_mut("data")?.as_array_mut()?;
    models.retain(|model| model.get("id").and_then(Value::as_str).is_some_and(&allowed));
    serde_json::to_vec(&list).ok().map(Bytes::from)
}
