use super::*;
use crate::telemetry::metrics::Metrics;

fn tracer(ratio: f64, room: usize) -> (Metrics, Tracer, mpsc::Receiver<Finished>) {
    let metrics = Metrics::new([], []).unwrap();
    let (tracer, queue) = Tracer::new(ratio, room, metrics.traces.clone());
    (metrics, tracer, queue)
}

fn told(flags: &str) -> HeaderMap {
    let value = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
    HeaderMap::from_iter([(http::HeaderName::from_static("traceparent"), value.parse().unwrap())])
}

#[test]
fn chance_samples_its_part_and_a_caller_with_a_trace_decides_for_itself() {
    let (_, tracer, _queue) = tracer(0.25, 1);
    let sampled = |headers: &HeaderMap| {
        (0..4_000).filter(|n| tracer.begin(RequestId::at(*n), headers, Instant::now()).is_some()).count()
    };
    // 1,000 are expected, with a standard deviation of 27.
    let share = sampled(&HeaderMap::new());
    assert!((830..1_170).contains(&share), "{share}");
    assert_eq!((sampled(&told("01")), sampled(&told("00"))), (4_000, 0));
    let drawn = |n: &u64| tracer.begin(RequestId::at(*n), &told("01"), Instant::now()).unwrap().is_by_chance();
    let share = (0..4_000).filter(drawn).count();
    assert!((830..1_170).contains(&share), "{share}, whatever callers say");
    let id = RequestId::at(7);
    let (_, all, _queue) = self::tracer(1.0, 1);
    let trace = all.begin(id, &HeaderMap::new(), Instant::now()).unwrap();
    assert_eq!(trace.id(), id.to_bytes(), "a trace that begins here has the id of its request");
    let (_, none, _queue) = self::tracer(0.0, 1);
    assert!((0..1_000).all(|n| none.begin(RequestId::at(n), &HeaderMap::new(), Instant::now()).is_none()));
}

#[test]
fn what_has_no_room_in_the_queue_is_dropped_and_counted_span_by_span() {
    let (metrics, tracer, mut queue) = tracer(1.0, 3);
    let row = crate::store::sample::row("acme", 1);
    for _ in 0..10 {
        let trace = tracer.begin(row.request, &HeaderMap::new(), Instant::now()).unwrap();
        let marks = Marks::of(Some(&trace));
        drop((marks.stage(Stage::Read), marks.stage(Stage::Lookup)));
        trace.end(&row, Some(Duration::ZERO), Duration::from_millis(1));
    }
    let mut kept = 0;
    while let Ok(finished) = queue.try_recv() {
        assert_eq!(finished.spans(), 4, "the request, two stages, the reply");
        kept += 1;
    }
    let dropped = metrics.traces.dropped.with_label_values(&["queue"]).get();
    assert_eq!((kept, dropped), (3, 7 * 4));
}
