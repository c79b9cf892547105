//! A signed webhook, in our own shape or in that of LiteLLM's budget webhook.
//!
//! The signature is over the time and the body, so that a body that was overheard cannot be sent again much later. The
//! body of an alert is always the same, however often it is tried; so is its idempotency key.

use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderValue, Uri};
use serde_json::{Value, json};
use sha2::Sha256;

use super::http::Poster;
use super::{Failure, SetupError, idempotency_key, text_of};
use crate::alert::news::{Kind, moment};
use crate::clock::UnixMs;
use crate::config::{self, NanoUsd, Secret, WebhookFormat};
use crate::ids::TenantId;
use crate::store::AlertRow;

/// See the module.
pub(super) struct Webhook {
    uri: Uri,
    format: WebhookFormat,
    secret: Secret,
    poster: Poster,
}

impl Webhook {
    pub(super) fn new(settings: &config::Webhook, poster: Poster) -> Result<Self, SetupError> {
        let uri: Uri = settings.url.parse().map_err(|_| SetupError::Webhook)?;
        if uri.authority().is_none() || !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(SetupError::Webhook);
        }
        Ok(Self { uri, format: settings.format, secret: settings.secret.clone(), poster })
    }

    pub(super) async fn send(&self, alert: &AlertRow, now: UnixMs) -> Result<(), Failure> {
        let body = match self.format {
            WebhookFormat::Remora => remora_body(alert),
            WebhookFormat::LiteLlm => litellm_body(alert),
        };
        let body = body.to_string();
        let timestamp = (now / 1_000).to_string();
        let signature = sign(self.secret.expose().as_bytes(), &timestamp, body.as_bytes());
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-remora-timestamp", timestamp),
            ("x-remora-signature", signature),
            ("idempotency-key", idempotency_key(alert, "webhook")),
        ] {
            let value = HeaderValue::try_from(value).map_err(|_| Failure::new("the alert's id fits no header", &[]))?;
            headers.insert(name, value);
        }
        self.poster.post(&self.uri, headers, body.into_bytes(), &[self.secret.expose()]).await
    }
}

/// `v1=` and the hexadecimal HMAC-SHA256 of time, a dot and the body.
fn sign(secret: &[u8], timestamp: &str, body: &[u8]) -> String {
    // A key of any length is taken; the arm is for the type alone and signs nothing that would be accepted.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return String::new() };
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    let digits: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("v1={digits}")
}

fn details_of(alert: &AlertRow) -> Value {
    let payload = serde_json::from_str::<Value>(&alert.payload).unwrap_or_default();
    payload.get("details").cloned().unwrap_or_default()
}

/// Our own shape, described in `docs/alerts.md`.
fn remora_body(alert: &AlertRow) -> Value {
    json!({
        "version": 1,
        "id": alert.id,
        "kind": alert.kind,
        "tenant": alert.tenant.as_ref().map(TenantId::as_str),
        "at": alert.at,
        "title": alert.title,
        "text": text_of(alert),
        "details": details_of(alert),
    })
}

/// LiteLLM's shape. It knows three events; what is none of them is sent as the one for thresholds. A tenant is its `team`.
/// The member `id` is ours: receivers that do not know it leave it alone.
pub(in crate::alert) fn litellm_body(alert: &AlertRow) -> Value {
    let details = details_of(alert);
    let text = |member: &str| details.get(member).and_then(Value::as_str);
    let dollars = |member: &str| text(member).and_then(|text| text.parse::<NanoUsd>().ok()).map(NanoUsd::as_f64);
    let all = details.get("threshold_percent").and_then(Value::as_f64).is_some_and(|percent| percent >= 100.0);
    let event = match alert.kind.as_str() {
        kind if kind == Kind::BudgetForecast.as_str() => "projected_limit_exceeded",
        kind if kind == Kind::BudgetThreshold.as_str() && all => "budget_crossed",
        _ => "threshold_crossed",
    };
    let group = match (text("key"), &alert.tenant) {
        (Some(_), _) => "key",
        (None, Some(_)) => "team",
        (None, None) => "proxy",
    };
    let exceeded = details.get("ends").and_then(Value::as_u64).map(|at| moment(at, "%Y-%m-%d"));
    json!({
        "spend": dollars("spent").unwrap_or_default(),
        "max_budget": dollars("usd"),
        "token": null,
        "customer_id": null,
        "internal_user_id": null,
        "team_id": alert.tenant.as_ref().map(TenantId::as_str),
        "user_email": null,
        "key_alias": text("key"),
        "projected_exceeded_date": exceeded,
        "projected_spend": dollars("projected_usd"),
        "event": event,
        "event_group": group,
        "event_message": alert.title,
        "id": alert.id,
    })
}
