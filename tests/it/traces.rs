//! Spans as a collector gets them: over a real socket, decoded from protobuf.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use remora::config::{Config, Secret};
use remora::ids::RequestId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::child::until;
use crate::rig::{Answer, Plan, Rig, chat, chat_stream};
use crate::scripted::{Scripted, metric};

/// What the collector does with a post.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Takes,
    Rejects(i64),
    Later,
    Never,
    Hangs,
}

#[derive(Default)]
struct Seen {
    heads: Vec<String>,
    bodies: Vec<Vec<u8>>,
    /// For the next posts; then it takes.
    moods: Vec<Mood>,
}

struct Collector {
    addr: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Collector {
    async fn start(moods: &[Mood]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let moods = moods.iter().rev().copied().collect();
        let seen = Arc::new(Mutex::new(Seen { moods, ..Seen::default() }));
        let own = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(collect(socket, Arc::clone(&own)));
            }
        });
        Self { addr, seen, task }
    }

    async fn rig(&self, change: impl Fn(&mut Config) + Send + Sync + 'static) -> Rig {
        Rig::with(Plan { change: Arc::new(self.wanted(change)), ..Plan::default() }).await
    }

    fn wanted(
        &self,
        change: impl Fn(&mut Config) + Send + Sync + 'static,
    ) -> impl Fn(&mut Config) + Send + Sync + 'static {
        let url = format!("http://{}/otel", self.addr);
        move |config: &mut Config| {
            config.telemetry.otlp = Some(url.clone());
            config.telemetry.trace_ratio = 1.0;
            change(config);
        }
    }

    fn spans(&self) -> Vec<Span> {
        let seen = self.seen.lock().unwrap();
        let decode = |body: &Vec<u8>| ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
        let resources = seen.bodies.iter().map(decode).flat_map(|request| request.resource_spans);
        resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
    }

    /// The spans of a request, its own first.
    async fn trace(&self, answer: &Answer) -> Vec<Span> {
        let id: RequestId = answer.header("x-remora-request-id").parse().unwrap();
        until("the spans of a request", || async {
            let spans: Vec<Span> = self.spans().into_iter().filter(|span| span.trace_id == id.to_bytes()).collect();
            (!spans.is_empty()).then_some(spans)
        })
        .await
    }
}

async fn collect(mut socket: TcpStream, seen: Arc<Mutex<Seen>>) {
    let mut bytes = Vec::new();
    let (head, body) = loop {
        if socket.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if bytes.len() >= end + 4 + length.unwrap() {
            break (head, bytes[end + 4..].to_vec());
        }
    };
    let mood = {
        let mut seen = seen.lock().unwrap();
        let mood = seen.moods.pop().unwrap_or(Mood::Takes);
        seen.heads.push(head);
        if matches!(mood, Mood::Takes | Mood::Rejects(_)) {
            seen.bodies.push(body);
        }
        mood
    };
    let (status, body) = match mood {
        Mood::Takes => ("200 OK", Vec::new()),
        Mood::Rejects(rejected_spans) => {
            let part = ExportTracePartialSuccess { rejected_spans, error_message: "too many".to_owned() };
            ("200 OK", ExportTraceServiceResponse { partial_success: Some(part) }.encode_to_vec())
        }
        Mood::Later => ("503 Service Unavailable\r\nretry-after: 0", Vec::new()),
        Mood::Never => ("400 Bad Request", Vec::new()),
        Mood::Hangs => return std::future::pending().await,
    };
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    let _ = socket.write_all(&[head.as_bytes(), &body].concat()).await;
}

fn attributes(span: &Span) -> BTreeMap<&str, String> {
    let text = |pair: &KeyValue| match pair.value.as_ref().unwrap().value.as_ref().unwrap() {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        Value::BoolValue(flag) => flag.to_string(),
        other => panic!("{other:?}"),
    };
    let all: BTreeMap<&str, String> = span.attributes.iter().map(|pair| (pair.key.as_str(), text(pair))).collect();
    assert_eq!(all.len(), span.attributes.len(), "an attribute is there twice: {span:?}");
    all
}

/// Checks that it is a tree of one level in which the parts lie within the whole; gives the names of the parts as they began.
fn parts(spans: &[Span]) -> Vec<&str> {
    let (root, rest) = spans.split_first().unwrap();
    assert_eq!(root.kind, 2, "a server's: {root:?}");
    assert!(
        root.start_time_unix_nano <= root.end_time_unix_nano && root.start_time_unix_nano > 1_700_000_000_000_000_000
    );
    for span in rest {
        assert_eq!((&span.parent_span_id, &span.trace_id), (&root.span_id, &root.trace_id), "{span:?}");
        assert_eq!(span.kind, if span.name.contains(' ') { 3 } else { 1 }, "{span:?}");
        assert!(span.start_time_unix_nano >= root.start_time_unix_nano, "{span:?}");
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{span:?}");
    }
    let mut ids: Vec<&[u8]> = spans.iter().map(|span| span.span_id.as_slice()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert!(ids.len() == spans.len() && ids.iter().all(|id| id.len() == 8 && id.iter().any(|byte| *byte != 0)));
    let mut rest: Vec<&Span> = rest.iter().collect();
    rest.sort_by_key(|span| span.start_time_unix_nano);
    rest.into_iter().map(|span| span.name.as_str()).collect()
}

const PROMPT: &str = "What does the harbour master of Zanzibar log?";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_miss_a_hit_a_stream_and_a_refusal_become_trees_of_spans_without_a_word_of_what_was_said() {
    let collector = Collector::start(&[]).await;
    let rig = collector
        .rig(|config| {
            let team = ("x-team".parse().unwrap(), Secret::new("blue secret".to_owned()));
            config.telemetry.otlp_headers = vec![team];
        })
        .await;
    let miss = rig.chat_with("sk-harbour", &[("x-remora-user", "zoe@example.com")], &chat(PROMPT)).await;
    let hit = rig.chat("sk-harbour", &chat(PROMPT)).await;
    let stream = rig.chat("sk-harbour", &chat_stream("And at night in Zanzibar?")).await;
    let refused =
        rig.send(Method::POST, "/v1/chat/completions", "sk-harbour", &[], Bytes::from("{\"model\": \"Zanzibar")).await;
    assert_eq!((miss.cache(), hit.cache(), stream.cache(), refused.status.as_u16()), ("MISS", "HIT", "MISS", 400));

    let spans = collector.trace(&miss).await;
    let way =
        ["authenticate", "read", "lookup", "embed", "search", "decide", "turn", "admit", "chat gpt-4o-mini", "store"];
    assert_eq!(parts(&spans), [&way[..], &["reply"]].concat());
    let root = attributes(&spans[0]);
    assert_eq!((spans[0].name.as_str(), spans[0].parent_span_id.len()), ("POST /v1/chat/completions", 0));
    let row = rig.row(&miss).await;
    for (name, value) in [
        ("http.request.method", "POST"),
        ("http.route", "/v1/chat/completions"),
        ("http.response.status_code", "200"),
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "openai"),
        ("gen_ai.request.model", "gpt-4o-mini"),
        ("remora.outcome", "miss"),
        ("remora.request.id", miss.header("x-remora-request-id")),
        ("remora.tenant", row["tenant"].as_str().unwrap()),
    ] {
        assert_eq!(root.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(!root.contains_key("gen_ai.usage.input_tokens"), "told once, where it is billed");
    assert_eq!(spans[0].events.iter().map(|event| event.name.as_str()).collect::<Vec<_>>(), ["first_byte"]);
    let call = spans.iter().find(|span| span.kind == 3).unwrap();
    let told = attributes(call);
    let tokens = &row["tokens"];
    let sum = |kinds: &[&str]| kinds.iter().map(|kind| tokens[kind].as_u64().unwrap_or(0)).sum::<u64>().to_string();
    assert_eq!(told["gen_ai.usage.input_tokens"], sum(&["input", "cache_read", "cache_write"]));
    assert_eq!(told["gen_ai.usage.output_tokens"], sum(&["output", "reasoning"]));
    assert_eq!(told["gen_ai.usage.cache_read.input_tokens"], sum(&["cache_read"]));
    assert_ne!(told["gen_ai.usage.input_tokens"], "0");
    assert_eq!((told["server.address"].as_str(), told["http.response.status_code"].as_str()), ("127.0.0.1", "200"));
    assert_eq!(call.events.iter().map(|event| event.name.as_str()).collect::<Vec<_>>(), ["answer_head"]);

    let spans = collector.trace(&hit).await;
    assert_eq!(parts(&spans), ["authenticate", "read", "lookup", "reply"]);
    let root = attributes(&spans[0]);
    assert_eq!((root["remora.outcome"].as_str(), root["remora.tier"].as_str()), ("hit", "exact"));
    assert_eq!(root["remora.replayed.input_tokens"], told["gen_ai.usage.input_tokens"]);
    assert!(root.contains_key("gen_ai.response.model") && root["remora.cost.nano_usd"] == "0");
    assert!(!root.contains_key("gen_ai.usage.input_tokens"), "nobody bills it again");

    let spans = collector.trace(&stream).await;
    let mut found = parts(&spans);
    // The reply begins with the first event, the answer is stored after the last.
    found.retain(|name| *name != "reply");
    assert_eq!(found, way);
    assert_eq!(attributes(&spans[0])["remora.stream"], "true");

    let spans = collector.trace(&refused).await;
    assert_eq!(parts(&spans), ["authenticate", "read", "reply"]);
    let root = attributes(&spans[0]);
    assert_eq!((root["remora.outcome"].as_str(), root["http.response.status_code"].as_str()), ("refused", "400"));
    assert_eq!(spans[0].status, None, "the caller's mistake is no error of a server");

    let seen = collector.seen.lock().unwrap();
    let head = &seen.heads[0];
    assert!(head.starts_with("post /otel/v1/traces http/1.1"), "{head}");
    assert!(head.contains("content-type: application/x-protobuf") && head.contains("x-team: blue secret"), "{head}");
    let wire: Vec<u8> = seen.bodies.concat();
    let answered = miss.content();
    for secret in ["Zanzibar", "harbour", "sk-", "zoe@", answered.as_str()] {
        assert!(!wire.windows(secret.len()).any(|part| part == secret.as_bytes()), "{secret}");
    }
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_callers_trace_is_joined_and_goes_upstream_only_if_that_is_wished() {
    for wished in [false, true] {
        let (collector, upstream) = (Collector::start(&[]).await, Scripted::start(&[]).await);
        let rig = upstream
            .rig(collector.wanted(move |config| {
                config.upstream.trace_context = wished;
                config.telemetry.trace_ratio = 0.0;
            }))
            .await;
        let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
        let unsampled = format!("00-{}-00f067aa0ba902b7-00", TRACE.replace('4', "5"));
        let headers = [("traceparent", parent.as_str()), ("tracestate", "vendor=1"), ("baggage", "user=7")];
        rig.chat_with("sk-a", &headers, &chat("Tell me about the tides")).await;
        rig.chat_with("sk-a", &[("traceparent", &unsampled)], &chat("Tell me about the garden")).await;
        rig.chat("sk-a", &chat("Tell me about the museum")).await;
        let spans = until("spans", || async { Some(collector.spans()).filter(|spans| !spans.is_empty()) }).await;
        let id = |span: &Span| span.trace_id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert!(spans.iter().all(|span| id(span) == TRACE && span.trace_state == "vendor=1"));
        assert_eq!(spans[0].parent_span_id, 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
        let call = spans.iter().find(|span| span.kind == 3).unwrap();
        let call = call.span_id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();

        let sent = upstream.canned.requests();
        let about = |topic: &str| sent.iter().find(|request| request.contains(topic)).unwrap().to_lowercase();
        let (tides, garden, museum) = (about("tides"), about("garden"), about("museum"));
        assert_eq!(tides.contains(&format!("traceparent: 00-{TRACE}-{call}-01")), wished, "{tides}");
        assert_eq!(tides.contains("tracestate: vendor=1"), wished, "{tides}");
        assert_eq!(garden.contains(&format!("traceparent: {unsampled}")), wished, "as it came: {garden}");
        assert!(!museum.contains("traceparent") && !tides.contains("baggage"), "{museum} {tides}");
        assert!(wished || !(tides.contains("trace") || garden.contains("trace")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_collector_wants_later_is_sent_again_and_every_span_is_counted_once() {
    let collector = Collector::start(&[Mood::Later, Mood::Later, Mood::Rejects(2)]).await;
    let rig = collector.rig(|_| {}).await;
    let answer = rig.chat("sk-a", &chat(PROMPT)).await;
    let spans = collector.trace(&answer).await;
    let exported = until("the count", || async {
        let count = metric(&rig, "remora_trace_spans_exported_total", &[]).await;
        (count > 0.0).then_some(count)
    })
    .await;
    assert_eq!(exported.to_string(), (spans.len() - 2).to_string());
    assert_eq!(metric(&rig, "remora_trace_spans_dropped_total", &["reason=\"refused\""]).await, 2.0);
    assert_eq!(collector.seen.lock().unwrap().heads.len(), 3);

    collector.seen.lock().unwrap().moods = vec![Mood::Never];
    rig.chat("sk-a", &chat(PROMPT)).await;
    until("the loss", || async {
        let lost = metric(&rig, "remora_trace_spans_dropped_total", &["reason=\"refused\""]).await;
        (lost == 2.0 + 5.0).then_some(())
    })
    .await;
    assert_eq!(collector.seen.lock().unwrap().heads.len(), 4, "what is refused is not sent again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_collector_that_hangs_harms_no_request_and_the_last_spans_leave_at_the_end() {
    let collector = Collector::start(&[Mood::Hangs; 8]).await;
    let rig = collector.rig(|config| config.telemetry.trace_queue = 4).await;
    rig.chat("sk-a", &chat(PROMPT)).await;
    until("the post that hangs", || async { (!collector.seen.lock().unwrap().heads.is_empty()).then_some(()) }).await;
    for _ in 0..50 {
        assert_eq!(rig.chat("sk-a", &chat(PROMPT)).await.cache(), "HIT");
    }
    rig.settle().await;
    // Four wait; each of the others was five spans.
    assert_eq!(metric(&rig, "remora_trace_spans_dropped_total", &["reason=\"queue\""]).await, 46.0 * 5.0);
    assert_eq!(metric(&rig, "remora_trace_spans_exported_total", &[]).await, 0.0);

    let collector = Collector::start(&[]).await;
    let mut rig = collector.rig(|_| {}).await;
    let answer = rig.chat("sk-a", &chat(PROMPT)).await;
    rig.settle().await;
    rig.app.take().unwrap().stop_within(Duration::from_secs(5)).await;
    let spans = collector.spans();
    let id: RequestId = answer.header("x-remora-request-id").parse().unwrap();
    assert!(!spans.is_empty() && spans.iter().all(|span| span.trace_id == id.to_bytes()));
}
