//! Values: what is written is found, and nothing else is.

use super::*;

const KEY: Digest = [7; 32];

/// Names and remaining lives, in milliseconds, of all keys of a space.
async fn keys(settings: &config::Redis, space: &Digest) -> Vec<(String, i64)> {
    let client = redis::Client::open(settings.url.expose()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let (mut cursor, mut found) = (0_u64, Vec::new());
    loop {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(Names::of(space).pattern()).arg("COUNT").arg(1000);
        let (next, names): (u64, Vec<String>) = scan.query_async(&mut connection).await.unwrap();
        for name in names {
            let left: i64 = redis::cmd("PTTL").arg(&name).query_async(&mut connection).await.unwrap();
            found.push((name, left));
        }
        cursor = next;
        if cursor == 0 {
            return found;
        }
    }
}

/// Writes behind the back of the module.
async fn overwrite(settings: &config::Redis, command: &mut redis::Cmd) {
    let client = redis::Client::open(settings.url.expose()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let _: redis::Value = command.query_async(&mut connection).await.unwrap();
}

#[tokio::test]
async fn what_one_replica_puts_another_gets_and_another_space_does_not() {
    let space = self::space();
    let (one, two) = (ready(&common(), &space).await, ready(&common(), &space).await);
    let stranger = ready(&common(), &self::space()).await;
    assert_eq!(two.get(&KEY).await, None);
    let value = Bytes::from(vec![0_u8; 300_000]);
    one.put(KEY, value.clone(), PATIENT * 30);
    assert_eq!(found(&two, &KEY).await, value);
    assert_eq!(stranger.get(&KEY).await, None);
    assert_eq!(two.get(&[8; 32]).await, None);
    assert!(two.stats().hits == 1 && two.stats().misses >= 2, "{:?}", two.stats());

    one.put(KEY, Bytes::from_static(b""), PATIENT * 30);
    written(&one).await;
    assert_eq!(two.get(&KEY).await, Some(Bytes::new()), "the last write counts, and an empty value is one");
    one.forget(vec![KEY, [8; 32]]);
    written(&one).await;
    assert_eq!(two.get(&KEY).await, None);
}

#[tokio::test]
async fn every_key_has_an_expiry_and_none_outlives_the_longest() {
    let (settings, space) = (common(), self::space());
    let shared = ready(&settings, &space).await;
    shared.put([1; 32], Bytes::from_static(b"a"), Duration::from_secs(7200));
    shared.put([2; 32], Bytes::from_static(b"b"), Duration::from_secs(5));
    shared.put([3; 32], Bytes::from_static(b"c"), Duration::ZERO);
    let Lease::Held(_guard) = shared.lease(&[4; 32]).await else { panic!("nobody else is there") };
    written(&shared).await;
    let mut keys = keys(&settings, &space).await;
    keys.sort_by_key(|(_, left)| *left);
    let lives: Vec<_> = keys.iter().map(|(_, left)| *left).collect();
    assert!(matches!(lives.as_slice(), [1..=2000, 2001..=5000, 5001..=60_000]), "{keys:?}");
}

#[tokio::test]
async fn a_value_that_was_changed_is_never_served_and_is_deleted_and_counted() {
    let (settings, space) = (common(), self::space());
    let shared = ready(&settings, &space).await;
    let name = Names::of(&space).value(&KEY);
    let other = Seal::of(&space).close(&[8; 32], b"another key's");
    let mut newer = Seal::of(&space).close(&KEY, b"value");
    newer[0] += 1;
    let mut cut = Seal::of(&space).close(&KEY, b"value");
    cut.pop();
    for (number, bad) in (1..).zip([other, newer, cut, Vec::new(), b"hello".to_vec()]) {
        overwrite(&settings, redis::cmd("SET").arg(&name).arg(bad).arg("PX").arg(60_000)).await;
        assert_eq!(shared.get(&KEY).await, None);
        assert_eq!(shared.stats().corrupted, number);
        written(&shared).await;
        assert_eq!(keys(&settings, &space).await, []);
    }
    overwrite(&settings, redis::cmd("SET").arg(&name).arg("hello").arg("PX").arg(60_000)).await;
    assert_eq!(shared.await_holder(&KEY, Instant::now() + PATIENT).await, None);
    assert_eq!((shared.stats().corrupted, shared.stats().hits), (6, 0));
}

#[tokio::test]
async fn a_key_of_another_type_is_no_answer_and_is_deleted_and_counted() {
    let (settings, space) = (common(), self::space());
    let shared = ready(&settings, &space).await;
    overwrite(&settings, redis::cmd("RPUSH").arg(Names::of(&space).value(&KEY)).arg("x")).await;
    assert_eq!(shared.get(&KEY).await, None);
    written(&shared).await;
    assert_eq!(keys(&settings, &space).await, []);
    let stats = shared.stats();
    assert!(stats.wrong_type == 1 && stats.up && stats.opened == 0, "{stats:?}");

    // In place of the lease: it cannot be taken, and whoever waits for it does not.
    overwrite(&settings, redis::cmd("RPUSH").arg(Names::of(&space).lease(&KEY)).arg("x")).await;
    assert!(matches!(shared.lease(&KEY).await, Lease::Taken));
    assert_eq!(shared.await_holder(&KEY, Instant::now() + PATIENT * 60).await, None);
    overwrite(&settings, redis::cmd("DEL").arg(Names::of(&space).lease(&KEY))).await;
}

#[tokio::test]
async fn a_background_queue_that_is_full_drops_and_counts() {
    let (settings, space) = (config::Redis { queue: 8, ..common() }, self::space());
    let shared = ready(&settings, &space).await;
    // The lanes run on this thread, so not one of them can take anything out meanwhile.
    for number in 0..200 {
        shared.put([number; 32], Bytes::from_static(b"x"), PATIENT * 30);
    }
    assert_eq!((shared.stats().queued, shared.stats().dropped), (8, 192));
    written(&shared).await;
    assert_eq!(keys(&settings, &space).await.len(), 8, "what was queued is written");
    assert_eq!(shared.stats().dropped, 192);

    // By bytes as well.
    let large = Bytes::from(vec![0; 40 << 20]);
    shared.put([1; 32], large.clone(), PATIENT * 30);
    shared.put([2; 32], large, PATIENT * 30);
    assert_eq!((shared.stats().queued, shared.stats().dropped), (1, 193));
}

#[tokio::test]
async fn the_tasks_end_with_the_last_clone() {
    let server = Server::start(&[]);
    let clients = || server.order::<String>("CLIENT LIST TYPE normal").lines().count();
    let before = clients();
    let shared = ready(&server.settings(), &space()).await;
    let clone = shared.clone();
    drop(shared);
    assert_eq!(clone.get(&KEY).await, None);
    assert_eq!(clone.stats().misses, 1, "the clone still works");
    assert!(clients() > before);
    drop(clone);
    eventually("the connections are closed", || {
        clients() == before && server.order::<String>("CLIENT LIST TYPE pubsub").lines().count() == 0
    })
    .await;
}
