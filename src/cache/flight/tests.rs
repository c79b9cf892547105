use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

type Test = Flights<u16, &'static str>;

fn frame(text: &'static str) -> Frame {
    Frame { raw: Bytes::from_static(text.as_bytes()), plain: None, closing: false }
}

async fn next(seat: &Seat<u16, &'static str>) -> Next<&'static str> {
    poll_fn(|cx| seat.poll_next(cx)).await
}

fn lead(flights: &Arc<Test>) -> (Pilot<u16, &'static str>, Seat<u16, &'static str>) {
    match flights.join([1; 32]) {
        Joined::Lead(pilot, seat) => (pilot, seat),
        Joined::Follow(_) => panic!("expected to lead"),
    }
}

fn follow(flights: &Arc<Test>) -> Seat<u16, &'static str> {
    match flights.join([1; 32]) {
        Joined::Follow(seat) => seat,
        Joined::Lead(..) => panic!("expected to follow"),
    }
}

#[tokio::test]
async fn a_follower_that_comes_late_reads_from_the_first_byte() {
    let flights = Test::new(1 << 20);
    let (pilot, leader) = lead(&flights);
    pilot.head(200);
    pilot.push(frame("a")).await.unwrap();
    let follower = follow(&flights);
    assert_eq!(pilot.followers(), 1);
    pilot.push(frame("b")).await.unwrap();
    pilot.end("done");
    for seat in [&leader, &follower] {
        assert_eq!(seat.head().await, Ok(200));
        assert_eq!(next(seat).await, Next::Frame(frame("a")));
        assert_eq!(next(seat).await, Next::Frame(frame("b")));
        assert_eq!(next(seat).await, Next::End("done"));
    }
    assert!(flights.is_empty());
    let _ = lead(&flights);
}

#[tokio::test]
async fn the_leaders_client_may_leave_without_harm_to_the_followers() {
    let flights = Test::new(1 << 20);
    let (pilot, leader) = lead(&flights);
    let follower = follow(&flights);
    drop(leader);
    pilot.head(200);
    pilot.push(frame("a")).await.unwrap();
    pilot.end("done");
    assert_eq!(follower.head().await, Ok(200));
    assert_eq!(next(&follower).await, Next::Frame(frame("a")));
}

#[tokio::test]
async fn the_pilot_learns_that_everybody_left_and_the_flight_is_not_revived() {
    let flights = Test::new(1 << 20);
    let (pilot, leader) = lead(&flights);
    let follower = follow(&flights);
    drop(leader);
    drop(follower);
    pilot.abandoned().await;
    assert_eq!(pilot.push(frame("a")).await, Err(Abandoned));
    let (other, _seat) = lead(&flights);
    drop(pilot);
    assert_eq!(flights.len(), 1, "the old pilot must not take the new flight out of the map");
    drop(other);
}

#[tokio::test]
async fn a_dead_leader_promotes_exactly_one_follower() {
    let flights = Test::new(1 << 20);
    let (pilot, _seat) = lead(&flights);
    let leaders = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for _ in 0..20 {
        let seat = follow(&flights);
        let (flights, leaders) = (Arc::clone(&flights), Arc::clone(&leaders));
        tasks.push(tokio::spawn(async move {
            assert_eq!(seat.head().await, Err(LeaderFailed));
            match flights.join([1; 32]) {
                Joined::Lead(pilot, seat) => {
                    leaders.fetch_add(1, Ordering::Relaxed);
                    // Time for the others to find the new flight.
                    for _ in 0..100 {
                        tokio::task::yield_now().await;
                    }
                    pilot.head(200);
                    pilot.end("done");
                    seat.head().await
                }
                Joined::Follow(seat) => seat.head().await,
            }
        }));
    }
    drop(pilot);
    for task in tasks {
        assert_eq!(task.await.unwrap(), Ok(200));
    }
    assert_eq!(leaders.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_failure_that_another_try_may_not_meet_stays_with_the_leader() {
    let flights = Test::new(1 << 20);
    let (pilot, leader) = lead(&flights);
    let follower = follow(&flights);
    pilot.fail_followers(500, "failed");
    assert_eq!(leader.head().await, Ok(500));
    assert_eq!(next(&leader).await, Next::End("failed"));
    assert_eq!(follower.head().await, Err(LeaderFailed));
}

#[tokio::test]
async fn a_pilot_dropped_in_the_middle_is_seen_by_all() {
    let flights = Test::new(1 << 20);
    let (pilot, leader) = lead(&flights);
    pilot.head(200);
    pilot.push(frame("a")).await.unwrap();
    drop(pilot);
    assert_eq!(leader.head().await, Ok(200));
    assert_eq!(next(&leader).await, Next::Frame(frame("a")));
    assert_eq!(next(&leader).await, Next::Failed);
}

#[tokio::test]
async fn a_long_answer_takes_no_more_followers_and_forgets_what_was_read() {
    let flights = Test::new(3);
    let (pilot, leader) = lead(&flights);
    pilot.head(200);
    for text in ["aa", "bb", "cc"] {
        pilot.push(frame(text)).await.unwrap();
        assert_eq!(next(&leader).await, Next::Frame(frame(text)));
    }
    assert!(lock(&pilot.flight.state).frames.len() <= 1);
    let _ = lead(&flights);
    pilot.push(frame("dd")).await.unwrap();
    assert_eq!(next(&leader).await, Next::Frame(frame("dd")));
}

#[tokio::test(start_paused = true)]
async fn the_pilot_waits_for_a_reader_that_is_far_behind() {
    let flights = Test::new(64 << 20);
    let (pilot, leader) = lead(&flights);
    let big = Frame { raw: Bytes::from(vec![0; AHEAD_BYTES]), plain: None, closing: false };
    pilot.push(big.clone()).await.unwrap();
    let stuck = tokio::time::timeout(std::time::Duration::from_secs(1), pilot.push(big.clone())).await;
    assert!(stuck.is_err());
    assert_eq!(next(&leader).await, Next::Frame(big.clone()));
    assert_eq!(next(&leader).await, Next::Frame(big));
    pilot.push(frame("a")).await.unwrap();
}

#[tokio::test]
async fn a_flight_that_nobody_can_join_keeps_nothing_that_was_read() {
    let flights = Test::new(1 << 20);
    let (pilot, seat) = flights.alone();
    assert!(flights.is_empty());
    pilot.head(200);
    for text in ["a", "b", "c"] {
        pilot.push(frame(text)).await.unwrap();
        assert_eq!(next(&seat).await, Next::Frame(frame(text)));
        assert!(lock(&pilot.flight.state).frames.len() <= 1);
    }
    pilot.end("done");
    assert_eq!(next(&seat).await, Next::End("done"));
}

#[tokio::test]
async fn clients_that_come_and_go_leave_no_seats_behind() {
    let flights = Test::new(1 << 20);
    let (pilot, _leader) = lead(&flights);
    pilot.head(200);
    pilot.push(frame("a")).await.unwrap();
    for _ in 0..1_000 {
        let follower = follow(&flights);
        assert_eq!(next(&follower).await, Next::Frame(frame("a")), "from the first byte");
    }
    assert_eq!(lock(&pilot.flight.state).seats.len(), 2);
}
