//! The report: tables for people, JSON, CSV by the hour, and a picture.

use std::fmt::Write as _;
use std::path::Path;

use remora::replay::stats::Proportion;
use serde_json::{Value, json};

use crate::figures::{Figures, Span, Tally};
use crate::money::Rates;
use crate::traffic::Kind;
use crate::{Fault, MODEL, Settings, plot};

/// What is known besides the figures.
pub(crate) struct Told {
    /// By how much the latest question came too late, with and without Remora, in seconds of the run.
    pub(crate) late: [f64; 2],
    /// Requests in the ledger that are not checks, and questions that were answered.
    pub(crate) rows: [usize; 2],
    /// Lines of the log that tell of trouble.
    pub(crate) complaints: Vec<String>,
    /// Series of money in its metrics.
    pub(crate) metrics: Vec<String>,
    /// What it has learnt, as the admin API tells it.
    pub(crate) learners: Value,
}

pub(crate) fn print(settings: &Settings, figures: &Figures, rates: &Rates, told: &Told) {
    println!("{}", settings.words());
    println!(
        "Prices of {MODEL}, list {}: {} in, {} cached in, {} out, dollars per million tokens.",
        rates.version,
        dollars(rates.input, 3),
        dollars(rates.cached, 3),
        dollars(rates.output, 3)
    );
    for (number, day) in figures.days.iter().enumerate() {
        println!("\n## Day {}\n\n{}", number + 1, tables(day));
    }
    println!("Latest question, seconds behind its time: {:.2} with Remora, {:.2} without.", told.late[1], told.late[0]);
    println!("Ledger rows that are not checks: {}; answers that were read: {}.", told.rows[0], told.rows[1]);
    println!("Metrics at the end:\n{}", told.metrics.join("\n"));
    println!("Learners: {}", told.learners);
    println!("Complaints in the log: {}", told.complaints.len());
    told.complaints.iter().take(5).for_each(|line| println!("  {line}"));
}

fn tables(day: &Span) -> String {
    let (tally, money) = (&day.tally, &day.money);
    let mut text = String::new();
    let mut line = |words: std::fmt::Arguments<'_>| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{words}");
    };
    line(format_args!("| | |\n|---|---:|"));
    line(format_args!("| requests | {} |", tally.asked));
    line(format_args!("| spend without Remora | ${} |", dollars(money.without, 4)));
    line(format_args!("| spend with Remora | ${} |", dollars(money.with(), 4)));
    line(format_args!("| of it {} checks of hits | ${} |", money.checks, dollars(money.check, 4)));
    line(format_args!("| saved gross | {} |", percent(money.gross_share())));
    line(format_args!("| **saved net** | **{}** |", percent(money.net_share())));
    line(format_args!(
        "| saved net as Remora tells | {} (${}) |",
        percent(money.told_share()),
        dollars(money.saved_net, 4)
    ));
    line(format_args!(
        "| Remora's word less the bench's | ${} |",
        dollars(money.saved_net - (money.without - money.with()), 4)
    ));
    line(format_args!("| misses: ledger less bench | {} nano-dollars |", money.completion - money.misses));
    for (name, count) in
        [("exact", tally.exact), ("semantic", tally.semantic), ("coalesced", tally.shared), ("all", tally.hits())]
    {
        line(format_args!("| hits, {name} | {count} ({}) |", percent(count as f64 / tally.asked as f64)));
    }
    line(format_args!("| **false answers of all** | **{}** |", bounded(tally.wrong(), tally.asked)));
    line(format_args!("| of semantic hits | {} |", bounded(tally.wrong_semantic, tally.semantic)));
    line(format_args!("| false exact, coalesced | {}, {} |", tally.wrong_exact, tally.wrong_shared));
    line(format_args!("| wrong by the upstream itself | {} |", tally.wrong_upstream));
    line(format_args!(
        "\n| kind of question | requests | exact | semantic | coalesced | false |\n|---|---:|---:|---:|---:|---:|"
    ));
    for kind in Kind::ALL {
        let Tally { asked, exact, semantic, shared, .. } = day.kinds.get(&kind).copied().unwrap_or_default();
        let wrong = day.kinds.get(&kind).map_or(0, Tally::wrong);
        line(format_args!("| {} | {asked} | {exact} | {semantic} | {shared} | {wrong} |", kind.name()));
    }
    line(format_args!("\n| reason of a miss | requests |\n|---|---:|"));
    let mut reasons: Vec<_> = day.reasons.iter().collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    for (reason, count) in reasons {
        line(format_args!("| `{reason}` | {count} |"));
    }
    text
}

/// Writes `savings.json`, `savings.csv` and `savings.svg`.
pub(crate) fn write(
    place: &Path,
    settings: &Settings,
    figures: &Figures,
    rates: &Rates,
    told: &Told,
) -> Result<(), Fault> {
    let days: Vec<Value> = figures.days.iter().map(Span::to_json).collect();
    let document = json!({
        "settings": settings.to_json(),
        "prices": { "model": MODEL, "version": rates.version, "input": rates.input, "cache_read": rates.cached, "output": rates.output },
        "days": days,
        "late_seconds": { "without": told.late[0], "with": told.late[1] },
        "learners": told.learners,
    });
    std::fs::write(place.join("savings.json"), serde_json::to_string_pretty(&document)? + "\n")?;
    let mut csv = String::from(
        "hour,requests,exact,semantic,coalesced,false,without_nano_usd,with_nano_usd,told_saved_net_nano_usd\n",
    );
    for (hour, span) in figures.hours.iter().enumerate() {
        let Span { tally, money, .. } = span;
        writeln!(
            csv,
            "{hour},{},{},{},{},{},{},{},{}",
            tally.asked,
            tally.exact,
            tally.semantic,
            tally.shared,
            tally.wrong(),
            money.without,
            money.with(),
            money.saved_net
        )?;
    }
    std::fs::write(place.join("savings.csv"), csv)?;
    Ok(std::fs::write(place.join("savings.svg"), plot::draw(figures))?)
}

/// Count, share and 95 % interval.
fn bounded(count: usize, of: usize) -> String {
    let share = Proportion::new(count, of);
    match (share.value(), share.interval()) {
        (Some(value), Some((low, high))) => {
            format!("{count} = {} ({} to {})", percent(value), percent(low), percent(high))
        }
        _ => "none".to_owned(),
    }
}

pub(crate) fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

/// Dollars with so many digits.
pub(crate) fn dollars(nano: i64, digits: usize) -> String {
    format!("{:.digits$}", nano as f64 / 1e9)
}
