use proptest::prelude::*;

use super::super::tests::{LIMITS, corpus, frame, generated};
use super::*;

fn all_streams() -> Vec<Bytes> {
    let recorded = corpus();
    assert!(recorded.len() >= 40);
    let generated = generated::streams(200 - recorded.len());
    recorded.into_iter().map(|(.., stream)| stream).chain(generated).collect()
}

fn raw(events: &[Event], tail: &Tail) -> Vec<u8> {
    let mut all: Vec<u8> = events.iter().flat_map(|event| event.raw.to_vec()).collect();
    if let Tail::Incomplete(rest) = tail {
        all.extend_from_slice(rest);
    }
    all
}

#[test]
fn two_hundred_streams_read_the_same_wherever_they_are_cut() {
    let streams = all_streams();
    assert_eq!(streams.len(), 200);
    let mut random = fastrand::Rng::with_seed(11);
    let (mut exhaustive, mut large) = (0, 0);
    for stream in streams {
        let whole = frame(&stream, &[]);
        assert_eq!(raw(&whole.0, &whole.1), stream);
        let every_byte: Vec<usize> = (1..stream.len()).collect();
        assert_eq!(frame(&stream, &every_byte), whole);
        if stream.len() <= 4096 {
            exhaustive += 1;
            for cut in 1..stream.len() {
                assert_eq!(frame(&stream, &[cut]), whole, "cut at {cut}");
            }
            continue;
        }
        // Ten thousand for the first few of the large ones; the rest get fewer to keep the test short.
        large += 1;
        for _ in 0..(if large <= 3 { 10_000 } else { 200 }) {
            let mut cuts: Vec<usize> = (0..random.usize(1..12)).map(|_| random.usize(0..stream.len())).collect();
            cuts.sort_unstable();
            assert_eq!(frame(&stream, &cuts), whole, "cut at {cuts:?}");
        }
    }
    assert!(exhaustive >= 100 && large >= 3, "{exhaustive} small, {large} large");
}

fn data(stream: &'static str) -> Vec<Option<String>> {
    let (events, _) = frame(&Bytes::from_static(stream.as_bytes()), &[]);
    events.into_iter().map(|event| event.data.map(|data| String::from_utf8(data.to_vec()).unwrap())).collect()
}

#[test]
fn fields_are_read_as_the_standard_says() {
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(data("data: a\n\n"), [some("a")]);
    assert_eq!(data("data:a\n\ndata:  b\n\n"), [some("a"), some(" b")]);
    assert_eq!(data("data: a\ndata:\ndata: b\n\n"), [some("a\n\nb")]);
    assert_eq!(data("data\n\n"), [some("")]);
    assert_eq!(data(": data: no\n\n"), [None]);
    assert_eq!(data("Data: a\ndatax: b\n data: c\n\n"), [None]);
    assert_eq!(data("\u{feff}data: a\n\n\u{feff}data: b\n\n"), [some("a"), None]);
    assert_eq!(data("data: a\u{2028}\u{85}\u{b}b\n\n"), [some("a\u{2028}\u{85}\u{b}b")]);
    assert_eq!(data("data: a\r\rdata: b\r\n\r\ndata: c\n\r\n"), [some("a"), some("b"), some("c")]);
    assert_eq!(data("data: a\r\n\n\r"), [some("a"), None]);
    let (events, _) = frame(&Bytes::from_static(b"event: a\nevent:error\nid: 7\ndata: x: y\n\n"), &[]);
    assert_eq!(events[0].event_type.as_deref(), Some(&b"error"[..]));
    assert_eq!(events[0].data.as_deref(), Some(&b"x: y"[..]));
}

#[test]
fn an_event_without_blank_line_is_incomplete() {
    for stream in ["data: a", "data: a\n", "data: a\r", "data: a\r\n"] {
        let (events, tail) = frame(&Bytes::from(stream), &[]);
        assert_eq!((events.len(), tail), (0, Tail::Incomplete(Bytes::from(stream))), "{stream:?}");
    }
    assert_eq!(frame(&Bytes::from("data: a\r\r"), &[]).1, Tail::Clean);
    assert_eq!(frame(&Bytes::new(), &[]), (Vec::new(), Tail::Clean));
}

#[test]
fn a_complete_event_is_given_out_at_once_and_not_copied() {
    let mut framer = Framer::new(LIMITS);
    let chunk = Bytes::from_static(b"data: one\n\ndata: two\r\n\r\ndata: thr");
    let inside = chunk.as_ptr_range();
    framer.push(chunk);
    for expected in ["one", "two"] {
        let event = framer.next_event().unwrap().unwrap();
        assert_eq!(event.data.as_deref(), Some(expected.as_bytes()));
        assert!(inside.contains(&event.raw.as_ptr()));
        assert!(inside.contains(&event.data.unwrap().as_ptr()));
    }
    assert_eq!(framer.next_event(), Ok(None));
    framer.push(Bytes::from_static(b"ee\n\n"));
    assert_eq!(framer.next_event().unwrap().unwrap().raw, "data: three\n\n");
}

#[test]
fn limits_hold_at_the_byte_and_lose_nothing() {
    let limits = Limits { line_bytes: 10, event_bytes: 20 };
    let run = |stream: &'static [u8], step: usize| {
        let mut framer = Framer::new(limits);
        let mut events = 0;
        for chunk in stream.chunks(step) {
            framer.push(Bytes::from_static(chunk));
            loop {
                match framer.next_event() {
                    Ok(Some(_)) => events += 1,
                    Ok(None) => break,
                    Err(error) => {
                        assert_eq!(framer.next_event(), Err(error));
                        return (events, Some(error), framer.finish());
                    }
                }
            }
        }
        (events, None, framer.finish())
    };
    for step in [1, 3, 100] {
        assert_eq!(run(b"data: 7890\n\n", step), (1, None, Tail::Clean));
        let (events, error, tail) = run(b"a\n\ndata: 78901\n\n", step);
        assert_eq!((events, error), (1, Some(FrameError::LineTooLong)));
        assert!(matches!(tail, Tail::Incomplete(rest) if b"data: 78901\n\n".starts_with(&rest) && rest.len() >= 11));
        assert_eq!(run(b"data: 789\ndata: 78\n\n", step), (1, None, Tail::Clean));
        assert_eq!(run(b"data: 789\ndata: 789\n\n", step).1, Some(FrameError::EventTooLong));
        assert_eq!(run(b":::::::::::", step).1, Some(FrameError::LineTooLong));
    }
}

proptest! {
    #[test]
    fn any_bytes_cut_anywhere_give_the_same_events(
        bytes in proptest::collection::vec(prop::sample::select(b"\r\n\n:da \xEF\xBB\xBF".to_vec()), 0..60),
        mut cuts in proptest::collection::vec(0_usize..60, 0..6),
    ) {
        let stream = Bytes::from(bytes);
        cuts.iter_mut().for_each(|cut| *cut = (*cut).min(stream.len()));
        cuts.sort_unstable();
        let whole = frame(&stream, &[]);
        prop_assert_eq!(raw(&whole.0, &whole.1), stream.to_vec());
        prop_assert_eq!(frame(&stream, &cuts), whole);
    }

    #[test]
    fn chunks_pushed_without_reading_are_not_lost(cut in 0_usize..40) {
        let stream = Bytes::from_static(b"data: a\r\n\r\n: c\n\ndata: b\rdata: d\r\rdata: e\n");
        let mut framer = Framer::new(LIMITS);
        framer.push(stream.slice(..cut));
        framer.push(stream.slice(cut..));
        framer.end();
        let events: Vec<Event> = std::iter::from_fn(|| framer.next_event().unwrap()).collect();
        prop_assert_eq!((events, framer.finish()), frame(&stream, &[]));
    }
}
