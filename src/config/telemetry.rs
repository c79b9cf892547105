//! `[telemetry]`: what the program says about itself, and to whom.

use http::HeaderName;
use tracing_subscriber::EnvFilter;

use super::credential::{self, Purpose};
use super::problem::{ProblemKind, quote};
use super::reader::Reader;
use super::{Secret, sections};

/// `[telemetry]`
#[derive(Clone, PartialEq)]
pub struct Telemetry {
    /// A `tracing` filter, as in `info` or `remora=debug`.
    pub log: String,
    /// How log lines look.
    pub format: LogFormat,
    /// Model names that get a metric label of their own; all others are `other`.
    pub models: Vec<String>,
    /// Where spans go, without `/v1/traces`. Nowhere if `None`.
    pub otlp: Option<String>,
    /// Headers for the collector.
    pub otlp_headers: Vec<(HeaderName, Secret)>,
    /// Part of the requests that get a trace: 0 to 1.
    pub trace_ratio: f64,
    /// Ended requests whose spans may wait to be sent.
    pub trace_queue: usize,
}

/// `[telemetry] format`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

pub(super) fn read(reader: &mut Reader<'_>) -> Telemetry {
    let log = reader.checked("log", |text| match EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => {
            let fix = "write a level (error, warn, info, debug, trace, off) or module=level, separated by commas";
            Err((format!("{} is not a log filter", quote(text)), fix.to_owned()))
        }
    });
    let otlp = if reader.text("otlp").is_empty() { None } else { Some(sections::base_url(reader, "otlp")) };
    Telemetry {
        log: log.unwrap_or_default(),
        format: reader.choice("format", LogFormat::Text, &[("text", LogFormat::Text), ("json", LogFormat::Json)]),
        models: reader.strings("models"),
        otlp,
        otlp_headers: headers(reader),
        trace_ratio: reader.number("trace_ratio", 0.0, 1.0),
        trace_queue: usize::try_from(reader.count("trace_queue", 1, 100_000)).unwrap_or(1),
    }
}

/// `name=value,name=value`, with what is special in it percent-encoded, as in `OTEL_EXPORTER_OTLP_HEADERS`.
fn headers(reader: &mut Reader<'_>) -> Vec<(HeaderName, Secret)> {
    let Some(text) = credential::read(reader, "otlp_headers", Purpose::Sent) else { return Vec::new() };
    let parts = || text.expose().split(',').filter(|part| !part.is_empty());
    let read: Vec<_> = parts().map_while(header).collect();
    if read.len() < parts().count() {
        let key = if reader.text("otlp_headers_env").is_empty() { "otlp_headers_file" } else { "otlp_headers_env" };
        let source = reader.source_of(key);
        // Not quoted: it is a secret.
        let message = format!("header {} is not `name=value`", read.len() + 1);
        let fix = "write name=value,name=value and blanks in values as %20".to_owned();
        reader.note(key, &source, ProblemKind::BadSecret, message, fix);
    }
    read
}

fn header(part: &str) -> Option<(HeaderName, Secret)> {
    let (name, value) = part.split_once('=')?;
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        let hex = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        let byte = if byte == b'%' { u8::try_from(hex(rest.next())? * 16 + hex(rest.next())?).ok()? } else { byte };
        bytes.push(byte);
    }
    let value = String::from_utf8(bytes).ok().filter(|value| http::HeaderValue::from_str(value).is_ok())?;
    Some((name.trim().parse().ok()?, Secret::new(value)))
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Overrides, Problems};

    fn load(env: &[(&str, &str)]) -> Result<Config, Problems> {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::load(None, env, &Overrides::default())
    }

    const NAMED: (&str, &str) = ("REMORA__TELEMETRY__OTLP_HEADERS_ENV", "COLLECTOR");

    #[test]
    fn headers_for_the_collector_are_read_as_opentelemetry_writes_them_and_never_shown() {
        let headers = "Authorization=Basic%20YTpi%3D,x-team=blue%20team=1,";
        let config = load(&[NAMED, ("COLLECTOR", headers)]).unwrap_or_else(|problems| panic!("{problems}"));
        let read: Vec<_> =
            config.telemetry.otlp_headers.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
        assert_eq!(read, [("authorization", "Basic YTpi="), ("x-team", "blue team=1")]);
        assert!(!config.render().contains("YTpi") && config.render().contains("otlp_headers = \"***\""));
        for bad in ["canary", "canary=1,=2", "ca nary=x", "x=%zz-canary", "x=%0acanary", "x=canary%"] {
            let problems = load(&[NAMED, ("COLLECTOR", bad)]).err().map(|problems| problems.to_string());
            let problems = problems.unwrap_or_else(|| panic!("{bad}"));
            assert!(problems.contains("telemetry.otlp_headers_env") && !problems.contains("canary"), "{problems}");
        }
    }

    #[test]
    fn the_collector_may_be_named_by_opentelemetrys_own_variable_and_ours_wins() {
        let named = |env: &[(&str, &str)]| load(env).map(|config| config.telemetry.otlp).ok().flatten();
        let theirs = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");
        assert_eq!(named(&[]), None);
        assert_eq!(named(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]), None);
        assert_eq!(named(&[theirs]).as_deref(), Some("http://collector:4318"));
        let ours = ("REMORA__TELEMETRY__OTLP", "https://otel.example.com/base");
        assert_eq!(named(&[theirs, ours]).as_deref(), Some("https://otel.example.com/base"));
        let wrong = load(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317")]).err().unwrap().to_string();
        assert!(wrong.contains("OTEL_EXPORTER_OTLP_ENDPOINT"), "{wrong}");
    }
}
