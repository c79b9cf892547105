//! `remora budget`: how much of each budget is spent.

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::AdminAt;
use super::api::{ask, list, tenant_path};
use super::cache::print_json;
use super::table::{Table, none, text, time};
use crate::config::NanoUsd;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Show what is spent, held by running requests, and left.
    #[command(after_help = SHOW)]
    Show(Show),
    /// Count what is spent anew from the ledger.
    #[command(after_help = "Example:\n  remora budget rebuild acme")]
    Rebuild(Rebuild),
}

const SHOW: &str = "\
`held` is the worst case of requests that are running; `drift` is by how much the counter differs from the ledger, which
`remora budget rebuild` mends. Budgets are changed by `remora tenant set --budget`.

Examples:
  remora budget show
  remora budget show acme --json";

#[derive(Args)]
pub(super) struct Show {
    /// Only budgets of this tenant.
    tenant: Option<String>,
    #[command(flatten)]
    at: AdminAt,
}

#[derive(Args)]
pub(super) struct Rebuild {
    /// The tenant's name.
    tenant: String,
    #[command(flatten)]
    at: AdminAt,
}

impl Command {
    pub(super) async fn run(self) -> Result<(), String> {
        match self {
            Self::Show(show) => show.run().await,
            Self::Rebuild(Rebuild { tenant, at }) => {
                let told = ask(&at, Method::POST, &tenant_path(&tenant, "/budgets/rebuild"), None).await?;
                if at.json {
                    print_json(&told);
                    return Ok(());
                }
                println!("The budgets of {tenant} are counted anew from the ledger.");
                let budgets = told.get("budgets").and_then(Value::as_array).cloned().unwrap_or_default();
                if !budgets.is_empty() {
                    print!("\n{}", table(&[(tenant, budgets)]));
                }
                Ok(())
            }
        }
    }
}

impl Show {
    async fn run(self) -> Result<(), String> {
        let Self { tenant, at } = self;
        let tenants = match tenant {
            Some(tenant) => vec![tenant],
            None => {
                let all = list(&at, "/admin/v1/tenants", "tenants").await?;
                all.iter().filter_map(|tenant| Some(tenant.get("name")?.as_str()?.to_owned())).collect()
            }
        };
        let mut standing = Vec::new();
        for tenant in tenants {
            let budgets = list(&at, &tenant_path(&tenant, "/budgets"), "budgets").await?;
            standing.push((tenant, budgets));
        }
        if at.json {
            let tenant = |(tenant, budgets): &(String, Vec<Value>)| json!({ "tenant": tenant, "budgets": budgets });
            print_json(&json!({ "tenants": standing.iter().map(tenant).collect::<Value>() }));
        } else if standing.iter().all(|(_, budgets)| budgets.is_empty()) {
            println!("There are no budgets; `remora tenant set NAME --budget month=500` makes one.");
        } else {
            print!("{}", table(&standing));
        }
        Ok(())
    }
}

fn table(standing: &[(String, Vec<Value>)]) -> String {
    let head =
        ["tenant", "budget", "period", "usd", "spent", "spent %", "held", "left", "when spent", "until", "drift"];
    let mut table = Table::new(&head);
    for (tenant, budgets) in standing {
        for budget in budgets {
            let hard = budget.get("hard") != Some(&Value::Bool(false));
            table.row(vec![
                tenant.clone(),
                text(budget, "name"),
                text(budget, "period"),
                text(budget, "usd"),
                text(budget, "spent"),
                percent(budget),
                text(budget, "held"),
                text(budget, "left"),
                if hard { "refuses" } else { "warns" }.to_owned(),
                time(budget.get("until")),
                text(budget, "drift"),
            ]);
        }
    }
    table.text()
}

fn percent(budget: &Value) -> String {
    let dollars = |name: &str| Some(budget.get(name)?.as_str()?.parse::<NanoUsd>().ok()?.as_f64());
    match (dollars("spent"), dollars("usd")) {
        (Some(spent), Some(usd)) if usd > 0.0 => format!("{:.1}", spent / usd * 100.0),
        _ => none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_shown_with_their_share() {
        let budget = json!({ "name": "month", "period": "month", "usd": "500.00", "spent": "412.75", "held": "0.12",
            "left": "87.13", "hard": true, "from": 0, "until": 1_796_083_200_000_i64, "drift": "0.00" });
        let shown = table(&[("acme".to_owned(), vec![budget]), ("none".to_owned(), Vec::new())]);
        let line =
            "acme    month   month   500.00  412.75  82.5     0.12  87.13  refuses     2026-12-01T00:00:00Z  0.00";
        assert_eq!(shown.lines().nth(1), Some(line), "{shown}");
        assert_eq!(shown.lines().count(), 2);
    }
}
