//! `remora request`: one request with all that is known of its money, or the requests behind a sum.

use clap::Args;
use http::Method;
use serde_json::Value;

use super::AdminAt;
use super::api::{ask, escape};
use super::cache::{print_members, print_rows, query};

/// At the end of `--help`.
pub(super) const EXAMPLES: &str = "\
Without an id the latest are listed, newest first. With a time or a filter other than --tenant those that fit are listed, oldest
first; without --from they are of this month. `next_cursor` with --json is the --cursor of the next page. The money in the columns
is what the ledger says now, corrections included; so is the cost that --min-cost-usd means, together with that of the prompt's
vector. With an id, and with --json, what was written at the time is shown too.

Examples:
  remora request 01K9ZQ4W7Y8N3T5V6X0A1B2C3D
  remora request --limit 5
  remora request --tenant acme --key app --from -24h --min-cost-usd 0.50";

#[derive(Args)]
pub(super) struct Request {
    /// Request id, from the header `x-remora-request-id`. Without it requests are listed.
    id: Option<String>,
    /// Only this tenant.
    #[arg(long)]
    tenant: Option<String>,
    /// Only this key, as in acme/app; the tenant may be left out where --tenant says it.
    #[arg(long)]
    key: Option<String>,
    /// Only this end user.
    #[arg(long)]
    user: Option<String>,
    /// Only this model, as the caller asked for it.
    #[arg(long)]
    model: Option<String>,
    /// Only requests with this tag.
    #[arg(long, value_name = "NAME=VALUE")]
    tag: Option<String>,
    /// Only this route, as in "POST /v1/chat/completions".
    #[arg(long)]
    route: Option<String>,
    /// Only with this outcome, as in hit, miss, refused.
    #[arg(long)]
    outcome: Option<String>,
    /// Only those that cost as much or more.
    #[arg(long, value_name = "USD")]
    min_cost_usd: Option<String>,
    /// From this time on.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    from: Option<String>,
    /// Before this time.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    to: Option<String>,
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// Only those after this one.
    #[arg(long, value_name = "ID")]
    cursor: Option<String>,
    #[command(flatten)]
    at: AdminAt,
}

impl Request {
    pub(super) async fn run(self) -> Result<(), String> {
        if let Some(id) = &self.id {
            let row = ask(&self.at, Method::GET, &format!("/admin/v1/requests/{}", escape(id)), None).await?;
            print_members(&row, self.at.json);
            return Ok(());
        }
        let query = query(&[
            ("tenant", self.tenant),
            ("key", self.key),
            ("user", self.user),
            ("model", self.model),
            ("tag", self.tag),
            ("route", self.route),
            ("outcome", self.outcome),
            ("min_cost_usd", self.min_cost_usd),
            ("from", self.from),
            ("to", self.to),
            ("limit", Some(self.limit.to_string())),
            ("cursor", self.cursor),
        ]);
        let mut rows = ask(&self.at, Method::GET, &format!("/admin/v1/requests{query}"), None).await?;
        if !self.at.json {
            show_current(&mut rows);
        }
        let columns = [
            "request_id",
            "tenant",
            "outcome",
            "tier",
            "reason",
            "status",
            "model_asked",
            "cost_usd",
            "saved_usd",
            "latency_us",
        ];
        print_rows(&rows, &columns, self.at.json);
        Ok(())
    }
}

/// Puts the money that the ledger tells now in place of what the rows were written with.
fn show_current(answer: &mut Value) {
    for row in answer.get_mut("data").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(current) = row.get("current").cloned() else { continue };
        for name in ["cost_usd", "saved_usd"] {
            if let (Some(shown), Some(now)) = (row.get_mut(name), current.get(name)) {
                *shown = now.clone();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_shows_the_money_that_counts_now() {
        let mut answer = json!({"data": [
            {"cost_usd": "0.001", "saved_usd": "0.00", "current": {"cost_usd": "0.60", "saved_usd": "0.10", "price_version": "v"}},
            {"cost_usd": "0.002", "saved_usd": "0.00"},
        ]});
        show_current(&mut answer);
        let column =
            |name: &str| answer["data"].as_array().unwrap().iter().map(|row| row[name].clone()).collect::<Vec<_>>();
        assert_eq!(column("cost_usd"), [json!("0.60"), json!("0.002")]);
        assert_eq!(column("saved_usd"), [json!("0.10"), json!("0.00")]);
    }
}
