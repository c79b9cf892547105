//! Each channel against somebody who listens.

use serde_json::json;

use super::*;
use crate::alert::tests::mail_server::{self, Manners};
use crate::alert::tests::receiver::Receiver;
use crate::alert::tests::{silent, webhook as webhook_to};
use crate::config::{Email, MailTls, Secret, WebhookFormat};
use crate::ids::TenantId;

fn alert(kind: &str, title: &str, details: serde_json::Value) -> AlertRow {
    AlertRow {
        id: "budget:acme:month:1793491200000:80:100.00".into(),
        at: 1_793_534_400_000,
        tenant: Some(TenantId::new("acme")),
        kind: kind.into(),
        title: title.into(),
        payload: json!({ "text": "Spent <!channel> & more.", "details": details }).to_string(),
    }
}

fn channels(change: impl FnOnce(&mut config::Alerts)) -> Channels {
    let mut settings = silent();
    change(&mut settings);
    Channels::new(&settings).unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test]
async fn slack_gets_text_from_which_nothing_reaches_out() {
    let (receiver, url) = Receiver::start().await;
    let channels = channels(|settings| settings.slack = Some(Secret::new(format!("{url}/services/T/B/x"))));
    channels.send("slack", &alert("test", "a <https://evil.example|b> & c", json!({})), 0).await.unwrap();
    let body = receiver.received()[0].json();
    assert_eq!(
        body,
        json!({ "text": "*a &lt;https://evil.example|b&gt; &amp; c*\nSpent &lt;!channel&gt; &amp; more.\n\
                         _budget:acme:month:1793491200000:80:100.00_" })
    );
}

#[test]
fn the_shape_of_litellm_is_what_its_receivers_know() {
    let details = json!({
        "name": "month", "usd": "100.00", "spent": "85.50", "key": null, "threshold_percent": 80.0,
        "ends": 1_795_046_400_000_u64, "projected_usd": "130.00",
    });
    let body = webhook::litellm_body(&alert("budget_threshold", "acme: 80 %", details.clone()));
    assert_eq!(
        body,
        json!({
            "spend": 85.5,
            "max_budget": 100.0,
            "token": null,
            "customer_id": null,
            "internal_user_id": null,
            "team_id": "acme",
            "user_email": null,
            "key_alias": null,
            "projected_exceeded_date": "2026-11-19",
            "projected_spend": 130.0,
            "event": "threshold_crossed",
            "event_group": "team",
            "event_message": "acme: 80 %",
            "id": "budget:acme:month:1793491200000:80:100.00",
        })
    );
    let event = |kind: &str, percent: f64, key: Option<&str>| {
        let mut details = details.clone();
        details["threshold_percent"] = json!(percent);
        details["key"] = json!(key);
        let body = webhook::litellm_body(&alert(kind, "", details));
        (body["event"].as_str().unwrap().to_owned(), body["event_group"].as_str().unwrap().to_owned())
    };
    let expected = |event: &str, group: &str| (event.to_owned(), group.to_owned());
    assert_eq!(event("budget_threshold", 100.0, None), expected("budget_crossed", "team"));
    assert_eq!(event("budget_forecast", 50.0, Some("app")), expected("projected_limit_exceeded", "key"));
    assert_eq!(event("limit_rejections", 50.0, None), expected("threshold_crossed", "team"));
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_a_long_complaint_is_cut() {
    let (receiver, url) = Receiver::start().await;
    let channels = channels(|settings| settings.webhook = Some(webhook_to(&url, WebhookFormat::LiteLlm)));
    receiver.then(302, "");
    receiver.then(500, &format!("\u{1b}[31m{}", "x".repeat(100_000)));
    let alert = alert("test", "t", json!({}));
    let moved = channels.send("webhook", &alert, 0).await.unwrap_err();
    assert!(moved.what.contains("answered 302") && moved.what.contains("not followed"), "{moved:?}");
    let complaint = channels.send("webhook", &alert, 0).await.unwrap_err().what;
    assert_eq!(complaint.chars().count(), LONGEST_ERROR);
    assert!(!complaint.contains('\u{1b}'), "{complaint}");
    let paths: Vec<_> = receiver.received().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["/hook", "/hook"]);
    assert_eq!(receiver.received()[0].json()["event"], "threshold_crossed");
    let gone = channels.send("email", &alert, 0).await.unwrap_err();
    assert_eq!(gone.what, "this channel is not configured any more");
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_answer_is_left() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let channels = channels(|settings| settings.webhook = Some(webhook_to(&url, WebhookFormat::Remora)));
    let failure = channels.send("webhook", &alert("test", "t", json!({})), 0).await.unwrap_err();
    assert_eq!(failure.what, "no answer within 10 seconds");
}

fn mail_to(port: u16, tls: MailTls) -> Email {
    Email {
        host: "127.0.0.1".into(),
        port,
        tls,
        login: Some(("remora".into(), Secret::new("canary-password".into()))),
        from: "Remora <remora@example.com>".into(),
        to: vec!["ops@example.com".into(), "Boss <boss@example.com>".into()],
    }
}

#[tokio::test]
async fn mail_is_one_plain_message_with_an_id_that_is_the_alerts() {
    let (port, heard) = mail_server::start(Manners { offers: vec!["AUTH PLAIN"], ..Manners::default() }).await;
    let channels = channels(|settings| settings.email = Some(mail_to(port, MailTls::None)));
    let alert = alert("test", "acme: 80 % – spent\r\nBcc: evil@example.com", json!({}));
    channels.send("email", &alert, 0).await.unwrap();
    channels.send("email", &alert, 0).await.unwrap();
    let heard = heard.lock().unwrap();
    let recipients: Vec<_> = heard.commands.iter().filter(|command| command.starts_with("RCPT")).collect();
    assert_eq!(recipients[..2], ["RCPT TO:<ops@example.com>", "RCPT TO:<boss@example.com>"]);
    assert_eq!(heard.messages.len(), 2);
    assert_eq!(heard.messages[0], heard.messages[1], "sent again it is the same message");
    let message = &heard.messages[0];
    let headers = message.split("\r\n\r\n").next().unwrap();
    let id = format!("Message-ID: <{}@example.com>", blake3::hash(alert.id.as_bytes()).to_hex());
    assert!(headers.contains(&id), "{headers}");
    assert!(headers.contains("To: ops@example.com, Boss <boss@example.com>"), "{headers}");
    assert!(headers.contains("Date: Sun, 01 Nov 2026 12:00:00"), "{headers}");
    assert!(!headers.lines().any(|line| line.starts_with("Bcc")), "{headers}");
    assert!(headers.contains("Content-Type: text/plain"), "{headers}");
    assert!(message.contains("Spent <!channel> & more."), "{message}");
    assert!(message.contains(&alert.id), "{message}");
}

#[tokio::test]
async fn a_refused_recipient_is_told_and_a_password_never_goes_out_in_clear_text() {
    let manners =
        Manners { offers: vec!["AUTH PLAIN"], to_recipient: Some("550 no such user, canary-password or not") };
    let (port, heard) = mail_server::start(manners).await;
    let alert = alert("test", "t", json!({}));
    let open = channels(|settings| settings.email = Some(mail_to(port, MailTls::None)));
    let failure = open.send("email", &alert, 0).await.unwrap_err();
    assert!(failure.what.contains("no such user") && !failure.what.contains("canary"), "{failure:?}");
    let before = heard.lock().unwrap().commands.len();
    let careful = channels(|settings| settings.email = Some(mail_to(port, MailTls::StartTls)));
    careful.send("email", &alert, 0).await.unwrap_err();
    let heard = heard.lock().unwrap();
    let said = &heard.commands[before..];
    assert!(!said.is_empty() && !said.iter().any(|command| command.starts_with("AUTH")), "{said:?}");
}
