//! What a request costs whose answer is passed on byte for byte: its usage is looked for in what passes.
//!
//! A [`Meter`] is open from the moment the request goes upstream, like a [`super::tab::Tab`]. Where the answer tells its usage, that
//! is what was billed. Where a client leaves or a stream breaks off before that, the tokens are estimated from what was asked and
//! what has passed, on the routes whose answers are text. Where that says nothing (an answer in sound, one that is made in the
//! background, or under a hard budget a whole one that nobody waited for), the most that the request may cost counts: it is what was
//! held, and a budget that counted less could be got around. What has no price is `unknown`: its cost is none, not
//! zero, and it counts as unpriced.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::reached::Reached;
use super::tab::{billed, written};
use crate::account::Record;
use crate::dialect::PassedReader;
use crate::price::{PriceBook, count};
use crate::store::Tokens;
use crate::upstream::UpstreamError;

/// A request whose body was read.
pub(super) struct Passed {
    pub(super) model: String,
    pub(super) body: Bytes,
    pub(super) reached: Reached,
    pub(super) stream: bool,
    /// The answer is made whether or not somebody waits for it.
    pub(super) background: bool,
    /// Output tokens that are billed at most; `None` if no price was held.
    pub(super) most: Option<u64>,
}

/// What the answers of a route are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    /// What a model writes, so that tokens can be told from its length.
    Text,
    Sound,
    Pictures,
    Vectors,
    Other,
}

impl Made {
    /// By the route's path below `/v1`.
    pub(super) fn on(path: &str) -> Self {
        match path {
            "/messages" | "/responses" => Self::Text,
            "/audio/speech" => Self::Sound,
            "/embeddings" => Self::Vectors,
            path if path.starts_with("/images/") => Self::Pictures,
            _ => Self::Other,
        }
    }

    /// So many tokens of output.
    fn output(self, count: u64) -> Tokens {
        match self {
            Self::Text | Self::Other => Tokens { output: count, ..Tokens::default() },
            Self::Sound => Tokens { audio_output: count, ..Tokens::default() },
            Self::Pictures => Tokens { image_output: count, ..Tokens::default() },
            Self::Vectors => Tokens::default(),
        }
    }
}

impl Passed {
    /// What may be written although nobody waits for it.
    fn unstoppable(&self) -> Option<u64> {
        self.most.filter(|_| self.background)
    }
}

/// See the module.
pub(super) struct Meter {
    record: Record,
    prices: Arc<PriceBook>,
    asked: Option<Passed>,
    made: Made,
    reader: Option<PassedReader>,
    /// The upstream broke off.
    broken: bool,
    open: bool,
}

impl Meter {
    pub(super) fn open(record: Record, prices: Arc<PriceBook>, asked: Option<Passed>, made: Made) -> Self {
        Self { record, prices, asked, made, reader: None, broken: false, open: true }
    }

    /// Nothing came back. What never reached the upstream costs nothing; what it has taken in may be billed.
    pub(super) fn failed(&mut self, error: UpstreamError) {
        if matches!(error, UpstreamError::Unreachable | UpstreamError::ConnectTimeout | UpstreamError::Busy) {
            self.open = false;
        }
        self.broken |= error == UpstreamError::Closed;
    }

    /// The upstream broke off in the middle of its answer.
    pub(super) fn broke_off(&mut self) {
        self.broken = true;
    }

    /// The head came. An answer that is none costs nothing.
    pub(super) fn answered(&mut self, status: StatusCode, headers: &HeaderMap) {
        if status.is_success() {
            self.reader = Some(PassedReader::new(headers));
        } else {
            self.open = false;
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        if let Some(reader) = &mut self.reader {
            reader.push(bytes);
        }
    }

    /// The answer has ended in order.
    pub(super) fn end(mut self) {
        self.settle(true);
    }

    fn settle(&mut self, ended: bool) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        let record = &self.record;
        // Nobody waited for the end of a whole answer, which may be written and billed all the same.
        let whole = self.asked.as_ref().is_some_and(|asked| !asked.stream);
        let left = whole && !ended && !self.broken && record.is_held();
        let Some(reader) = &self.reader else {
            if self.asked.as_ref().is_none_or(|asked| asked.reached.is_so()) {
                self.estimate(Some(0).filter(|_| !left));
            }
            return;
        };
        if let Some(model) = reader.model() {
            record.with(|row| row.model_answered = Some(model.to_owned()));
            // A request that was not read is priced by what its answer is from.
            if let (None, Some(price)) = (&self.asked, self.prices.price(model, record.started_at())) {
                record.priced(price);
            }
        }
        let model = self.asked.as_ref().map_or("", |asked| &asked.model);
        let usage = reader.usage().map(|usage| if self.made == Made::Pictures { usage.in_pictures() } else { usage });
        match usage {
            Some(usage) if reader.is_settled() || self.made != Made::Text => billed(record, &usage),
            Some(usage) => {
                let told = usage.tokens.output.saturating_add(usage.tokens.reasoning);
                let written = written(model, &reader.written());
                let all = self.asked.as_ref().and_then(Passed::unstoppable).unwrap_or(0).max(written);
                let more = all.saturating_sub(told);
                record.with(|row| row.service = usage.billed_as().map(Into::into));
                let tokens = usage.tokens.plus(&Tokens { output: more, ..Tokens::default() });
                record.tokens(tokens, "estimated");
            }
            // A whole document that does not tell may be of something that is made in the background.
            None if !reader.is_read() || ((ended || left) && !reader.is_stream()) => self.estimate(None),
            None => self.estimate(Some(written(model, &reader.written()))),
        }
    }

    /// `output` is what was written, if that can be told.
    fn estimate(&self, output: Option<u64>) {
        let output = output.filter(|_| self.made == Made::Text);
        let known = self.asked.as_ref().and_then(|asked| {
            let output = asked.unstoppable().or(output).or(asked.most)?;
            Some((asked, self.made.output(output)))
        });
        match known {
            Some((Passed { model, body, .. }, output)) => {
                self.record.tokens(Tokens { input: count::request(model, body), ..output }, "estimated");
            }
            None => self.record.tokens(Tokens::default(), "unknown"),
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.settle(false);
    }
}

#[cfg(test)]
mod tests {
    use http::header::{CONTENT_TYPE, HeaderValue};

    use super::*;
    use crate::clock::Clock;
    use crate::telemetry::metrics::Metrics;

    /// The record of a request whose answer has passed so far.
    fn passed(kind: &'static str, body: &str, ended: bool) -> Record {
        let asked = Passed {
            model: "m".to_owned(),
            body: Bytes::from_static(b"{}"),
            reached: Reached::default(),
            stream: false,
            background: false,
            most: None,
        };
        of(asked, Made::Text, kind, body, ended)
    }

    fn of(asked: Passed, made: Made, kind: &'static str, body: &str, ended: bool) -> Record {
        let metrics = Arc::new(Metrics::new(std::iter::empty(), std::iter::empty()).unwrap());
        let record = Record::detached(&Clock::system(), &metrics);
        record.upstream_sent("test");
        let prices = Arc::new(PriceBook::load(None).unwrap());
        let mut meter = Meter::open(record.clone(), prices, Some(asked), made);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        meter.answered(StatusCode::OK, &headers);
        body.as_bytes().chunks(7).for_each(|part| meter.push(part));
        if ended {
            meter.end()
        } else {
            drop(meter)
        }
        record
    }

    #[test]
    fn the_tier_of_service_is_in_the_row_and_in_its_attempt() {
        let body = r#"{"usage":{"input_tokens":5,"output_tokens":2},"service_tier":"flex"}"#;
        passed("application/json", body, true).with(|row| {
            assert_eq!(row.service.as_deref(), Some("flex"));
            let attempt = row.attempts.first().unwrap();
            assert_eq!((attempt.service.as_deref(), attempt.tokens.input, attempt.tokens.output), (Some("flex"), 5, 2));
        });
    }

    #[test]
    fn tokens_of_pictures_are_not_those_of_text() {
        let asked = || Passed {
            model: "m".to_owned(),
            body: Bytes::from_static(b"{}"),
            reached: Reached::default(),
            stream: false,
            background: false,
            most: None,
        };
        let body = r#"{"usage":{"input_tokens":23,"output_tokens":1056}}"#;
        for (made, tokens) in [
            (Made::Pictures, Tokens { input: 23, image_output: 1_056, ..Tokens::default() }),
            (Made::Text, Tokens { input: 23, output: 1_056, ..Tokens::default() }),
        ] {
            of(asked(), made, "application/json", body, true).with(|row| assert_eq!(row.tokens, tokens, "{made:?}"));
        }
    }

    #[test]
    fn an_answer_of_a_priced_request_that_does_not_tell_counts_as_the_most_it_may_be() {
        let asked = |background| {
            let body = Bytes::from_static(br#"{"input":"one two three"}"#);
            Passed {
                model: "m".to_owned(),
                body,
                reached: Reached::default(),
                stream: false,
                background,
                most: Some(700),
            }
        };
        let queued = r#"{"status":"queued","usage":null}"#;
        let delta = "data: {\"type\":\"response.output_text.delta\",\"delta\":\"one two\"}\n\n";
        let text = |output| Tokens { input: 3, output, ..Tokens::default() };
        let sound = Tokens { input: 3, audio_output: 700, ..Tokens::default() };
        for (background, made, kind, body, ended, tokens) in [
            (true, Made::Text, "application/json", queued, true, text(700)),
            (true, Made::Text, "application/json", &queued[..9], false, text(700)),
            (true, Made::Text, "text/event-stream", delta, false, text(700)),
            (false, Made::Text, "text/event-stream", delta, false, text(2)),
            (false, Made::Text, "application/json", queued, true, text(700)),
            (false, Made::Sound, "audio/mpeg", "xyz", true, sound),
            (false, Made::Sound, "audio/mpeg", "xyz", false, sound),
            (false, Made::Vectors, "application/json", "{}", true, text(0)),
        ] {
            of(asked(background), made, kind, body, ended).with(|row| {
                assert_eq!(row.tokens_source.as_deref(), Some("estimated"), "{body} {made:?}");
                assert_eq!(row.tokens, tokens, "{background} {body} {made:?}");
            });
        }
    }

    #[test]
    fn what_is_known_of_an_answer_depends_on_how_it_ended() {
        let told = r#"{"usage":{"input_tokens":5,"output_tokens":2}}"#;
        let start =
            "data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}\n\n";
        let delta = "data: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"one two three\"}}\n\n";
        let end = "data: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":9}}\n\n";
        for (kind, body, ended, source, input, output) in [
            ("application/json", told.to_owned(), true, "billed", 5, 2),
            // It was whole, only the client did not wait for the end of the connection.
            ("application/json", told.to_owned(), false, "billed", 5, 2),
            ("application/json", told[..20].to_owned(), false, "estimated", 0, 5),
            ("application/json", "{\"status\":\"queued\",\"usage\":null}".to_owned(), true, "unknown", 0, 0),
            ("text/event-stream", format!("{start}{delta}{end}"), false, "billed", 5, 9),
            ("text/event-stream", format!("{start}{delta}"), false, "estimated", 5, 3),
            ("text/event-stream", format!("{start}{delta}"), true, "estimated", 5, 3),
            ("audio/mpeg", "xyz".to_owned(), false, "unknown", 0, 0),
        ] {
            passed(kind, &body, ended).with(|row| {
                assert_eq!(row.tokens_source.as_deref(), Some(source), "{body}");
                assert_eq!((row.tokens.input, row.tokens.output), (input, output), "{body}");
            });
        }
    }
}
