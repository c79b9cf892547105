//! What the embedder promises whatever its kind.

use std::sync::atomic::AtomicBool;
use std::sync::mpsc;

use tokio::task::JoinSet;

use super::*;

fn config() -> Embedding {
    Embedding {
        kind: EmbeddingKind::Builtin,
        deadline: Duration::from_secs(120),
        threads: 2,
        queue: 256,
        cache_entries: 100,
    }
}

fn bits(embedded: &Embedded) -> Vec<u32> {
    embedded.vector.iter().map(|x| x.to_bits()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_texts_asked_for_together_are_embedded_once() {
    let embedder = Embedder::new(&config()).unwrap();
    let mut calls = JoinSet::new();
    for _ in 0..50 {
        let embedder = embedder.clone();
        calls.spawn(async move { embedder.embed("turn on the light").await.unwrap() });
    }
    let answers = calls.join_all().await;
    assert_eq!(embedder.inferences(), 1);
    assert_eq!(embedder.cache_hits(), 49);
    assert_eq!(answers.iter().filter(|answer| !answer.cached).count(), 1);
    assert!(answers.windows(2).all(|pair| bits(&pair[0]) == bits(&pair[1])));
    assert_eq!(embedder.queue_depth(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_texts_give_equal_bits_under_load() {
    let texts: Vec<String> = (0..6).map(|n| format!("question number {n} {}", "and more ".repeat(n * n))).collect();
    let alone = Embedder::new(&config()).unwrap();
    let mut expected = Vec::new();
    for text in &texts {
        expected.push(bits(&alone.embed(text).await.unwrap()));
    }
    // Straight to the threads: the cache would let most of these share.
    let workers = Arc::new(Workers::start(2, 64, &Arc::new(Memory::new(1)), Arc::default(), builtin_infer).unwrap());
    let mut calls = JoinSet::new();
    for number in 0..36 {
        let (workers, at) = (Arc::clone(&workers), number % texts.len());
        let text = texts[at].clone();
        calls.spawn(async move { (at, workers.run([0; 32], &text).await.unwrap()) });
    }
    for (at, reading) in calls.join_all().await {
        let found: Vec<u32> = reading.vector.iter().map(|x| x.to_bits()).collect();
        assert_eq!(found, expected[at], "text {at}");
    }
}

#[tokio::test]
async fn warming_up_lets_the_first_text_find_the_model_loaded() {
    let embedder = Embedder::new(&config()).unwrap();
    embedder.warm().unwrap();
    let first = embedder.embed("hello").await.unwrap();
    assert_eq!(first.vector.len(), embedder.space().dimensions);
    assert!(!first.cached);
    assert!(embedder.embed("hello").await.unwrap().cached);
    assert_eq!(embedder.embed("  \n").await.unwrap_err(), EmbedError::Empty);
}

/// An embedder over one worker that waits for a word on the returned channel before each answer.
fn gated(deadline: Duration, queue: usize) -> (Embedder, mpsc::Sender<()>) {
    let (open, gate) = mpsc::channel::<()>();
    let gate = Arc::new(std::sync::Mutex::new(gate));
    let (memory, counters) = (Arc::new(Memory::new(10)), Arc::<Counters>::default());
    let make = move || -> Infer {
        let gate = Arc::clone(&gate);
        Box::new(move |_| {
            gate.lock().unwrap().recv().unwrap();
            Ok(Reading { vector: unit(vec![1.0], 1)?, unseen: None, bill: None })
        })
    };
    let workers = Workers::start(1, queue, &memory, Arc::clone(&counters), make).unwrap();
    let space = Space { model: "gated".to_owned(), revision: "0".to_owned(), dimensions: 1 };
    (Embedder::over(space, Engine::Builtin(workers), memory, deadline, counters), open)
}

#[tokio::test]
async fn a_slow_vector_ends_at_the_deadline_and_serves_the_next_who_asks() {
    let (embedder, open) = gated(Duration::from_millis(30), 8);
    assert_eq!(embedder.embed("slow").await.unwrap_err(), EmbedError::Deadline);
    assert_eq!(embedder.embed("never begun").await.unwrap_err(), EmbedError::Deadline);
    open.send(()).unwrap();
    while embedder.0.memory.peek(&embedder.key(&[""], "slow")).is_none() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(embedder.embed("slow").await.unwrap().cached);
    assert_eq!(embedder.inferences(), 1, "the one whose caller had gone was not computed");
}

#[tokio::test]
async fn whoever_has_time_gets_a_vector_that_others_did_not_wait_for() {
    let (embedder, open) = gated(Duration::from_millis(10), 1);
    let patient = |text: &'static str| {
        let embedder = embedder.clone();
        tokio::spawn(async move { embedder.embed_within(Duration::from_secs(120), &["a"], text).await })
    };
    let slow = patient("slow");
    while embedder.inferences() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(embedder.embed_for("a", "waits").await.unwrap_err(), EmbedError::Deadline);
    // The one place of the queue is taken until the thread goes on.
    assert_eq!(embedder.embed_for("a", "refused").await.unwrap_err(), EmbedError::QueueFull);
    let refused = patient("refused");
    tokio::task::yield_now().await;
    assert!(!slow.is_finished() && !refused.is_finished(), "they wait, past the deadline of others");
    (0..2).for_each(|_| open.send(()).unwrap());
    assert!(!slow.await.unwrap().unwrap().cached);
    assert!(!refused.await.unwrap().unwrap().cached);
    assert!(embedder.embed_within(Duration::from_secs(120), &["a"], "slow").await.unwrap().cached);
}

#[tokio::test]
async fn those_who_have_time_leave_the_queue_to_those_who_have_none() {
    let (embedder, open) = gated(Duration::from_secs(120), 8);
    let patient: Vec<_> = (0..20)
        .map(|number| {
            let embedder = embedder.clone();
            let text = format!("text {number}");
            tokio::spawn(async move { embedder.embed_within(Duration::from_secs(120), &["a"], &text).await })
        })
        .collect();
    for _ in 0..50 {
        tokio::task::yield_now().await;
        assert!(embedder.queue_depth() <= PATIENT, "{}", embedder.queue_depth());
    }
    (0..21).for_each(|_| open.send(()).unwrap());
    embedder.embed("a request").await.unwrap();
    for one in patient {
        one.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn when_the_first_caller_leaves_another_takes_its_place() {
    let (embedder, open) = gated(Duration::from_secs(120), 8);
    let ask = || {
        let embedder = embedder.clone();
        tokio::spawn(async move { embedder.embed("same").await })
    };
    let (first, second) = (ask(), ask());
    tokio::task::yield_now().await;
    first.abort();
    open.send(()).unwrap();
    open.send(()).unwrap();
    assert!(!second.await.unwrap().unwrap().cached);
}

#[tokio::test]
async fn a_failure_is_reported_and_the_next_call_tries_again() {
    let broken = Arc::new(AtomicBool::new(true));
    let state = Arc::clone(&broken);
    let embedder =
        Embedder::fixed(
            2,
            move |_| {
                if state.load(Ordering::Relaxed) { Ok(vec![f32::NAN, 1.0]) } else { Ok(vec![3.0, 4.0]) }
            },
        );
    assert_eq!(embedder.embed("text").await.unwrap_err().reason(), "bad_vector");
    broken.store(false, Ordering::Relaxed);
    assert_eq!(embedder.embed("text").await.unwrap().vector.as_ref(), [0.6, 0.8]);
    assert_eq!(embedder.inferences(), 2);
}

#[tokio::test]
async fn the_failing_embedder_fails_with_the_given_reason() {
    for error in [EmbedError::QueueFull, EmbedError::BreakerOpen, EmbedError::RemoteStatus(500)] {
        let embedder = Embedder::failing(error.clone());
        assert_eq!(embedder.embed("text").await.unwrap_err(), error);
    }
}

#[test]
fn a_malformed_endpoint_is_refused_without_naming_the_key() {
    let remote = |url: &str, key: &str| {
        let api_key = Some(crate::config::Secret::new(key.to_owned()));
        let kind = EmbeddingKind::OpenAi { url: url.to_owned(), model: "m".to_owned(), api_key, dimensions: 2 };
        Embedder::new(&Embedding { kind, ..config() })
    };
    for url in ["", "localhost:80", "/v1", "ftp://host/v1"] {
        assert_eq!(remote(url, "k").unwrap_err().reason(), "model", "{url}");
    }
    let error = remote("http://host/v1", "secret\n").unwrap_err();
    assert!(!format!("{error} {error:?}").contains("secret"));
    assert!(remote("http://host/v1", "secret").is_ok());
}
