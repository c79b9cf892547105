//! Promises about alerts and their deliveries.

use crate::store::sample::{alert_row, tenant};
use crate::store::{AlertRow, DeliveryRow, Stores, Tried};

const BOTH: [&str; 2] = ["mail", "webhook"];

async fn raise(stores: &Stores, number: u64, channels: &[&str]) -> bool {
    let channels: Vec<String> = channels.iter().map(|channel| (*channel).to_owned()).collect();
    stores.alerts.raise(&alert_row("ann", number), &channels).await.unwrap()
}

/// What was claimed of these channels, as `alert number/channel/attempts`.
async fn claim(stores: &Stores, channels: &[&str], now: u64, until: u64, limit: u32) -> Vec<String> {
    let mut claimed = Vec::new();
    for channel in channels {
        claimed.extend(stores.alerts.claim(channel, now, until, limit).await.unwrap());
    }
    let shown = |(alert, delivery): &(AlertRow, DeliveryRow)| {
        assert_eq!(alert, &alert_row("ann", alert.at), "the whole alert comes along");
        assert_eq!((&delivery.alert, delivery.next_at, delivery.state.as_str()), (&alert.id, until, "pending"));
        format!("{}/{}/{}", alert.at, delivery.channel, delivery.attempts)
    };
    claimed.iter().map(shown).collect()
}

pub(super) async fn an_alert_is_raised_once_with_a_delivery_for_each_channel(stores: &Stores) {
    assert!(raise(stores, 5, &BOTH).await);
    let again = AlertRow { title: "other".into(), ..alert_row("ann", 5) };
    assert!(!stores.alerts.raise(&again, &["third".to_owned()]).await.unwrap());
    let whole = AlertRow { tenant: None, title: "\0 ☃".into(), ..alert_row("ann", 6) };
    assert!(stores.alerts.raise(&whole, &[]).await.unwrap());
    let listed = stores.alerts.alerts(None, None, 10).await.unwrap();
    let delivery = |channel: &str| DeliveryRow {
        alert: alert_row("ann", 5).id,
        channel: channel.into(),
        state: "pending".into(),
        attempts: 0,
        next_at: 5,
        error: None,
        sent_at: None,
    };
    assert_eq!(listed, [(whole, vec![]), (alert_row("ann", 5), BOTH.map(delivery).to_vec())]);
    assert_eq!(stores.alerts.outbox_depth().await.unwrap(), BOTH.map(|channel| (channel.to_owned(), 1)));
}

pub(super) async fn a_claimed_delivery_is_nobody_elses_until_the_claim_runs_out(stores: &Stores) {
    for number in [30, 10, 20] {
        raise(stores, number, &["mail"]).await;
    }
    raise(stores, 15, &["webhook"]).await;
    assert_eq!(claim(stores, &["mail"], 9, 100, 10).await, [""; 0], "none is due");
    assert_eq!(claim(stores, &["mail"], 20, 100, 1).await, ["10/mail/1"], "the longest due first");
    assert_eq!(claim(stores, &["mail"], 30, 101, 10).await, ["20/mail/1", "30/mail/1"]);
    assert_eq!(claim(stores, &["mail"], 99, 200, 10).await, [""; 0]);
    assert_eq!(claim(stores, &["mail"], 100, 200, 10).await, ["10/mail/2"], "whoever claimed it is gone");
    assert_eq!(claim(stores, &["webhook"], 100, 200, 10).await, ["15/webhook/1"], "each channel has its own");
}

pub(super) async fn what_became_of_a_delivery_is_noted_and_what_was_sent_stays_sent(stores: &Stores) {
    raise(stores, 1, &["a", "b", "c"]).await;
    let id = alert_row("ann", 1).id;
    let tried = async |channel: &str, what: Tried, now| stores.alerts.tried(&id, channel, &what, now).await.unwrap();
    assert_eq!(claim(stores, &["a", "b", "c"], 1, 10, 10).await.len(), 3);
    tried("a", Tried::Later(50, "503 \0".into()), 2).await;
    tried("b", Tried::Failed("404".into()), 2).await;
    tried("c", Tried::Sent, 3).await;
    tried("c", Tried::Later(60, "too late".into()), 4).await;
    tried("c", Tried::Failed("too late".into()), 4).await;
    tried("gone", Tried::Sent, 3).await;
    let listed = stores.alerts.alerts(None, None, 1).await.unwrap();
    let states: Vec<_> =
        listed[0].1.iter().map(|d| (d.state.as_str(), d.attempts, d.error.as_deref(), d.sent_at)).collect();
    let expected = [("pending", 1, Some("503 \0"), None), ("failed", 1, Some("404"), None), ("sent", 1, None, Some(3))];
    assert_eq!(states, expected);
    assert_eq!(stores.alerts.outbox_depth().await.unwrap(), [("a".to_owned(), 1)]);
    assert_eq!(claim(stores, &["a"], 49, 100, 10).await, [""; 0]);
    assert_eq!(claim(stores, &["c", "b", "a"], 50, 100, 10).await, ["1/a/2"]);
    tried("a", Tried::Sent, 60).await;
    let listed = stores.alerts.alerts(None, None, 1).await.unwrap();
    assert_eq!((listed[0].1[0].error.as_deref(), listed[0].1[0].sent_at), (None, Some(60)));
}

pub(super) async fn alerts_are_listed_newest_first_of_one_tenant_or_all(stores: &Stores) {
    for (owner, number) in [("ann", 1), ("bob", 2), ("ann", 3), ("ann", 4)] {
        stores.alerts.raise(&alert_row(owner, number), &["mail".to_owned()]).await.unwrap();
    }
    let numbers = async |owner: Option<&str>, before, limit| {
        let owner = owner.map(tenant);
        let listed = stores.alerts.alerts(owner.as_ref(), before, limit).await.unwrap();
        listed.into_iter().map(|(alert, sent)| (alert.at, sent.len())).collect::<Vec<_>>()
    };
    assert_eq!(numbers(None, None, 3).await, [(4, 1), (3, 1), (2, 1)]);
    assert_eq!(numbers(Some("ann"), Some(4), 5).await, [(3, 1), (1, 1)]);
    assert_eq!(numbers(Some("eve"), None, 5).await, []);
}

pub(super) async fn old_alerts_are_forgotten_unless_they_are_still_on_their_way(stores: &Stores) {
    for number in 1..=5 {
        raise(stores, number, if number == 2 { &BOTH } else { &[] }).await;
    }
    assert_eq!(stores.alerts.forget_alerts(5, 2).await.unwrap(), 2);
    assert_eq!(stores.alerts.forget_alerts(5, 10).await.unwrap(), 1);
    let left = async || stores.alerts.alerts(None, None, 9).await.unwrap().len();
    assert_eq!(left().await, 2, "number 2 is on its way, number 5 is not old");
    for channel in BOTH {
        stores.alerts.tried(&alert_row("ann", 2).id, channel, &Tried::Sent, 9).await.unwrap();
    }
    assert_eq!((stores.alerts.forget_alerts(5, 10).await.unwrap(), left().await), (1, 1));
}
