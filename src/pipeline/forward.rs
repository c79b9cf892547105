//! Forwarding a completion: the task that owns the upstream call.
//!
//! It reads the answer, hands it to all who wait, observes it on the way, and at the end stores it or says why not.
//! Because the task owns the call from the start, a client that leaves stops nothing; when all have left, the call is
//! dropped, which closes the connection to the upstream.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{timeout, timeout_at};

use super::limits::Needs;
use super::reply::{AnswerHead, Whole};
use super::tab::Tab;
use super::{DataPlane, End, Head};
use crate::account::Record;
use crate::cache::flight::{Frame, Pilot};
use crate::cache::outcome::{Outcome, Reason};
use crate::cache::{Committed, Considered, Epoch, Fresh, FreshAnswer};
use crate::call::Undo;
use crate::dialect::sse::{Event, Framer, Limits as SseLimits, Tail};
use crate::dialect::{Dialect, Finish, Finished, Rendered, StreamReader, UsageView, inspect_whole};
use crate::shared::LeaseGuard;
use crate::store::Tokens;
use crate::telemetry::trace::{Open, Stage};
use crate::upstream::{Answer, Outgoing, UpstreamError, headers};

/// How long to wait after `[DONE]` for the end of the body, so that the connection can be used again.
const LINGER: Duration = Duration::from_millis(500);

/// Bytes after `[DONE]` that are still taken.
const HELD_BYTES: usize = 64 << 10;

/// One completion on its way upstream.
pub(super) struct Job {
    pub(super) dialect: Dialect,
    /// Model asked for.
    pub(super) model: String,
    /// What it may need at most.
    pub(super) needs: Needs,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    /// The call upstream, to the end of its answer.
    pub(super) open: Open,
    pub(super) body: Bytes,
    pub(super) stream: bool,
    /// We asked for usage and the client did not.
    pub(super) hide_usage: bool,
    /// Takes what asks for usage out of the body again.
    pub(super) usage_added: Option<Undo>,
    /// It was refused because it asked for usage, and goes out again without that.
    pub(super) again: bool,
    /// The request's `n`.
    pub(super) choices: usize,
    pub(super) deadline: tokio::time::Instant,
    /// What to store if the answer is fit for it; its body and finish are filled in.
    pub(super) fresh: Option<Fresh>,
    /// What the semantic tier had seen, to learn from.
    pub(super) considered: Option<Box<Considered>>,
    /// From before upstream is asked.
    pub(super) epoch: Epoch,
    /// A hit is asked again.
    pub(super) audit: bool,
    /// Keeps other replicas waiting until the call has ended.
    #[expect(dead_code, reason = "held for its end")]
    pub(super) lease: Option<LeaseGuard>,
    pub(super) record: Record,
}

/// How a call ended, to be told to all who wait.
#[expect(clippy::large_enum_variant, reason = "there is one for each call, moved once")]
enum Landing {
    /// No answer.
    Failed(UpstreamError),
    /// A whole answer.
    Whole(Whole),
    /// A stream whose head and events have been handed out.
    Streamed(End),
}

impl Job {
    /// Leaves the question for usage out: the body is the client's own then, and so is what the client sees.
    fn ask_no_usage(&mut self) {
        if let Some(added) = self.usage_added.take() {
            self.body = added.apply(&self.body);
            self.hide_usage = false;
        }
    }
}

impl DataPlane {
    /// Flies to the end, or until nobody waits any more.
    pub(super) async fn fly(self: Arc<Self>, pilot: Pilot<Head, End>, mut job: Job) {
        let record = job.record.clone();
        let landing = {
            let work = timeout_at(job.deadline, self.call(&pilot, &mut job));
            tokio::select! {
                landed = work => landed.unwrap_or(Landing::Failed(UpstreamError::TotalTimeout)),
                () = pilot.abandoned() => {
                    self.metrics.upstream_cancelled();
                    return;
                }
            }
        };
        match landing {
            Landing::Failed(error) => {
                record.outcome(Outcome::Failed, None, None);
                pilot.fail_followers(Head::Failed(error), End::Broken(error));
            }
            Landing::Whole(whole) => {
                // A key that is not known or a model that is not there is so for all who asked the same; other failures
                // others may not meet. 400, 403 and 422 may be due to headers or to members that are not in the key
                // (`user`, `metadata`, `service_tier`), which the others need not have.
                let shared = matches!(whole.head.status.as_u16(), 200..=299 | 401 | 404);
                let head = Head::Whole(Arc::new(whole));
                if shared {
                    pilot.head(head);
                    pilot.end(End::Complete);
                } else {
                    pilot.fail_followers(head, End::Complete);
                }
            }
            Landing::Streamed(end) => pilot.end(end),
        }
    }

    /// Asks, and once more without asking for usage if that is what upstream refuses: without us the request would have worked.
    async fn call(&self, pilot: &Pilot<Head, End>, job: &mut Job) -> Landing {
        if job.usage_added.is_some() && self.upstream.refuses_usage(&job.model) {
            job.ask_no_usage();
        }
        let headers = job.usage_added.is_some().then(|| job.headers.clone());
        match (self.ask_once(pilot, job).await, headers) {
            (Landing::Whole(whole), Some(headers)) if names_usage(whole.head.status, &whole.body) => {
                job.headers = headers;
                job.ask_no_usage();
                job.again = true;
                self.ask_once(pilot, job).await
            }
            (landing, _) => landing,
        }
    }

    async fn ask_once(&self, pilot: &Pilot<Head, End>, job: &mut Job) -> Landing {
        let most = job.needs.most_output(job.record.price().as_deref(), self.assumed_output);
        let mut tab = Tab::open(job.record.clone(), job.model.clone(), job.body.clone(), most);
        if !job.stream {
            tab.whole();
        }
        let answer = match self.send(job, tab.outgoing()).await {
            Ok(answer) => answer,
            Err(error) => {
                tab.failed(error);
                return Landing::Failed(error);
            }
        };
        let status = answer.response.status();
        if !status.is_success() {
            tab.close();
        } else if job.again {
            self.upstream.refused_usage(&job.model);
        }
        let (parts, body) = answer.response.into_parts();
        let head = AnswerHead { status, headers: headers::towards_client(&parts.headers), usage: Arc::default() };
        let is_stream = is_event_stream(&parts.headers, job.stream);
        let coded = is_coded(&parts.headers);
        let landing = if is_stream && status == StatusCode::OK && !coded {
            let usage = Arc::clone(&head.usage);
            pilot.head(Head::Stream(Arc::new(head)));
            self.stream(pilot, job, body, tab, usage).await
        } else {
            self.whole(job, head, body, coded, tab).await
        };
        drop(answer.permit);
        landing
    }

    async fn send(&self, job: &mut Job, body: Outgoing) -> Result<Answer, UpstreamError> {
        let settings = self.upstream.settings();
        let wait = if job.stream { settings.first_byte_stream } else { settings.first_byte };
        job.record.upstream_sent(self.upstream.name());
        job.open = job.record.stage(Stage::Upstream);
        let mut headers = std::mem::take(&mut job.headers);
        self.tell_trace(&job.open, &mut headers);
        let answer = self.upstream.send(Method::POST, &job.path, headers, body, wait).await;
        job.record.upstream_answered(answer.as_ref().ok().map(|a| a.response.status().as_u16()));
        job.open.head();
        answer
    }

    async fn whole(&self, job: &mut Job, head: AnswerHead, body: Incoming, coded: bool, mut tab: Tab) -> Landing {
        let began = Instant::now();
        tab.whole();
        let read = self.read_whole(body, |bytes| tab.came(bytes)).await;
        job.record.upstream_waited(began.elapsed());
        drop(std::mem::take(&mut job.open));
        let body = match read {
            Ok(body) => body,
            Err(error) => {
                tab.failed(error);
                return Landing::Failed(error);
            }
        };
        let mut whole = Whole { head, body, stored: None, not_stored: None, usage: None };
        if whole.head.status == StatusCode::OK && !coded {
            let finished = inspect_whole(job.dialect, &whole.body).expecting(job.choices);
            if finished.model.is_none() && serde_json::from_slice::<serde::de::IgnoredAny>(&whole.body).is_err() {
                tab.failed(UpstreamError::Rubbish);
                return Landing::Failed(UpstreamError::Rubbish);
            }
            whole.usage = finished.usage.map(|usage| usage.tokens);
            tab.answered(finished.usage, &whole.body);
            match self.settle(job, finished) {
                Ok(entry) => whole.stored = entry,
                Err(reason) => whole.not_stored = Some(reason),
            }
        } else {
            tab.unread();
        }
        Landing::Whole(whole)
    }

    /// Reads a body to its end, within the limits, and says at each part how long it is.
    pub(super) async fn read_whole(
        &self,
        mut body: Incoming,
        mut came: impl FnMut(usize) + Send,
    ) -> Result<Bytes, UpstreamError> {
        let limit = self.limits.response_bytes;
        let idle = self.upstream.settings().idle;
        let mut first = Bytes::new();
        let mut rest = Vec::new();
        loop {
            let frame = timeout(idle, body.frame()).await.map_err(|_| UpstreamError::IdleTimeout)?;
            let Some(frame) = frame else { break };
            let frame = frame.map_err(|_| UpstreamError::BrokenOff)?;
            let Ok(data) = frame.into_data() else { continue };
            came(data.len());
            if first.len() + rest.len() + data.len() > limit {
                return Err(UpstreamError::TooLarge);
            }
            if first.is_empty() {
                first = data;
            } else {
                if rest.is_empty() {
                    rest.extend_from_slice(&first);
                }
                rest.extend_from_slice(&data);
            }
        }
        Ok(if rest.is_empty() { first } else { rest.into() })
    }

    async fn stream(
        &self,
        pilot: &Pilot<Head, End>,
        job: &mut Job,
        mut body: Incoming,
        mut tab: Tab,
        usage: Arc<OnceLock<Tokens>>,
    ) -> Landing {
        let limits = SseLimits { line_bytes: self.limits.sse_line_bytes, event_bytes: self.limits.sse_event_bytes };
        let mut framer = Framer::new(limits);
        let view = if job.hide_usage { UsageView::Hidden } else { UsageView::AsSent };
        let reader = StreamReader::new(job.dialect, view, self.cache.settings().max_entry_bytes);
        // Held by the tab, which has to count when this is cancelled.
        let reader = tab.reader.insert(reader);
        let idle = self.upstream.settings().idle;
        let mut held = Vec::new();
        let mut linger = None;
        let broken = loop {
            let until = match linger {
                Some(until) => until,
                None if reader.is_done() => *linger.insert(tokio::time::Instant::now() + LINGER),
                None => tokio::time::Instant::now() + idle,
            };
            match timeout_at(until, body.frame()).await {
                Ok(Some(Ok(frame))) => {
                    let Ok(data) = frame.into_data() else { continue };
                    framer.push(data);
                }
                Ok(None) => {
                    framer.end();
                    break self.hand_out(pilot, &mut framer, reader, &mut held).await.err();
                }
                _ if reader.is_done() => break None,
                Ok(Some(Err(_))) => break Some(UpstreamError::BrokenOff),
                Err(_) => break Some(UpstreamError::IdleTimeout),
            }
            if let Err(error) = self.hand_out(pilot, &mut framer, reader, &mut held).await {
                break Some(error);
            }
            let held_bytes: usize = held.iter().map(|event| event.raw.len()).sum();
            if reader.is_done() && (http_body::Body::is_end_stream(&body) || held_bytes > HELD_BYTES) {
                break None;
            }
        };
        drop(std::mem::take(&mut job.open));
        let tail = framer.finish();
        if let Some(told) = reader.usage() {
            let _ = usage.set(told.tokens);
        }
        self.end_stream(pilot, job, tab, tail, held, broken).await
    }

    /// Hands out every whole event. The terminator and what follows it is held back until the answer is stored, so that
    /// a client that has seen the end finds the answer in the cache.
    async fn hand_out(
        &self,
        pilot: &Pilot<Head, End>,
        framer: &mut Framer,
        reader: &mut StreamReader,
        held: &mut Vec<Event>,
    ) -> Result<(), UpstreamError> {
        while let Some(event) = framer.next_event().map_err(|_| UpstreamError::TooLarge)? {
            let rendered = reader.read(&event);
            if reader.is_done() {
                held.push(event);
                continue;
            }
            let plain = match rendered {
                Rendered::AsIs => None,
                Rendered::Drop => Some(Bytes::new()),
                Rendered::Rewritten(bytes) => Some(bytes),
            };
            if pilot.push(Frame { raw: event.raw, plain, closing: false }).await.is_err() {
                return Err(UpstreamError::BrokenOff);
            }
        }
        Ok(())
    }

    async fn end_stream(
        &self,
        pilot: &Pilot<Head, End>,
        job: &mut Job,
        mut tab: Tab,
        tail: Tail,
        held: Vec<Event>,
        broken: Option<UpstreamError>,
    ) -> Landing {
        let Some(reader) = tab.reader.take() else { return Landing::Failed(UpstreamError::BrokenOff) };
        tab.streamed(&reader);
        let done = reader.is_done();
        let failed = reader.fault() == Some(crate::dialect::NotStorable::ErrorMember);
        let finished = reader.finish(&tail).expecting(job.choices);
        let settled = self.settle(job, finished);
        if let Err(reason) = settled {
            job.record.with(|row| row.reason = Some(reason.as_str().into()));
        }
        for event in held {
            // Nobody left to read it: the answer is stored all the same.
            let _ = pilot.push(Frame { raw: event.raw, plain: None, closing: true }).await;
        }
        // The first half of an event that broke off would swallow the error event that follows it.
        if let (Tail::Incomplete(raw), true) = (tail, broken.is_none() || done) {
            let _ = pilot.push(Frame { raw, plain: None, closing: true }).await;
        }
        if failed {
            job.record.outcome(
                Outcome::Failed,
                None,
                Some(Reason::NotStorable(crate::dialect::NotStorable::ErrorMember)),
            );
        }
        // A stream that upstream ended in order is passed on as it is, even if something is missing in it; one that
        // broke gets an error event, so that no client takes it for whole.
        match broken {
            Some(error) if !done => Landing::Streamed(End::Broken(error)),
            _ => Landing::Streamed(End::Complete),
        }
    }

    /// Accounts for a finished answer and stores it if it is fit for that.
    fn settle(&self, job: &mut Job, finished: Finished) -> Result<Option<crate::ids::EntryId>, Reason> {
        job.record.with(|row| row.model_answered.clone_from(&finished.model));
        let answer = match (finished.verdict, finished.completion) {
            (Ok(finish), Some(completion)) if finish != Finish::None => Ok((finish, completion)),
            (Err(why), _) => Err(Reason::NotStorable(why)),
            _ => Err(Reason::NotStorable(crate::dialect::NotStorable::Empty)),
        };
        // An answer with text has tokens; a count of none means that it was not told.
        let tokens = finished.usage.map(|usage| usage.completion).filter(|count| *count > 0);
        let stored = self.store(job, answer.clone(), tokens);
        if let (Some(considered), Ok((Finish::Stop, body))) = (job.considered.take(), answer) {
            let committed = stored.as_ref().ok().cloned().flatten();
            let (dialect, epoch, audit) = (job.dialect, job.epoch, job.audit);
            self.learn(FreshAnswer { considered, dialect, body, committed, epoch, audit });
        }
        stored.map(|committed| committed.map(|committed| committed.entry.id))
    }

    fn store(
        &self,
        job: &mut Job,
        answer: Result<(Finish, Bytes), Reason>,
        completion_tokens: Option<u64>,
    ) -> Result<Option<Committed>, Reason> {
        let Some(fresh) = job.fresh.take() else { return Ok(None) };
        let _stage = job.record.stage(Stage::Store);
        let stored =
            answer.and_then(|(finish, body)| self.cache.commit(Fresh { body, finish, completion_tokens, ..fresh }));
        match stored {
            Ok(committed) => {
                job.record.entry(committed.entry.id);
                Ok(Some(committed))
            }
            Err(reason) => {
                self.metrics.not_stored(reason.as_str());
                Err(reason)
            }
        }
    }
}

/// Whether an answer refuses a request for asking for usage. A server that does not know a member names it, or where it stands.
fn names_usage(status: StatusCode, body: &[u8]) -> bool {
    let names = |name: &str| memchr::memmem::find(body, name.as_bytes()).is_some();
    matches!(status.as_u16(), 400 | 422) && (names("stream_options") || names("include_usage"))
}

/// Whether a body is in a form that cannot be read here, although none was asked for.
pub(super) fn is_coded(headers: &HeaderMap) -> bool {
    headers.get_all(header::CONTENT_ENCODING).iter().any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// Whether the body is an event stream. Clients that asked for one do not look at its type, and some servers send none
/// or a general one.
fn is_event_stream(headers: &HeaderMap, asked: bool) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "text/event-stream" || (asked && matches!(kind.as_str(), "" | "text/plain" | "application/octet-stream"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_is_no_coding() {
        for (codings, coded) in [
            (&[][..], false),
            (&["identity"], false),
            (&["Identity"], false),
            (&["gzip"], true),
            (&["identity", "br"], true),
        ] {
            let headers = codings.iter().map(|coding| (header::CONTENT_ENCODING, coding.parse().unwrap())).collect();
            assert_eq!(is_coded(&headers), coded, "{codings:?}");
        }
    }
}
