//! `[alerts]`: whom to tell, how, and of what.
//!
//! The URL of a Slack webhook is its own password, so it is treated as one: named, never written.

use std::net::IpAddr;
use std::str::FromStr as _;
use std::time::Duration;

use lettre::message::Mailbox;

use super::Secret;
use super::credential::{self, Purpose};
use super::money::NanoUsd;
use super::problem::{ProblemKind, quote};
use super::reader::Reader;
use super::sections::base_url;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Most people one alert is mailed to.
const MOST_RECIPIENTS: usize = 50;

/// `[alerts]`
#[derive(Clone, PartialEq)]
pub struct Alerts {
    /// Where alerts are posted, signed.
    pub webhook: Option<Webhook>,
    /// Slack's incoming webhook, whole: the URL is the credential.
    pub slack: Option<Secret>,
    /// Mail.
    pub email: Option<Email>,
    /// Refused requests of one tenant in an hour from which somebody is told; `None` for never.
    pub rejections: Option<u32>,
    /// Whether to tell when a budget will not last for its period.
    pub forecast: bool,
    /// How many times the usual spend of an hour is told as unusual; `None` for never.
    pub anomaly: Option<f64>,
    /// Spend of an hour below which nothing is unusual.
    pub anomaly_floor: NanoUsd,
    /// How long a delivery is tried.
    pub retry: Duration,
    /// How long alerts are kept.
    pub keep: Duration,
}

/// `[alerts] webhook`
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Absolute http or https URL.
    pub url: String,
    /// Shape of the body.
    pub format: WebhookFormat,
    /// Signs the body.
    pub secret: Secret,
}

/// `[alerts] webhook_format`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookFormat {
    /// Everything there is to know, as `docs/alerts.md` describes it.
    Remora,
    /// The body of LiteLLM's budget webhook, for receivers that exist already.
    LiteLlm,
}

/// `[alerts.email]`
#[derive(Clone, PartialEq, Eq)]
pub struct Email {
    /// Host of the mail server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is encrypted.
    pub tls: MailTls,
    /// User and password, if it asks for them.
    pub login: Option<(String, Secret)>,
    /// Sender.
    pub from: String,
    /// Recipients, at least one.
    pub to: Vec<String>,
}

/// `[alerts.email] tls`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailTls {
    /// Clear text first, then encrypted or not at all.
    StartTls,
    /// Encrypted from the first byte.
    Tls,
    /// Clear text.
    None,
}

impl WebhookFormat {
    /// Name in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Remora => "remora",
            Self::LiteLlm => "litellm",
        }
    }
}

impl MailTls {
    /// Name in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StartTls => "starttls",
            Self::Tls => "tls",
            Self::None => "none",
        }
    }
}

/// Every key is read, so that it is checked, whether or not it is used.
pub(super) fn read(reader: &mut Reader<'_>) -> Alerts {
    let rejections = reader.count("rejections", 0, 1_000_000_000);
    let anomaly = reader.number("anomaly", 0.0, 1_000.0);
    Alerts {
        webhook: webhook(reader),
        slack: slack(reader),
        email: reader.section("email", email),
        rejections: (rejections > 0).then_some(rejections),
        forecast: reader.flag("forecast"),
        anomaly: (anomaly > 0.0).then_some(anomaly),
        anomaly_floor: floor(reader),
        retry: reader.duration("retry", Duration::from_secs(60), 30 * DAY),
        // Longer than the longest calendar period: an alert that is forgotten within its period would be told again.
        keep: reader.duration("keep", 32 * DAY, 3660 * DAY),
    }
}

fn webhook(reader: &mut Reader<'_>) -> Option<Webhook> {
    let formats = [("remora", WebhookFormat::Remora), ("litellm", WebhookFormat::LiteLlm)];
    let format = reader.choice("webhook_format", WebhookFormat::Remora, &formats);
    let before = reader.context.problems.len();
    let secret = credential::read(reader, "webhook_secret", Purpose::Presented);
    let in_doubt = reader.context.problems.len() > before;
    if reader.text("webhook").is_empty() {
        return None;
    }
    let url = base_url(reader, "webhook");
    if secret.is_none() && !in_doubt {
        let source = reader.source_of("webhook");
        let message = "the webhook has no secret, so nobody could tell its alerts from anybody else's".to_owned();
        let fix = "make one with `openssl rand -hex 32` and name it in webhook_secret_env or webhook_secret_file";
        reader.note("webhook_secret_env", &source, ProblemKind::Missing, message, fix.to_owned());
    }
    Some(Webhook { url, format, secret: secret? })
}

fn slack(reader: &mut Reader<'_>) -> Option<Secret> {
    let url = credential::read(reader, "slack", Purpose::Sent)?;
    let whole = url.expose().parse::<http::Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("https" | "http")) && uri.host().is_some_and(|host| !host.is_empty())
    });
    if whole {
        return Some(url);
    }
    let key = if reader.text("slack_file").is_empty() { "slack_env" } else { "slack_file" };
    let source = reader.source_of(key);
    let message = "what it names is not the URL of an incoming webhook".to_owned();
    let fix = "put the whole URL there, as Slack shows it: https://hooks.slack.com/services/…".to_owned();
    reader.note(key, &source, ProblemKind::BadSecret, message, fix);
    None
}

fn floor(reader: &mut Reader<'_>) -> NanoUsd {
    let read = reader.checked("anomaly_floor", |text| {
        text.parse().map_err(|_| {
            let fix = "write dollars in quotes, as in \"5.00\"".to_owned();
            (format!("{} is not an amount of dollars", quote(text)), fix)
        })
    });
    read.unwrap_or_default()
}

fn email(reader: &mut Reader<'_>) -> Option<Email> {
    let modes = [("starttls", MailTls::StartTls), ("tls", MailTls::Tls), ("none", MailTls::None)];
    let tls = reader.choice("tls", MailTls::StartTls, &modes);
    let user = reader.text("user");
    let before = reader.context.problems.len();
    let password = credential::read(reader, "password", Purpose::Sent);
    let from = address(reader, "from");
    let to = recipients(reader);
    let server = reader.checked("smtp", server).flatten();
    let in_doubt = reader.context.problems.len() > before;
    let (host, port) = server?;
    if !in_doubt {
        consistent(reader, &host, tls, (&user, password.as_ref()), (&from, &to));
    }
    Some(Email { host, port, tls, login: password.map(|password| (user, password)), from, to })
}

/// What must be there once there is a server.
fn consistent(
    reader: &mut Reader<'_>,
    host: &str,
    tls: MailTls,
    (user, password): (&str, Option<&Secret>),
    (from, to): (&str, &[String]),
) {
    let mut note = |key: &str, kind, message: &str, fix: &str| {
        let source = reader.source_of(key);
        reader.note(key, &source, kind, message.to_owned(), fix.to_owned());
    };
    if from.is_empty() {
        note("from", ProblemKind::Missing, "mail needs a sender", "write an address, as in \"remora@example.com\"");
    }
    if to.is_empty() {
        note("to", ProblemKind::Missing, "mail needs somebody to go to", "write a list, as in [\"ops@example.com\"]");
    }
    match (user.is_empty(), password) {
        (true, Some(_)) => {
            note("user", ProblemKind::Missing, "there is a password and no user", "give both or neither")
        }
        (false, None) => {
            let fix = "name it in password_env or password_file, or take the user out";
            note("password_env", ProblemKind::Missing, "there is a user and no password", fix);
        }
        _ => {}
    }
    let local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if password.is_some() && tls == MailTls::None && !local {
        let fix = "use \"starttls\" or \"tls\", or a server on this machine";
        note("tls", ProblemKind::Conflict, "the password would be sent in clear text", fix);
    }
}

/// `host:port`; `None` for the empty text.
fn server(text: &str) -> Result<Option<(String, u16)>, (String, String)> {
    if text.is_empty() {
        return Ok(None);
    }
    let bad = || {
        let fix = "write host and port, as in \"smtp.example.com:587\"".to_owned();
        (format!("{} is not a host and a port", quote(text)), fix)
    };
    let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
    match port.parse::<u16>() {
        Ok(port) if port > 0 && !host.is_empty() && host.bytes().all(good) => Ok(Some((host.to_owned(), port))),
        _ => Err(bad()),
    }
}

fn address(reader: &mut Reader<'_>, key: &str) -> String {
    let read = reader.checked(key, |text| {
        if text.is_empty() || Mailbox::from_str(text).is_ok() { Ok(text.to_owned()) } else { Err(not_an_address(text)) }
    });
    read.unwrap_or_default()
}

fn recipients(reader: &mut Reader<'_>) -> Vec<String> {
    let to = reader.strings("to");
    let source = reader.source_of("to");
    for wrong in to.iter().filter(|text| Mailbox::from_str(text).is_err()) {
        let (message, fix) = not_an_address(wrong);
        reader.note("to", &source, ProblemKind::BadValue, message, fix);
    }
    if to.len() > MOST_RECIPIENTS {
        let message = format!("{} recipients", to.len());
        let fix = format!("name at most {MOST_RECIPIENTS}, or a mailing list");
        reader.note("to", &source, ProblemKind::OutOfRange, message, fix);
    }
    to
}

fn not_an_address(text: &str) -> (String, String) {
    let fix = "write it as in \"ops@example.com\" or \"Operations <ops@example.com>\"".to_owned();
    (format!("{} is not a mail address", quote(text)), fix)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Config, Overrides, Problems};
    use super::*;

    fn load(text: &str) -> Result<Config, Problems> {
        let env = [
            ("HOOK", "canary-hook-0123456789"),
            ("SHORT", "canary"),
            ("SLACK", "https://hooks.slack.com/services/canary"),
            ("MAIL", "canary-mail"),
        ];
        let env = env.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        Config::from_text(Some((Arc::from("remora.toml"), text)), env, &Overrides::default())
    }

    const ALL: &str = "[alerts]\nwebhook = \"https://example.com/a\"\nwebhook_format = \"litellm\"\nwebhook_secret_env = \"HOOK\"\n\
        slack_env = \"SLACK\"\nrejections = 100\nanomaly_floor = \"0.50\"\n[alerts.email]\nsmtp = \"[::1]:2525\"\ntls = \"none\"\n\
        user = \"u\"\npassword_env = \"MAIL\"\nfrom = \"Remora <remora@example.com>\"\nto = [\"ops@example.com\"]\n";

    #[test]
    fn every_channel_is_read_and_no_secret_is_shown() {
        let config = load(ALL).unwrap_or_else(|problems| panic!("{problems}"));
        let alerts = &config.alerts;
        let (webhook, email) = (alerts.webhook.as_ref().unwrap(), alerts.email.as_ref().unwrap());
        assert_eq!((webhook.format, alerts.rejections), (WebhookFormat::LiteLlm, Some(100)));
        assert_eq!((email.host.as_str(), email.port, email.tls), ("::1", 2525, MailTls::None));
        assert_eq!((alerts.anomaly, alerts.anomaly_floor), (Some(3.0), NanoUsd(500_000_000)));
        let shown = config.render();
        assert!(!shown.contains("canary") && shown.contains("smtp = \"[::1]:2525\""), "{shown}");
        assert_eq!(shown.matches("\"***\"").count(), 3, "{shown}");
        let none = load("").unwrap().alerts;
        assert!(none.webhook.is_none() && none.slack.is_none() && none.email.is_none() && none.forecast);
    }

    #[test]
    fn what_could_not_work_or_would_give_something_away_is_refused() {
        for (text, key) in [
            ("[alerts]\nwebhook = \"https://e.com\"\n", "alerts.webhook_secret_env missing"),
            (
                "[alerts]\nwebhook = \"https://e.com\"\nwebhook_secret_env = \"SHORT\"\n",
                "alerts.webhook_secret_env bad_secret",
            ),
            ("[alerts]\nwebhook = \"ftp://e.com\"\nwebhook_secret_env = \"HOOK\"\n", "alerts.webhook bad_value"),
            ("[alerts]\nslack_env = \"SHORT\"\n", "alerts.slack_env bad_secret"),
            ("[alerts]\nslack = \"https://hooks.slack.com/services/canary\"\n", "alerts.slack literal_secret"),
            ("[alerts]\nanomaly_floor = \"five\"\n", "alerts.anomaly_floor bad_value"),
            ("[alerts.email]\nsmtp = \"mail.example.com\"\n", "alerts.email.smtp bad_value"),
            ("[alerts.email]\nsmtp = \"m:25\"\nto = [\"a@b.c\"]\n", "alerts.email.from missing"),
            ("[alerts.email]\nsmtp = \"m:25\"\nfrom = \"a@b.c\"\n", "alerts.email.to missing"),
            ("[alerts.email]\nsmtp = \"m:25\"\nfrom = \"a@b.c\"\nto = [\"nobody\"]\n", "alerts.email.to bad_value"),
            (
                "[alerts.email]\nsmtp = \"m:25\"\nfrom = \"a@b.c\"\nto = [\"a@b.c\"]\nuser = \"u\"\n",
                "alerts.email.password_env missing",
            ),
            (
                "[alerts.email]\nsmtp = \"m:25\"\ntls = \"none\"\nfrom = \"a@b.c\"\nto = [\"a@b.c\"]\nuser = \"u\"\npassword_env = \"MAIL\"\n",
                "alerts.email.tls conflict",
            ),
        ] {
            let problems = load(text).err().unwrap_or_default();
            let found: Vec<_> = problems.iter().map(|found| format!("{} {}", found.key, found.kind.as_str())).collect();
            assert_eq!(found, [key], "{text}\n{problems}");
            assert!(!problems.to_string().contains("canary"), "{problems}");
        }
    }
}
