//! Log lines: to standard error, one event a line, as text or JSON.
//!
//! Much of what is logged was written by strangers: paths, model names, error texts of upstreams. A line can therefore
//! never be more than one line, never hold a control character (a terminal would obey it), and never be longer than
//! [`LONGEST_LINE`]. Colours are not used, so that this holds without exception.
//!
//! Prompts, answers and credentials must never be passed to a log macro, at any level.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogFormat, Telemetry};

/// Most bytes of one line, the line break included.
pub const LONGEST_LINE: usize = 8 * 1024;

/// What ends a text line that was cut.
const CUT: &str = " [cut]";
/// What a JSON line that was too long is wrapped in, so that it is still one JSON object.
const JSON_CUT: (&str, &str) = ("{\"cut\":\"", "\"}");

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// `telemetry.log` is not a filter; configurations that were checked never get here.
    #[error("telemetry.log is not a log filter: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// The process has a logger already.
    #[error("logging is already set up: {0}")]
    Taken(#[from] tracing_subscriber::util::TryInitError),
}

/// Sets up logging for the whole process, once.
///
/// # Errors
/// When the filter cannot be read, or when logging was set up before.
pub fn init(telemetry: &Telemetry) -> Result<(), InitError> {
    subscriber(telemetry, io::stderr)?.try_init()?;
    Ok(())
}

/// A subscriber that writes to `sink`.
fn subscriber<W>(telemetry: &Telemetry, sink: W) -> Result<Box<dyn Subscriber + Send + Sync>, InitError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(&telemetry.log)?;
    let format = telemetry.format;
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(Lines { sink, format });
    let registry = tracing_subscriber::registry().with(filter);
    Ok(match format {
        LogFormat::Text => Box::new(registry.with(layer)),
        LogFormat::Json => Box::new(registry.with(layer.json().flatten_event(true))),
    })
}

/// Makes writers that clean every line.
struct Lines<W> {
    sink: W,
    format: LogFormat,
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Lines<W> {
    type Writer = Line<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Line { sink: self.sink.make_writer(), format: self.format }
    }
}

/// Cleans one line. The layer hands over each event in a single `write_all`.
struct Line<W> {
    sink: W,
    format: LogFormat,
}

impl<W: Write> Write for Line<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let mut line = clean(text.strip_suffix('\n').unwrap_or(&text), self.format);
        line.push('\n');
        self.sink.write_all(line.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

fn clean(text: &str, format: LogFormat) -> String {
    let room = LONGEST_LINE - 1;
    let escaped = escape(text);
    if escaped.len() <= room {
        return escaped.into_owned();
    }
    match format {
        LogFormat::Text => {
            let mut line = prefix(&escaped, room - CUT.len()).to_owned();
            line.push_str(CUT);
            line
        }
        LogFormat::Json => wrap_in_json(&escaped, room),
    }
}

/// The start of a JSON line as a string inside a JSON object of its own.
fn wrap_in_json(line: &str, room: usize) -> String {
    let (head, tail) = JSON_CUT;
    let mut wrapped = String::from(head);
    for c in line.chars() {
        let quoted = matches!(c, '"' | '\\');
        if wrapped.len() + usize::from(quoted) + c.len_utf8() + tail.len() > room {
            break;
        }
        if quoted {
            wrapped.push('\\');
        }
        wrapped.push(c);
    }
    wrapped.push_str(tail);
    wrapped
}

/// Writes control characters, and the marks that reorder or break lines, as `\u{…}`. In a JSON line there are none
/// outside of its strings, and inside JSON's own escaping has already taken those below a blank; the rest is written as
/// `\uXXXX`, which is valid in both formats.
fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(unsafe_to_show) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if unsafe_to_show(c) {
            // Writing to a String cannot fail.
            let _ = write!(escaped, "\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

fn unsafe_to_show(c: char) -> bool {
    // Control characters; line and paragraph separators; bidirectional overrides and isolates.
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The longest prefix of at most `most` bytes that ends between two characters.
fn prefix(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn telemetry(log: &str, format: LogFormat) -> Telemetry {
        Telemetry {
            log: log.to_owned(),
            format,
            models: Vec::new(),
            otlp: None,
            otlp_headers: Vec::new(),
            trace_ratio: 0.0,
            trace_queue: 1,
        }
    }

    fn logged(format: LogFormat, log: &str, act: impl FnOnce()) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let telemetry = telemetry(log, format);
        tracing::subscriber::with_default(subscriber(&telemetry, move || writer.clone()).unwrap(), act);
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        let text = "first\nFORGED line \u{1b}[31m\u{9b}2J \u{2028} \u{202e}";
        for format in [LogFormat::Text, LogFormat::Json] {
            let out = logged(format, "info", || tracing::info!(path = text, error = %text, "said {text}"));
            assert_eq!(out.lines().count(), 1, "{out:?}");
            assert!(!out.trim_end_matches('\n').chars().any(unsafe_to_show), "{out:?}");
            assert!(out.contains("FORGED"), "{out:?}");
        }
    }

    #[test]
    fn json_lines_are_json_even_when_they_were_cut() {
        for size in [10, 20_000] {
            let out = logged(LogFormat::Json, "info", || {
                tracing::info!(text = "\"\\ü\u{7f}\n".repeat(size), "long");
            });
            assert!(out.len() <= LONGEST_LINE, "{}", out.len());
            let value: serde_json::Value = serde_json::from_str(&out).unwrap();
            assert_eq!(value.get("cut").is_some(), size > 10, "{out}");
        }
    }

    #[test]
    fn long_text_lines_are_cut_and_say_so() {
        let out = logged(LogFormat::Text, "info", || tracing::info!("{}", "ü".repeat(20_000)));
        assert!(out.len() <= LONGEST_LINE && out.len() > LONGEST_LINE - 8, "{}", out.len());
        assert!(out.ends_with(" [cut]\n"));
    }

    #[test]
    fn the_filter_decides_what_is_written() {
        let out = logged(LogFormat::Text, "warn", || {
            tracing::info!("quiet");
            tracing::warn!("loud");
        });
        assert!(out.contains("loud") && !out.contains("quiet"), "{out}");
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_an_error() {
        let telemetry = telemetry("a=b=c", LogFormat::Text);
        assert!(matches!(init(&telemetry), Err(InitError::Filter(_))));
    }

    proptest! {
        #[test]
        fn any_text_gives_one_clean_line_within_the_limit(text in ".{0,40}", times in 1usize..2000) {
            for format in [LogFormat::Text, LogFormat::Json] {
                let line = clean(&text.repeat(times), format);
                prop_assert!(line.len() < LONGEST_LINE);
                prop_assert!(!line.chars().any(unsafe_to_show));
            }
        }
    }
}
