//! Dashboards and rules name what is exported: every query is PromQL, every series and every label in it is one of the catalogue.
//!
//! This needs no running program. That the queries also find something is for `tests/e2e/dashboards.sh` to say.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};

use promql_parser::parser::{self, AggregateExpr, Expr, VectorSelector};
use promql_parser::util::{ExprVisitor, walk_expr};
use remora::telemetry::metrics::Metrics;
use serde_json::Value;

/// Labels that Prometheus adds.
const SCRAPED: [&str; 2] = ["instance", "job"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards")
}

/// Labels by series: those of the catalogue, those that Prometheus makes, and what the rules record.
fn known() -> BTreeMap<String, BTreeSet<String>> {
    let metrics = Metrics::new([], []).unwrap();
    let mut known = BTreeMap::from([("up".to_owned(), BTreeSet::new())]);
    for series in metrics.catalogue() {
        let labels: BTreeSet<String> = series.labels.iter().cloned().collect();
        if series.kind == "histogram" {
            for suffix in ["_sum", "_count"] {
                known.insert(format!("{}{suffix}", series.name), labels.clone());
            }
            let buckets = labels.into_iter().chain(["le".to_owned()]).collect();
            known.insert(format!("{}_bucket", series.name), buckets);
        } else {
            known.insert(series.name.clone(), labels);
        }
    }
    for (name, expr) in rules("rules.yml") {
        known.insert(name, Names::of(&expr).labels(&known));
    }
    known
}

/// Name and expression of each rule of a file.
fn rules(file: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(folder().join(file)).unwrap();
    let (mut found, mut name, mut inside) = (Vec::<(String, String)>::new(), String::new(), None);
    for line in text.lines() {
        let (indent, word) = (line.len() - line.trim_start().len(), line.trim());
        if inside.is_some_and(|outer| indent > outer) {
            let (_, expr) = found.last_mut().unwrap();
            expr.push_str(word);
            expr.push(' ');
            continue;
        }
        inside = None;
        if let Some((_, said)) = word.split_once("- record: ").or_else(|| word.split_once("- alert: ")) {
            name = said.to_owned();
        } else if let Some(expr) = word.strip_prefix("expr: ") {
            inside = (expr == "|").then_some(indent);
            found.push((name.clone(), if expr == "|" { String::new() } else { expr.to_owned() }));
        }
    }
    found
}

/// Where it stands, and the expression, of each query of each panel.
fn queries() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for file in fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()) {
        if file.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let board: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        for panel in board["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row") {
            for target in panel["targets"].as_array().unwrap() {
                let expr = target["expr"].as_str().unwrap();
                let expr = expr.replace("$__rate_interval", "1m").replace("$__range", "1h");
                found.push((format!("{}, panel {}", board["title"], panel["title"]), expr));
            }
        }
    }
    found
}

/// What an expression names.
#[derive(Default)]
struct Names {
    /// Series, and a label that is asked of it.
    asked: Vec<(String, Option<String>)>,
    /// Labels that an aggregation keeps, and the series below it.
    kept: Vec<(String, Vec<String>)>,
    /// Whether anything is aggregated.
    aggregated: bool,
}

impl Names {
    fn of(expr: &str) -> Self {
        let parsed = parser::parse(expr).unwrap_or_else(|error| panic!("{error}: {expr}"));
        let mut names = Self::default();
        let Ok(_) = walk_expr(&mut names, &parsed);
        names
    }

    fn series(&self) -> Vec<String> {
        self.asked.iter().map(|(series, _)| series.clone()).collect()
    }

    /// Labels that the result may have.
    fn labels(&self, known: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
        if self.aggregated {
            self.kept.iter().map(|(label, _)| label.clone()).collect()
        } else {
            self.series().iter().filter_map(|series| known.get(series)).flatten().cloned().collect()
        }
    }

    fn selector(&mut self, selector: &VectorSelector) {
        let name = selector.name.clone().unwrap_or_default();
        self.asked.push((name.clone(), None));
        for matcher in &selector.matchers.matchers {
            self.asked.push((name.clone(), Some(matcher.name.clone())));
        }
    }

    fn aggregate(&mut self, aggregate: &AggregateExpr) {
        self.aggregated = true;
        let mut below = Self::default();
        let Ok(_) = walk_expr(&mut below, &aggregate.expr);
        for label in aggregate.modifier.iter().flat_map(|modifier| &modifier.labels().labels) {
            self.kept.push((label.clone(), below.series()));
        }
    }
}

impl ExprVisitor for Names {
    type Error = Infallible;

    fn pre_visit(&mut self, expr: &Expr) -> Result<bool, Infallible> {
        match expr {
            Expr::VectorSelector(selector) => self.selector(selector),
            Expr::MatrixSelector(matrix) => self.selector(&matrix.vs),
            Expr::Aggregate(aggregate) => self.aggregate(aggregate),
            _ => {}
        }
        Ok(true)
    }
}

/// What an expression names and nobody exports.
fn unknown(expr: &str, known: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let names = Names::of(expr);
    let has = |series: &str, label: &str| {
        SCRAPED.contains(&label) || known.get(series).is_some_and(|labels| labels.contains(label))
    };
    let mut wrong = Vec::new();
    for (series, label) in &names.asked {
        match label {
            None if !known.contains_key(series) => wrong.push(format!("{series} is not exported")),
            Some(label) if known.contains_key(series) && !has(series, label) => {
                wrong.push(format!("{series} has no label {label}"));
            }
            _ => {}
        }
    }
    for (label, below) in &names.kept {
        if !below.iter().any(|series| has(series, label)) {
            wrong.push(format!("no series has a label {label}"));
        }
    }
    wrong
}

#[test]
fn every_series_and_label_of_dashboards_and_rules_is_exported() {
    let known = known();
    let all: Vec<_> = queries().into_iter().chain(rules("rules.yml")).chain(rules("alerts.yml")).collect();
    assert!(all.len() > 150, "only {} expressions were found", all.len());
    let wrong: Vec<_> = all
        .iter()
        .flat_map(|(place, expr)| unknown(expr, &known).into_iter().map(move |what| format!("{place}: {what}: {expr}")))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_series_or_label_that_nobody_exports_is_found() {
    let known = known();
    for (expr, wrong) in [
        ("sum(rate(remora_request_total[1m]))", "remora_request_total is not exported"),
        ("sum(remora_budget_usd{tenants=\"a\"})", "remora_budget_usd has no label tenants"),
        ("sum by (model) (remora_budget_usd)", "no series has a label model"),
        ("sum by (tenant) (remora:reply_errors:ratio_rate1h)", "no series has a label tenant"),
        ("histogram_quantile(0.9, sum by (le) (rate(remora_ttft_seconds[1m])))", "remora_ttft_seconds is not exported"),
    ] {
        assert!(unknown(expr, &known).iter().any(|found| found == wrong), "{expr}: {:?}", unknown(expr, &known));
    }
    assert_eq!(unknown("sum by (instance) (remora_limit_holds{job=\"remora\"})", &known), [""; 0]);
}

#[test]
fn every_template_variable_reads_a_label_that_is_exported() {
    let known = known();
    let mut seen = 0;
    for name in ["cost", "cache", "limits", "service"] {
        let text = fs::read(folder().join(format!("{name}.json"))).unwrap();
        let board: Value = serde_json::from_slice(&text).unwrap();
        for variable in board["templating"]["list"].as_array().unwrap() {
            let Some(query) = variable["query"]["query"].as_str() else { continue };
            let (series, label) =
                query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')?.split_once(", ")).unwrap();
            assert!(known.contains_key(series), "{name}: {query}");
            assert!(SCRAPED.contains(&label) || known[series].contains(label), "{name}: {query}");
            seen += 1;
        }
    }
    assert_eq!(seen, 6);
}
