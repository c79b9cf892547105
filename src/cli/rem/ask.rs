//! Talks to the sidecar. The key is read here and goes nowhere else.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http::{Method, StatusCode};
use serde_json::Value;

use super::super::api::{Sent, send};

/// Where the sidecar of the running proxy is, and who asks.
#[derive(Args, Clone)]
pub(super) struct RemAt {
    /// Address of the sidecar of the running proxy.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8082", env = "REMORA_REM_URL")]
    rem: String,
    /// Variable of the environment that has the API key.
    #[arg(long, value_name = "NAME", default_value = "REMORA_API_KEY")]
    key_env: String,
    /// File that has the API key.
    #[arg(long, value_name = "FILE", conflicts_with = "key_env")]
    key_file: Option<PathBuf>,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub(super) json: bool,
}

impl RemAt {
    fn key(&self) -> Result<Option<String>, String> {
        let Some(file) = &self.key_file else {
            return Ok(std::env::var(&self.key_env)
                .ok()
                .map(|key| key.trim().to_owned())
                .filter(|key| !key.is_empty()));
        };
        let text = std::fs::read_to_string(file).map_err(|error| format!("--key-file {}: {error}", file.display()))?;
        match text.trim() {
            "" => Err(format!("--key-file {} is empty", file.display())),
            key => Ok(Some(key.to_owned())),
        }
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct Failed {
    /// What was answered; `None` if nothing was.
    pub(super) status: Option<StatusCode>,
    /// For people.
    pub(super) text: String,
    /// The problem as it was answered, or null.
    pub(super) problem: Value,
    /// When to ask again, if that was said.
    pub(super) retry_after: Option<Duration>,
}

impl Failed {
    /// Whether asking again would end in the same way.
    pub(super) fn is_lasting(&self) -> bool {
        let status = self.status;
        status.is_some_and(|status| status.is_client_error() && !matches!(status.as_u16(), 408 | 429))
    }

    /// Whether the same may be taken a little later.
    pub(super) fn is_passing(&self) -> bool {
        self.status.is_some_and(|status| matches!(status.as_u16(), 408 | 429 | 503))
    }
}

impl From<String> for Failed {
    fn from(text: String) -> Self {
        Self { status: None, text, problem: Value::Null, retry_after: None }
    }
}

/// Asks the sidecar.
pub(super) async fn ask(at: &RemAt, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failed> {
    let url = format!("{}{path}", at.rem.trim_end_matches('/'));
    let key = at.key()?;
    let nobody = |error| format!("no sidecar at {}: {error}; is `remora serve` running? (--rem URL)", at.rem);
    let Sent { status, retry_after, bytes } = send(&url, method, key.as_deref(), body, nobody).await?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|_| Failed {
        status: Some(status),
        text: format!("{url} answered {status} with something that is not JSON"),
        problem: Value::Null,
        retry_after,
    })?;
    if status.is_success() {
        return Ok(value);
    }
    let detail = value.get("detail").and_then(Value::as_str).unwrap_or_default();
    let mut text = format!("{status}: {detail}");
    if status == StatusCode::UNAUTHORIZED && key.is_none() {
        text.push_str(&format!(
            "\n  no key was sent: {} is not set; give one there, by --key-env or --key-file",
            at.key_env
        ));
    }
    Err(Failed { status: Some(status), text, problem: value, retry_after })
}
