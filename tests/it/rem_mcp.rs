//! The sidecar as tools for assistants: MCP over plain HTTP requests.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::rem_http::{APP, BARE, BODY, GLOBEX, OTHER, rig, send, with_key, write};
use crate::rig::{Answer, Rig};

const ACCEPT: &str = "application/json, text/event-stream";

async fn message(rig: &Rig, key: &str, message: Value) -> Answer {
    let bearer = format!("Bearer {key}");
    let headers = [("authorization", bearer.as_str()), ("accept", ACCEPT), ("mcp-protocol-version", "2025-06-18")];
    send(rig, Method::POST, "/rem/mcp", &headers, message.to_string()).await
}

/// The result of a method that must be known.
async fn result(rig: &Rig, key: &str, method: &str, params: Value) -> Value {
    let asked = json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params });
    let answer = message(rig, key, asked).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "application/json");
    let told = answer.json();
    assert_eq!((&told["jsonrpc"], &told["id"]), (&json!("2.0"), &json!(7)), "{told}");
    assert!(told.get("error").is_none(), "{told}");
    told["result"].clone()
}

/// What a tool says.
async fn call(rig: &Rig, key: &str, tool: &str, arguments: Value) -> Value {
    result(rig, key, "tools/call", json!({ "name": tool, "arguments": arguments })).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_there_twice_is_not_dropped_without_a_word() {
    let rig = rig().await;
    let bearer = format!("Bearer {APP}");
    let headers = [("authorization", bearer.as_str()), ("accept", ACCEPT), ("mcp-protocol-version", "2025-06-18")];
    let arguments = r#"{"query": "LOOKUP a", "query": "LOOKUP b"}"#;
    let body = format!(
        r#"{{"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {{"name": "rem_query", "arguments": {arguments}}}}}"#
    );
    let answer = send(&rig, Method::POST, "/rem/mcp", &headers, body).await;
    assert_eq!((answer.status, &answer.json()["parameter"]), (StatusCode::BAD_REQUEST, &json!("query")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assistant_is_told_of_three_tools_and_how_to_use_them() {
    let rig = rig().await;
    let hello =
        json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } });
    let greeted = result(&rig, APP, "initialize", hello).await;
    assert_eq!(greeted["serverInfo"]["name"], "remora");
    assert!(greeted["capabilities"]["tools"].is_object());
    assert!(greeted["instructions"].as_str().unwrap().contains("rem_schema"));
    let noted = message(&rig, APP, json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
    assert_eq!((noted.status, noted.header("mcp-session-id")), (StatusCode::ACCEPTED, ""), "nothing is kept");

    let tools = result(&rig, APP, "tools/list", json!({})).await;
    let tools = tools["tools"].as_array().unwrap();
    let names: Vec<_> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["rem_query", "rem_batch", "rem_schema"]);
    for tool in tools {
        assert_eq!(tool["inputSchema"]["type"], "object", "{tool}");
        assert_eq!(tool["annotations"]["readOnlyHint"], true);
    }
    let told = tools[0]["description"].as_str().unwrap();
    for word in ["LOOKUP", "FUZZY", "SEARCH", "TRAVERSE", "SQL", "Examples"] {
        assert!(told.contains(word), "{word}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_answer_within_what_the_key_of_the_message_may_see() {
    let rig = rig().await;
    let plan = json!({ "name": "plan", "content": "refunds", "graph_edges": [{ "target": "Ann", "type": "by" }] });
    write(&rig, APP, "resources", plan).await;
    write(&rig, APP, "entities", json!({ "name": "Ann" })).await;
    let told = call(&rig, APP, "rem_query", json!({ "query": "LOOKUP plan" })).await;
    assert_eq!((&told["isError"], &told["structuredContent"]["count"]), (&json!(false), &json!(1)), "{told}");
    let text: Value = serde_json::from_str(told["content"][0]["text"].as_str().unwrap()).unwrap();
    assert_eq!(text, told["structuredContent"], "models that read text read the same");
    for key in [OTHER, GLOBEX] {
        let told = call(&rig, key, "rem_query", json!({ "query": "LOOKUP plan" })).await;
        assert_eq!(told["structuredContent"]["count"], 0, "{told}");
    }
    let stages = json!({ "stages": [
        { "name": "a", "query": "LOOKUP plan" },
        { "name": "b", "query": "TRAVERSE WITH $a DEPTH 1" },
    ] });
    let told = call(&rig, APP, "rem_batch", stages.clone()).await;
    assert_eq!(told["structuredContent"]["stages"][1]["answer"]["results"][1]["name"], "Ann", "{told}");
    let told = call(&rig, OTHER, "rem_batch", stages).await;
    assert_eq!(told["structuredContent"]["stages"][1]["answer"]["count"], 0, "{told}");
    let told = call(&rig, APP, "rem_schema", json!({})).await;
    assert_eq!(told["structuredContent"]["tables"][0]["name"], "resources");
    let metrics = rig.admin(Method::GET, "/metrics", None).await.text();
    crate::child::says(
        &metrics,
        &[
            r#"remora_rem_requests_total{status="ok",type="lookup"} 3"#,
            r#"remora_rem_requests_total{status="ok",type="mcp"} 6"#,
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_query_is_told_to_the_model_with_its_place() {
    let rig = rig().await;
    let told = call(&rig, APP, "rem_query", json!({ "query": "LOOKUP \"unclosed" })).await;
    assert_eq!(told["isError"], true, "{told}");
    assert_eq!(
        (&told["structuredContent"]["code"], &told["structuredContent"]["position"]),
        (&json!("parse_error"), &json!(7))
    );
    assert!(told["content"][0]["text"].as_str().unwrap().contains("parse_error"));
    let told = call(&rig, APP, "rem_query", json!({})).await;
    assert_eq!(told["isError"], true, "{told}");
    let stages =
        json!({ "stages": [{ "name": "a", "query": "LOOKUP x" }, { "name": "b", "query": "SEARCH x FIELD nothing" }] });
    let told = call(&rig, APP, "rem_batch", stages).await;
    assert_eq!(told["isError"], true, "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_message_or_comes_from_elsewhere_is_refused() {
    let rig = rig().await;
    let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" });
    assert_eq!(message(&rig, BARE, list.clone()).await.status, StatusCode::FORBIDDEN);
    assert_eq!(message(&rig, "key-of-nobody-0123456789", list.clone()).await.status, StatusCode::UNAUTHORIZED);
    let unknown =
        json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "rem_drop", "arguments": {} } });
    let unknown = message(&rig, APP, unknown).await.json();
    assert!(unknown["error"]["message"].as_str().unwrap().contains("rem_query"), "{unknown}");

    let bearer = format!("Bearer {APP}");
    let (key, accept) = (("authorization", bearer.as_str()), ("accept", ACCEPT));
    let foreign = [key, accept, ("origin", "https://evil.example")];
    let foreign = send(&rig, Method::POST, "/rem/mcp", &foreign, list.to_string()).await;
    assert_eq!((foreign.status, &foreign.json()["code"]), (StatusCode::FORBIDDEN, &json!("forbidden")));
    let behind = [key, accept, ("host", "rem.example.com"), ("origin", "https://rem.example.com")];
    let behind = send(&rig, Method::POST, "/rem/mcp", &behind, list.to_string()).await;
    assert_eq!(behind.status, StatusCode::OK, "a reverse proxy in front changes nothing: {}", behind.text());
    let narrow = send(&rig, Method::POST, "/rem/mcp", &[key, ("accept", "text/html")], list.to_string()).await;
    assert_eq!((narrow.status, &narrow.json()["code"]), (StatusCode::NOT_ACCEPTABLE, &json!("not_acceptable")));
    for broken in ["{", "{}", "[]", "7"] {
        let answer = send(&rig, Method::POST, "/rem/mcp", &[key, accept], broken).await;
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (StatusCode::BAD_REQUEST, &json!("parse_error")),
            "{broken}"
        );
    }
    let large = send(&rig, Method::POST, "/rem/mcp", &[key, accept], vec![b' '; BODY + 1]).await;
    assert_eq!((large.status, &large.json()["code"]), (StatusCode::PAYLOAD_TOO_LARGE, &json!("too_large")));
    for method in [Method::GET, Method::DELETE] {
        let answer = with_key(&rig, method, "/rem/mcp", APP, None).await;
        assert_eq!((answer.status, answer.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "POST"));
    }
}
