//! The main job from end to end: miss, exact hit, semantic hit, restart, hit.

use crate::rig::{Rig, chat, chat_stream};

#[tokio::test(flavor = "multi_thread")]
async fn a_miss_an_exact_hit_a_near_hit_and_all_of_it_again_after_a_restart() {
    let mut rig = Rig::with_model().await;
    let first = rig.chat("sk-a", &chat("What is the capital of France?")).await;
    assert_eq!((first.cache(), first.reason()), ("MISS", "no_neighbour"), "{}", first.text());
    assert!(first.content().contains("capital of France"));

    let again = rig.chat("sk-a", &chat("What is the capital of France?")).await;
    assert_eq!((again.cache(), again.header("x-remora-tier")), ("HIT", "exact"));
    assert_eq!(again.content(), first.content());
    assert_ne!(again.json()["id"], first.json()["id"]);

    let near = rig.chat("sk-a", &chat("What is the capital city of France?")).await;
    assert_eq!((near.cache(), near.header("x-remora-tier")), ("HIT", "semantic"), "{}", near.reason());
    assert_eq!(near.content(), first.content());

    let streamed = rig.chat("sk-a", &chat_stream("What is the capital of France?")).await;
    assert_eq!(streamed.cache(), "HIT");
    assert_eq!(streamed.streamed(), first.content());

    let order = rig.chat("sk-a", &chat("Where is my order 7781?")).await;
    let other = rig.chat("sk-a", &chat("Where is my order 7782?")).await;
    assert_eq!((order.cache(), other.cache()), ("MISS", "MISS"));
    assert_eq!(other.reason(), "guard_numbers");
    assert!(other.content().contains("7782"));

    let stranger = rig.chat("sk-b", &chat("What is the capital of France?")).await;
    assert_eq!((stranger.cache(), stranger.reason()), ("MISS", "no_neighbour"));

    rig.settle().await;
    rig.restart().await;
    let kept = rig.chat("sk-a", &chat("What is the capital of France?")).await;
    assert_eq!((kept.cache(), kept.header("x-remora-tier")), ("HIT", "exact"));
    assert_eq!(kept.content(), first.content());
    let kept = rig.chat("sk-a", &chat("What is the capital city of France?")).await;
    assert_eq!((kept.cache(), kept.header("x-remora-tier")), ("HIT", "semantic"));
    assert_eq!(rig.sim.stats().requests, 4, "France twice (two keys) and two orders");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_program_on_the_same_database_is_refused_and_the_first_goes_on() {
    let rig = Rig::start().await;
    let second = remora::app::App::start(rig.config()).await;
    let Err(error) = second else { panic!("two programs share a database") };
    assert!(error.to_string().contains("another remora"), "{error}");
    assert_eq!(rig.chat("sk-a", &chat("Hello")).await.cache(), "MISS");
}
