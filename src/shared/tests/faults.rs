//! Faults: a Redis that is slow, dead, flushed, full or read-only is no trouble for whoever asks, and is used again when it
//! is well.

use super::*;

const KEY: Digest = [7; 32];
const VALUE: Bytes = Bytes::from_static(b"answer");

/// With the server silent: 200 look-ups end, the breaker is open after five, and from then on nothing is sent.
async fn is_left_alone(shared: &Shared) {
    let before = shared.stats();
    for _ in 0..200 {
        assert_eq!(shared.get(&KEY).await, None);
    }
    let open = shared.stats();
    assert!(open.open && !open.up, "{open:?}");
    assert_eq!(open.opened, before.opened + 1);
    // A `PING` that was under way when it fell silent may be among them, and takes one from the five.
    let sent = open.asked - before.asked;
    assert!((4..=6).contains(&sent), "{sent}");
    assert!(open.away - before.away >= 194, "{open:?}");

    for _ in 0..1000 {
        assert_eq!(shared.get(&KEY).await, None);
        assert!(matches!(shared.lease(&KEY).await, Lease::Unavailable));
    }
    assert_eq!(shared.await_holder(&KEY, Instant::now() + PATIENT * 600).await, None);
    shared.put(KEY, VALUE, PATIENT);
    written(shared).await;
    let later = shared.stats();
    assert_eq!((later.asked, later.opened), (open.asked, open.opened), "nothing is sent while it is open");
    assert!(later.dropped > open.dropped);
}

async fn is_used_again(shared: &Shared) {
    eventually("it is up again", || shared.stats().up && !shared.stats().open).await;
    shares(shared, [9; 32], &VALUE).await;
    assert!(matches!(shared.lease(&[10; 32]).await, Lease::Held(_)));
}

#[tokio::test]
async fn a_server_that_hangs_is_left_alone_after_five_calls_and_used_again_afterwards() {
    let server = Server::start(&[]);
    let shared = ready(&server.settings(), &space()).await;
    shared.put(KEY, VALUE, PATIENT * 30);
    assert_eq!(found(&shared, &KEY).await, VALUE);
    server.signal("-STOP");
    is_left_alone(&shared).await;
    server.signal("-CONT");
    is_used_again(&shared).await;
    assert_eq!(shared.get(&KEY).await, Some(VALUE));
}

#[tokio::test]
async fn a_paused_server_is_left_alone_and_probed_in_the_background_only() {
    let mut server = Server::start(&[]);
    let shared = ready(&server.settings(), &space()).await;
    server.order::<()>("CLIENT PAUSE 60000 ALL");
    is_left_alone(&shared).await;
    let connects = shared.stats().connects;
    eventually("it is probed", || shared.stats().connects > connects).await;
    assert!(shared.stats().open);
    server.kill();
    server.restart();
    is_used_again(&shared).await;
}

#[tokio::test]
async fn a_server_that_sleeps_is_left_alone_and_used_again_when_it_wakes() {
    let server = Server::start(&[]);
    let shared = ready(&server.settings(), &space()).await;
    let sleeper = std::thread::spawn({
        let url = server.url();
        move || {
            let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
            redis::cmd("DEBUG").arg("SLEEP").arg(4).exec(&mut connection).unwrap();
        }
    });
    eventually("it sleeps", || shared.stats().timeouts > 0 || shared.stats().opened > 0).await;
    for _ in 0..200 {
        assert_eq!(shared.get(&KEY).await, None);
    }
    assert!(shared.stats().open || shared.stats().opened > 0);
    tokio::task::spawn_blocking(|| sleeper.join().unwrap()).await.unwrap();
    is_used_again(&shared).await;
}

#[tokio::test]
async fn more_than_may_be_under_way_is_refused_at_once() {
    let server = Server::start(&[]);
    let settings = config::Redis { in_flight: 3, deadline: PATIENT * 5, ..server.settings() };
    let shared = ready(&settings, &space()).await;
    server.signal("-STOP");
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let shared = shared.clone();
            tokio::spawn(async move { shared.get(&KEY).await })
        })
        .collect();
    eventually("47 are refused", || calls.iter().filter(|call| call.is_finished()).count() >= 47).await;
    assert!(shared.stats().busy >= 47 && shared.stats().in_flight <= 3, "{:?}", shared.stats());
    server.signal("-CONT");
    for call in calls {
        assert_eq!(call.await.unwrap(), None);
    }
    is_used_again(&shared).await;
}

#[tokio::test]
async fn a_server_that_is_killed_and_comes_back_empty_is_used_again() {
    let mut server = Server::start(&[]);
    let shared = ready(&server.settings(), &space()).await;
    shared.put(KEY, VALUE, PATIENT * 30);
    assert_eq!(found(&shared, &KEY).await, VALUE);
    let Lease::Held(guard) = shared.lease(&[8; 32]).await else { panic!("nobody else is there") };
    server.kill();
    for _ in 0..200 {
        assert_eq!(shared.get(&KEY).await, None);
    }
    assert!(!shared.stats().up);
    drop(guard);
    server.restart();
    is_used_again(&shared).await;
    assert_eq!(shared.get(&KEY).await, None);
}

#[tokio::test]
async fn a_server_that_is_not_there_at_start_is_used_once_it_is() {
    let mut server = Server::start(&[]);
    server.kill();
    let shared = Shared::connect(&server.settings(), &space()).unwrap();
    eventually("it was tried", || shared.stats().connects > 0).await;
    for _ in 0..200 {
        assert_eq!(shared.get(&KEY).await, None);
    }
    let stats = shared.stats();
    assert!(!stats.up && !stats.open && stats.asked == 0 && stats.away == 200, "{stats:?}");
    server.restart();
    is_used_again(&shared).await;
}

#[tokio::test]
async fn a_flush_of_everything_in_the_middle_is_a_miss_and_a_lost_lease() {
    let (server, space) = (Server::start(&[]), space());
    let (one, two) = (ready(&server.settings(), &space).await, ready(&server.settings(), &space).await);
    one.put(KEY, VALUE, PATIENT * 30);
    assert_eq!(found(&two, &KEY).await, VALUE);
    let Lease::Held(first) = one.lease(&[8; 32]).await else { panic!("nobody else is there") };
    server.order::<()>("SCRIPT FLUSH");
    server.order::<()>("FLUSHALL");
    assert_eq!(two.get(&KEY).await, None);
    // The scripts are gone as well, and loaded again.
    let Lease::Held(second) = two.lease(&[8; 32]).await else { panic!("the lease is gone") };
    eventually("the first notices", || one.stats().leases_lost == 1).await;
    server.order::<()>("SCRIPT FLUSH");
    drop(first);
    written(&one).await;
    assert!(matches!(one.lease(&[8; 32]).await, Lease::Taken), "it does not release what is not its own");
    drop(second);
    let stats = (one.stats(), two.stats());
    assert!(stats.0.opened + stats.1.opened + stats.0.refused + stats.1.refused == 0, "{stats:?}");
}

#[tokio::test]
async fn a_full_server_takes_no_writes_and_still_answers() {
    let server = Server::start(&["--maxmemory-policy", "noeviction"]);
    let shared = ready(&server.settings(), &space()).await;
    shared.put(KEY, VALUE, PATIENT * 30);
    assert_eq!(found(&shared, &KEY).await, VALUE);
    server.order::<()>("CONFIG SET maxmemory 1mb");
    shared.put([8; 32], VALUE, PATIENT * 30);
    eventually("it is refused", || shared.stats().refused > 0).await;
    for _ in 0..20 {
        assert!(matches!(shared.lease(&[8; 32]).await, Lease::Unavailable));
        assert_eq!(shared.get(&KEY).await, Some(VALUE.clone()), "what is there can be read");
        assert_eq!(shared.get(&[8; 32]).await, None);
    }
    let stats = shared.stats();
    assert!(stats.up && stats.opened == 0 && stats.refused >= 20 && stats.dropped >= 1, "{stats:?}");
    server.order::<()>("CONFIG SET maxmemory 0");
    is_used_again(&shared).await;
}

#[tokio::test]
async fn a_replica_that_takes_no_writes_is_left_and_the_master_found_again() {
    let server = Server::start(&[]);
    let shared = ready(&server.settings(), &space()).await;
    let connects = shared.stats().connects;
    server.order::<()>("REPLICAOF 127.0.0.1 1");
    shared.put(KEY, VALUE, PATIENT * 30);
    eventually("it is refused", || shared.stats().refused > 0 && shared.stats().dropped > 0).await;
    eventually("it connects anew", || shared.stats().connects > connects).await;
    server.order::<()>("REPLICAOF NO ONE");
    is_used_again(&shared).await;
}
