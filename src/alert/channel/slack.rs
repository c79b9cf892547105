//! Slack's incoming webhooks. The URL is the credential, so nothing may ever name it.

use http::{HeaderMap, HeaderValue, Uri};
use serde_json::json;

use super::http::Poster;
use super::{Failure, SetupError, idempotency_key, text_of};
use crate::config::Secret;
use crate::store::AlertRow;

/// See the module.
pub(super) struct Slack {
    url: Secret,
    uri: Uri,
    poster: Poster,
}

impl Slack {
    pub(super) fn new(url: Secret, poster: Poster) -> Result<Self, SetupError> {
        let uri: Uri = url.expose().parse().map_err(|_| SetupError::Slack)?;
        if uri.authority().is_none() {
            return Err(SetupError::Slack);
        }
        Ok(Self { url, uri, poster })
    }

    pub(super) async fn send(&self, alert: &AlertRow) -> Result<(), Failure> {
        let mut headers = HeaderMap::new();
        if let Ok(key) = HeaderValue::try_from(idempotency_key(alert, "slack")) {
            headers.insert("idempotency-key", key);
        }
        let path = self.uri.path_and_query().map(http::uri::PathAndQuery::as_str).filter(|path| *path != "/");
        let secrets = [self.url.expose(), path.unwrap_or_default()];
        self.poster.post(&self.uri, headers, message(alert).into_bytes(), &secrets).await
    }
}

/// The title in bold, the text below it. Slack has no header for a repeated message; the id at the end lets people see one.
fn message(alert: &AlertRow) -> String {
    let text = text_of(alert);
    let gap = if text.is_empty() { "" } else { "\n" };
    let whole = format!("*{}*{gap}{}\n_{}_", escape(&alert.title), escape(&text), escape(&alert.id));
    json!({ "text": whole }).to_string()
}

/// What Slack takes for markup that reaches out of the message: mentions, links, channels.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
