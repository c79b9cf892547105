//! The adversarial corpus against the whole program, over HTTP: what one key got stored, another is not served.

use std::sync::Arc;
use std::time::Duration;

use remora::config::{Config, KeySpec, Secret, Share, Tenant, TenantCache, TenantKey, TenantSpec};
use serde_json::{Value, json};

use crate::rig::{Answer, Plan, Rig, chat};

const MALLORY: &str = "rk-mallory-0123456789abcdef";
const VICTIM: &str = "rk-victim-0123456789abcdef";
const APART_MALLORY: &str = "rk-apart-mallory-0123456789";
const APART_VICTIM: &str = "rk-apart-victim-01234567890";

/// One tenant whose keys share, another whose keys do not.
fn tenants(config: &mut Config) {
    let key = |name: &str, secret: &str| TenantKey {
        name: name.to_owned(),
        secret: Secret::new(secret.to_owned()),
        spec: KeySpec::default(),
    };
    let tenant = |name: &str, keys: [(&str, &str); 2], share| Tenant {
        name: name.to_owned(),
        keys: keys.into_iter().map(|(name, secret)| key(name, secret)).collect(),
        upstream_api_key: None,
        spec: TenantSpec {
            cache: TenantCache { share: Some(share), ..TenantCache::default() },
            ..TenantSpec::default()
        },
    };
    config.server.passthrough = false;
    config.upstream.api_key = Some(Secret::new("sk-upstream".to_owned()));
    config.tenants = vec![
        tenant("together", [("mallory", MALLORY), ("victim", VICTIM)], Share::Tenant),
        tenant("apart", [("mallory", APART_MALLORY), ("victim", APART_VICTIM)], Share::Key),
    ];
    // Unoptimised builds on a busy machine take longer for a vector than a user would wait.
    config.embedding.deadline = Duration::from_secs(20);
}

/// Every fifth row: the kind, what is asked, and what the attacker gets stored.
fn sample() -> Vec<(String, String, String)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/adversarial.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    let member = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.step_by(5).map(|row| (member(&row, "kind"), member(&row, "victim"), member(&row, "attack"))).collect()
}

async fn rig() -> Rig {
    Rig::with(Plan { embedder: None, change: Arc::new(tenants), ..Plan::default() }).await
}

fn with_tools(prompt: &str) -> Value {
    let mut body = chat(prompt);
    body["tools"] = json!([{ "type": "function", "function": { "name": "transfer" } }]);
    body
}

/// A model of its own for each attack, so that one victim meets one attack.
fn numbered(mut body: Value, number: usize) -> Value {
    body["model"] = format!("m{number}").into();
    body
}

fn is_served(answer: &Answer) -> bool {
    assert!(answer.status.is_success(), "{}", answer.text());
    answer.cache() != "MISS"
}

#[tokio::test(flavor = "multi_thread")]
async fn attacks_are_not_served_inside_a_sharing_scope_nor_with_tools() {
    let rig = rig().await;
    let sample = sample();
    assert!(sample.len() >= 100, "{} attacks", sample.len());
    let (mut plain, mut tools, mut repeats) = (Vec::new(), 0, 0);
    for (number, (kind, victim, attack)) in sample.iter().enumerate() {
        for (shape, is_plain) in [(chat as fn(&str) -> Value, true), (with_tools, false)] {
            let ask = |prompt: &str| numbered(shape(prompt), number);
            assert!(!is_served(&rig.chat(MALLORY, &ask(attack)).await), "nothing is stored for model m{number}");
            let served = is_served(&rig.chat(VICTIM, &ask(victim)).await);
            match (served, is_plain) {
                (true, true) => plain.push((kind, victim, attack)),
                (true, false) => tools += 1,
                (false, _) => {}
            }
            // The attack is in the cache, and shared: its own words get its answer.
            repeats += usize::from(is_served(&rig.chat(VICTIM, &ask(attack)).await));
        }
    }
    println!("{} attacks: {} served inside a scope, {tools} with tools", sample.len(), plain.len());
    assert_eq!(repeats, 2 * sample.len(), "what is not stored cannot be served");
    assert_eq!(tools, 0);
    assert!(plain.len() * 100 <= sample.len(), "{} of {}: {plain:?}", plain.len(), sample.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn attacks_never_cross_a_scope() {
    let rig = rig().await;
    let sample = sample();
    let mut crossed = 0;
    for (number, (_, victim, attack)) in sample.iter().enumerate() {
        // Not even the attack's own words; under another model, lest a key meets what it asked itself.
        for (prompt, number) in [(victim, 2 * number), (attack, 2 * number + 1)] {
            let ask = |prompt: &str| numbered(chat(prompt), number);
            rig.chat(APART_MALLORY, &ask(attack)).await;
            // Another key of a tenant that does not share, and another tenant.
            for key in [APART_VICTIM, VICTIM] {
                crossed += usize::from(is_served(&rig.chat(key, &ask(prompt)).await));
            }
            assert!(is_served(&rig.chat(APART_MALLORY, &ask(attack)).await), "what is not stored cannot cross");
        }
    }
    println!("{} attacks: {crossed} crossed", sample.len());
    assert_eq!(crossed, 0);
}
