//! `remora alerts`: what was raised, and whether it got to anybody.

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value};

use super::AdminAt;
use super::api::ask;
use super::cache::{print_json, query};
use super::table::{Table, none, text, time};

#[derive(Subcommand)]
pub(super) enum Command {
    /// List alerts, newest first, each with what became of it on every channel.
    #[command(after_help = "Examples:\n  remora alerts list\n  remora alerts list --tenant acme --limit 5")]
    List(List),
    /// Send a test alert and wait for what becomes of it. Fails if a channel does.
    #[command(after_help = "Examples:\n  remora alerts test\n  remora alerts test --channel slack")]
    Test(Test),
}

#[derive(Args)]
pub(super) struct List {
    /// Only alerts about this tenant.
    #[arg(long)]
    tenant: Option<String>,
    #[arg(long, default_value_t = 20)]
    limit: usize,
    #[command(flatten)]
    at: AdminAt,
}

#[derive(Args)]
pub(super) struct Test {
    /// Only to this channel, as in webhook, slack or email.
    #[arg(long)]
    channel: Option<String>,
    #[command(flatten)]
    at: AdminAt,
}

impl Command {
    pub(super) async fn run(self) -> Result<(), String> {
        match self {
            Self::List(List { tenant, limit, at }) => {
                let query = query(&[("tenant", tenant), ("limit", Some(limit.to_string()))]);
                let told = ask(&at, Method::GET, &format!("/admin/v1/alerts{query}"), None).await?;
                if at.json {
                    print_json(&told);
                } else {
                    print!("{}", alerts(&told));
                }
                Ok(())
            }
            Self::Test(Test { channel, at }) => {
                let body: Map<_, _> = channel.into_iter().map(|name| ("channel".to_owned(), name.into())).collect();
                let told = ask(&at, Method::POST, "/admin/v1/alerts/test", Some(&body.into())).await?;
                if at.json {
                    print_json(&told);
                } else {
                    print!("{}", outcomes(&told));
                }
                let sent = |delivery: &Value| delivery.get("state").and_then(Value::as_str) == Some("sent");
                let deliveries = told.get("deliveries").and_then(Value::as_array).cloned().unwrap_or_default();
                match deliveries.iter().filter(|delivery| !sent(delivery)).count() {
                    _ if deliveries.is_empty() => {
                        Err("there is no channel to send to; [alerts] in the configuration names them".to_owned())
                    }
                    0 => Ok(()),
                    count => Err(format!("{count} of {} channels did not get it", deliveries.len())),
                }
            }
        }
    }
}

fn alerts(told: &Value) -> String {
    let mut table = Table::new(&["raised", "tenant", "kind", "delivered", "title"]);
    for alert in told.get("alerts").and_then(Value::as_array).into_iter().flatten() {
        let deliveries = alert.get("deliveries").and_then(Value::as_array).into_iter().flatten();
        let delivered: Vec<_> =
            deliveries.map(|delivery| format!("{} {}", text(delivery, "channel"), text(delivery, "state"))).collect();
        table.row(vec![
            time(alert.get("at")),
            text(alert, "tenant"),
            text(alert, "kind"),
            if delivered.is_empty() { none() } else { delivered.join(", ") },
            text(alert, "title"),
        ]);
    }
    if table.is_empty() { "No alert was raised.\n".to_owned() } else { table.text() }
}

fn outcomes(told: &Value) -> String {
    let mut table = Table::new(&["channel", "state", "attempts", "error"]);
    for delivery in told.get("deliveries").and_then(Value::as_array).into_iter().flatten() {
        table.row(["channel", "state", "attempts", "error"].map(|member| text(delivery, member)).to_vec());
    }
    if table.is_empty() { String::new() } else { table.text() }
}
