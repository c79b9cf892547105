//! The same decisions without a reply: for `cache explain`.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{DataPlane, Exchange};
use crate::account::Record;
use crate::cache::Explanation;
use crate::call::{BadCall, BadControl, Call, Controls};
use crate::config::KeySpec;
use crate::dialect::Dialect;
use crate::ids::{KeyId, TenantId};
use crate::limit::Terms;
use crate::tenant::{Credential, Principal};

/// A request to be explained instead of served.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// Tenant id, as in the ledger.
    pub tenant: String,
    /// Key id; in passthrough it is the tenant's.
    #[serde(default)]
    pub key: Option<String>,
    /// Path of the route, `/v1/chat/completions` if left out.
    #[serde(default)]
    pub path: Option<String>,
    /// Headers that steer the cache.
    #[serde(default)]
    pub headers: std::collections::BTreeMap<String, String>,
    /// The body, as it would be sent.
    pub body: Value,
}

/// A request that cannot be explained.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The body is wrong.
    #[error(transparent)]
    Call(#[from] BadCall),
    /// A header is wrong.
    #[error(transparent)]
    Control(#[from] BadControl),
    /// Only completions have a semantic tier.
    #[error("`{0}` has no cache decision to explain; use /v1/chat/completions or /v1/completions")]
    Route(String),
    /// Not a header.
    #[error("`{0}` is not a header name with a header value")]
    Header(String),
}

impl DataPlane {
    /// What would happen to the request, and why. Changes nothing.
    ///
    /// # Errors
    /// What is wrong with the request.
    pub async fn explain(&self, request: ExplainRequest) -> Result<Explanation, ExplainError> {
        let path = request.path.unwrap_or_else(|| "/v1/chat/completions".to_owned());
        let dialect = Dialect::of(&Method::POST, &path);
        if !matches!(dialect, Dialect::Chat | Dialect::Completions) {
            return Err(ExplainError::Route(path));
        }
        let headers = header_map(&request.headers)?;
        let body = Bytes::from(request.body.to_string());
        let call = Call::read(dialect, &body, &self.limits, self.cache.settings().max_temperature)?;
        let tenant = TenantId::new(request.tenant.as_str());
        let key = KeyId::new(request.key.unwrap_or(request.tenant));
        let known = self.directory.tenant(&tenant).map(|known| known.spec).unwrap_or_default();
        let terms = Terms { tenant: known, ..Terms::default() };
        let principal = Principal::known(tenant, key, Credential::Caller, terms, KeySpec::default());
        let exchange = Exchange {
            dialect,
            method: Method::POST,
            path,
            controls: Controls::from_headers(&headers)?,
            headers,
            principal,
            record: Record::detached(&self.clock, &self.metrics),
        };
        let (asked, share) = self.decide(exchange, call);
        let parts = json!({
            "tenant": asked.exchange.principal.tenant.as_str(),
            "namespace": asked.namespace,
            "share": share,
            "upstream": self.upstream.place(),
            "dialect": dialect.as_str(),
            "variant": asked.exchange.variant(),
            "members": asked.call.key_members,
            "earlier_turns": asked.call.earlier_turns,
        });
        let principal = &asked.exchange.principal;
        let (tenant, key) = (&principal.tenant, &principal.key);
        Ok(self.cache.explain(tenant, key, &asked.call, &asked.keys, &asked.plan, parts).await)
    }
}

fn header_map(pairs: &std::collections::BTreeMap<String, String>) -> Result<HeaderMap, ExplainError> {
    let pair = |(name, value): (&String, &String)| {
        let parsed = (name.parse::<HeaderName>(), value.parse::<HeaderValue>());
        match parsed {
            (Ok(name), Ok(value)) => Ok((name, value)),
            _ => Err(ExplainError::Header(format!("{name}: {value}"))),
        }
    };
    pairs.iter().map(pair).collect()
}
