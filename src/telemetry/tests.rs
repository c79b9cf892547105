use std::borrow::Cow;
use std::collections::BTreeSet;

use super::metrics::{Metrics, Series};
use crate::ids::{KeyId, RequestId, TenantId};
use crate::store::LedgerRow;
use crate::store::sample;

const DOCS: &str = include_str!("../../docs/metrics.md");

fn line(series: &Series) -> String {
    let labels: Vec<String> = series.labels.iter().map(|label| format!("`{label}`")).collect();
    format!("| `{}` | {} | {} | {} | {} |", series.name, series.kind, labels.join(" "), series.unit(), series.help)
}

#[test]
fn the_manual_lists_every_series_as_it_is_and_none_that_is_not() {
    let metrics = Metrics::new([], []).unwrap();
    let there: BTreeSet<String> = metrics.catalogue().iter().map(line).collect();
    let told: BTreeSet<String> = DOCS
        .lines()
        .filter(|line| line.starts_with("| `remora_") || line.starts_with("| `process_"))
        .map(str::to_owned)
        .collect();
    let show = |lines: Vec<&String>| lines.into_iter().map(|line| format!("\n{line}")).collect::<String>();
    let missing = show(there.difference(&told).collect());
    let wrong = show(told.difference(&there).collect());
    assert!(missing.is_empty() && wrong.is_empty(), "docs/metrics.md lacks:{missing}\nand has, but should not:{wrong}");
}

/// What `promtool check metrics` objects to, and a little more.
#[test]
fn names_and_help_follow_the_rules_of_prometheus() {
    let metrics = Metrics::new([], []).unwrap();
    let word = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
            && !text.contains("__")
    };
    let mut stems = BTreeSet::new();
    for series in metrics.catalogue() {
        let Series { name, kind, labels, help } = series;
        assert!(word(name) && (name.starts_with("remora_") || name.starts_with("process_")), "{name}");
        assert_eq!(name.ends_with("_total"), *kind == "counter", "{name} is a {kind}");
        for bad in ["_count", "_sum", "_bucket", "_created", "_counter", "_gauge", "_histogram"] {
            assert!(!name.ends_with(bad), "{name} ends in {bad}");
        }
        for part in name.split('_') {
            let scaled =
                ["ms", "milliseconds", "us", "minutes", "hours", "kb", "mb", "kilobytes", "percent", "dollars"];
            assert!(!scaled.contains(&part), "{name}: base units only");
        }
        let sentence = help.ends_with('.') || name.starts_with("process_");
        assert!(!help.is_empty() && sentence && !help.contains(['\n', '|']), "{name}: {help}");
        assert!(labels.iter().all(|label| word(label) && !["le", "quantile"].contains(&label.as_str())), "{name}");
        // OpenMetrics has one name for `x` and `x_total`.
        assert!(stems.insert(name.strip_suffix("_total").unwrap_or(name).to_owned()), "{name} is there twice");
    }
    assert!(stems.len() > 80, "{}", stems.len());
}

fn series_of(metrics: &Metrics) -> usize {
    let text = String::from_utf8(metrics.render()).unwrap();
    text.lines().filter(|line| !line.starts_with('#')).count()
}

fn junk(number: u64) -> LedgerRow {
    let outcome = super::exemplars::OUTCOMES[usize::try_from(number).unwrap() % 10];
    LedgerRow {
        request: RequestId::at(number),
        tenant: Some(TenantId::new(format!("tenant-{number}"))),
        key: Some(KeyId::new(format!("key-{number}"))),
        user: Some(format!("user-{number}")),
        tags: vec![(format!("tag-{number}"), format!("value-{number}"))],
        route: format!("POST /v1/{number}"),
        model_asked: Some(format!("model-{number}")),
        model_answered: Some(format!("answered-{number}")),
        price_version: Some(format!("price-{number}")),
        outcome: Cow::Borrowed(outcome),
        tokens_source: Some(Cow::Borrowed("billed")),
        cost_nano_usd: (!number.is_multiple_of(3)).then_some(5),
        saved_gross_nano_usd: Some(9),
        ..sample::row("acme", number)
    }
}

#[test]
fn a_hundred_thousand_invented_names_make_no_series() {
    let metrics = Metrics::new(["acme".to_owned()], ["gpt-4o".to_owned()]).unwrap();
    let feed =
        |from: u64, to: u64| (from..to).for_each(|number| metrics.request(&junk(number), number.is_multiple_of(2)));
    feed(0, 60);
    let (before, open_before) = (series_of(&metrics), metrics.render_openmetrics().len());
    feed(60, 100_060);
    let text = String::from_utf8(metrics.render()).unwrap();
    assert_eq!(series_of(&metrics), before);
    assert!(before > 100, "something is counted: {before}");
    // Exemplars take the place of each other, and numbers grow.
    assert!(metrics.render_openmetrics().len() < 2 * open_before);
    let counted: u64 = text
        .lines()
        .filter(|line| line.starts_with("remora_requests_total{"))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum();
    assert_eq!(counted, 100_060, "all are counted, as other");
    assert!(!["model-", "tenant-", "user-", "tag-", "key-", "price-"].iter().any(|junk| text.contains(junk)));
}
