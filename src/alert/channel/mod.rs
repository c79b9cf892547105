//! The ways to tell somebody, and one try of each.
//!
//! A try takes ten seconds at most, follows no redirect and keeps nothing of an answer but the first characters of a
//! complaint. No error of it contains what the configuration calls a secret.

mod email;
mod http;
mod slack;
pub(super) mod webhook;

use std::time::Duration;

use self::email::Mailer;
use self::http::Poster;
use self::slack::Slack;
use self::webhook::Webhook;
use crate::clock::UnixMs;
use crate::config;
use crate::store::AlertRow;

/// How long one try may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Characters of an error that are kept.
const LONGEST_ERROR: usize = 200;

/// Why the channels cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The webhook's URL cannot be asked.
    #[error("alerts.webhook is not the URL of a web server; write one as in \"https://example.com/alerts\"")]
    Webhook,
    /// Slack's URL cannot be asked.
    #[error("what alerts.slack_env or alerts.slack_file names is not a URL; put Slack's whole webhook URL there")]
    Slack,
    /// Mail cannot be sent like this.
    #[error("alerts.email: {0}")]
    Email(String),
}

/// A try that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// For people, without secrets.
    pub(super) what: String,
    /// When the other side wants to be asked again.
    pub(super) retry_after: Option<Duration>,
}

impl Failure {
    /// Of this text, shortened and without control characters and the given secrets.
    fn new(what: &str, secrets: &[&str]) -> Self {
        let mut clean = what.to_owned();
        for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
            clean = clean.replace(secret, "***");
        }
        let clean = clean.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_ERROR).collect();
        Self { what: clean, retry_after: None }
    }
}

/// The channels of a configuration, in the order in which they are listed.
pub(super) struct Channels(Vec<Channel>);

/// One way to tell somebody.
enum Channel {
    Webhook(Webhook),
    Slack(Slack),
    Email(Mailer),
}

impl Channel {
    fn name(&self) -> &'static str {
        match self {
            Self::Webhook(_) => "webhook",
            Self::Slack(_) => "slack",
            Self::Email(_) => "email",
        }
    }
}

impl Channels {
    /// Prepares them; connects to nothing yet.
    pub(super) fn new(settings: &config::Alerts) -> Result<Self, SetupError> {
        let poster = Poster::new();
        let mut channels = Vec::new();
        if let Some(webhook) = &settings.webhook {
            channels.push(Channel::Webhook(Webhook::new(webhook, poster.clone())?));
        }
        if let Some(url) = &settings.slack {
            channels.push(Channel::Slack(Slack::new(url.clone(), poster)?));
        }
        if let Some(email) = &settings.email {
            channels.push(Channel::Email(Mailer::new(email)?));
        }
        Ok(Self(channels))
    }

    /// Their names.
    pub(super) fn names(&self) -> Vec<String> {
        self.0.iter().map(|channel| channel.name().to_owned()).collect()
    }

    /// The name of a channel as a metric label: `other` for one that is not there any more.
    pub(super) fn label(&self, name: &str) -> &'static str {
        self.0.iter().map(Channel::name).find(|known| *known == name).unwrap_or("other")
    }

    /// Sends an alert through one of them.
    pub(super) async fn send(&self, name: &str, alert: &AlertRow, now: UnixMs) -> Result<(), Failure> {
        let Some(channel) = self.0.iter().find(|channel| channel.name() == name) else {
            return Err(Failure::new("this channel is not configured any more", &[]));
        };
        let sending = async {
            match channel {
                Channel::Webhook(webhook) => webhook.send(alert, now).await,
                Channel::Slack(slack) => slack.send(alert).await,
                Channel::Email(mailer) => mailer.send(alert).await,
            }
        };
        let late = || Failure::new(&format!("no answer within {} seconds", PATIENCE.as_secs()), &[]);
        tokio::time::timeout(PATIENCE, sending).await.unwrap_or_else(|_| Err(late()))
    }
}

/// What both sides agree on when a delivery comes twice.
fn idempotency_key(alert: &AlertRow, channel: &str) -> String {
    format!("{}:{channel}", alert.id)
}

/// The lines for people of a stored alert.
fn text_of(alert: &AlertRow) -> String {
    let payload = serde_json::from_str::<serde_json::Value>(&alert.payload).unwrap_or_default();
    payload.get("text").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
