//! `remora savings`: what the cache has saved, against the target and against the bill without it.

use clap::Args;
use http::Method;
use serde_json::Value;

use super::AdminAt;
use super::api::ask;
use super::cache::{print_json, query};
use super::table::{Table, members, none, text, usd};

/// At the end of `--help`.
pub(super) const EXAMPLES: &str = "\
The target is [savings] target in the configuration. Net is gross less what vectors and checks have cost. Times are as in
`remora usage`; without --from it is this month.

Examples:
  remora savings
  remora savings --tenant acme --from 30d
  remora savings --from 2026-11-01 --slot day";

#[derive(Args)]
pub(super) struct Savings {
    /// A row for each hour or day besides.
    #[arg(long, value_name = "hour|day")]
    slot: Option<String>,
    /// From this time on.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    from: Option<String>,
    /// Before this time.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    to: Option<String>,
    /// Only this tenant.
    #[arg(long)]
    tenant: Option<String>,
    #[command(flatten)]
    at: AdminAt,
}

impl Savings {
    pub(super) async fn run(self) -> Result<(), String> {
        let Self { slot, from, to, tenant, at } = self;
        let query = query(&[("slot", slot), ("from", from), ("to", to), ("tenant", tenant)]);
        let told = ask(&at, Method::GET, &format!("/admin/v1/savings{query}"), None).await?;
        if at.json {
            print_json(&told);
        } else {
            print!("{}", report(&told));
        }
        Ok(())
    }
}

fn report(told: &Value) -> String {
    let amounts = [
        ("without Remora", "counterfactual"),
        ("paid", "spend"),
        ("  for answers", "answers"),
        ("  for vectors", "embedding"),
        ("  for checks", "check"),
        ("saved gross", "saved_gross"),
        ("saved net", "saved_net"),
    ];
    // Right-aligned among themselves, as in a bill.
    let amounts: Vec<(&str, String)> = amounts.into_iter().map(|(name, member)| (name, usd(told, member))).collect();
    let width = amounts.iter().map(|(_, amount)| amount.len()).max().unwrap_or(0);
    let mut lines: Vec<(&str, String)> =
        amounts.into_iter().map(|(name, amount)| (name, format!("{amount:>width$} USD"))).collect();
    let verdict = match told.get("met").and_then(Value::as_bool) {
        Some(true) => "met",
        Some(false) => "not met",
        None => "nothing was used",
    };
    lines.push(("ratio", format!("{} % (target {} %: {verdict})", percent(told, "ratio"), percent(told, "target"))));
    let mut shown = format!("{} to {}\n\n{}", text(told, "from"), text(told, "to"), members(&lines));
    if let Some(slots) = told.get("slots").and_then(Value::as_array) {
        let head = ["slot", "without Remora", "paid", "saved gross", "saved net", "ratio %"].map(str::to_owned);
        let mut table = Table::with_numbers(head.to_vec(), 1);
        for slot in slots {
            let amounts = ["counterfactual", "spend", "saved_gross", "saved_net"].map(|member| usd(slot, member));
            table.row([text(slot, "slot")].into_iter().chain(amounts).chain([percent(slot, "ratio")]).collect());
        }
        shown.push('\n');
        shown.push_str(&table.text());
    }
    for words in told.get("explained").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        shown.push('\n');
        shown.push_str(words);
        shown.push('\n');
    }
    shown
}

fn percent(told: &Value, member: &str) -> String {
    told.get(member).and_then(Value::as_f64).map_or_else(none, |ratio| format!("{:.1}", ratio * 100.0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn savings_are_shown_as_two_bills_with_their_difference_and_in_words() {
        let told = json!({ "from": "2026-11-01T00:00:00Z", "to": "2026-11-27T00:00:00Z", "counterfactual_nano_usd": 103_000_000_000_i64,
            "spend_nano_usd": 73_000_000_000_i64, "answers_nano_usd": 70_000_000_000_i64, "embedding_nano_usd": 1_000_000_000,
            "check_nano_usd": 2_000_000_000_i64, "saved_gross_nano_usd": 33_000_000_000_i64, "saved_net_nano_usd": 30_000_000_000_i64,
            "ratio": 0.29126, "target": 0.3, "met": false, "explained": ["Without Remora ..."],
            "slots": [{ "slot": "2026-11-01T00:00:00Z", "ratio": null, "saved_net_nano_usd": -5_000 }] });
        let shown = report(&told);
        for line in [
            "without Remora  103.000000 USD",
            "  for checks      2.000000 USD",
            "ratio           29.1 % (target 30.0 %: not met)",
            "2026-11-01T00:00:00Z               –     –            –  -0.000005        –",
            "Without Remora ...",
        ] {
            assert!(shown.lines().any(|has| has == line), "{line}\n{shown}");
        }
    }
}
