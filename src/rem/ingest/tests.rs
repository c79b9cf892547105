//! What is split, built and refused; what needs a store is tested in `settle_tests` on a real one.

use proptest::prelude::*;
use serde_json::json;

use super::document::Names;
use super::*;
use crate::ids::{KeyId, TenantId};

fn scope() -> Scope {
    Scope { tenant: TenantId::new("acme"), key: KeyId::new("alice") }
}

fn rows(writes: &[RemWrite]) -> Vec<&RemRow> {
    writes.iter().filter_map(|write| if let RemWrite::Put { row, .. } = write { Some(&**row) } else { None }).collect()
}

/// The edges that these writes give to a row.
fn edges_of(writes: &[RemWrite], id: RemId) -> Vec<(&str, &str, f64)> {
    let edges = writes.iter().flat_map(|write| match write {
        RemWrite::Put { edges: Some(edges), .. } | RemWrite::Link { edges, .. } => edges.as_slice(),
        _ => &[],
    });
    let of_row = edges.filter(|edge| edge.source == id);
    of_row.map(|edge| (edge.kind.as_str(), edge.target.as_str(), edge.weight)).collect()
}

/// What these writes take away: types of edges, and whether it is all others, with how many rows they leave.
fn unlinked(writes: &[RemWrite]) -> Vec<(&str, bool, usize)> {
    let mut told = Vec::new();
    for write in writes {
        if let RemWrite::Unlink { kind, others, sources, .. } = write {
            told.push((kind.as_str(), *others, sources.len()));
        }
    }
    told
}

fn solid(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect()
}

fn sentences(count: usize) -> String {
    (0..count).map(|n| format!("Sentence number {n} says something about the plan of the year. ")).collect()
}

#[test]
fn a_short_text_is_one_part_and_a_blank_one_is_none() {
    let parts = split_document("  \n\nHello there.\n\n", Kind::Text);
    assert_eq!(parts, [Part { title: String::new(), text: "Hello there.".into(), ordinal: 0 }]);
    assert!(split_document(" \n ", Kind::Text).is_empty() && split_document("", Kind::Markdown).is_empty());
}

#[test]
fn markdown_is_cut_at_headings_and_parts_say_what_they_are_under() {
    let text = format!("# Plan\n\n{}\n\n## Budget `2024`\n\n{}\n\n## Small\n\nA word.\n", sentences(20), sentences(20));
    let parts = split_document(&text, Kind::Markdown);
    let titles: Vec<&str> = parts.iter().map(|part| part.title.as_str()).collect();
    assert_eq!(titles, ["Plan", "Budget 2024", "Small"]);
    assert!(parts[1].text.starts_with("## Budget `2024`"));
    assert_eq!(title_of(&text).as_deref(), Some("Plan"));
    assert_eq!(title_of("no heading"), None);
}

#[test]
fn code_and_tables_are_whole_unless_they_are_longer_than_a_part() {
    let code = format!("```rust\n{}```", "let x = 1; // a line of code\n".repeat(50));
    let table = format!("| a | b |\n|---|---|\n{}", "| one | two and three |\n".repeat(60));
    let text = format!("# T\n\n{}\n\n{code}\n\n{table}\n\nend\n", sentences(12));
    let parts = split_document(&text, Kind::Markdown);
    assert!(parts.iter().any(|part| part.text.contains(&code)), "{parts:#?}");
    assert!(parts.iter().any(|part| part.text.contains(table.trim_end())), "{parts:#?}");
    let long = format!("```\n{}```\n", "0123456789 0123456789\n".repeat(300));
    let parts = split_document(&long, Kind::Markdown);
    assert!(parts.len() > 3);
    assert!(parts.iter().all(|part| part.text.chars().count() <= MOST));
    assert!(parts[1].text.lines().all(|line| line.len() == 21), "a long one is cut between lines");
}

#[test]
fn text_is_cut_between_sentences_and_the_parts_have_a_usual_size() {
    let parts = split_document(&sentences(200), Kind::Text);
    let sizes: Vec<usize> = parts.iter().map(|part| part.text.chars().count()).collect();
    assert!(sizes[..sizes.len() - 1].iter().all(|size| (1_000..=1_800).contains(size)), "{sizes:?}");
    assert!(parts.iter().all(|part| part.text.ends_with("year.") && part.text.starts_with("Sentence")));
}

#[test]
fn words_without_an_end_are_cut_at_last() {
    for text in ["x".repeat(9_000), "東京".repeat(3_000), format!("e{}", "\u{301}".repeat(5_000)), "🧑‍🚀".repeat(900)]
    {
        let parts = split_document(&text, Kind::Text);
        assert!(parts.len() > 1 && parts.iter().all(|part| part.text.chars().count() <= MOST));
        assert_eq!(parts.iter().map(|part| part.text.as_str()).collect::<String>(), text);
    }
}

#[test]
fn notes_are_cut_at_headings_of_any_make_and_what_only_looks_like_one_cuts_nothing() {
    let says = sentences(6);
    let titles =
        |text: &str| -> Vec<String> { split_document(text, Kind::Text).into_iter().map(|part| part.title).collect() };
    let notes = format!(
        "Team week\n=========\n{says}\n\n--- Costs: ---\n\n{says}\n\nWHAT IS NEXT\n- {says}\n\nÜBERSICHT:\n\n{says}"
    );
    assert_eq!(titles(&notes), ["Team week", "Costs", "WHAT IS NEXT", "ÜBERSICHT"]);
    for line in [
        "That was all.\n---",
        "TO WHOM IT\nMAY CONCERN",
        "---\nName",
        "UTC 1",
        "-----",
        "== open",
        "東京",
        "a\nTitle\n-----",
    ] {
        assert_eq!(titles(&format!("{says}\n\n{line}\n\n{says}\n\n{line}\n\n{says}")), [""], "{line}");
    }
    // Nothing much under a heading stays with what follows.
    assert_eq!(titles(&format!("{says}\n\nFIRST\n\nSECOND\n\n{says}")), ["", "FIRST"]);
}

#[test]
fn a_long_text_with_few_headings_stays_prose() {
    let text = format!("CHAPTER ONE\n\n{}\n\nCHAPTER TWO\n\n{}", sentences(90), sentences(90));
    let parts = split_document(&text, Kind::Text);
    let sizes: Vec<usize> = parts.iter().map(|part| part.text.chars().count()).collect();
    assert!(sizes[..sizes.len() - 1].iter().all(|size| (1_000..=1_800).contains(size)), "{sizes:?}");
    let short = format!("TITLE\n\n{}", sentences(14));
    assert_eq!(split_document(&short, Kind::Text).len(), 1, "one heading makes no notes");
}

#[test]
fn the_planning_document_is_split_in_order_with_its_owner_beside_its_topic() {
    let text = include_str!("sample.txt");
    let parts = split_document(text, Kind::Text);
    let titles: Vec<&str> = parts.iter().map(|part| part.title.as_str()).collect();
    let tail = ["TIMELINE", "MILESTONES", "RISKS AND BLOCKERS", "ACTION ITEMS", "DECISIONS", "NEXT MEETING"];
    assert_eq!(titles[titles.len() - tail.len()..], tail, "{titles:?}");
    for part in &parts[1..] {
        let heading = part.text.lines().next().unwrap().trim_matches(['=', ' ']);
        assert!(heading == part.title || part.title == "TECHNICAL PRIORITIES", "{part:?}");
    }
    assert_eq!(solid(&parts.iter().map(|part| part.text.as_str()).collect::<String>()), solid(text));
    assert!(parts.iter().any(|part| part.text.contains("Semantic Caching") && part.text.contains("Owner: Sarah Chen")));
}

fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,12}( [a-z]{1,12}){0,60}\\. ",
        "\\PC{0,80}",
        Just("\n\n".to_owned()),
        Just("\n".to_owned()),
        "#{1,4} [A-Z][a-z]{1,20}\n\n",
        "```\n([a-z ]{1,40}\n){1,80}```\n\n",
        "- [a-z]{1,20}\n(  - [a-z]{1,20}\n){0,5}",
        "\\| [a-z]{1,9} \\| b \\|\n\\|---\\|---\\|\n(\\| [a-z]{1,9} \\| c \\|\n){1,90}\n",
        "\\[x\\]: http://[a-z]{1,10}\n",
        "[a-z]{1500,2500}",
        Just(" ".repeat(2_500)),
        "> [a-z ]{1,40}\n\n",
        "<div>[a-z]{1,40}</div>\n",
        "\t[a-z]{1,40}\n",
        "[A-Z]{1,12}\n-{3,12}\n(- [a-z]{1,20}\n){0,9}\n",
        "[A-Z]{4,12}:?\n\n",
        "=== [A-Z]{1,9} ===\n",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_character_is_in_one_part_in_order_and_none_is_too_long(pieces in prop::collection::vec(piece(), 0..40)) {
        let text: String = pieces.concat();
        for kind in [Kind::Markdown, Kind::Text] {
            let parts = split_document(&text, kind);
            let again: String = parts.iter().map(|part| part.text.as_str()).collect();
            prop_assert_eq!(solid(&again), solid(&text));
            for (at, part) in parts.iter().enumerate() {
                prop_assert!(part.text.chars().count() <= MOST && !part.text.trim().is_empty());
                prop_assert_eq!(part.ordinal as usize, at);
            }
        }
    }
}

#[test]
fn a_long_document_is_a_row_for_each_part_in_order_with_names_of_their_own() {
    let text = format!("# Plan\n\n{}\n\n## Budget\n\n{}", sentences(20), sentences(60));
    let body = json!({"name": "Plan", "content": text, "format": "markdown", "uri": "file:plan.md", "category": "document",
        "tags": ["q4", "q4"], "metadata": {"pages": 3}, "aliases": ["the plan"], "graph_edges": [{"target": "Sarah Chen", "type": "authored_by"}]});
    let writes = resources(&body, &scope(), 7).unwrap();
    let rows = rows(&writes);
    let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names[..3], ["Plan", "Plan › Budget", "Plan › Budget (2)"]);
    let first = rows[0].id;
    for (at, row) in rows.iter().enumerate() {
        assert_eq!(row.part_of, Some((first, u32::try_from(at).unwrap())));
        assert_eq!(
            (row.label.as_str(), &*row.tags, row.uri.as_deref()),
            ("document", &["q4".to_owned()][..], Some("file:plan.md"))
        );
        assert_eq!((row.owner.to_string().as_str(), row.made, row.created_at), ("key:alice", false, 7));
    }
    assert_eq!((rows[0].aliases.len(), rows[1].aliases.len()), (1, 0));
    let edges = |at: usize| edges_of(&writes, rows[at].id);
    assert_eq!(edges(0), [("authored_by", "Sarah Chen", 1.0), ("next_part", "Plan › Budget", 1.0)]);
    assert_eq!(edges(1), [("next_part", "Plan › Budget (2)", 1.0)]);
    assert!(edges(rows.len() - 1).is_empty());
    assert_eq!(unlinked(&writes), [("similar_to", true, 1), ("next_part", false, rows.len() - 1)]);
    let plain = json!({"name": "Plan", "content": text});
    let plain = resources(&plain, &scope(), 7).unwrap();
    let kept = plain.iter().all(|write| !matches!(write, RemWrite::Put { edges: Some(_), .. }));
    assert!(
        kept && unlinked(&plain)[0].0 == "next_part" && unlinked(&plain).len() == 1,
        "edges that nobody spoke of stay"
    );
    assert_eq!(resources(&body, &scope(), 7).unwrap(), writes, "again it is the same");
}

#[test]
fn identities_tell_owners_tables_and_uris_apart_and_forms_of_one_name_not() {
    let id = |body: serde_json::Value, key: &str| {
        let scope = Scope { key: KeyId::new(key), ..scope() };
        rows(&resources(&body, &scope, 1).unwrap())[0].id
    };
    let own = id(json!({"name": "diary"}), "alice");
    assert_eq!(own, id(json!({"name": " DIARY "}), "alice"));
    assert_ne!(own, id(json!({"name": "diary"}), "bob"));
    assert_ne!(own, id(json!({"name": "diary", "public": true}), "alice"));
    assert_ne!(own, id(json!({"name": "diary", "uri": "file:diary"}), "alice"));
    assert_eq!(id(json!({"name": "a", "uri": "u"}), "alice"), id(json!({"name": "b", "uri": "u"}), "alice"));
    assert_ne!(own, rows(&entities(&json!({"name": "diary"}), &scope(), 1).unwrap())[0].id);
    let moment =
        |starts: &str| rows(&moments(&json!({"name": "Standup", "starts_at": starts}), &scope(), 1).unwrap())[0].id;
    assert_eq!(moment("2024-01-15T10:00:00Z"), moment("2024-01-15T11:00:00+01:00"));
    assert_ne!(moment("2024-01-15T10:00:00Z"), moment("2024-01-16T10:00:00Z"));
}

#[test]
fn edges_have_three_spellings_and_the_later_of_two_equal_ones_counts() {
    let body = json!([{"name": "a", "graph_edges": [
        {"dst": "x", "rel_type": "knows"}, {"target": "y", "relation": "likes", "weight": 0}, {"target": "z", "type": "has", "weight": 0.25,
        "properties": {"since": 1}}, {"target": "X", "type": "knows", "weight": 0.5}]}]);
    let writes = entities(&body, &scope(), 1).unwrap();
    let id = rows(&writes)[0].id;
    assert_eq!(edges_of(&writes, id), [("likes", "y", 0.0), ("has", "z", 0.25), ("knows", "X", 0.5)]);
    let silent = entities(&json!({"name": "a"}), &scope(), 1).unwrap();
    assert!(matches!(&silent[..], [RemWrite::Put { edges: None, .. }]));
}

#[test]
fn thousands_of_parts_under_one_heading_are_named_without_counting_each_from_the_beginning() {
    let mut names = Names::of("Book");
    let mut seen = std::collections::HashSet::from([normalise("Book")]);
    for at in 0..2_000 {
        let name = names.free("Book › Chapter");
        assert_eq!(name, if at == 0 { "Book › Chapter".to_owned() } else { format!("Book › Chapter ({})", at + 1) });
        assert!(seen.insert(normalise(&name)));
    }
    assert_eq!(names.looked_at, 2_000);
    // A heading that looks like a number of ours is passed over.
    let mut names = Names::of("Book");
    let given = ["Book (2)", "Book", "Book", "book (2)"].map(|name| names.free(name));
    assert_eq!(given, ["Book (2)", "Book (3)", "Book (4)", "book (2) (2)"]);
}

#[test]
fn what_is_wrong_is_refused_with_its_place_and_how_to_mend_it() {
    type Read = fn(&serde_json::Value, &Scope, UnixMs) -> Result<Vec<RemWrite>, Fault>;
    let long = "x".repeat(1_001);
    let cases: [(Read, serde_json::Value, Code, &str, &str); 24] = [
        (resources, json!("text"), Code::InvalidArgument, "", "must be a JSON object"),
        (resources, json!([]), Code::InvalidArgument, "", "the list is empty"),
        (resources, json!([{"name": "a"}, 7]), Code::InvalidArgument, "[1]", "`[1]` must be a JSON object"),
        (resources, json!({"content": "x"}), Code::InvalidArgument, "name", "`name` is missing"),
        (resources, json!({"name": " \t"}), Code::InvalidArgument, "name", "`name` is blank"),
        (resources, json!({"name": " -_ "}), Code::InvalidArgument, "name", "nothing is found by that"),
        (resources, json!({"name": long}), Code::TooLarge, "name", "at most 1000"),
        (resources, json!({"name": 7}), Code::InvalidArgument, "name", "must be a text"),
        (resources, json!({"name": "a", "contnet": "x"}), Code::InvalidArgument, "contnet", "did you mean `content`"),
        (resources, json!({"name": "a", "owner": "key:bob"}), Code::InvalidArgument, "owner", "known are: "),
        (resources, json!({"name": "a", "tenant": "b"}), Code::InvalidArgument, "tenant", "not a member"),
        (resources, json!({"name": "a", "public": "yes"}), Code::InvalidArgument, "public", "true or false"),
        (resources, json!({"name": "a\u{0}"}), Code::InvalidArgument, "name", "U+0000"),
        (resources, json!({"name": "a", "metadata": {"x": ["\u{0}"]}}), Code::InvalidArgument, "metadata", "U+0000"),
        (resources, json!({"name": "a", "metadata": {"x": "y".repeat(70_000)}}), Code::TooLarge, "metadata", "65536"),
        (resources, json!({"name": "a", "format": "html"}), Code::InvalidArgument, "format", "markdown"),
        (resources, json!([{"name": "a"}, {"name": "A"}]), Code::InvalidArgument, "[1].name", "twice"),
        (entities, json!({"name": "a", "tags": "x"}), Code::InvalidArgument, "tags", "list of texts"),
        (entities, json!({"name": "a", "aliases": ["x", ""]}), Code::InvalidArgument, "aliases[1]", "blank"),
        (
            entities,
            json!([{"name": "a", "graph_edges": [{"target": "b", "type": "t", "weight": 1.5}]}]),
            Code::InvalidArgument,
            "[0].graph_edges[0].weight",
            "from 0 to 1",
        ),
        (
            entities,
            json!({"name": "a", "graph_edges": [{"target": "b"}]}),
            Code::InvalidArgument,
            "graph_edges[0].type",
            "rel_type",
        ),
        (
            entities,
            json!({"name": "a", "graph_edges": [{"target": "b", "dst": "c", "type": "t"}]}),
            Code::InvalidArgument,
            "graph_edges[0].dst",
            "two names",
        ),
        (
            moments,
            json!({"name": "a", "starts_at": "yesterday"}),
            Code::InvalidArgument,
            "starts_at",
            "2026-11-01T10:00:00Z",
        ),
        (
            moments,
            json!({"name": "a", "starts_at": "2024-01-02T00:00:00Z", "ends_at": "2024-01-01T00:00:00Z"}),
            Code::InvalidArgument,
            "ends_at",
            "before `starts_at`",
        ),
    ];
    for (read, body, code, place, text) in cases {
        let fault = read(&body, &scope(), 1).expect_err(&body.to_string());
        assert_eq!((fault.code, fault.parameter.as_deref().unwrap_or_default()), (code, place), "{body}: {fault}");
        assert!(fault.to_string().contains(text), "{body}: {fault}");
    }
}

#[test]
fn a_patch_changes_what_it_says_and_nothing_else_and_no_row_of_the_program_or_of_others() {
    let row =
        rows(&resources(&json!({"name": "a", "content": "x", "category": "c", "tags": ["t"]}), &scope(), 1).unwrap())
            [0]
        .clone();
    let writes = patch(&row, &json!({"name": "b", "category": null}), &scope(), 2).unwrap();
    let expected = RemRow { name: "b".into(), label: String::new(), updated_at: 2, ..row.clone() };
    assert_eq!(writes, [RemWrite::Put { row: Box::new(expected), vector: None, edges: None }]);
    let cleared = patch(&row, &json!({"graph_edges": null}), &scope(), 2).unwrap();
    assert!(matches!(&cleared[..], [RemWrite::Put { edges: Some(edges), .. }] if edges.is_empty()));
    for body in
        [json!({"name": null}), json!({"public": true}), json!({"kind": "x"}), json!({"content": "x".repeat(2_001)})]
    {
        assert!(patch(&row, &body, &scope(), 2).is_err(), "{body}");
    }
    let of_bob = Scope { key: KeyId::new("bob"), ..scope() };
    assert_eq!(patch(&row, &json!({"name": "b"}), &of_bob, 2).unwrap_err().code, Code::NotFound);
    let made = RemRow { made: true, ..row };
    assert_eq!(patch(&made, &json!({"name": "b"}), &scope(), 2).unwrap_err().code, Code::Forbidden);
}
