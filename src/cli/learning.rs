//! `remora cache feedback|learners|shadow|decisions`: how often the cache is wrong, and what is done about it.
//!
//! Clients of the admin API of a running proxy.

use clap::{Args, ValueEnum};
use http::Method;
use serde_json::{Value, json};

use super::AdminAt;
use super::api::{ask, escape};
use super::cache::{print_json, print_members, print_rows, query};
use super::invalidate::seconds;

const HOUR: u64 = 3_600;

/// Examples at the end of `--help`.
pub(super) const FEEDBACK_EXAMPLES: &str = "Examples:\n  \
    remora cache feedback 01K9ZQ4W7Y8N3T5V6X0A1B2C3D bad\n  \
    remora cache feedback 01K9ZQ4W7Y8N3T5V6X0A1B2C3D bad --within 7d --reason \"old price\"\n\n\
    The id is in the header `x-remora-request-id` of the reply. A wrong hit is not served again, and the cache learns from \
    it; the other requests that were served the same answer are listed.";
/// Examples at the end of `--help`.
pub(super) const LEARNERS_EXAMPLES: &str = "Example:\n  remora cache learners --tenant acme\n\n\
    wrong_of_hits is the audited error as a share of semantic hits, with its 95 % interval.";
/// Examples at the end of `--help`.
pub(super) const SHADOW_EXAMPLES: &str = "Examples:\n  \
    remora cache shadow --since 24h\n  remora cache shadow --tenant acme --model gpt-4o\n\n\
    Watching is switched on by `mode = \"shadow\"` in [cache] or [tenant.cache], or by the header `x-remora-cache: shadow`.";
/// Examples at the end of `--help`.
pub(super) const DECISIONS_EXAMPLES: &str = "Examples:\n  \
    remora cache decisions --tenant acme --since 1h\n  remora cache decisions 01K9ZQ4W7Y8N3T5V6X0A1B2C3D";

#[derive(Clone, Copy, ValueEnum)]
enum Verdict {
    Good,
    Bad,
}

#[derive(Args)]
pub(super) struct Feedback {
    /// Request id, from the header `x-remora-request-id`.
    request: String,
    /// What the answer was.
    verdict: Verdict,
    /// How far back to look for others who were served the same, in whole hours [default: 24h].
    #[arg(long, value_name = "AGE", value_parser = hours)]
    within: Option<u32>,
    /// Why; kept in the audit.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    at: AdminAt,
}

#[derive(Args)]
pub(super) struct Learners {
    #[arg(long)]
    tenant: Option<String>,
    #[command(flatten)]
    at: AdminAt,
}

#[derive(Args)]
pub(super) struct Shadow {
    #[arg(long)]
    tenant: Option<String>,
    #[arg(long)]
    model: Option<String>,
    /// How far back, as in 24h [default: 7d].
    #[arg(long, value_name = "AGE", value_parser = seconds)]
    since: Option<u64>,
    #[command(flatten)]
    at: AdminAt,
}

#[derive(Args)]
pub(super) struct Decisions {
    /// Request id; without it decisions are listed, oldest first.
    request: Option<String>,
    #[arg(long)]
    tenant: Option<String>,
    /// How far back, as in 1h [default: 24h].
    #[arg(long, value_name = "AGE", value_parser = seconds)]
    since: Option<u64>,
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// Only decisions after this one: `next_cursor` of an answer with --json, or a request id.
    #[arg(long, value_name = "ID")]
    cursor: Option<String>,
    #[command(flatten)]
    at: AdminAt,
}

impl Feedback {
    pub(super) async fn run(self) -> Result<(), String> {
        let verdict = match self.verdict {
            Verdict::Good => "good",
            Verdict::Bad => "bad",
        };
        let request = json!({
            "request_id": self.request, "verdict": verdict, "within_hours": self.within, "reason": self.reason,
        });
        let mut told = ask(&self.at, Method::POST, "/admin/v1/cache/feedback", Some(&request)).await?;
        if self.at.json {
            print_json(&told);
            return Ok(());
        }
        let served = told.as_object_mut().and_then(|members| members.shift_remove("served_to")).unwrap_or_default();
        print_members(&told, false);
        let count = served.as_array().map_or(0, Vec::len);
        println!("\nOther requests that were served the same answer: {count}");
        if count > 0 {
            print_rows(&json!({ "data": served }), &["request_id", "at_ms", "key", "user", "tier"], false);
        }
        Ok(())
    }
}

impl Learners {
    pub(super) async fn run(self) -> Result<(), String> {
        let query = query(&[("tenant", self.tenant)]);
        let mut told = ask(&self.at, Method::GET, &format!("/admin/v1/cache/learners{query}"), None).await?;
        if !self.at.json {
            shares(&mut told, &["wrong_of_hits", "wrong_of_requests"]);
            round(&mut told, &["hit_share", "theta", "scale"]);
        }
        let columns = [
            "tenant",
            "model",
            "stage",
            "seen",
            "labels",
            "audits",
            "wrong",
            "wrong_of_hits",
            "wrong_of_requests",
            "hit_share",
            "theta",
            "scale",
        ];
        print_rows(&told, &columns, self.at.json);
        Ok(())
    }
}

impl Shadow {
    pub(super) async fn run(self) -> Result<(), String> {
        let query =
            query(&[("tenant", self.tenant), ("model", self.model), ("since_s", self.since.map(|s| s.to_string()))]);
        let mut told = ask(&self.at, Method::GET, &format!("/admin/v1/cache/shadow{query}"), None).await?;
        if self.at.json {
            print_json(&told);
            return Ok(());
        }
        let truncated = told.get("truncated").and_then(Value::as_bool) == Some(true);
        shares(&mut told, &["wrong_share"]);
        round(&mut told, &["would_be_hit_share"]);
        let lines = told.get("data").and_then(Value::as_array).cloned().unwrap_or_default();
        if lines.is_empty() {
            println!("No request with a candidate was watched in this time; see --help for how to switch watching on.");
        }
        for (at, mut line) in lines.into_iter().enumerate() {
            if at > 0 {
                println!();
            }
            let Some(members) = line.as_object_mut() else { continue };
            let advice = members.shift_remove("advice").unwrap_or_default();
            let refused = members.shift_remove("refused").unwrap_or_default();
            print_members(&line, false);
            for (verdict, count) in refused.as_object().into_iter().flatten() {
                println!("  not served: {verdict}  {count}");
            }
            println!("{}", advice.as_str().unwrap_or_default());
        }
        println!("\nCounted are {}.", told.get("counted").and_then(Value::as_str).unwrap_or_default());
        if truncated {
            println!(
                "There were too many to read: only the beginning of the period is covered; give a smaller --since."
            );
        }
        Ok(())
    }
}

impl Decisions {
    pub(super) async fn run(self) -> Result<(), String> {
        if let Some(id) = &self.request {
            let row = ask(&self.at, Method::GET, &format!("/admin/v1/cache/decisions/{}", escape(id)), None).await?;
            print_members(&row, self.at.json);
            return Ok(());
        }
        let query = query(&[
            ("tenant", self.tenant),
            ("since_s", self.since.map(|s| s.to_string())),
            ("limit", Some(self.limit.to_string())),
            ("cursor", self.cursor),
        ]);
        let mut rows = ask(&self.at, Method::GET, &format!("/admin/v1/cache/decisions{query}"), None).await?;
        if !self.at.json {
            round(&mut rows, &["cosine", "probability", "theta"]);
        }
        let columns =
            ["request_id", "tenant", "model", "mode", "verdict", "cosine", "probability", "theta", "right", "label"];
        print_rows(&rows, &columns, self.at.json);
        Ok(())
    }
}

/// Makes `0.8 % (0.3–2.2)` of a share and its interval.
fn shares(told: &mut Value, names: &[&str]) {
    each(told, names, |value| {
        let bounds: Vec<f64> = value.as_array()?.iter().filter_map(Value::as_f64).map(|share| share * 100.0).collect();
        let [share, low, high] = bounds.try_into().ok()?;
        Some(format!("{share:.1} % ({low:.1}–{high:.1})").into())
    });
}

/// Leaves four places.
fn round(told: &mut Value, names: &[&str]) {
    each(told, names, |value| Some(format!("{:.4}", value.as_f64()?).into()));
}

fn each(told: &mut Value, names: &[&str], change: impl Fn(&Value) -> Option<Value>) {
    for row in told.get_mut("data").and_then(Value::as_array_mut).into_iter().flatten() {
        for name in names {
            if let Some(value) = row.get_mut(*name)
                && let Some(changed) = change(value)
            {
                *value = changed;
            }
        }
    }
}

/// An age in hours, rounded up.
fn hours(text: &str) -> Result<u32, String> {
    let hours = seconds(text)?.div_ceil(HOUR);
    u32::try_from(hours).ok().filter(|hours| *hours > 0).ok_or_else(|| "give at least an hour, as in 24h".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_rounded_up_to_whole_hours() {
        for (text, expected) in [("24h", 24), ("7d", 168), ("90m", 2), ("1", 1)] {
            assert_eq!(hours(text), Ok(expected), "{text}");
        }
        assert!(hours("0").unwrap_err().contains("24h"));
        assert!(hours("soon").is_err());
    }

    #[test]
    fn shares_and_numbers_are_shown_short_and_what_is_none_stays() {
        let mut told = json!({ "data": [{ "wrong": [0.0075, 0.0026, 0.0219], "theta": null, "cosine": 0.912_345 }] });
        shares(&mut told, &["wrong"]);
        round(&mut told, &["theta", "cosine"]);
        assert_eq!(told["data"][0], json!({ "wrong": "0.8 % (0.3–2.2)", "theta": null, "cosine": "0.9123" }));
    }
}
