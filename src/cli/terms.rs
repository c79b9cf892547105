//! Limits, budgets and cache policy as options of the command line.
//!
//! What is not given stays as it is: options become a merge patch (RFC 7396), in which `null` takes something away.

use std::str::FromStr;

use clap::Args;
use serde_json::{Map, Value, json};

use crate::config::{Budget, CacheMode, NanoUsd, Period, Share, UnknownPrice, parse_duration};

/// How budgets are written, for `--help`.
pub(super) const BUDGETS: &str = "\
A budget is PERIOD[:FOR]=USD[,OPTION…]:
  PERIOD   day, week, month (UTC), or a rolling window of 1m to 366d, as in 30d
  FOR      a model or a glob over models; or key:NAME, or tag:NAME=VALUE; without it all requests count
  OPTION   soft (only warns), hard (refuses; the default), alert=50/80/100 (percent at which somebody is told; or none),
           name=NAME (made from PERIOD and FOR if left out)
A budget of the same name, or without a name one for the same PERIOD and FOR, is changed: what is not said stays.";

/// `--rpm` and so on.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Limits")]
pub(super) struct LimitArgs {
    /// Requests per minute; `none` takes the limit away, here and below.
    #[arg(long, value_name = "N", value_parser = limit)]
    rpm: Option<Value>,
    /// Tokens per minute.
    #[arg(long, value_name = "N", value_parser = limit)]
    tpm: Option<Value>,
    /// Tokens per day.
    #[arg(long, value_name = "N", value_parser = limit)]
    tpd: Option<Value>,
    /// Requests with upstream at the same time.
    #[arg(long, value_name = "N", value_parser = limit)]
    concurrency: Option<Value>,
}

impl LimitArgs {
    /// Adds what was given to a patch.
    pub(super) fn patch(self, patch: &mut Map<String, Value>) {
        let Self { rpm, tpm, tpd, concurrency } = self;
        section(patch, "limits", [("rpm", rpm), ("tpm", tpm), ("tpd", tpd), ("concurrency", concurrency)]);
    }
}

/// What a tenant is held to, besides limits and budgets.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Cache and prices")]
pub(super) struct PolicyArgs {
    /// Tiers in use: off, exact, shadow or semantic; `none` takes the tenant's own value away, here and below.
    #[arg(long = "cache", value_name = "MODE", value_parser = named::<CacheMode>)]
    mode: Option<Value>,
    /// Longest life of an answer, as in 1h.
    #[arg(long, value_name = "AGE", value_parser = age)]
    ttl: Option<Value>,
    /// Least cosine of a semantic hit, 0 to 1.
    #[arg(long, value_name = "COSINE", value_parser = share)]
    similarity: Option<Value>,
    /// Wrong answers that may be served by similarity, as a share of all requests, 0 to 1.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    max_error_rate: Option<Value>,
    /// Who shares answers: key, tenant or user.
    #[arg(long, value_name = "SCOPE", value_parser = named::<Share>)]
    share: Option<Value>,
    /// Whether hits are served when a hard budget is spent.
    #[arg(long, value_name = "true|false")]
    hits_when_spent: Option<bool>,
    /// Whether the tokens of hits count towards --tpm and --tpd.
    #[arg(long, value_name = "true|false")]
    hits_take_tokens: Option<bool>,
    /// Requests whose price is not known: deny, allow or assume_max.
    #[arg(long, value_name = "WHAT", value_parser = named::<UnknownPrice>)]
    unknown_price: Option<Value>,
}

impl PolicyArgs {
    /// Adds what was given to a patch.
    pub(super) fn patch(self, patch: &mut Map<String, Value>) {
        let Self { mode, ttl, similarity, max_error_rate, share, hits_when_spent, hits_take_tokens, unknown_price } =
            self;
        let cache = [
            ("mode", mode),
            ("ttl", ttl),
            ("similarity", similarity),
            ("max_error_rate", max_error_rate),
            ("share", share),
        ];
        section(patch, "cache", cache);
        let flags = [("hits_when_spent", hits_when_spent), ("hits_take_tokens", hits_take_tokens)];
        let given = flags.into_iter().map(|(name, flag)| (name, flag.map(Value::Bool)));
        patch.extend(
            given.chain([("unknown_price", unknown_price)]).filter_map(|(name, v)| Some((name.to_owned(), v?))),
        );
    }
}

/// `--budget` and `--no-budget`.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Budgets")]
pub(super) struct BudgetArgs {
    /// Add or change a budget, as in month=500 or 'day:gpt-4o*=20,soft'; may be given several times.
    #[arg(long = "budget", value_name = "BUDGET")]
    wishes: Vec<BudgetWish>,
    /// Take the budget of this name away; may be given several times.
    #[arg(long = "no-budget", value_name = "NAME")]
    removed: Vec<String>,
}

impl BudgetArgs {
    pub(super) fn is_empty(&self) -> bool {
        self.wishes.is_empty() && self.removed.is_empty()
    }

    /// The budgets there are to be.
    pub(super) fn onto(&self, mut budgets: Vec<Budget>) -> Result<Vec<Budget>, String> {
        for name in &self.removed {
            let before = budgets.len();
            budgets.retain(|budget| budget.name != *name);
            if budgets.len() == before {
                let names: Vec<_> = budgets.iter().map(|budget| budget.name.as_str()).collect();
                let there = if names.is_empty() {
                    "there are none".to_owned()
                } else {
                    format!("there are: {}", names.join(", "))
                };
                return Err(format!("--no-budget {name}: there is no such budget; {there}"));
            }
        }
        for wish in &self.wishes {
            wish.onto(&mut budgets)?;
        }
        Ok(budgets)
    }
}

/// What one `--budget` says.
#[derive(Clone, Debug, PartialEq)]
struct BudgetWish {
    name: Option<String>,
    period: Period,
    target: Target,
    usd: NanoUsd,
    hard: Option<bool>,
    alert_at: Option<Vec<f64>>,
}

/// Which requests count.
#[derive(Clone, Debug, PartialEq)]
enum Target {
    All,
    Key(String),
    Model(String),
    Tag(String),
}

impl Target {
    fn of(budget: &Budget) -> Self {
        match (&budget.key, &budget.model, &budget.tag) {
            (Some(key), ..) => Self::Key(key.clone()),
            (_, Some(model), _) => Self::Model(model.clone()),
            (.., Some(tag)) => Self::Tag(tag.clone()),
            _ => Self::All,
        }
    }
}

/// What a budget is for, as it is written in `--budget`.
pub(super) fn target(budget: &Budget) -> String {
    match Target::of(budget) {
        Target::All => "all".to_owned(),
        Target::Key(key) => format!("key:{key}"),
        Target::Model(model) => model,
        Target::Tag(tag) => format!("tag:{tag}"),
    }
}

impl FromStr for BudgetWish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "write PERIOD[:FOR]=USD[,OPTION…], as in month=500 or 'day:gpt-4o*=20,soft'";
        let (mut name, mut hard, mut alert_at) = (None, None, None);
        let mut rest = text;
        // From the end, because a model or a tag may have commas.
        while let Some((before, option)) = rest.rsplit_once(',') {
            match option.split_once('=') {
                None if option == "soft" => hard = Some(false),
                None if option == "hard" => hard = Some(true),
                Some(("name", given)) => name = Some(given.to_owned()),
                Some(("alert", "none")) => alert_at = Some(Vec::new()),
                Some(("alert", percents)) => alert_at = Some(shares(percents)?),
                Some((_, usd)) if usd.parse::<NanoUsd>().is_ok() => break,
                _ => {
                    return Err(format!(
                        "`{option}` is not an option of a budget: soft, hard, alert=50/80/100, name=NAME"
                    ));
                }
            }
            rest = before;
        }
        let (what, usd) = rest.rsplit_once('=').ok_or(FORM)?;
        let usd = usd.parse().map_err(|_| format!("`{usd}` is not an amount of dollars; {FORM}"))?;
        let (period, target) = what.split_once(':').map_or((what, None), |(period, target)| (period, Some(target)));
        let period = period.parse().map_err(|error| format!("`{period}` is {error}"))?;
        let target = match target {
            None => Target::All,
            Some("") => return Err(format!("nothing stands behind the colon; {FORM}")),
            Some(target) => match target.split_once(':') {
                Some(("key", key)) => Target::Key(key.to_owned()),
                Some(("model", model)) => Target::Model(model.to_owned()),
                Some(("tag", tag)) => Target::Tag(tag.to_owned()),
                // Names of models may have colons.
                _ => Target::Model(target.to_owned()),
            },
        };
        Ok(Self { name, period, target, usd, hard, alert_at })
    }
}

impl BudgetWish {
    fn onto(&self, budgets: &mut Vec<Budget>) -> Result<(), String> {
        let is_meant = |budget: &Budget| match &self.name {
            Some(name) => budget.name == *name,
            None => budget.period == self.period && Target::of(budget) == self.target,
        };
        let meant: Vec<usize> = (0..).zip(&*budgets).filter(|(_, budget)| is_meant(budget)).map(|(at, _)| at).collect();
        let name = self.name.clone().unwrap_or_else(|| self.made_name());
        match meant.as_slice() {
            [at] => {
                if let Some(budget) = budgets.get_mut(*at) {
                    self.change(budget);
                }
            }
            [] if budgets.iter().any(|budget| budget.name == name) => {
                return Err(format!(
                    "a budget called `{name}` is there already, for something else; give this one a name, as in ,name=NAME"
                ));
            }
            [] => {
                let mut budget = Budget {
                    name,
                    period: self.period,
                    usd: self.usd,
                    hard: true,
                    alert_at: Budget::USUAL_ALERTS.to_vec(),
                    key: None,
                    model: None,
                    tag: None,
                };
                self.change(&mut budget);
                budgets.push(budget);
            }
            several => {
                let names = several.iter().filter_map(|at| Some(budgets.get(*at)?.name.as_str()));
                let names = names.collect::<Vec<_>>().join(", ");
                return Err(format!(
                    "several budgets are for the same: {names}; say which one is meant, as in ,name=NAME"
                ));
            }
        }
        Ok(())
    }

    fn change(&self, budget: &mut Budget) {
        budget.period = self.period;
        budget.usd = self.usd;
        budget.hard = self.hard.unwrap_or(budget.hard);
        if let Some(alert_at) = &self.alert_at {
            budget.alert_at.clone_from(alert_at);
        }
        (budget.key, budget.model, budget.tag) = match self.target.clone() {
            Target::All => (None, None, None),
            Target::Key(key) => (Some(key), None, None),
            Target::Model(model) => (None, Some(model), None),
            Target::Tag(tag) => (None, None, Some(tag)),
        };
    }

    /// The period, and what it is for as far as a name can say it.
    fn made_name(&self) -> String {
        let target = match &self.target {
            Target::All => return self.period.to_string(),
            Target::Key(text) | Target::Model(text) | Target::Tag(text) => text,
        };
        let fit = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
        let target: String = target.chars().map(fit).collect();
        format!("{}-{}", self.period, target.trim_matches('-')).chars().take(64).collect()
    }
}

/// `50/80/100` as shares.
fn shares(percents: &str) -> Result<Vec<f64>, String> {
    let share = |text: &str| {
        let percent: f64 = text.parse().map_err(|_| format!("`{text}` is not a percentage; write alert=50/80/100"))?;
        Ok(percent / 100.0)
    };
    percents.split('/').map(share).collect()
}

/// Shares as percentages, as in `50/80/100`.
pub(super) fn percents(shares: &[f64]) -> String {
    let percent = |share: &f64| format!("{}", (share * 1e6).round() / 1e4);
    if shares.is_empty() { "none".to_owned() } else { shares.iter().map(percent).collect::<Vec<_>>().join("/") }
}

fn section<const N: usize>(patch: &mut Map<String, Value>, name: &str, members: [(&str, Option<Value>); N]) {
    let given: Map<_, _> = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    if !given.is_empty() {
        patch.insert(name.to_owned(), given.into());
    }
}

fn limit(text: &str) -> Result<Value, String> {
    if text == "none" {
        return Ok(Value::Null);
    }
    let number: Result<u64, _> = text.replace('_', "").parse();
    number.map(Value::from).map_err(|_| "write a whole number, as in 600 or 2_000_000, or none".to_owned())
}

fn age(text: &str) -> Result<Value, String> {
    match text {
        "none" => Ok(Value::Null),
        _ if parse_duration(text).is_some() => Ok(text.into()),
        _ => Err("write a whole number and a unit, as in 30s, 10m, 24h or 7d, or none".to_owned()),
    }
}

fn share(text: &str) -> Result<Value, String> {
    if text == "none" {
        return Ok(Value::Null);
    }
    let number = text.parse::<f64>().ok().filter(|number| (0.0..=1.0).contains(number));
    number.map(|number| json!(number)).ok_or_else(|| "write a number from 0 to 1, or none".to_owned())
}

/// One of the names that serde knows for `T`.
fn named<T: serde::de::DeserializeOwned>(text: &str) -> Result<Value, String> {
    if text == "none" {
        return Ok(Value::Null);
    }
    let value = Value::from(text);
    match serde_json::from_value::<T>(value.clone()) {
        Ok(_) => Ok(value),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn onto(budgets: Vec<Budget>, wishes: &[&str]) -> Result<Vec<Budget>, String> {
        let wishes = wishes.iter().map(|text| text.parse().unwrap()).collect();
        BudgetArgs { wishes, removed: Vec::new() }.onto(budgets)
    }

    fn shown(budgets: &[Budget]) -> Vec<String> {
        let show = |b: &Budget| {
            let hard = if b.hard { "hard" } else { "soft" };
            format!("{} {} {} {} {} {}", b.name, b.period, target(b), b.usd, hard, percents(&b.alert_at))
        };
        budgets.iter().map(show).collect()
    }

    #[test]
    fn budgets_are_read_as_the_help_says() {
        let wishes = [
            "month=500",
            "day:gpt-4o*=20.50,soft",
            "week:key:batch=5,alert=90,name=batch",
            "30d:tag:team=a,b=7,hard,alert=none",
            "month:ft:gpt-4o:acme=1",
        ];
        let made = onto(Vec::new(), &wishes).unwrap();
        assert_eq!(
            shown(&made),
            [
                "month month all 500.00 hard 50/80/100",
                "day-gpt-4o day gpt-4o* 20.50 soft 50/80/100",
                "batch week key:batch 5.00 hard 90",
                "30d-team-a-b 30d tag:team=a,b 7.00 hard none",
                "month-ft-gpt-4o-acme month ft:gpt-4o:acme 1.00 hard 50/80/100",
            ]
        );
        let mut spec = crate::config::TenantSpec { budgets: made, ..Default::default() };
        assert_eq!(spec.wrong(), [], "names that are made are names");
        spec.name_budgets();
    }

    #[test]
    fn what_is_not_said_of_a_budget_stays() {
        let before = onto(Vec::new(), &["month=500,soft,alert=70,name=all", "day:gpt-4o=9"]).unwrap();
        let after = onto(before.clone(), &["month=600", "day:gpt-4o=9,soft"]).unwrap();
        assert_eq!(shown(&after), ["all month all 600.00 soft 70", "day-gpt-4o day gpt-4o 9.00 soft 50/80/100"]);
        let after = onto(before.clone(), &["week:gpt-5=1,name=all"]).unwrap();
        assert_eq!(shown(&after)[0], "all week gpt-5 1.00 soft 70");
        let removed = BudgetArgs { removed: vec!["all".to_owned()], wishes: Vec::new() };
        assert_eq!(shown(&removed.onto(before.clone()).unwrap()).len(), 1);
        let unknown = BudgetArgs { removed: vec!["none".to_owned()], wishes: Vec::new() };
        assert!(unknown.onto(before).unwrap_err().contains("there are: all, day-gpt-4o"));
    }

    #[test]
    fn budgets_that_could_be_taken_for_one_another_are_asked_about() {
        let taken = onto(Vec::new(), &["day:gpt-4o=1", "day:gpt-4o*=1"]).unwrap_err();
        assert!(taken.contains("`day-gpt-4o` is there already"), "{taken}");
        let two = onto(Vec::new(), &["day=1,name=a", "day=2,name=b"]).unwrap_or_default();
        let several = onto(two, &["day=3"]).unwrap_err();
        assert!(several.contains("a, b"), "{several}");
    }

    #[test]
    fn what_is_no_budget_is_refused_with_a_word_on_how_to_write_it() {
        for (text, word) in [
            ("month", "PERIOD"),
            ("month=", "dollars"),
            ("month=-5", "dollars"),
            ("fortnight=5", "period"),
            ("month:=5", "colon"),
            ("month=5,maybe", "soft, hard"),
            ("month=5,alert=x", "alert=50/80/100"),
        ] {
            let error = text.parse::<BudgetWish>().unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn options_become_a_merge_patch_in_which_none_takes_away() {
        let mut patch = Map::new();
        let limits = LimitArgs { rpm: limit("6_000").ok(), tpm: limit("none").ok(), ..Default::default() };
        limits.patch(&mut patch);
        let policy = PolicyArgs {
            mode: named::<CacheMode>("exact").ok(),
            ttl: age("1h").ok(),
            unknown_price: named::<UnknownPrice>("assume_max").ok(),
            hits_when_spent: Some(false),
            ..Default::default()
        };
        policy.patch(&mut patch);
        let expected = json!({
            "limits": { "rpm": 6000, "tpm": null }, "cache": { "mode": "exact", "ttl": "1h" },
            "hits_when_spent": false, "unknown_price": "assume_max",
        });
        assert_eq!(Value::from(patch), expected);
        assert!(named::<Share>("everybody").unwrap_err().contains("tenant"));
        assert!(limit("-1").is_err() && limit("1.5").is_err() && share("1.5").is_err() && age("1").is_err());
    }
}
