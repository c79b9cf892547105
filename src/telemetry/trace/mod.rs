//! Traces: one span for each stage of a request below one for the whole, made when its record ends and sent to a collector by
//! OTLP over HTTP.
//!
//! Nothing on the way of a request waits for any of it: what has no room in the queue is dropped and counted. A request that is
//! not sampled pays for one look at an empty cell in each stage. Must never contain a prompt, an answer, a credential, or what a
//! caller says of its users.

mod context;
mod export;
mod spans;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderMap;
use prometheus::{IntCounter, IntCounterVec};
use tokio::sync::mpsc;

use self::context::Context;
pub use self::context::{SpanId, TraceId, pass_on};
pub use self::export::{Exporter, Settings};
use super::catalogue::Make;
use super::metrics::MetricsError;
use crate::ids::RequestId;
use crate::store::LedgerRow;

/// Most stages of one request that become spans; a list of embeddings that is asked for anew has the most.
const MOST_MARKS: usize = 64;

/// A part of a request's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Who calls, and has it requests left.
    Authenticate,
    /// The body is read and understood.
    Read,
    /// An equal request is looked for.
    Lookup,
    /// The leader of an equal request in flight is waited for.
    Coalesce,
    /// A vector of the prompt is made.
    Embed,
    /// The nearest prompts are looked for.
    Search,
    /// The candidates are weighed.
    Decide,
    /// Another replica may be asking upstream for the same.
    Turn,
    /// Limits and budgets are asked.
    Admit,
    /// The call upstream, to the end of its answer.
    Upstream,
    /// The answer is stored.
    Store,
    /// The body of the reply is handed over.
    Reply,
}

impl Stage {
    /// Name of its span.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Authenticate => "authenticate",
            Self::Read => "read",
            Self::Lookup => "lookup",
            Self::Coalesce => "coalesce",
            Self::Embed => "embed",
            Self::Search => "search",
            Self::Decide => "decide",
            Self::Turn => "turn",
            Self::Admit => "admit",
            Self::Upstream => "upstream",
            Self::Store => "store",
            Self::Reply => "reply",
        }
    }
}

/// The series about spans.
#[derive(Clone)]
pub struct TraceSeries {
    /// `trace_spans_exported_total`
    pub exported: IntCounter,
    /// `trace_spans_dropped_total{reason}`
    pub dropped: IntCounterVec,
}

impl TraceSeries {
    pub(super) fn new(make: &Make<'_>) -> Result<Self, MetricsError> {
        Ok(Self {
            exported: make.counter("trace_spans_exported_total", "Spans that the collector has taken.")?,
            dropped: make.counters(
                "trace_spans_dropped_total",
                "Spans that were not exported: the queue was full, the collector did not answer or refused them.",
                &["reason"],
            )?,
        })
    }
}

/// Begins traces and takes them in when they end. Clones share everything.
#[derive(Clone)]
pub struct Tracer(Arc<Sampler>);

struct Sampler {
    ratio: f64,
    queue: mpsc::Sender<Finished>,
    series: TraceSeries,
}

/// A request that has ended.
pub(super) struct Finished {
    context: Context,
    row: LedgerRow,
    marks: Vec<Mark>,
    /// From its beginning.
    replied: Option<Duration>,
    ended: Duration,
}

impl Finished {
    /// How many spans it becomes.
    fn spans(&self) -> u64 {
        spans_of(self.marks.len(), self.replied)
    }
}

fn spans_of(marks: usize, replied: Option<Duration>) -> u64 {
    1 + u64::from(replied.is_some()) + marks as u64
}

impl Tracer {
    /// Samples `ratio` of the requests that come without a trace of their own, and keeps `room` ended ones until `Exporter` takes
    /// them.
    fn new(ratio: f64, room: usize, series: TraceSeries) -> (Self, mpsc::Receiver<Finished>) {
        let (queue, ended) = mpsc::channel(room.max(1));
        (Self(Arc::new(Sampler { ratio, queue, series })), ended)
    }

    /// The trace of a request, if it is to have one: by the word of its caller, or by chance. Who the caller is may not be known
    /// yet; [`Trace::is_by_chance`] says whether it would be there without that word.
    pub fn begin(&self, request: RequestId, headers: &HeaderMap, began: Instant) -> Option<Trace> {
        let by_chance = draw(request) < self.0.ratio;
        let context = match Context::of_caller(headers) {
            Some((context, sampled)) => sampled.then_some(context)?,
            None => by_chance.then(|| Context::root(request))?,
        };
        let inner = Inner { context, by_chance, began, marks: Mutex::default(), tracer: self.clone() };
        Some(Trace(Arc::new(inner)))
    }
}

/// A number from 0 to below 1 from the part of the id that is chance.
#[expect(clippy::cast_precision_loss, reason = "48 bits fit")]
fn draw(request: RequestId) -> f64 {
    let chance = request.to_bytes().into_iter().skip(10).fold(0_u64, |sum, byte| (sum << 8) | u64::from(byte));
    chance as f64 / (1_u64 << 48) as f64
}

/// The trace of one request under way. Clones share it.
#[derive(Clone)]
pub struct Trace(Arc<Inner>);

struct Inner {
    context: Context,
    by_chance: bool,
    began: Instant,
    marks: Mutex<Vec<Mark>>,
    tracer: Tracer,
}

/// A stage that is over, by times from the beginning of its request.
#[derive(Clone, Copy, Debug)]
struct Mark {
    stage: Stage,
    span: SpanId,
    began: Duration,
    /// When the head of upstream's answer came.
    head: Option<Duration>,
    ended: Duration,
}

impl Trace {
    /// Its id.
    pub fn id(&self) -> TraceId {
        self.0.context.trace
    }

    /// Whether its request was drawn, besides what its caller wished.
    pub fn is_by_chance(&self) -> bool {
        self.0.by_chance
    }

    /// Hands it over with what became of its request: `replied` when the head of the reply was ready, `ended` when all was over.
    pub fn end(&self, row: &LedgerRow, replied: Option<Duration>, ended: Duration) {
        let marks = std::mem::take(&mut *self.0.marks.lock().unwrap_or_else(PoisonError::into_inner));
        let Sampler { queue, series, .. } = &*self.0.tracer.0;
        match queue.try_reserve() {
            Ok(place) => {
                place.send(Finished { context: self.0.context.clone(), row: row.clone(), marks, replied, ended });
            }
            Err(_) => series.dropped.with_label_values(&["queue"]).inc_by(spans_of(marks.len(), replied)),
        }
    }
}

/// The trace of a request if it has one; what stages are marked in.
#[derive(Clone, Default)]
pub struct Marks(Option<Trace>);

impl Marks {
    /// In this trace, or nowhere.
    pub fn of(trace: Option<&Trace>) -> Self {
        Self(trace.cloned())
    }

    /// Begins a stage, which ends when what is returned is dropped.
    #[must_use = "a stage ends when this is dropped"]
    pub fn stage(&self, stage: Stage) -> Open {
        let open = |trace: &Trace| {
            let began = trace.0.began.elapsed();
            (trace.clone(), Mark { stage, span: context::span_id(), began, head: None, ended: began })
        };
        Open(self.0.as_ref().map(open))
    }
}

/// A stage that is under way.
#[derive(Default)]
pub struct Open(Option<(Trace, Mark)>);

impl Open {
    /// The head of upstream's answer has come.
    pub fn head(&mut self) {
        if let Some((trace, mark)) = &mut self.0 {
            mark.head = Some(trace.0.began.elapsed());
        }
    }

    /// Puts this stage as the parent into the headers of a request; without a trace they stay as they are.
    pub fn tell(&self, headers: &mut HeaderMap) {
        if let Some((trace, mark)) = &self.0 {
            trace.0.context.write(mark.span, headers);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some((trace, mut mark)) = self.0.take() {
            mark.ended = trace.0.began.elapsed();
            let mut marks = trace.0.marks.lock().unwrap_or_else(PoisonError::into_inner);
            if marks.len() < MOST_MARKS {
                marks.push(mark);
            }
        }
    }
}
