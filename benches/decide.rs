//! What one decision costs once the prompt is embedded, in a partition of 10,000 points: the search for the ten nearest, the
//! decision about them, and both.
//!
//! `cargo bench --bench decide`. Vectors are clustered as in `benches/index.rs`; the points of a cluster have prompts that
//! differ as reworded questions do, so guards and words have as much to do as in traffic. The decision is what
//! `Cache::consider` and `Cache::note` do: reading the new prompt, weighing the neighbours (whose own prompts are read
//! already), judging, and counting. Before criterion's timings the best of several passes is printed, for noisy machines.

#[path = "../src/index/testing.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod testing;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::Criterion;
use remora::cache::decide::{
    Features, Guards, INPUTS, Judgement, Learner, Near, Observation, Source, Waivers, Weights, weigh,
};
use remora::ids::PointId;
use remora::index::{Neighbour, Partition};
use testing::Points;

const DIM: usize = 384;
const SIZE: usize = 10_000;
const QUERIES: usize = 500;
const K: usize = 10;
/// Points of a cluster in the generator.
const PER_CLUSTER: usize = 20;
/// Points that share an answer.
const PER_GROUP: usize = 4;
/// Passes over all queries, of which the best is printed.
const PASSES: usize = 15;
const FLOOR: f32 = 0.6;
const BUDGET: f64 = 0.005;
/// Requests before the measurement, so that the threshold is set over a full window.
const EARLIER: usize = 2_000;

const ACTIONS: [&str; 25] = [
    "cancel",
    "renew",
    "upgrade",
    "transfer",
    "track",
    "return",
    "replace",
    "refund",
    "activate",
    "suspend",
    "insure",
    "register",
    "repair",
    "reschedule",
    "share",
    "export",
    "lock",
    "rename",
    "print",
    "report",
    "verify",
    "pay for",
    "extend",
    "compare",
    "order",
];
const THINGS: [&str; 20] = [
    "debit card",
    "annual plan",
    "phone contract",
    "parcel",
    "train ticket",
    "passport",
    "gym membership",
    "car policy",
    "hotel booking",
    "water meter",
    "router",
    "savings account",
    "invoice",
    "library card",
    "flight",
    "mortgage",
    "delivery address",
    "gift voucher",
    "laptop",
    "prescription",
];
const WORDINGS: [&str; 21] = [
    "How do I {a} my {t}?",
    "How can I {a} my {t} online?",
    "I would like to {a} my {t}, what do I have to do?",
    "What are the steps to {a} a {t}?",
    "Please tell me how to {a} my {t} before Friday.",
    "Can you help me {a} the {t} that I got last month?",
    "Is it possible to {a} my {t} without calling you?",
    "Hello, I need to {a} my {t} as soon as possible, thanks.",
    "What does it cost to {a} a {t}?",
    "How long does it take to {a} my {t}?",
    "I tried to {a} my {t} in the app but it failed with error 403.",
    "Where on the website do I {a} my {t}?",
    "My {t} is new and I do not want to {a} it twice, is there a way around that?",
    "Who do I have to contact in order to {a} a {t} for my company?",
    "Can someone else {a} my {t} for me while I am abroad?",
    "I forgot to {a} my {t} in March, what happens now?",
    "Do I need an ID to {a} my {t} in London?",
    "Why can't I {a} my {t} any more?",
    "What documents are needed to {a} the {t}, and where do I send them?",
    "Will I be charged if I {a} my {t} within 14 days?",
    "Is there any way that I can {a} my {t} today?",
];

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .sample_size(30)
        .configure_from_args();
    let world = World::new();
    let mut learner = warm(&world);
    let cycle = || (0..QUERIES).cycle();
    println!("{SIZE} points of {DIM} components, {QUERIES} queries, best of {PASSES} passes:");
    println!("  search           {:>7.1} µs", best(|query| drop(black_box(world.search(query)))));
    println!(
        "  decide           {:>7.1} µs",
        best(|query| {
            black_box(world.decide(query, &mut learner));
        })
    );
    println!(
        "  search + decide  {:>7.1} µs",
        best(|query| {
            black_box(world.both(query, &mut learner));
        })
    );
    let mut next = cycle();
    criterion.bench_function("search", |b| b.iter(|| next.next().map(|query| black_box(world.search(query)))));
    let mut next = cycle();
    criterion
        .bench_function("decide", |b| b.iter(|| next.next().map(|query| black_box(world.decide(query, &mut learner)))));
    let mut next = cycle();
    criterion.bench_function("search and decide", |b| {
        b.iter(|| next.next().map(|query| black_box(world.both(query, &mut learner))));
    });
    criterion.final_summary();
}

/// A full partition, and the queries with what is near each.
struct World {
    partition: Partition,
    features: Vec<Features>,
    queries: Vec<(String, Vec<f32>)>,
    found: Vec<Vec<Neighbour>>,
}

impl World {
    fn new() -> Self {
        let mut points = Points::clustered(1, SIZE + QUERIES, DIM).vectors;
        let clusters = points.len() / PER_CLUSTER;
        let queries = points.split_off(SIZE);
        let partition = Partition::new(DIM, usize::MAX);
        for (number, vector) in (0_u128..).zip(&points) {
            let refused = partition.insert(PointId::from_bytes(number.to_be_bytes()), vector);
            assert!(refused.is_ok(), "{refused:?}");
        }
        let found = queries.iter().map(|query| partition.search(query, K)).collect();
        let text = |number: usize| prompt(number, clusters);
        let features = (0..SIZE).map(|number| Features::of(&text(number))).collect();
        let queries = (SIZE..).map(text).zip(queries).collect();
        Self { partition, features, queries, found }
    }

    fn search(&self, query: usize) -> Vec<Neighbour> {
        self.queries.get(query).map(|(_, vector)| self.partition.search(vector, K)).unwrap_or_default()
    }

    #[inline(never)]
    fn decide(&self, query: usize, learner: &mut Learner) -> Option<Judgement> {
        self.judge(&self.queries.get(query)?.0, self.found.get(query)?, learner)
    }

    fn both(&self, query: usize, learner: &mut Learner) -> Option<Judgement> {
        let (text, vector) = self.queries.get(query)?;
        self.judge(text, &self.partition.search(vector, K), learner)
    }

    fn judge(&self, text: &str, found: &[Neighbour], learner: &mut Learner) -> Option<Judgement> {
        let new = Features::of(text);
        let mut groups: Vec<usize> = Vec::new();
        let near: Vec<Near<'_>> = found
            .iter()
            .filter_map(|neighbour| {
                let point = number(neighbour.id);
                let id = group(point);
                let group = groups.iter().position(|group| *group == id).unwrap_or_else(|| {
                    groups.push(id);
                    groups.len() - 1
                });
                let features = self.features.get(point)?;
                let waivers = Waivers::default();
                Some(Near { cosine: neighbour.cosine, group, group_size: PER_GROUP, waivers, features })
            })
            .collect();
        let judgement = weigh(&new, &near, FLOOR, Guards::all()).map(|evidence| learner.judge(&evidence, BUDGET));
        learner.note(judgement.as_ref(), BUDGET);
        judgement
    }
}

/// The prompt of a point; those of one cluster ask for nearly the same.
fn prompt(number: usize, clusters: usize) -> String {
    let (cluster, wording) = (number % clusters, number / clusters);
    let word = |list: &[&'static str], at: usize| list.get(at % list.len()).copied().unwrap_or_default();
    let action = word(&ACTIONS, cluster);
    let thing = word(&THINGS, cluster / ACTIONS.len());
    word(&WORDINGS, wording + cluster).replace("{a}", action).replace("{t}", thing)
}

/// Which answer a point leads to: points of one cluster share it by fours.
fn group(point: usize) -> usize {
    let clusters = (SIZE + QUERIES) / PER_CLUSTER;
    (point % clusters) * PER_CLUSTER + point / clusters / PER_GROUP
}

fn number(id: PointId) -> usize {
    usize::try_from(u128::from_be_bytes(id.to_bytes())).unwrap_or(usize::MAX)
}

/// A learner in the middle of its work: warm, with a full window.
fn warm(world: &World) -> Learner {
    let mut learner = Learner::new(Some(Weights::unfitted()));
    for place in 0..EARLIER {
        let inputs = [0.1; INPUTS];
        learner.label(Observation { inputs, right: place % 10 != 0 }, Source::Miss, BUDGET);
        world.decide(place % QUERIES, &mut learner);
    }
    learner
}

/// Microseconds of one call, in the best of several passes over all queries.
fn best(mut call: impl FnMut(usize)) -> f64 {
    let mut least = f64::INFINITY;
    for _ in 0..PASSES {
        let begun = Instant::now();
        (0..QUERIES).for_each(&mut call);
        least = least.min(begun.elapsed().as_secs_f64() * 1e6 / QUERIES as f64);
    }
    least
}
