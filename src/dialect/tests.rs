//! The recorded corpus (`tests/data/streams`), read whole and in pieces.
//!
//! Each stream has a golden file beside it that says what the client sees, what is understood and what is stored.

use std::fmt::Write as _;
use std::path::Path;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::Value;

use super::sse::{Event, Framer, Limits, Tail};
use super::*;

pub(super) mod generated;

pub(super) const LIMITS: Limits = Limits { line_bytes: 1 << 20, event_bytes: 1 << 20 };

fn corpus_dir() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/streams")
}

/// Name, dialect and bytes of every recorded stream, in the order of names.
pub(super) fn corpus() -> Vec<(String, Dialect, Bytes)> {
    let mut streams = Vec::new();
    for file in std::fs::read_dir(corpus_dir()).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "sse") {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let dialect = if name.starts_with("completions-") { Dialect::Completions } else { Dialect::Chat };
            streams.push((name, dialect, Bytes::from(std::fs::read(&path).unwrap())));
        }
    }
    streams.sort_by(|a, b| a.0.cmp(&b.0));
    streams
}

/// The events and the tail of a stream that arrives in pieces cut at `cuts` (sorted).
pub(super) fn frame(stream: &Bytes, cuts: &[usize]) -> (Vec<Event>, Tail) {
    let mut framer = Framer::new(LIMITS);
    let mut events = Vec::new();
    let mut at = 0;
    for cut in cuts.iter().copied().chain([stream.len()]) {
        framer.push(stream.slice(at..cut));
        at = cut;
        while let Some(event) = framer.next_event().unwrap() {
            events.push(event);
        }
    }
    framer.end();
    while let Some(event) = framer.next_event().unwrap() {
        events.push(event);
    }
    (events, framer.finish())
}

/// What the client gets and what was understood.
pub(super) fn observe(dialect: Dialect, view: UsageView, stream: &Bytes, cuts: &[usize]) -> (Vec<u8>, Finished) {
    let (events, tail) = frame(stream, cuts);
    let mut reader = StreamReader::new(dialect, view, 1 << 20);
    let mut client = Vec::new();
    for event in &events {
        match reader.read(event) {
            Rendered::AsIs => client.extend_from_slice(&event.raw),
            Rendered::Drop => {}
            Rendered::Rewritten(bytes) => client.extend_from_slice(&bytes),
        }
    }
    if let Tail::Incomplete(rest) = &tail {
        client.extend_from_slice(rest);
    }
    (client, reader.finish(&tail))
}

pub(super) fn value(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(body)))
}

fn describe(finished: &Finished, before: &[u8], client: &[u8]) -> String {
    let mut out = String::new();
    let verdict = finished.verdict.map_or_else(NotStorable::as_str, Finish::as_str);
    let storable = if finished.verdict.is_ok() { "stored" } else { "not stored" };
    writeln!(out, "{storable}: {verdict}, choices: {}, output bytes: {}", finished.choices, finished.output_bytes)
        .unwrap();
    writeln!(out, "model: {:?}", finished.model).unwrap();
    writeln!(out, "usage: {:?}", finished.usage.map(|usage| usage.tokens)).unwrap();
    let unchanged = if before == client { "as sent" } else { "changed" };
    writeln!(out, "client without usage: {unchanged}").unwrap();
    if let Some(completion) = &finished.completion {
        writeln!(out, "{}", serde_json::to_string_pretty(&value(completion)).unwrap()).unwrap();
    }
    if before != client {
        // Carriage returns and other odd characters are shown escaped.
        let shown = String::from_utf8_lossy(client).escape_debug().to_string();
        write!(out, "---\n{}", shown.replace("\\n", "\n").replace("\\\"", "\"")).unwrap();
    }
    out
}

#[test]
fn every_recorded_stream_is_understood_as_its_golden_file_says() {
    insta::with_settings!({
        snapshot_path => corpus_dir().join("golden"), prepend_module_to_snapshot => false, omit_expression => true
    }, {
        for (name, dialect, stream) in corpus() {
            let (as_sent, _) = observe(dialect, UsageView::AsSent, &stream, &[]);
            assert_eq!(as_sent, stream, "{name}");
            let (client, finished) = observe(dialect, UsageView::Hidden, &stream, &[]);
            insta::assert_snapshot!(name.clone(), describe(&finished, &stream, &client));
        }
    });
}

#[test]
fn a_stream_and_the_document_made_of_it_are_judged_alike() {
    let mut stored = 0;
    for (name, dialect, stream) in corpus() {
        let (_, finished) = observe(dialect, UsageView::AsSent, &stream, &[]);
        let Some(completion) = &finished.completion else { continue };
        stored += 1;
        let whole = inspect_whole(dialect, completion);
        assert_eq!((whole.verdict, &whole.model), (finished.verdict, &finished.model), "{name}");
        assert_eq!((whole.usage, whole.choices), (finished.usage, finished.choices), "{name}");
    }
    assert!(stored >= 40, "only {stored} recorded streams are storable");
}

#[test]
fn every_stored_stream_replays_to_the_same_document() {
    for (name, dialect, stream) in corpus() {
        let (_, finished) = observe(dialect, UsageView::AsSent, &stream, &[]);
        let Some(completion) = finished.completion else { continue };
        let replay = Replay::new(dialect, completion.clone()).unwrap();
        for chunk_chars in [0, 1, 7] {
            generated::assert_replays(&name, dialect, &replay, chunk_chars);
        }
    }
}

#[test]
fn what_the_client_sees_does_not_depend_on_where_chunks_end() {
    for (name, dialect, stream) in corpus() {
        let whole = observe(dialect, UsageView::Hidden, &stream, &[]);
        let every_byte: Vec<usize> = (1..stream.len()).collect();
        assert_eq!(observe(dialect, UsageView::Hidden, &stream, &every_byte), whole, "{name}");
    }
}

#[test]
fn a_stream_over_the_limit_passes_and_is_not_kept() {
    let (_, dialect, stream) = corpus().into_iter().find(|(name, ..)| name == "openai-usage").unwrap();
    let (events, tail) = frame(&stream, &[]);
    let finish_with = |max_bytes| {
        let mut reader = StreamReader::new(dialect, UsageView::AsSent, max_bytes);
        assert!(events.iter().all(|event| reader.read(event) == Rendered::AsIs));
        reader.finish(&tail)
    };
    let size = finish_with(1 << 20).completion.unwrap().len();
    assert_eq!(finish_with(size).verdict, Ok(Finish::Stop));
    for max_bytes in [size - 1, 100, 0] {
        let finished = finish_with(max_bytes);
        assert_eq!(finished.verdict, Err(NotStorable::TooLarge));
        assert_eq!(finished.usage.map(|usage| usage.completion), Some(6));
    }
}

#[test]
fn what_upstream_invents_is_bounded_and_not_kept() {
    let invented: [(&str, &dyn Fn(usize) -> String); 4] = [
        ("members", &|n| format!(r#"{{"m{n}":1,"choices":[]}}"#)),
        ("choices", &|n| format!(r#"{{"choices":[{{"index":{n},"delta":{{}},"finish_reason":"stop"}}]}}"#)),
        ("calls", &|n| format!(r#"{{"choices":[{{"index":0,"delta":{{"tool_calls":[{{"id":"c{n}"}}]}}}}]}}"#)),
        ("indexes", &|n| {
            format!(r#"{{"choices":[{{"index":0,"delta":{{"tool_calls":[{{"index":{n},"id":"c"}}]}}}}]}}"#)
        }),
    ];
    for (what, event) in invented {
        let verdict = |count: usize| {
            let events: String = (0..count).map(|n| format!("data: {}\n\n", event(n))).collect();
            let stream = Bytes::from(format!("{events}data: [DONE]\n\n"));
            observe(Dialect::Chat, UsageView::AsSent, &stream, &[]).1.verdict
        };
        assert_ne!(verdict(500), Err(NotStorable::Ambiguous), "{what}");
        assert_eq!(verdict(600), Err(NotStorable::Ambiguous), "{what}");
    }
}

#[test]
fn memory_stays_bounded_also_after_another_fault() {
    let mut reader = StreamReader::new(Dialect::Chat, UsageView::AsSent, 1000);
    let mut framer = Framer::new(LIMITS);
    framer.push(Bytes::from_static(b"data: {\n\n"));
    for _ in 0..100 {
        let text = "x".repeat(100);
        framer.push(Bytes::from(format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n"
        )));
        while let Some(event) = framer.next_event().unwrap() {
            reader.read(&event);
        }
    }
    assert_eq!(reader.fault(), Some(NotStorable::InvalidJson));
    let finished = reader.finish(&Tail::Clean);
    assert!(finished.output_bytes <= 1100, "gathered {} bytes", finished.output_bytes);
}

#[test]
fn other_dialects_pass_and_only_tell_usage_and_errors() {
    let stream = Bytes::from_static(
        b"event: x\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":3}}\n\ndata: {\"usage\":null}\n\ndata: [DONE]\n\n",
    );
    let (client, finished) = observe(Dialect::Other, UsageView::Hidden, &stream, &[]);
    assert_eq!(client, stream);
    assert_eq!(finished.verdict, Err(NotStorable::Dialect));
    assert_eq!(finished.usage.map(|usage| usage.prompt), Some(3));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn arbitrary_bytes_never_break_the_reader_and_all_pass(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let stream = Bytes::from(bytes);
        let (client, finished) = observe(Dialect::Chat, UsageView::Hidden, &stream, &[]);
        prop_assert_eq!(&client, &stream);
        prop_assert!(finished.verdict.is_err());
        prop_assert!(inspect_whole(Dialect::Chat, &stream).verdict.is_err());
        prop_assert!(Replay::new(Dialect::Chat, stream).is_err());
    }
}
