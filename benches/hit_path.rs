//! What an exact hit is made of, each part alone: reading the request, its keys, the guards, the replay; and the framing
//! of event streams.
//!
//! `cargo bench --bench hit_path`. For whole requests see `load`.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use remora::cache::decide::{Features, Guards};
use remora::call::{Call, Keys, Scope, SecretKey};
use remora::config::{Config, Limits, Overrides};
use remora::dialect::sse::{Framer, Limits as SseLimits};
use remora::dialect::{Dialect, Replay, SseOptions};
use remora::ids::TenantId;

const QUESTION: &str = "How do I get a refund for an annual plan that renewed yesterday, and how long does it take?";
const CLOSE: &str = "How can I get a refund for an annual plan that renewed yesterday, and how long does it take?";
const FAR: &str = "How do I get a refund for a monthly plan that renewed 14 days ago, and how long does it take?";
const ID: &str = "01J9ZQ4W7Y8N3T5V6X0A1B2C3D";

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .sample_size(30)
        .configure_from_args();
    match Config::load(None, std::iter::empty(), &Overrides::default()) {
        Ok(config) => reading(&mut criterion, &config.server.limits),
        Err(problems) => eprintln!("the built-in configuration is not valid: {problems}"),
    }
    guards(&mut criterion);
    replay(&mut criterion);
    framing(&mut criterion);
    criterion.final_summary();
}

fn request(earlier_turns: usize) -> Bytes {
    let mut messages = vec![serde_json::json!({ "role": "system", "content": "You are a helpful assistant." })];
    for _ in 0..earlier_turns {
        messages.push(serde_json::json!({ "role": "user", "content": QUESTION }));
        messages.push(serde_json::json!({ "role": "assistant", "content": "A refund takes five days. ".repeat(20) }));
    }
    messages.push(serde_json::json!({ "role": "user", "content": QUESTION }));
    serde_json::json!({ "model": "gpt-4o-mini", "temperature": 0.2, "messages": messages }).to_string().into()
}

fn reading(criterion: &mut Criterion, limits: &Limits) {
    let mut group = criterion.benchmark_group("call");
    let secret = SecretKey::new([7; 32]);
    let tenant = TenantId::new("acme");
    let scope = Scope {
        tenant: &tenant,
        namespace: "",
        share: "key:acme/app",
        upstream: "openai",
        dialect: Dialect::Chat,
        variant: "",
    };
    for turns in [0, 20] {
        let body = request(turns);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(format!("read, {turns} earlier turns"), |bencher| {
            bencher.iter(|| black_box(Call::read(Dialect::Chat, &body, limits, 1.0)));
        });
        if let Ok(call) = Call::read(Dialect::Chat, &body, limits, 1.0) {
            group.bench_function(format!("keys, {turns} earlier turns"), |bencher| {
                bencher.iter(|| black_box(Keys::of(&secret, &scope, &call)));
            });
        }
    }
    group.finish();
}

fn guards(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("guards");
    let guards = Guards::without(&[]);
    let question = Features::of(QUESTION);
    group.bench_function("features of a prompt", |bencher| bencher.iter(|| black_box(Features::of(QUESTION))));
    for (name, other) in [("accept", CLOSE), ("reject", FAR)] {
        let other = Features::of(other);
        assert_eq!(guards.check(&question, &other).is_ok(), name == "accept", "this measures another verdict");
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(guards.check(&question, &other).is_ok()));
        });
    }
    group.finish();
}

fn replay(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("replay");
    for words in [50, 1_000] {
        let body = Bytes::from(
            serde_json::json!({
                "id": "chatcmpl-123", "object": "chat.completion", "created": 1_700_000_000, "model": "gpt-4o-mini",
                "choices": [{ "index": 0, "finish_reason": "stop", "logprobs": null,
                    "message": { "role": "assistant", "content": "answer ".repeat(words), "refusal": null } }],
                "usage": { "prompt_tokens": 20, "completion_tokens": words, "total_tokens": 20 + words },
            })
            .to_string(),
        );
        group.throughput(Throughput::Bytes(body.len() as u64));
        let Ok(stored) = Replay::new(Dialect::Chat, body) else { continue };
        group.bench_function(format!("json, {words} words"), |bencher| {
            bencher.iter(|| black_box(stored.json(ID, 1_800_000_000)));
        });
        let options = SseOptions { include_usage: true, chunk_chars: 24 };
        group.bench_function(format!("stream, {words} words"), |bencher| {
            bencher.iter(|| black_box(stored.sse(ID, 1_800_000_000, options)));
        });
    }
    group.finish();
}

fn framing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sse");
    let event = r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]}"#;
    let stream = Bytes::from(format!("{event}\n\n").repeat(200));
    group.throughput(Throughput::Bytes(stream.len() as u64));
    // An event a read, as from a slow upstream, and pieces that cut events anywhere.
    for piece in [event.len() + 2, 1_000, 16_384] {
        group.bench_function(format!("frame 200 events, {piece} bytes a read"), |bencher| {
            bencher.iter(|| frame(&stream, piece));
        });
    }
    group.finish();
}

fn frame(stream: &Bytes, piece: usize) {
    let mut framer = Framer::new(SseLimits { line_bytes: 1 << 20, event_bytes: 2 << 20 });
    let mut events = 0;
    for from in (0..stream.len()).step_by(piece) {
        framer.push(stream.slice(from..stream.len().min(from + piece)));
        while let Ok(Some(event)) = framer.next_event() {
            black_box(&event);
            events += 1;
        }
    }
    assert_eq!(events, 200, "this measures something else");
}
