use super::*;

fn limits() -> Limits {
    Limits {
        connections: 1,
        connections_per_ip: 1,
        h2_streams: 1,
        head_bytes: 1,
        headers: 1,
        uri_bytes: 1,
        body_bytes: 1,
        json_depth: 4,
        json_keys: 6,
        json_array: 5,
        json_string: 8,
        messages: 1,
        tools: 1,
        choices: 1,
        stop: 1,
        response_bytes: 1,
        sse_line_bytes: 1,
        sse_event_bytes: 1,
    }
}

fn canonical(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    Node::parse(text.as_bytes(), &limits()).unwrap().canonical(&mut out);
    out
}

#[test]
fn positions_cut_out_exactly_the_member() {
    let text = r#" { "a" : [1, 2.50] , "é\n":"x" } "#;
    let node = Node::parse(text.as_bytes(), &limits()).unwrap();
    let members = node.members();
    assert_eq!(&text[members[0].node.start..members[0].node.end], "[1, 2.50]");
    assert_eq!(&text[members[0].start..members[0].node.end], r#""a" : [1, 2.50]"#);
    assert_eq!(&text[members[1].start..members[1].node.end], r#""é\n":"x""#);
    assert_eq!(members[1].name, "é\n");
    assert_eq!(&text[node.start..node.end], text.trim());
}

#[test]
fn canonical_form_ignores_blanks_escapes_and_order_only() {
    assert_eq!(canonical(r#"{"a":1,"b":"A"}"#), canonical(r#"{ "b" : "\u0041", "a":1 }"#));
    for (left, right) in [
        (r#"{"a":1}"#, r#"{"a":1.0}"#),
        (r#"{"a":null}"#, "{}"),
        (r#"["ab","c"]"#, r#"["a","bc"]"#),
        (r#"[[1],2]"#, "[1,[2]]"),
        ("12345678901234567890123", "12345678901234567890124"),
        (r#""1""#, "1"),
    ] {
        assert_ne!(canonical(left), canonical(right), "{left} / {right}");
    }
}

#[test]
fn what_is_not_json_is_refused() {
    for bad in [
        "",
        "{",
        "[1,]",
        "{\"a\":1,}",
        "01",
        "1.",
        "-",
        "+1",
        "NaN",
        "Infinity",
        "-Infinity",
        "nul",
        "\"\u{1}\"",
        "\"a",
        "1 2",
        "{\"a\" 1}",
        "{a:1}",
        "'a'",
        "\"\\ud800\"",
        "[1 2]",
        "// x\n1",
    ] {
        let outcome = Node::parse(bad.as_bytes(), &limits());
        assert!(matches!(outcome, Err(JsonError::Syntax(_))), "{bad:?} gave {outcome:?}");
    }
    assert!(matches!(Node::parse(b"\"\xff\"", &limits()), Err(JsonError::Syntax(_))));
    assert!(matches!(Node::parse(b"{\"\xff\":1}", &limits()), Err(JsonError::Syntax(_))));
}

#[test]
fn duplicates_are_refused_also_when_escaped_and_in_large_objects() {
    for bad in [r#"{"a":1,"a":2}"#, r#"{"a":1,"\u0061":2}"#] {
        assert!(matches!(Node::parse(bad.as_bytes(), &limits()), Err(JsonError::Duplicate { .. })), "{bad}");
    }
    let mut roomy = limits();
    roomy.json_keys = 1_000;
    let many: String = (0..40).map(|i| format!("\"k{i}\":0,")).collect();
    let good = format!("{{{many}\"z\":0}}");
    let bad = format!("{{{many}\"k7\":0}}");
    assert!(Node::parse(good.as_bytes(), &roomy).is_ok());
    assert!(matches!(Node::parse(bad.as_bytes(), &roomy), Err(JsonError::Duplicate { .. })));
}

#[test]
fn limits_hold_at_the_limit_and_refuse_one_more() {
    for (good, bad) in [
        ("[[[[1]]]]", "[[[[[1]]]]]"),
        ("[1,2,3,4,5]", "[1,2,3,4,5,6]"),
        ("\"12345678\"", "\"123456789\""),
        (r#"{"a":{"b":1,"c":1},"d":1,"e":1,"f":1}"#, r#"{"a":{"b":1,"c":1},"d":1,"e":1,"f":1,"g":1}"#),
    ] {
        assert!(Node::parse(good.as_bytes(), &limits()).is_ok(), "{good}");
        let outcome = Node::parse(bad.as_bytes(), &limits());
        assert!(matches!(outcome, Err(JsonError::TooLarge { .. })), "{bad} gave {outcome:?}");
    }
}

#[test]
fn a_deep_document_is_refused_without_recursing_into_it() {
    let deep = "[".repeat(200_000);
    assert!(matches!(Node::parse(deep.as_bytes(), &limits()), Err(JsonError::TooLarge { .. })));
}
