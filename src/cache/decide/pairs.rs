//! The guards on labelled pairs: near repeats, paraphrases and traps. Data: fow-cache 0.1.0, CC BY 4.0, credit Mabon ap
//! Gwyn, see `tests/data/LICENSE-pairs`.
//!
//! No embeddings here, so paraphrases count that no floor would let through. The bounds are what was measured, with a
//! little room; they may be tightened, not loosened.

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Row {
    category: String,
    a: String,
    b: String,
    same_answer: bool,
    style: String,
}

fn rows() -> Vec<Row> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/pairs_dev.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn passes(row: &Row) -> bool {
    Guards::all().check(&Features::of(&row.a), &Features::of(&row.b)).is_ok()
}

fn count<'a>(rows: impl Iterator<Item = &'a Row>) -> (usize, usize) {
    let all: Vec<&Row> = rows.collect();
    (all.iter().filter(|row| passes(row)).count(), all.len())
}

#[test]
fn nearly_all_near_repeats_pass_and_few_reworded_paraphrases_are_lost() {
    let rows = rows();
    // The one lost has its "child" misspelt.
    assert_eq!(count(rows.iter().filter(|r| r.category == "near_repeat")), (42, 43));
    assert_eq!(count(rows.iter().filter(|r| r.category == "paraphrase" && r.style == "minimal")), (22, 23));
    let (passed, of) = count(rows.iter().filter(|r| r.category == "paraphrase" && r.style == "reworded"));
    assert!(passed >= 68 && of == 79, "{passed} of {of}");
}

#[test]
fn few_traps_pass_even_without_a_floor() {
    let rows = rows();
    let (minimal, of) = count(rows.iter().filter(|r| !r.same_answer && r.style == "minimal"));
    assert!(minimal <= 10 && of == 104, "{minimal} of {of}");
    let (all, of) = count(rows.iter().filter(|r| !r.same_answer));
    assert!(all <= 17 && of == 148, "{all} of {of}");
}
