//! The shadow report: what the semantic tier would have served while it only watched, and how much of that was right.
//!
//! Read from the rows of decisions that were made in shadow mode. It counts only requests that had a candidate, for where
//! prompts are not recorded only those leave a row; it says so, and adds the look-ups that the learner has counted since it
//! began.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::decisions::since;
use super::{Admin, Problem};
use crate::cache::decide::{Interval, Z95};
use crate::ids::TenantId;
use crate::store::DecisionRow;

/// How far back the report looks if the caller does not say, seconds.
const SINCE_S: u64 = 7 * 24 * 3_600;
/// Rows read at a time.
const PAGE: u32 = 1_000;
/// Rows read in all; beyond it the report covers the beginning of the period and says so.
const MOST_ROWS: usize = 500_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ask {
    tenant: Option<String>,
    model: Option<String>,
    since_s: Option<u64>,
}

/// What was watched of one tenant's traffic on one model.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Watched {
    candidates: u64,
    hits: u64,
    right: u64,
    wrong: u64,
    tokens: u64,
    tokens_known: u64,
    refused: BTreeMap<String, u64>,
}

/// One line of the report.
#[derive(Debug, Serialize)]
struct Line {
    tenant: String,
    model: String,
    /// Requests that had a candidate.
    with_candidate: u64,
    /// Semantic look-ups since the learner began, in any mode.
    look_ups_ever: u64,
    would_be_hits: u64,
    would_be_hit_share: f64,
    right: u64,
    wrong: u64,
    /// Would-be hits of which it is not known whether they were right.
    unknown: u64,
    /// Wrong of those checked: estimate, and the ends of its 95 % interval.
    wrong_share: [f64; 3],
    /// Completion tokens of the answers that would have been replayed.
    saved_tokens: u64,
    saved_tokens_known_for: u64,
    /// The rest, by why it would not have been served.
    refused: BTreeMap<String, u64>,
    advice: String,
}

impl Watched {
    fn add(&mut self, row: &DecisionRow) {
        self.candidates += 1;
        // A candidate that would be served in another stage of the learner would not be served now.
        if !row.would_serve || row.verdict != "accept" {
            *self.refused.entry(row.verdict.to_string()).or_default() += 1;
            return;
        }
        self.hits += 1;
        match row.right {
            Some(true) => self.right += 1,
            Some(false) => self.wrong += 1,
            None => {}
        }
        self.tokens = self.tokens.saturating_add(row.tokens.unwrap_or(0));
        self.tokens_known += u64::from(row.tokens.is_some());
    }

    fn share(&self) -> f64 {
        self.hits as f64 / self.candidates.max(1) as f64
    }

    fn wrong_share(&self) -> Interval {
        Interval::wilson(self.wrong, self.right + self.wrong, Z95)
    }

    fn advice(&self) -> String {
        let served = format!(
            "at this error budget switching on would have served {} of {} requests that had a candidate ({})",
            grouped(self.hits),
            grouped(self.candidates),
            percent(self.share())
        );
        let (checked, wrong) = (self.right + self.wrong, self.wrong_share());
        if checked == 0 {
            return format!("{served}; none of them could be checked yet, so watch on");
        }
        format!(
            "{served}; {} of {} checked {} wrong ({}, {}–{})",
            grouped(self.wrong),
            grouped(checked),
            if self.wrong == 1 { "was" } else { "were" },
            percent(wrong.share),
            percent(wrong.low).trim_end_matches(" %"),
            percent(wrong.high)
        )
    }
}

/// `GET /admin/v1/cache/shadow`
pub(super) async fn report(
    State(state): State<Admin>,
    ask: Result<Query<Ask>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(ask) = ask?;
    let tenant = ask.tenant.as_deref().map(TenantId::new);
    let seconds = ask.since_s.unwrap_or(SINCE_S);
    let from = since(&state, seconds);
    let mut groups: BTreeMap<(String, String), Watched> = BTreeMap::new();
    let (mut read, mut after) = (0, None);
    let truncated = loop {
        let rows = state.stores.decisions.since(tenant.as_ref(), from, after, PAGE).await?;
        let Some(last) = rows.last() else { break false };
        after = Some(last.request);
        read += rows.len();
        for row in rows.iter().filter(|row| row.mode == "shadow" && row.entry.is_some()) {
            if ask.model.as_ref().is_none_or(|model| row.model == *model) {
                groups.entry((row.tenant.to_string(), row.model.clone())).or_default().add(row);
            }
        }
        if read >= MOST_ROWS {
            break true;
        }
    };
    let lines: Vec<Line> = groups.into_iter().map(|(key, watched)| line(&state, key, watched)).collect();
    Ok(Json(json!({
        "since_s": seconds,
        "counted": "requests with a candidate, not those with nothing near",
        "truncated": truncated,
        "data": lines,
    })))
}

fn line(state: &Admin, (tenant, model): (String, String), watched: Watched) -> Line {
    let wrong = watched.wrong_share();
    let mut learners = state.cache.learner_reports().into_iter();
    let own = learners.find(|learner| learner.tenant == tenant && learner.model == model);
    Line {
        look_ups_ever: own.map_or(0, |learner| learner.seen),
        with_candidate: watched.candidates,
        would_be_hits: watched.hits,
        would_be_hit_share: watched.share(),
        right: watched.right,
        wrong: watched.wrong,
        unknown: watched.hits - watched.right - watched.wrong,
        wrong_share: [wrong.share, wrong.low, wrong.high],
        saved_tokens: watched.tokens,
        saved_tokens_known_for: watched.tokens_known,
        advice: watched.advice(),
        refused: watched.refused,
        tenant,
        model,
    }
}

/// A share as in `41.2 %`.
fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A number as in `1,000`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_has_the_numbers_and_how_sure_they_are() {
        let watched = Watched { candidates: 1_000, hits: 412, right: 395, wrong: 3, ..Watched::default() };
        assert_eq!(
            watched.advice(),
            "at this error budget switching on would have served 412 of 1,000 requests that had a candidate (41.2 %); \
             3 of 398 checked were wrong (0.8 %, 0.3–2.2 %)"
        );
        let unchecked = Watched { candidates: 10, hits: 2, ..Watched::default() };
        assert!(unchecked.advice().ends_with("(20.0 %); none of them could be checked yet, so watch on"));
        assert!(Watched::default().advice().contains("0 of 0"));
    }

    #[test]
    fn thousands_are_set_apart() {
        let rows = [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567"), (12_345, "12,345")];
        for (number, text) in rows {
            assert_eq!(grouped(number), text);
        }
    }
}
