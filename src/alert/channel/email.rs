//! Mail: one plain text message for each alert, over a connection of its own.

use std::time::{Duration, UNIX_EPOCH};

use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use super::http::chain;
use super::{Failure, PATIENCE, SetupError, text_of};
use crate::config::{self, MailTls, Secret};
use crate::store::AlertRow;

/// See the module.
pub(super) struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    password: Option<Secret>,
    from: Mailbox,
    to: Vec<Mailbox>,
}

impl Mailer {
    pub(super) fn new(settings: &config::Email) -> Result<Self, SetupError> {
        let config::Email { host, port, tls, login, from, to } = settings;
        let mailbox = |text: &String| {
            text.parse::<Mailbox>().map_err(|_| SetupError::Email(format!("`{text}` is not a mail address")))
        };
        let parameters = || {
            let made = TlsParameters::builder(host.clone()).build_rustls();
            made.map_err(|error| SetupError::Email(format!("TLS to {host} cannot be set up: {}", chain(&error))))
        };
        let tls = match tls {
            MailTls::StartTls => Tls::Required(parameters()?),
            MailTls::Tls => Tls::Wrapper(parameters()?),
            MailTls::None => Tls::None,
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host.clone())
            .port(*port)
            .tls(tls)
            .timeout(Some(PATIENCE));
        if let Some((user, password)) = login {
            builder = builder.credentials(Credentials::new(user.clone(), password.expose().to_owned()));
        }
        Ok(Self {
            transport: builder.build(),
            password: login.as_ref().map(|(_, password)| password.clone()),
            from: mailbox(from)?,
            to: to.iter().map(mailbox).collect::<Result<_, _>>()?,
        })
    }

    pub(super) async fn send(&self, alert: &AlertRow) -> Result<(), Failure> {
        let secrets = [self.password.as_ref().map(Secret::expose).unwrap_or_default()];
        let failed = |error: &dyn std::error::Error| Failure::new(&chain(error), &secrets);
        let message = self.message(alert).map_err(|error| failed(&error))?;
        self.transport.send(message).await.map(drop).map_err(|error| failed(&error))
    }

    /// The id of the message is made from that of the alert, so that a mailbox that gets it twice shows it once.
    fn message(&self, alert: &AlertRow) -> Result<Message, lettre::error::Error> {
        let hash = blake3::hash(alert.id.as_bytes()).to_hex();
        let id = format!("<{hash}@{}>", self.from.email.domain());
        let mut builder = Message::builder()
            .from(self.from.clone())
            .subject(format!("[remora] {}", alert.title))
            .message_id(Some(id))
            .date(UNIX_EPOCH + Duration::from_millis(alert.at))
            .header(ContentType::TEXT_PLAIN);
        for to in &self.to {
            builder = builder.to(to.clone());
        }
        builder.body(format!("{}\n\n{}\n\nAlert: {}\n", alert.title, text_of(alert), alert.id))
    }
}
