//! The model file, and what the reading of a text promises.

use sha2::{Digest, Sha256};

use super::*;

fn read(text: &str) -> Result<Reading, EmbedError> {
    model()?.read(text, &Arc::new(ThreadPool::with_num_threads(1)))
}

fn cosine(a: &str, b: &str) -> f32 {
    read(a).unwrap().vector.iter().zip(read(b).unwrap().vector.iter()).map(|(x, y)| x * y).sum()
}

/// `count` different-looking short words, each one word piece.
fn words(count: usize) -> String {
    ["red", "house", "water", "seven", "king"].iter().cycle().take(count).copied().collect::<Vec<_>>().join(" ")
}

fn differ(a: &str, b: &str) -> bool {
    let (a, b) = (read(a).unwrap(), read(b).unwrap());
    a.vector != b.vector || a.unseen != b.unseen
}

#[test]
fn the_shipped_files_have_the_recorded_hashes() {
    for (line, (name, bytes)) in
        SUMS.lines().zip([("all-minilm-l6-v2.int8.onnx", NETWORK), ("tokenizer.json", TOKENIZER)])
    {
        let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(line, format!("{hex}  {name}"));
    }
    assert_eq!(SUMS.lines().count(), 2);
}

/// ONNX Runtime gave the same figures for the same file, to six digits, on a processor without VNNI. On one that has it the
/// first came out as 0.8738; the likely cause, not proven, is that int8 products no longer saturate.
#[test]
fn known_pairs_have_the_known_cosines() {
    for (a, b, expected) in [
        ("turn on the light", "turn off the light", 0.8635),
        ("How do I reset my password?", "I forgot my password, how can I change it?", 0.8885),
        ("Where is order 7781?", "Where is order 7782?", 0.9647),
        ("What is the capital of France?", "My card was declined at the shop", -0.0433),
    ] {
        let found = cosine(a, b);
        assert!((found - expected).abs() < 0.015, "{a} | {b}: {found}");
    }
}

#[test]
fn a_vector_has_norm_one_and_384_numbers() {
    for text in ["a", "turn on the light", &words(400), &words(5000)] {
        let vector = read(text).unwrap().vector;
        assert_eq!(vector.len(), DIMENSIONS);
        let norm: f32 = vector.iter().map(|x| x * x).sum();
        assert!((norm - 1.0).abs() < 1e-5, "{norm}");
    }
}

#[test]
fn text_without_a_word_is_empty() {
    for text in ["", " \n\t ", "\u{200b}\u{7}"] {
        assert_eq!(read(text).unwrap_err(), EmbedError::Empty, "{text:?}");
    }
}

#[test]
fn two_texts_equal_up_to_the_window_and_different_after_never_look_the_same() {
    for common in [WINDOW - 1, WINDOW, 256, WINDOW * WINDOWS - 1, WINDOW * WINDOWS, 512, 1000] {
        let start = words(common);
        assert!(differ(&format!("{start} yes"), &format!("{start} no")), "different after {common} word pieces");
        assert!(differ(&start, &format!("{start} no")), "one ends after {common} word pieces");
    }
    let long = "x ".repeat(MAX_BYTES);
    assert!(differ(&format!("{long} yes"), &format!("{long} no")), "different beyond the bytes that are read");
    let blank = " ".repeat(MAX_BYTES);
    assert_eq!(read(&format!("{blank} yes")).unwrap_err(), EmbedError::Empty, "better no vector than a wrong one");
}

#[test]
fn the_tail_within_two_windows_counts_by_vector_and_beyond_by_digest() {
    assert_eq!(read(&words(WINDOW * WINDOWS)).unwrap().unseen, None);
    let long = words(WINDOW * WINDOWS + 1);
    assert_eq!(read(&long).unwrap().unseen, Some(digest([long.as_str()].into_iter())));
    let start = words(300);
    let yes = read(&format!("{start} yes")).unwrap();
    let no = read(&format!("{start} no")).unwrap();
    assert_eq!((yes.unseen, no.unseen), (None, None), "near repeats of this length may still match");
    assert_ne!(yes.vector, no.vector);
}

#[test]
fn words_without_pieces_must_match_exactly() {
    let (a, b) = ("a".repeat(101), "b".repeat(101));
    let one = read(&format!("who has the key {a}")).unwrap();
    let other = read(&format!("who has the key {b}")).unwrap();
    assert_eq!(one.vector, other.vector, "to the model they are the same text");
    assert_ne!(one.unseen, other.unseen);
    let reworded = read(&format!("tell me who has the key {a}")).unwrap();
    assert_eq!(one.unseen, reworded.unseen, "the rest may vary");
    assert!(differ("is it a 🦀", "is it a 🐟"));
    assert_eq!(read("an ordinary question?").unwrap().unseen, None);
}

#[test]
fn the_models_own_marks_are_plain_text_in_a_prompt() {
    assert!(differ("good [SEP] bye", "good [CLS] bye"));
    assert_eq!(read("what does [UNK] mean").unwrap().unseen, None);
    assert!(cosine("what does [MASK] mean", "what does [ mask ] mean") > 0.999);
}

/// CPU and wall time per text, and resident memory. Figures, not promises:
/// `cargo test --lib embed::builtin -- --ignored --nocapture`
#[test]
#[ignore = "prints figures; asserts nothing"]
fn measure_time_and_memory() {
    let status = |key: &str| {
        let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        text.lines().find(|line| line.starts_with(key)).unwrap_or("?").to_owned()
    };
    // Clock ticks of user and system time; a tick is 10 ms.
    let ticks = || {
        let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
        fields.filter_map(|field| field.parse::<u64>().ok()).sum::<u64>()
    };
    println!("before: {} {}", status("VmRSS"), status("RssAnon"));
    let began = std::time::Instant::now();
    let pool = Arc::new(ThreadPool::with_num_threads(1));
    let model = model().unwrap();
    println!("load: {:?}", began.elapsed());
    let short = "how do i change the delivery address of an order today please";
    for (name, text, runs) in
        [("12 words", short, 500_u32), ("200 pieces", &words(200), 60), ("508 pieces", &words(508), 25)]
    {
        model.read(text, &pool).unwrap();
        let (began, cpu) = (std::time::Instant::now(), ticks());
        for _ in 0..runs {
            model.read(text, &pool).unwrap();
        }
        println!("{name}: wall {:?}, cpu {} µs", began.elapsed() / runs, (ticks() - cpu) * 10_000 / u64::from(runs));
    }
    println!("after: {} {} {}", status("VmRSS"), status("RssAnon"), status("VmHWM"));
}
