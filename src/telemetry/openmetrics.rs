//! The OpenMetrics 1.0 text format, which can carry exemplars, and the choice between it and the classic format.
//!
//! It differs from the classic one in small things that a strict parser insists on: counters lose `_total` in the lines about
//! their family, a unit is told by itself, numbers are floats, and the last line says that it is the last.

use std::fmt::Write as _;

use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

use super::catalogue::unit;
use super::exemplars::Exemplar;

/// `Content-Type` of the OpenMetrics text.
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// `Content-Type` of the classic text.
pub const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Writes families as OpenMetrics. `exemplar` finds the last observation of a bucket by family, outcome and place of the bucket.
pub(super) fn render(families: &[MetricFamily], exemplar: impl Fn(&str, &str, usize) -> Option<Exemplar>) -> Vec<u8> {
    let mut out = String::with_capacity(32 << 10);
    for family in families {
        let name = family.name();
        let kind = family.get_field_type();
        let (stem, word) = match kind {
            MetricType::COUNTER => (name.strip_suffix("_total").unwrap_or(name), "counter"),
            MetricType::HISTOGRAM => (name, "histogram"),
            MetricType::GAUGE => (name, "gauge"),
            // Neither is made here.
            MetricType::SUMMARY | MetricType::UNTYPED => continue,
        };
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(out, "# TYPE {stem} {word}");
        let unit = unit(stem);
        if !unit.is_empty() {
            let _ = writeln!(out, "# UNIT {stem} {unit}");
        }
        let _ = writeln!(out, "# HELP {stem} {}", escaped(family.help()));
        for metric in family.get_metric() {
            match kind {
                MetricType::COUNTER => {
                    line(&mut out, &format!("{stem}_total"), metric, None, &number(metric.get_counter().get_value()));
                }
                MetricType::HISTOGRAM => histogram(&mut out, stem, metric, &exemplar),
                _ => line(&mut out, stem, metric, None, &number(metric.get_gauge().get_value())),
            }
        }
    }
    out.push_str("# EOF\n");
    out.into_bytes()
}

fn histogram(out: &mut String, stem: &str, metric: &Metric, exemplar: &impl Fn(&str, &str, usize) -> Option<Exemplar>) {
    let histogram = metric.get_histogram();
    let outcome = metric.get_label().iter().find(|pair| pair.name() == "outcome").map_or("", LabelPair::value);
    let bucket = format!("{stem}_bucket");
    let above = (f64::INFINITY, histogram.get_sample_count());
    let known = histogram.get_bucket().iter().map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()));
    let mut before = 0;
    for (place, (bound, count)) in known.chain([above]).enumerate() {
        line(out, &bucket, metric, Some(&number(bound)), &count.to_string());
        if count > before
            && let Some(exemplar) = exemplar(stem, outcome, place)
        {
            // Takes the place of the line break.
            out.pop();
            attach(out, &exemplar);
        }
        before = count;
    }
    line(out, &format!("{stem}_count"), metric, None, &histogram.get_sample_count().to_string());
    line(out, &format!("{stem}_sum"), metric, None, &number(histogram.get_sample_sum()));
}

/// At most 84 characters of names and values; the format allows 128.
fn attach(out: &mut String, exemplar: &Exemplar) {
    let Exemplar { request, trace, value, at } = exemplar;
    let _ = write!(out, " # {{request_id=\"{request}\"");
    if let Some(trace) = trace {
        let _ = write!(out, ",trace_id=\"{:032x}\"", u128::from_be_bytes(*trace));
    }
    let _ = writeln!(out, "}} {} {}.{:03}", number(*value), at / 1_000, at % 1_000);
}

fn line(out: &mut String, name: &str, metric: &Metric, le: Option<&str>, value: &str) {
    out.push_str(name);
    let own = metric.get_label().iter().map(|pair| (pair.name(), pair.value()));
    let mut open = false;
    for (name, value) in own.chain(le.map(|le| ("le", le))) {
        let _ = write!(out, "{}{name}=\"{}\"", if open { ',' } else { '{' }, escaped(value));
        open = true;
    }
    if open {
        out.push('}');
    }
    let _ = writeln!(out, " {value}");
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A number as Go writes it, which other implementations agree on: always with a point or an exponent of two digits.
fn number(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let text = format!("{value:?}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = exponent.strip_prefix('-').map_or(("+", exponent), |rest| ("-", rest));
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => text,
    }
}

/// Whether a scraper that sends this `Accept` gets OpenMetrics: if it names it, and likes it at least as much as plain text.
pub fn prefers_openmetrics(accept: &str) -> bool {
    let (mut open, mut plain) = (0.0_f64, 0.0_f64);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default().to_ascii_lowercase();
        let (mut quality, mut version) = (1.0, None);
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                // A weight that cannot be read is none.
                "q" => quality = value.parse().ok().filter(|q| (0.0..=1.0).contains(q)).unwrap_or(0.0),
                "version" => version = Some(value),
                _ => {}
            }
        }
        match media.as_str() {
            // What is written is 1.0; a scraper that only knows the drafts before it would not find what it expects.
            "application/openmetrics-text" if version.is_none_or(|version| version == "1.0.0") => {
                open = open.max(quality);
            }
            "text/plain" if version.is_none_or(|version| version == "0.0.4") => plain = plain.max(quality),
            _ => {}
        }
    }
    open > 0.0 && open >= plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_the_canonical_way() {
        for (value, text) in [
            (0.0, "0.0"),
            (1.0, "1.0"),
            (600.0, "600.0"),
            (0.1, "0.1"),
            (0.00005, "5e-05"),
            (1e-10, "1e-10"),
            (1e21, "1e+21"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn a_scraper_gets_the_format_that_it_likes_best() {
        for (accept, open) in [
            // Prometheus 2.42 and 3.5.
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                true,
            ),
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                true,
            ),
            ("Application/OpenMetrics-Text", true),
            ("application/openmetrics-text; version=\"1.0.0\"; q=1", true),
            // A browser, curl, nobody, an old scraper.
            ("text/html,application/xhtml+xml,*/*;q=0.8", false),
            ("*/*", false),
            ("", false),
            ("text/plain;version=0.0.4", false),
            ("text/plain,application/openmetrics-text;q=0.9", false),
            ("application/openmetrics-text;q=0", false),
            ("application/openmetrics-text;q=rubbish", false),
            ("application/openmetrics-text;version=0.0.1", false),
            ("application/openmetrics-text;version=2.0.0;q=1,text/plain;q=0.1", false),
        ] {
            assert_eq!(prefers_openmetrics(accept), open, "{accept}");
        }
    }
}
