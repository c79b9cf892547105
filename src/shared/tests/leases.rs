//! Leases: one holder, and waiters that end.

use super::lease::TTL;
use super::*;

const KEY: Digest = [7; 32];

/// Far beyond what any of these may take.
fn far() -> Instant {
    Instant::now() + PATIENT * 600
}

async fn held(shared: &Shared) -> LeaseGuard {
    match shared.lease(&KEY).await {
        Lease::Held(guard) => guard,
        other => panic!("{other:?}"),
    }
}

async fn two() -> (Shared, Shared) {
    let space = space();
    (ready(&common(), &space).await, ready(&common(), &space).await)
}

/// Takes it as soon as it is free.
async fn freed(shared: &Shared) -> LeaseGuard {
    for _ in 0..1000 {
        if let Lease::Held(guard) = shared.lease(&KEY).await {
            return guard;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("the lease is never free");
}

#[tokio::test]
async fn a_lease_excludes_and_whoever_waits_gets_the_value() {
    let (one, two) = two().await;
    let guard = held(&one).await;
    assert!(matches!(two.lease(&KEY).await, Lease::Taken));
    assert!(matches!(one.lease(&KEY).await, Lease::Taken), "nor twice by the same process");
    assert!(matches!(two.lease(&[8; 32]).await, Lease::Held(_)), "another key is free");
    let waiters: Vec<_> = (0..20)
        .map(|_| {
            let two = two.clone();
            tokio::spawn(async move { two.await_holder(&KEY, far()).await })
        })
        .collect();
    sleep(Duration::from_millis(100)).await;
    one.put(KEY, Bytes::from_static(b"answer"), PATIENT * 30);
    guard.release();
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap(), Some(Bytes::from_static(b"answer")));
    }
    // Whoever looked for the value just before it came is not sent to fetch it again.
    assert!(matches!(two.lease(&KEY).await, Lease::Taken));
    assert_eq!(two.await_holder(&KEY, far()).await, Some(Bytes::from_static(b"answer")));
    let (one, two) = (one.stats(), two.stats());
    assert_eq!((one.leases_held, one.leases_taken, one.leases_lost), (1, 1, 0), "{one:?}");
    assert_eq!((two.leases_held, two.leases_taken, two.leases_lost), (1, 2, 0), "{two:?}");
}

#[tokio::test]
async fn the_release_never_overtakes_the_value() {
    let (one, two) = two().await;
    for _ in 0..200 {
        let guard = freed(&one).await;
        let waiter = tokio::spawn({
            let two = two.clone();
            async move { two.await_holder(&KEY, far()).await }
        });
        one.put(KEY, Bytes::from_static(b"answer"), PATIENT * 30);
        drop(guard);
        // Either it waits and sees the value, or it comes late and sees it too.
        written(&one).await;
        assert_eq!(waiter.await.unwrap(), Some(Bytes::from_static(b"answer")));
        one.forget(vec![KEY]);
    }
}

#[tokio::test]
async fn a_holder_that_gives_up_lets_the_waiters_go_at_once() {
    let (one, two) = two().await;
    let guard = held(&one).await;
    let waiter = tokio::spawn({
        let two = two.clone();
        async move { two.await_holder(&KEY, far()).await }
    });
    sleep(Duration::from_millis(50)).await;
    assert!(!waiter.is_finished());
    drop(guard);
    assert_eq!(waiter.await.unwrap(), None);
    assert!(matches!(two.lease(&KEY).await, Lease::Held(_)));
}

#[tokio::test]
async fn a_holder_that_dies_holds_others_up_for_no_longer_than_the_lease() {
    let (one, two) = two().await;
    held(&one).await.die();
    assert!(matches!(two.lease(&KEY).await, Lease::Taken));
    let began = Instant::now();
    assert_eq!(two.await_holder(&KEY, far()).await, None);
    assert!(began.elapsed() < TTL * 5, "{:?}", began.elapsed());
    assert!(matches!(two.lease(&KEY).await, Lease::Held(_)));
}

#[tokio::test]
async fn a_lease_is_kept_for_as_long_as_it_is_held() {
    let (one, two) = two().await;
    let guard = held(&one).await;
    sleep(TTL * 2).await;
    assert!(matches!(two.lease(&KEY).await, Lease::Taken));
    let until = Instant::now() + Duration::from_millis(50);
    assert_eq!(two.await_holder(&KEY, until).await, None, "the wait ends at its time");
    assert!(Instant::now() >= until);
    drop(guard);
    drop(freed(&two).await);
    assert_eq!(one.stats().leases_lost, 0);
}

#[tokio::test]
async fn a_lease_that_another_took_over_is_not_released_by_the_first() {
    let (one, two) = two().await;
    let first = held(&one).await;
    // As after a pause longer than the expiry.
    let client = redis::Client::open(common().url.expose()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let _: () = redis::cmd("DEL").arg(one.0.names.lease(&KEY)).query_async(&mut connection).await.unwrap();
    let second = held(&two).await;
    drop(first);
    written(&one).await;
    assert!(matches!(one.lease(&KEY).await, Lease::Taken));
    drop(second);
    drop(freed(&one).await);
}

#[tokio::test]
async fn a_question_that_is_abandoned_leaves_no_lease_behind() {
    let (one, two) = two().await;
    for _ in 0..20 {
        let mut question = std::pin::pin!(one.lease(&KEY));
        // Polled once, it is on its way; then the caller leaves.
        let _ =
            std::future::poll_fn(|context| std::task::Poll::Ready(question.as_mut().poll(context).is_ready())).await;
    }
    // No task has run yet: each question has queued that its token be taken back.
    assert_eq!((one.stats().queued, one.stats().leases_held), (20, 0), "{:?}", one.stats());
    drop(freed(&two).await);
}
