//! Something to tell: its id, its words and its facts, before anybody has been told.
//!
//! The id is made from what the alert is about and from nothing else, so that whoever sees the same thing makes the same
//! id, on any replica and after any restart.

use serde_json::{Value, json};

use crate::clock::UnixMs;
use crate::ids::TenantId;
use crate::limit::BudgetStanding;
use crate::store::{AlertRow, QUIET};

/// Most bytes of an id.
const LONGEST_ID: usize = 200;

/// What an alert is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A share of a budget is spent.
    BudgetThreshold,
    /// A budget will not last.
    BudgetForecast,
    /// Many requests of a tenant are refused.
    LimitRejections,
    /// A tenant spends much more than usual.
    SpendAnomaly,
    /// Somebody wants to see whether alerts arrive.
    Test,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::BudgetThreshold, Self::BudgetForecast, Self::LimitRejections, Self::SpendAnomaly, Self::Test];

    /// Name in the store, in bodies and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BudgetThreshold => "budget_threshold",
            Self::BudgetForecast => "budget_forecast",
            Self::LimitRejections => "limit_rejections",
            Self::SpendAnomaly => "spend_anomaly",
            Self::Test => "test",
        }
    }
}

/// One alert that is to be raised.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct News {
    pub(super) id: String,
    pub(super) kind: Kind,
    pub(super) tenant: Option<TenantId>,
    /// One line.
    pub(super) title: String,
    /// More lines for people; may be empty.
    pub(super) text: String,
    /// Facts for programs.
    pub(super) facts: Value,
    /// Whether anybody is told; what a larger alert tells as well is only stored.
    pub(super) loud: bool,
    /// The share that was crossed, in percent.
    pub(super) threshold: Option<String>,
}

impl News {
    /// As it is stored.
    pub(super) fn row(&self, at: UnixMs) -> AlertRow {
        let mut payload = json!({ "text": self.text, "details": self.facts });
        if let (false, Some(members)) = (self.loud, payload.as_object_mut()) {
            members.insert(QUIET.to_owned(), true.into());
        }
        AlertRow {
            id: self.id.clone(),
            at,
            tenant: self.tenant.clone(),
            kind: self.kind.as_str().to_owned(),
            title: self.title.clone(),
            payload: payload.to_string(),
        }
    }
}

/// The parts of an id as one text. What cannot go into a header or is too long is replaced by its hash.
pub(super) fn id(parts: &[&str]) -> String {
    let id = parts.join(":");
    if id.len() <= LONGEST_ID && id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return id;
    }
    format!("{}:{}", parts.first().copied().unwrap_or_default(), blake3::hash(id.as_bytes()).to_hex())
}

/// What programs are told of a budget.
pub(super) fn budget_facts(standing: &BudgetStanding) -> Value {
    let BudgetStanding { budget, from, until, spent, held, drift: _ } = standing;
    json!({
        "name": budget.name,
        "period": budget.period.to_string(),
        "usd": budget.usd.to_string(),
        "hard": budget.hard,
        "key": budget.key,
        "model": budget.model,
        "tag": budget.tag,
        "from": from,
        "until": until,
        "spent": spent.to_string(),
        "held": held.to_string(),
    })
}

/// What a budget is called in a title, as in `acme: budget month (only key app)`.
pub(super) fn budget_title(tenant: &TenantId, standing: &BudgetStanding) -> String {
    let budget = &standing.budget;
    let only = |what: &str, which: &Option<String>| which.as_ref().map(|which| format!(" (only {what} {which})"));
    let narrowed = only("key", &budget.key).or(only("model", &budget.model)).or(only("tag", &budget.tag));
    format!("{tenant}: budget {}{}", budget.name, narrowed.unwrap_or_default())
}

/// A moment in UTC by a `strftime` pattern; the number itself where no calendar reaches.
pub(super) fn moment(at: UnixMs, pattern: &str) -> String {
    let stamp = i64::try_from(at).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    stamp.map_or_else(|| at.to_string(), |stamp| stamp.strftime(pattern).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_fits_into_a_header_and_into_the_store_whatever_it_is_about() {
        assert_eq!(id(&["budget", "acme", "month", "1", "80"]), "budget:acme:month:1:80");
        let long = "x".repeat(300);
        for odd in ["a\r\nb", "é", "a b", long.as_str()] {
            let made = id(&["budget", odd, "80"]);
            assert!(made.starts_with("budget:") && made.len() <= LONGEST_ID, "{made}");
            assert!(made.bytes().all(|byte| byte.is_ascii_graphic()), "{made}");
            assert_ne!(made, id(&["budget", odd, "81"]));
        }
    }
}
