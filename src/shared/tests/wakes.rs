//! Wake-ups: heard by others, few, and again after a fault.

use super::*;

/// Subscribed, which comes a little after connected.
async fn listening(server: &Server, channel: &str, count: u64) {
    eventually("all listen", || server.order::<(String, u64)>(&format!("PUBSUB NUMSUB {channel}")).1 == count).await;
}

async fn hears(shared: &Shared) -> bool {
    tokio::time::timeout(PATIENT * 20, shared.woken()).await.is_ok()
}

async fn is_quiet(shared: &Shared) -> bool {
    tokio::time::timeout(Duration::from_millis(200), shared.woken()).await.is_err()
}

#[tokio::test]
async fn a_wake_up_is_heard_by_the_others_and_many_become_few() {
    let (server, space) = (Server::start(&[]), space());
    let (one, two) = (ready(&server.settings(), &space).await, ready(&server.settings(), &space).await);
    let stranger = ready(&server.settings(), &self::space()).await;
    listening(&server, &one.0.names.channel(), 2).await;
    assert!(is_quiet(&two).await);
    one.wake();
    assert!(hears(&two).await);
    assert!(is_quiet(&one).await && is_quiet(&stranger).await && is_quiet(&two).await);

    for _ in 0..1000 {
        one.wake();
    }
    eventually("it is sent", || one.stats().wakes_sent >= 2).await;
    assert!(hears(&two).await);
    let sent = one.stats().wakes_sent;
    assert!(sent <= 4, "{sent}");
    eventually("all are heard", || two.stats().wakes_heard == one.stats().wakes_sent).await;
    tokio::time::timeout(Duration::from_millis(100), two.woken()).await.ok();
    assert!(is_quiet(&two).await, "heard while nobody waited: once");
}

#[tokio::test]
async fn after_a_restart_the_subscription_is_back_and_says_that_something_may_be_missed() {
    let (mut server, space) = (Server::start(&[]), space());
    let (one, two) = (ready(&server.settings(), &space).await, ready(&server.settings(), &space).await);
    let channel = one.0.names.channel();
    listening(&server, &channel, 2).await;
    server.kill();
    eventually("both know", || !one.stats().up && !two.stats().up).await;
    one.wake();
    assert!(is_quiet(&two).await, "it pends while there is no connection");
    server.restart();
    assert!(hears(&two).await, "something may have been said meanwhile");
    listening(&server, &channel, 2).await;
    eventually("it can be sent", || one.stats().up).await;
    let heard = two.stats().wakes_heard;
    one.wake();
    assert!(hears(&two).await);
    assert_eq!(two.stats().wakes_heard, heard + 1);
}
