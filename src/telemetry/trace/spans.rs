//! From a request that has ended to the spans that say so, with OpenTelemetry's names where there are any: HTTP on the span of
//! the request, GenAI on those of the calls upstream.
//!
//! `gen_ai.usage.*` is written only where a provider bills it. A hit replays the usage of an earlier answer, which would be
//! counted twice by whoever adds it up, so that is called `remora.replayed.*`.

use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::{Event, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};

use super::context::span_id;
use super::export::Settings;
use super::{Finished, Mark, SpanId, Stage};
use crate::store::{Attempt, LedgerRow, Tokens};

/// Methods that a span may be named by.
const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];

/// The bits of a span's flags that say that it is known whether the parent is on another machine, and that it is.
const REMOTE_PARENT: u32 = 0x300;

/// What is known of a span.
#[derive(Default)]
pub(super) struct Attributes(Vec<KeyValue>);

impl Attributes {
    fn put(&mut self, key: &str, value: Value) {
        let value = Some(AnyValue { value: Some(value) });
        self.0.push(KeyValue { key: key.to_owned(), value, ..KeyValue::default() });
    }

    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.put(key, Value::StringValue(value.to_owned()));
    }

    fn maybe(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    fn int(&mut self, key: &str, value: impl TryInto<i64>) {
        self.put(key, Value::IntValue(value.try_into().unwrap_or(i64::MAX)));
    }

    fn money(&mut self, key: &str, nano_usd: Option<i64>) {
        if let Some(nano_usd) = nano_usd {
            self.int(key, nano_usd);
        }
    }

    pub(super) fn done(self) -> Vec<KeyValue> {
        self.0
    }
}

/// All spans of a request: its own first.
pub(super) fn spans(finished: &Finished, settings: &Settings) -> Vec<Span> {
    let Finished { row, marks, replied, ended, .. } = finished;
    let mut out = Vec::with_capacity(marks.len() + 2);
    out.push(whole(finished, settings));
    let mut calls = row.attempts.iter().filter(|attempt| attempt.kind != "embedding");
    let mut vectors = row.attempts.iter().filter(|attempt| attempt.kind == "embedding");
    // In the order in which they began, for that is the order of the attempts.
    let mut marks: Vec<&Mark> = marks.iter().collect();
    marks.sort_by_key(|mark| mark.began);
    for mark in marks {
        let mut span = part(finished, mark.span, mark.began, mark.ended);
        span.name = mark.stage.as_str().to_owned();
        match mark.stage {
            Stage::Upstream => call(&mut span, mark, finished, calls.next(), settings),
            Stage::Embed => {
                if let Some(attempt) = vectors.next() {
                    span.attributes = vector(attempt);
                }
            }
            _ => {}
        }
        out.push(span);
    }
    if let Some(replied) = replied {
        let mut span = part(finished, span_id(), *replied, *ended);
        span.name = Stage::Reply.as_str().to_owned();
        out.push(span);
    }
    out
}

fn part(finished: &Finished, id: SpanId, began: Duration, ended: Duration) -> Span {
    let context = &finished.context;
    Span {
        trace_id: context.trace.to_vec(),
        span_id: id.to_vec(),
        trace_state: context.state.clone(),
        parent_span_id: context.span.to_vec(),
        flags: 0x101,
        kind: SpanKind::Internal as i32,
        start_time_unix_nano: at(&finished.row, began),
        end_time_unix_nano: at(&finished.row, ended.max(began)),
        ..Span::default()
    }
}

fn whole(finished: &Finished, settings: &Settings) -> Span {
    let Finished { context, row, ended, .. } = finished;
    let (method, path) = row.route.split_once(' ').unwrap_or((&row.route, ""));
    let mut about = Attributes::default();
    let known = METHODS.contains(&method);
    about.text("http.request.method", if known { method } else { "_OTHER" });
    about.text("url.path", path);
    // Where there is no dialect, a path may be anything; a name or a route must not.
    let route = if row.dialect == "other" { "/v1/*" } else { path };
    about.text("http.route", route);
    if row.status != 0 {
        about.int("http.response.status_code", row.status);
    }
    model(&mut about, row, settings);
    about.text("remora.request.id", &row.request.to_string());
    about.text("remora.outcome", &row.outcome);
    about.maybe("remora.tenant", row.tenant.as_ref().map(crate::ids::TenantId::as_str));
    about.maybe("remora.key", row.key.as_ref().map(crate::ids::KeyId::as_str));
    about.maybe("remora.tier", row.tier.as_deref());
    about.maybe("remora.reason", row.reason.as_deref());
    about.maybe("remora.entry.id", row.entry.map(|entry| entry.to_string()).as_deref());
    if let Some(similarity) = row.similarity {
        about.put("remora.similarity", Value::DoubleValue(similarity.into()));
    }
    about.put("remora.stream", Value::BoolValue(row.stream));
    about.int("remora.overhead_us", row.overhead_us);
    about.money("remora.cost.nano_usd", row.cost_nano_usd);
    about.money("remora.embedding.nano_usd", row.embedding_nano_usd);
    about.money("remora.saved.gross_nano_usd", row.saved_gross_nano_usd);
    about.money("remora.saved.net_nano_usd", row.saved_nano_usd);
    about.maybe("remora.price.version", row.price_version.as_deref());
    if row.tokens_source.as_deref() == Some("replayed") {
        let input = row.tokens.input_sum();
        about.int("remora.replayed.input_tokens", input);
        about.int("remora.replayed.output_tokens", row.tokens.sum().saturating_sub(input));
    }
    let failed = row.outcome == "failed" || row.status >= 500;
    if failed {
        let status = row.status.to_string();
        about.text("error.type", row.reason.as_deref().unwrap_or(&status));
    }
    let first_byte = row.ttft_us.map(|ttft| Event {
        time_unix_nano: at(row, Duration::from_micros(ttft)),
        name: "first_byte".to_owned(),
        ..Event::default()
    });
    Span {
        name: if known { format!("{method} {route}") } else { format!("HTTP {route}") },
        parent_span_id: context.parent.map(|id| id.to_vec()).unwrap_or_default(),
        flags: if context.parent.is_some() { 1 | REMOTE_PARENT } else { 0x101 },
        kind: SpanKind::Server as i32,
        attributes: about.done(),
        events: first_byte.into_iter().collect(),
        status: status(failed),
        ..part(finished, context.span, Duration::ZERO, *ended)
    }
}

/// One call upstream, as the GenAI conventions have it.
fn call(span: &mut Span, mark: &Mark, finished: &Finished, attempt: Option<&Attempt>, settings: &Settings) {
    let row = &finished.row;
    span.kind = SpanKind::Client as i32;
    let mut about = Attributes::default();
    if let (Some(operation), Some(model)) = (operation(row), &row.model_asked) {
        span.name = format!("{operation} {model}");
    }
    model(&mut about, row, settings);
    about.text("server.address", &settings.server.0);
    about.int("server.port", settings.server.1);
    if let Some(attempt) = attempt {
        about.int("remora.attempt", attempt.number);
        about.text("remora.attempt.kind", &attempt.kind);
        match attempt.status {
            Some(status) => about.int("http.response.status_code", status),
            None => about.text("error.type", row.reason.as_deref().unwrap_or("no_answer")),
        }
        if let Some(source) = attempt.tokens_source.as_deref() {
            about.text("remora.tokens.source", source);
            usage(&mut about, &attempt.tokens);
        }
        about.money("remora.cost.nano_usd", attempt.cost_nano_usd);
        about.maybe("remora.price.version", attempt.price_version.as_deref());
        let bad = attempt.status.is_none_or(|status| status >= 400);
        if let Some(status) = attempt.status.filter(|_| bad) {
            about.text("error.type", &status.to_string());
        }
        span.status = status(bad);
    }
    span.attributes = about.done();
    span.events.extend(mark.head.map(|head| Event {
        time_unix_nano: at(row, head),
        name: "answer_head".to_owned(),
        ..Event::default()
    }));
}

/// A vector that an endpoint made.
fn vector(attempt: &Attempt) -> Vec<KeyValue> {
    let mut about = Attributes::default();
    about.text("gen_ai.operation.name", "embeddings");
    about.maybe("gen_ai.request.model", attempt.model.as_deref());
    about.int("gen_ai.usage.input_tokens", attempt.tokens.input_sum());
    about.money("remora.cost.nano_usd", attempt.cost_nano_usd);
    about.done()
}

fn model(about: &mut Attributes, row: &LedgerRow, settings: &Settings) {
    if let Some(operation) = operation(row) {
        about.text("gen_ai.operation.name", operation);
        about.text("gen_ai.provider.name", provider(row.upstream.as_deref().unwrap_or(&settings.upstream)));
    }
    about.maybe("gen_ai.request.model", row.model_asked.as_deref());
    about.maybe("gen_ai.response.model", row.model_answered.as_deref());
}

fn operation(row: &LedgerRow) -> Option<&'static str> {
    match row.dialect.as_ref() {
        "chat" => Some("chat"),
        "completions" => Some("text_completion"),
        "embeddings" => Some("embeddings"),
        _ => None,
    }
}

/// The convention's name of a provider for the usual names of upstreams; a name that it does not know stands for itself.
fn provider(upstream: &str) -> &str {
    match upstream {
        "azure" => "azure.ai.openai",
        "gemini" | "google" => "gcp.gemini",
        "vertex" => "gcp.vertex_ai",
        "bedrock" => "aws.bedrock",
        "mistral" => "mistral_ai",
        "xai" => "x_ai",
        other => other,
    }
}

/// By the convention cached tokens are a part of the input.
fn usage(about: &mut Attributes, tokens: &Tokens) {
    let input = tokens.input_sum();
    about.int("gen_ai.usage.input_tokens", input);
    about.int("gen_ai.usage.output_tokens", tokens.sum().saturating_sub(input));
    about.int("gen_ai.usage.cache_read.input_tokens", tokens.cache_read);
    about.int("gen_ai.usage.cache_creation.input_tokens", tokens.cache_write.saturating_add(tokens.cache_write_1h));
}

fn status(failed: bool) -> Option<Status> {
    failed.then(|| Status { message: String::new(), code: StatusCode::Error as i32 })
}

fn at(row: &LedgerRow, after: Duration) -> u64 {
    let began = row.started_at.saturating_mul(1_000_000);
    began.saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX))
}
