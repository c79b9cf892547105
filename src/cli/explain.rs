//! `remora cache explain`: what would happen to a request, and why, down to each number of the decision.
//!
//! A client of the admin API; it must never change anything.

use std::path::PathBuf;

use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::AdminAt;
use super::api::ask;
use super::cache::{cell, plain, print_json, read};

/// Examples at the end of `--help`.
pub(super) const EXAMPLES: &str = "Examples:\n  \
    remora cache explain --tenant acme --key acme/app request.json\n  \
    remora cache explain --tenant acme --header x-remora-similarity=0.9 -\n\n\
    The file is the body of a request; `-` reads it from standard input. The tenant is in `remora request`.";

#[derive(Args)]
pub(super) struct Explain {
    /// File with the body of the request, or `-`.
    file: PathBuf,
    /// Tenant id.
    #[arg(long)]
    tenant: String,
    /// Key id; the tenant's own if left out.
    #[arg(long)]
    key: Option<String>,
    /// Route.
    #[arg(long, default_value = "/v1/chat/completions")]
    path: String,
    /// A header of the request, as in x-remora-cache=shadow; may be given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = header)]
    header: Vec<(String, String)>,
    #[command(flatten)]
    at: AdminAt,
}

impl Explain {
    pub(super) async fn run(self) -> Result<(), String> {
        let text = read(&self.file)?;
        let body: Value = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", self.file.display()))?;
        let headers: serde_json::Map<String, Value> =
            self.header.into_iter().map(|(name, value)| (name, value.into())).collect();
        let request = json!({
            "tenant": self.tenant, "key": self.key, "path": self.path, "headers": headers, "body": body,
        });
        let told = ask(&self.at, Method::POST, "/admin/v1/cache/explain", Some(&request)).await?;
        if self.at.json {
            print_json(&told);
        } else {
            print(&told);
        }
        Ok(())
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("give NAME=VALUE, as in x-remora-cache=shadow")?;
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

const MEMBERS: [&str; 11] = [
    "result",
    "because",
    "tier",
    "reason",
    "tenant",
    "fingerprint",
    "partition",
    "space",
    "exact_only",
    "floor",
    "text",
];

fn print(told: &Value) {
    for name in MEMBERS {
        println!("{name:12} {}", of(told, name));
    }
    println!("{:12} {}", "key_parts", told.get("key_parts").map(Value::to_string).unwrap_or_default());
    if let Some(decision) = told.get("decision").filter(|decision| decision.is_object()) {
        print_decision(decision);
    }
    if let Some(learner) = told.get("learner").filter(|learner| learner.is_object()) {
        println!(
            "learner      {}: {} labels, {} of {} audits wrong, {} requests seen",
            of(learner, "stage"),
            of(learner, "labels"),
            of(learner, "wrong"),
            of(learner, "audits"),
            of(learner, "seen")
        );
    }
    let neighbours = told.get("neighbours").and_then(Value::as_array).cloned().unwrap_or_default();
    println!("neighbours   {}", neighbours.len());
    for near in &neighbours {
        println!(
            "  {}  {}  group of {}  {}",
            number(near, "cosine"),
            of(near, "entry"),
            of(near, "group_size"),
            near.get("prompt").map(cell).unwrap_or_default()
        );
        for guard in near.get("guards").and_then(Value::as_array).into_iter().flatten() {
            println!("          {:12} {:8} {}", of(guard, "guard"), of(guard, "verdict"), of(guard, "evidence"));
        }
    }
}

fn print_decision(decision: &Value) {
    println!(
        "decision     group {} of {}, cosine {}, margin {}, words {}",
        of(decision, "group"),
        of(decision, "group_size"),
        number(decision, "cosine"),
        number(decision, "margin"),
        of(decision, "words")
    );
    println!("             probability {}, threshold {}", number(decision, "probability"), number(decision, "theta"));
    for waived in decision.get("waived").and_then(Value::as_array).into_iter().flatten() {
        println!("             waived: {}", plain(waived));
    }
    println!("  {:18} {:>9} {:>9} {:>9}", "input", "x", "w", "x·w");
    for input in decision.get("inputs").and_then(Value::as_array).into_iter().flatten() {
        println!(
            "  {:18} {:>9} {:>9} {:>9}",
            of(input, "name"),
            number(input, "x"),
            number(input, "w"),
            number(input, "product")
        );
    }
}

fn of(value: &Value, name: &str) -> String {
    value.get(name).map(plain).unwrap_or_default()
}

/// To four places; a dash where there is none.
fn number(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_f64).map_or_else(|| "–".to_owned(), |number| format!("{number:.4}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_a_name_and_a_value() {
        assert_eq!(header("X-Remora-Cache = shadow"), Ok(("x-remora-cache".to_owned(), "shadow".to_owned())));
        assert_eq!(header("x-remora-tags=a=b"), Ok(("x-remora-tags".to_owned(), "a=b".to_owned())));
        assert!(header("x-remora-cache").unwrap_err().contains("NAME=VALUE"));
    }
}
