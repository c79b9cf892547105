//! What upstream may bill although it did not tell: counted here when an answer ends without usage, because the client left,
//! the upstream broke off, or the server never sends any.
//!
//! A [`Tab`] is open from the moment a request goes upstream. Whoever learns the usage, or that nothing can be billed, closes it;
//! one that is dropped open writes its estimate into the record. So no way out of a call, a cancelled task included, leaves the
//! money of a call unrecorded.

use bytes::Bytes;

use crate::account::Record;
use crate::dialect::{StreamReader, Usage, Written};
use crate::price::count;
use crate::store::Tokens;
use crate::upstream::UpstreamError;

/// See the module.
pub(super) struct Tab {
    record: Record,
    model: String,
    /// The request's body.
    asked: Bytes,
    /// Reads the answer, if it is a stream.
    pub(super) reader: Option<StreamReader>,
    open: bool,
}

impl Tab {
    pub(super) fn open(record: Record, model: String, asked: Bytes) -> Self {
        Self { record, model, asked, reader: None, open: true }
    }

    /// The usage is known, or there is none to be known.
    pub(super) fn close(&mut self) {
        self.open = false;
    }

    /// Nothing came back. What never reached the upstream costs nothing; what it has taken in may be billed.
    pub(super) fn failed(&mut self, error: UpstreamError) {
        if matches!(error, UpstreamError::Unreachable | UpstreamError::ConnectTimeout | UpstreamError::Busy) {
            self.close();
        }
    }

    /// A whole answer came, which tells its usage or does not.
    pub(super) fn answered(&mut self, usage: Option<Usage>, body: &[u8]) {
        match usage {
            Some(usage) => self.record.tokens(usage.tokens, "billed"),
            None => self.estimate(count::answer(&self.model, body)),
        }
        self.close();
    }

    /// A stream has ended, in order or not.
    pub(super) fn streamed(&mut self, reader: &StreamReader) {
        self.so_far(reader);
        self.close();
    }

    fn so_far(&self, reader: &StreamReader) {
        match reader.usage() {
            Some(usage) => self.record.tokens(usage.tokens, "billed"),
            None => self.estimate(self.written(&reader.written())),
        }
    }

    fn written(&self, written: &Written) -> u64 {
        let (bytes, events) = written.unkept;
        count::text(&self.model, &written.text).saturating_add(bytes / 4).saturating_add(events)
    }

    fn estimate(&self, output: u64) {
        let input = count::request(&self.model, &self.asked);
        self.record.tokens(Tokens { input, output, ..Tokens::default() }, "estimated");
    }
}

impl Drop for Tab {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        match &self.reader {
            // Some servers tell the usage so far with each event.
            Some(reader) => self.so_far(reader),
            None => self.estimate(0),
        }
    }
}
