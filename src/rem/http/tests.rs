//! The table of routes, its description, and errors as they are sent. Requests over a socket are in `tests/it/rem_http.rs`.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::body::to_bytes;
use axum::response::IntoResponse;
use http::Method;
use serde_json::Value;

use super::problem::{Problem, Told};
use super::{routes, rows};
use crate::ids::{KeyId, RemId, TenantId};
use crate::rem::execute::memory_tests::Memory;
use crate::rem::{Code, Fault};
use crate::store::rem::{Owner, RemRow, RemTable, Scope};

fn openapi() -> Value {
    serde_json::from_str(include_str!("../openapi.json")).unwrap()
}

#[test]
fn the_description_has_every_route_and_nothing_else() {
    let described: BTreeSet<(String, String)> = openapi()["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().keys().map(|method| method.to_uppercase());
            methods.map(|method| (path.clone(), method)).collect::<Vec<_>>()
        })
        .collect();
    let answered: BTreeSet<(String, String)> =
        routes::table().into_iter().map(|route| (route.path, route.method.to_string())).collect();
    assert_eq!(described, answered);
}

/// All of them: one that is added does not compile until it is here.
fn codes() -> Vec<Code> {
    use Code::*;
    let all = vec![
        ParseError,
        InvalidArgument,
        UnknownTable,
        ReadOnly,
        NotAllowed,
        Unauthorised,
        Forbidden,
        NotFound,
        Timeout,
        Sealed,
        TooLarge,
        RateLimited,
        EmbeddingUnavailable,
        Unavailable,
    ];
    for code in &all {
        match code {
            ParseError | InvalidArgument | UnknownTable | ReadOnly | NotAllowed | Unauthorised | Forbidden
            | NotFound | Timeout | Sealed | TooLarge | RateLimited | EmbeddingUnavailable | Unavailable => {}
        }
    }
    all
}

#[test]
fn the_description_has_every_code() {
    let document = openapi();
    let told: BTreeSet<&str> = document["components"]["schemas"]["Problem"]["properties"]["code"]["x-codes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|code| code.as_str().unwrap())
        .collect();
    let here = ["method_not_allowed", "not_acceptable", "unsupported_media_type"];
    let all: BTreeSet<&str> = codes().into_iter().map(Code::as_str).chain(here).collect();
    assert_eq!(told, all);
    let responses = document["components"]["responses"].to_string();
    for code in all.iter().filter(|code| **code != "method_not_allowed") {
        assert!(responses.contains(&format!("`{code}`")), "{code}");
    }
}

#[tokio::test]
async fn a_fault_is_sent_with_all_that_it_says_and_always_in_one_shape() {
    let fault = Fault::new(Code::ParseError, "what").at(7).hint("so").of("depth");
    let problem = Problem::from(fault).in_stage("a".to_owned()).of_kind("fuzzy");
    let response = problem.into_response();
    assert_eq!(response.status(), 400);
    assert_eq!(response.headers()["content-type"], super::PROBLEM_TYPE);
    let told = response.extensions().get::<Told>().copied().unwrap();
    assert_eq!((told.kind, told.status), (Some("fuzzy"), Some("parse_error")));
    let body: Value = serde_json::from_slice(&to_bytes(response.into_body(), 4096).await.unwrap()).unwrap();
    let expected = serde_json::json!({
        "type": "about:blank", "title": "Bad Request", "status": 400, "code": "parse_error", "detail": "what",
        "position": 7, "hint": "so", "parameter": "depth", "stage": "a",
    });
    assert_eq!(body, expected);
    for code in codes() {
        let document = Problem::from(Fault::new(code, "x")).document();
        let members: BTreeSet<&str> = document.as_object().unwrap().keys().map(String::as_str).collect();
        let all = ["code", "detail", "hint", "parameter", "position", "status", "title", "type"];
        assert_eq!(members, BTreeSet::from(all), "{code:?}");
    }
}

#[test]
fn a_wait_is_told_in_whole_seconds_and_never_too_short() {
    for (wait, told) in [(1, "1"), (999, "1"), (1_000, "1"), (1_001, "2"), (59_500, "60")] {
        let problem = Problem::from(Fault::new(Code::RateLimited, "x")).again_after(Duration::from_millis(wait));
        assert_eq!(problem.into_response().headers()["retry-after"], told, "{wait} ms");
    }
    let challenge = Problem::from(Fault::new(Code::Unauthorised, "x")).into_response();
    assert_eq!(challenge.headers()["www-authenticate"], "Bearer");
}

#[test]
fn the_type_of_a_request_is_one_of_a_closed_list() {
    let (get, post) = (Method::GET, Method::POST);
    assert_eq!(routes::kind(&post, "/rem/v1/batch"), "batch");
    assert_eq!(routes::kind(&get, "/rem/v1/resources"), "read");
    assert_eq!(routes::kind(&Method::DELETE, "/rem/v1/moments/x"), "write");
    assert_eq!(routes::kind(&post, "/rem/mcp"), "mcp");
    for odd in ["/rem/v1/query", "/rem/v1/resourcesX", "/", "/rem/v1", "/rem/mcp/x", "/rem/openapi.json"] {
        assert_eq!(routes::kind(&get, odd), "other", "{odd}");
    }
}

#[tokio::test]
async fn a_page_of_long_texts_ends_before_its_length_and_the_next_goes_on() {
    let scope = Scope { tenant: TenantId::new("t"), key: KeyId::new("k") };
    let row = |number: u128, bytes: usize| RemRow {
        id: RemId::from_bytes(number.to_be_bytes()),
        table: RemTable::Resources,
        owner: Owner::Public,
        name: "long".into(),
        text: "x".repeat(bytes),
        label: String::new(),
        uri: None,
        tags: Vec::new(),
        data: serde_json::Map::new(),
        aliases: Vec::new(),
        starts_at: None,
        ends_at: None,
        previous: None,
        part_of: None,
        entry: None,
        writer: None,
        made: false,
        created_at: 1,
        updated_at: 1,
        deleted_at: None,
    };
    let mut store = Memory::default();
    store.rows.extend((1..=120).map(|number| (scope.tenant.clone(), row(number, 100 << 10), None)));
    let mut after = None;
    let mut pages = Vec::new();
    loop {
        let (page, more) = rows::page(&store, &scope, RemTable::Resources, after, 1_000).await.unwrap();
        after = page.last().map(|row| row.id);
        pages.push(page.len());
        if !more {
            break;
        }
    }
    // 82 times 100 KiB are the first that reach 8 MiB.
    assert_eq!(pages, [82, 38]);
    for (limit, expected) in [(7, (7, true)), (82, (82, true)), (60, (60, true))] {
        let (page, more) = rows::page(&store, &scope, RemTable::Resources, None, limit).await.unwrap();
        assert_eq!((page.len(), more), expected);
    }
}
