//! What holds for any two texts.

use proptest::prelude::*;

use super::*;

/// Texts near each other in the ways that matter: words of the lists, numbers, quotation marks, other scripts, noise.
fn text() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "order",
        "7781",
        "7782",
        "not",
        "don't",
        "on",
        "off",
        "from",
        "to",
        "London",
        "Paris",
        "US",
        "us",
        "`code`",
        "\"Quote\"",
        "'q'",
        "one",
        "twenty",
        "five",
        "hundred",
        "and",
        "1,000",
        "£5",
        "5%",
        "-3",
        "GPT-4",
        "x_y",
        "/a/b",
        "May",
        "monday",
        "next",
        "week",
        "ist",
        "der",
        "не",
        "不",
        "٣",
        "👍",
        "\n",
        ".",
        "?",
        "my",
        "child",
        "``",
        "than",
        "II",
        "\u{200b}",
        "C++",
        "9",
        ":",
        "15",
    ]);
    let noise = prop_oneof![8 => words.prop_map(str::to_owned), 1 => "\\PC{0,12}", 1 => any::<String>()];
    prop::collection::vec(noise, 0..24).prop_map(|parts| parts.join(" "))
}

proptest! {
    #[test]
    fn the_verdict_is_the_same_whichever_text_is_new(a in text(), b in text()) {
        let (a, b) = (Features::of(&a), Features::of(&b));
        let verdict = |x, y| Guards::all().explain(x, y).into_iter().map(|f| (f.guard, f.verdict)).collect::<Vec<_>>();
        prop_assert_eq!(verdict(&a, &b), verdict(&b, &a));
    }

    #[test]
    fn a_text_agrees_with_itself(a in text()) {
        // Once more with a blank at the end, so that not only the shortcut for equal texts is taken.
        prop_assert_eq!(Guards::all().check(&Features::of(&a), &Features::of(&a)), Ok(()));
        prop_assert_eq!(Guards::all().check(&Features::of(&a), &Features::of(&format!(" {a}\u{200b}\t"))), Ok(()));
    }

    #[test]
    fn no_rule_objects_to_the_same_words_with_a_full_stop(a in "[a-zA-Z0-9 ,]{0,60}[a-z0-9]") {
        prop_assert_eq!(Guards::all().check(&Features::of(&a), &Features::of(&format!("{a}."))), Ok(()));
    }

    #[test]
    fn explaining_agrees_with_checking(a in text(), b in text()) {
        let (a, b) = (Features::of(&a), Features::of(&b));
        let first = Guards::all().explain(&a, &b).into_iter().find(|f| f.verdict == Opinion::Reject);
        let objection = Guards::all().check(&a, &b).err();
        prop_assert_eq!(first.map(|f| (f.guard, f.evidence)), objection.map(|o| (o.guard, o.evidence)));
    }

    #[test]
    fn any_text_can_be_read_and_normalised(a in any::<String>(), b in "\\PC*") {
        let (a, b) = (a.repeat(3), b.repeat(3));
        let _ = Guards::all().explain(&Features::of(&a), &Features::of(&b));
        let once = normalise(&a);
        prop_assert_eq!(normalise(&once), once);
    }

    #[test]
    fn another_number_never_passes(n in 2_u64.., m in 2_u64..) {
        prop_assume!(n != m);
        let ask = |n| Features::of(&format!("what is the status of order {n}?"));
        prop_assert!(Guards::all().check(&ask(n), &ask(m)).is_err());
    }
}
