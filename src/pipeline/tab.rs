//! What upstream may bill although it did not tell: counted here when an answer ends without usage, because the client left,
//! the upstream broke off, or the server never sends any.
//!
//! A [`Tab`] is open from the moment a request goes upstream. Whoever learns the usage, or that nothing can be billed, closes it;
//! one that is dropped open writes its estimate into the record. So no way out of a call, a cancelled task included, leaves the
//! money of a call unrecorded.
//!
//! A stream shows what was written of it. A whole answer shows nothing until it comes: where a hard budget holds what it may cost,
//! one that nobody waited for counts as the most, since a budget that counted less could be got around by leaving; where none does,
//! there is nothing to get around, and what came of it counts by its length.

use bytes::Bytes;

use super::reached::Reached;
use crate::account::Record;
use crate::dialect::{StreamReader, Usage, Written};
use crate::price::count;
use crate::store::Tokens;
use crate::upstream::{Outgoing, UpstreamError};

/// Bytes of a token, about, in English text.
const TOKEN_BYTES: u64 = 4;

/// See the module.
pub(super) struct Tab {
    record: Record,
    model: String,
    /// The request's body.
    asked: Bytes,
    /// Output tokens that are billed at most.
    most: u64,
    reached: Reached,
    /// Bytes of a whole answer that have come; `None` while a stream is waited for.
    came: Option<u64>,
    /// Reads the answer, if it is a stream.
    pub(super) reader: Option<StreamReader>,
    open: bool,
}

impl Tab {
    pub(super) fn open(record: Record, model: String, asked: Bytes, most: u64) -> Self {
        Self { record, model, asked, most, reached: Reached::default(), came: None, reader: None, open: true }
    }

    /// The request's body, on its way.
    pub(super) fn outgoing(&self) -> Outgoing {
        self.reached.body(self.asked.clone())
    }

    /// The usage is known, or there is none to be known.
    pub(super) fn close(&mut self) {
        self.open = false;
    }

    /// The answer is a whole one: while it is written, nothing is seen of it.
    pub(super) fn whole(&mut self) {
        self.came.get_or_insert(0);
    }

    /// So many bytes more of a whole answer have come.
    pub(super) fn came(&mut self, bytes: usize) {
        self.came = Some(self.came.unwrap_or(0).saturating_add(bytes as u64));
    }

    /// No answer came, or not all of it, or none that can be read. What never reached the upstream costs nothing; what it has taken
    /// in may be billed.
    pub(super) fn failed(&mut self, error: UpstreamError) {
        match error {
            UpstreamError::Unreachable | UpstreamError::ConnectTimeout | UpstreamError::Busy => self.close(),
            UpstreamError::TooLarge | UpstreamError::Rubbish => self.unread(),
            // The upstream itself gave up.
            UpstreamError::Closed | UpstreamError::BrokenOff => {
                if std::mem::take(&mut self.open) {
                    self.estimate(self.by_length());
                }
            }
            // Nobody waits any more for an upstream that may go on: see `drop`.
            UpstreamError::FirstByteTimeout | UpstreamError::IdleTimeout | UpstreamError::TotalTimeout => {}
        }
    }

    /// A whole answer came, which tells its usage or does not.
    pub(super) fn answered(&mut self, usage: Option<Usage>, body: &[u8]) {
        match usage {
            Some(usage) => billed(&self.record, &usage),
            None => self.estimate(count::answer(&self.model, body)),
        }
        self.close();
    }

    /// A whole answer came in a form that cannot be read. A budget that did not count the most could be got around.
    pub(super) fn unread(&mut self) {
        if std::mem::take(&mut self.open) {
            self.estimate(self.most);
        }
    }

    /// A stream has ended, in order or not.
    pub(super) fn streamed(&mut self, reader: &StreamReader) {
        self.so_far(reader);
        self.close();
    }

    fn so_far(&self, reader: &StreamReader) {
        match reader.usage() {
            Some(usage) => billed(&self.record, &usage),
            None => self.estimate(written(&self.model, &reader.written())),
        }
    }

    /// Output by the length of what came of a whole answer, which is not taken apart before it has ended.
    fn by_length(&self) -> u64 {
        (self.came.unwrap_or(0) / TOKEN_BYTES).min(self.most)
    }

    fn estimate(&self, output: u64) {
        let input = count::request(&self.model, &self.asked);
        self.record.tokens(Tokens { input, output, ..Tokens::default() }, "estimated");
    }
}

/// Writes down what upstream told, at the tier of service that it told.
pub(super) fn billed(record: &Record, usage: &Usage) {
    record.with(|row| row.service = usage.billed_as().map(Into::into));
    record.tokens(usage.tokens, "billed");
}

/// Tokens of what was written, as far as it was kept; of the rest by its length.
pub(super) fn written(model: &str, written: &Written) -> u64 {
    let (bytes, events) = written.unkept;
    count::text(model, &written.text).saturating_add(bytes / 4).saturating_add(events)
}

impl Drop for Tab {
    fn drop(&mut self) {
        if !self.open || !self.reached.is_so() {
            return;
        }
        match &self.reader {
            // Some servers tell the usage so far with each event.
            Some(reader) => self.so_far(reader),
            // A stream that had not begun: who leaves stops it.
            None if self.came.is_none() => self.estimate(0),
            // A whole answer may be written to its end, and billed, for nobody.
            None if self.record.is_held() => self.estimate(self.most),
            None => self.estimate(self.by_length()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::BodyExt;

    use super::*;
    use crate::clock::Clock;
    use crate::telemetry::metrics::Metrics;

    #[tokio::test]
    async fn a_whole_answer_that_did_not_arrive_counts_by_what_came_or_as_the_longest_one() {
        use UpstreamError::{BrokenOff, Busy, Closed, IdleTimeout, Rubbish, TooLarge};
        for (came, error, output, source) in [
            (None, Some(BrokenOff), 0, Some("estimated")),
            (Some(0), Some(Closed), 0, Some("estimated")),
            (Some(2_000), Some(BrokenOff), 500, Some("estimated")),
            (Some(2_000), Some(IdleTimeout), 500, Some("estimated")),
            (Some(2_000), None, 500, Some("estimated")),
            (Some(20_000), Some(BrokenOff), 900, Some("estimated")),
            (Some(20), Some(Rubbish), 900, Some("estimated")),
            (Some(20), Some(TooLarge), 900, Some("estimated")),
            (Some(0), Some(Busy), 0, None),
        ] {
            let metrics = Arc::new(Metrics::new(std::iter::empty(), std::iter::empty()).unwrap());
            let record = Record::detached(&Clock::system(), &metrics);
            record.upstream_sent("test");
            let mut tab = Tab::open(record.clone(), "m".to_owned(), Bytes::from_static(b"{}"), 900);
            tab.outgoing().collect().await.unwrap();
            if let Some(bytes) = came {
                tab.whole();
                tab.came(bytes / 2);
                tab.came(bytes / 2);
            }
            error.into_iter().for_each(|error| tab.failed(error));
            drop(tab);
            record.with(|row| {
                assert_eq!((row.tokens.output, row.tokens_source.as_deref()), (output, source), "{came:?} {error:?}");
            });
        }
    }

    #[test]
    fn an_answer_that_cannot_be_read_counts_as_the_longest_one_and_an_error_as_none() {
        for (is_error, output) in [(false, 900), (true, 0)] {
            let metrics = Arc::new(Metrics::new(std::iter::empty(), std::iter::empty()).unwrap());
            let record = Record::detached(&Clock::system(), &metrics);
            record.upstream_sent("test");
            let mut tab = Tab::open(record.clone(), "m".to_owned(), Bytes::from_static(b"{}"), 900);
            if is_error {
                tab.close();
            }
            tab.unread();
            drop(tab);
            record.with(|row| assert_eq!(row.tokens.output, output));
        }
    }
}
