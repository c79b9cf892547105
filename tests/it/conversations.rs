//! Conversations: the same last question after another context is another question. Data: fow-cache 0.1.0, CC BY 4.0,
//! credit Mabon ap Gwyn, see `tests/data/LICENSE-pairs`.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::rig::Rig;

#[derive(Deserialize)]
struct Pair {
    id: String,
    same_answer: bool,
    a: Vec<Value>,
    b: Vec<Value>,
}

fn pairs() -> Vec<Pair> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/conversations_dev.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn ask(messages: &[Value]) -> Value {
    json!({ "model": "gpt-4o-mini", "messages": messages })
}

/// The turns before the last, and the last.
fn split(turns: &[Value]) -> (&[Value], &Value) {
    let (last, before) = turns.split_last().unwrap();
    (before, last)
}

/// Every pair has a key of its own, so that it meets only itself.
#[tokio::test(flavor = "multi_thread")]
async fn no_conversation_is_answered_from_another_context() {
    let rig = Rig::with_model().await;
    let (mut traps, mut same_question, mut true_pairs, mut equal_context, mut served) = (0, 0, 0, 0, 0);
    for pair in pairs() {
        let key = format!("sk-{}", pair.id);
        assert_eq!(rig.chat(&key, &ask(&pair.a)).await.cache(), "MISS", "{}", pair.id);
        let answer = rig.chat(&key, &ask(&pair.b)).await;
        assert!(answer.status.is_success(), "{}: {}", pair.id, answer.text());
        let ((context_a, question_a), (context_b, question_b)) = (split(&pair.a), split(&pair.b));
        if pair.same_answer {
            true_pairs += 1;
            equal_context += usize::from(context_a == context_b);
            served += usize::from(answer.cache() != "MISS");
            assert!(answer.cache() == "MISS" || context_a == context_b, "{}: another context was served", pair.id);
        } else {
            traps += 1;
            same_question += usize::from(question_a["content"] == question_b["content"]);
            assert_eq!(
                (answer.cache(), answer.header("x-remora-tier")),
                ("MISS", ""),
                "{}: a trap was served",
                pair.id
            );
        }
    }
    println!("{traps} traps, 0 served; {true_pairs} true pairs, {equal_context} of equal context, {served} served");
    assert!(traps >= 60 && same_question * 5 >= traps * 4, "{same_question} of {traps} traps end in one question");
}

/// The counterpart, without which the other test would pass with a cache that is off: in one context the same question
/// in other letters is answered, and so is an equal conversation.
#[tokio::test(flavor = "multi_thread")]
async fn in_one_context_the_same_question_is_answered_whatever_its_case() {
    let rig = Rig::with_model().await;
    let (mut all, mut reworded, mut again) = (0, 0, 0);
    for pair in pairs().into_iter().filter(|pair| !pair.same_answer) {
        let key = format!("sk-{}", pair.id);
        rig.chat(&key, &ask(&pair.a)).await;
        again += usize::from(rig.chat(&key, &ask(&pair.a)).await.header("x-remora-tier") == "exact");
        let mut other = pair.a.clone();
        let last = other.last_mut().unwrap();
        last["content"] = format!(" {} ", last["content"].as_str().unwrap().to_lowercase()).into();
        reworded += usize::from(rig.chat(&key, &ask(&other)).await.cache() == "HIT");
        all += 1;
    }
    println!("{all} conversations: {again} answered exactly, {reworded} in other letters");
    assert_eq!(again, all);
    assert!(reworded * 10 >= all * 9, "{reworded} of {all}");
}
