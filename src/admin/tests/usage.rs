//! Reports over the real store.

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use serde_json::json;

use super::*;
use crate::ids::{KeyId, RequestId, TenantId};
use crate::store::{Attempt, Correction, LedgerRow, Rated, Tokens, sample};

const HOUR: u64 = 3_600_000;

/// A row at [`START`], as every field says; `number` makes it another one.
fn row(tenant: &str, key: &str, number: u64) -> LedgerRow {
    LedgerRow {
        request: RequestId::at(START + number),
        started_at: START + number,
        key: Some(KeyId::new(format!("{tenant}/{key}"))),
        outcome: "miss".into(),
        tier: None,
        tokens: Tokens { input: 100, output: 10, audio_input: 7, ..Tokens::default() },
        tokens_source: Some("billed".into()),
        cost_nano_usd: Some(1_000_000_000),
        embedding_nano_usd: Some(5),
        saved_gross_nano_usd: Some(0),
        saved_nano_usd: Some(-5),
        price_version: Some("2026-11".into()),
        attempts: Vec::new(),
        ..sample::row(tenant, number)
    }
}

fn hit(tenant: &str, key: &str, number: u64) -> LedgerRow {
    LedgerRow {
        outcome: "hit".into(),
        tier: Some("semantic".into()),
        tokens_source: Some("replayed".into()),
        cost_nano_usd: Some(0),
        saved_gross_nano_usd: Some(1_500_000_000),
        saved_nano_usd: Some(1_499_999_995),
        ..row(tenant, key, number)
    }
}

async fn plane_with(rows: &[LedgerRow]) -> Plane {
    let plane = Plane::new().await;
    plane.stores.ledger.append(rows).await.unwrap();
    plane.clock.advance_ms(HOUR / 2);
    plane
}

fn some() -> Vec<LedgerRow> {
    vec![row("acme", "app", 1), row("acme", "bot", 2), hit("acme", "app", 3), row("globex", "app", 4)]
}

#[tokio::test]
async fn groups_add_up_to_a_total_that_is_the_same_when_only_the_dearest_are_shown() {
    let plane = plane_with(&some()).await;
    let all = plane.get("/usage?group_by=key").await;
    assert_eq!((&all["grain"], &all["cut"], &all["group_by"]), (&json!("hour"), &json!(false), &json!(["key"])));
    let by_key: Vec<_> =
        all["rows"].as_array().unwrap().iter().map(|row| (text(&row["key"]), row["requests"].clone())).collect();
    assert_eq!(by_key.len(), 3, "{all}");
    assert!(by_key.contains(&("acme/app", json!(2))), "{all}");
    let total = &all["total"];
    assert_eq!((&total["requests"], &total["hits"]), (&json!(4), &json!({ "exact": 0, "semantic": 1 })));
    assert_eq!((&total["cost_usd"], &total["embedding_usd"]), (&json!("3.00"), &json!("0.00000002")));
    assert_eq!(
        (&total["spend_nano_usd"], &total["saved_net_nano_usd"]),
        (&json!(3_000_000_020_i64), &json!(1_499_999_980_i64))
    );
    assert_eq!((&total["tokens"]["audio_input"], &total["replayed"]["output"]), (&json!(21), &json!(10)));
    let dearest = plane.get("/usage?group_by=key&slot=hour&limit=1").await;
    assert_eq!((&dearest["cut"], &dearest["total"]), (&json!(true), total));
    assert_eq!(dearest["rows"].as_array().unwrap().len(), 1, "{dearest}");
    // A request has two tags, and counts in both.
    let tags = plane.get("/usage?group_by=tag:team&from=-1h&tenant=acme").await;
    assert_eq!(tags["rows"].as_array().unwrap().len(), 1, "{tags}");
    assert_eq!(tags["rows"][0]["tag:team"], "search, \"ops\"");
    assert_eq!((&tags["grain"], &tags["total"]["requests"]), (&json!("day"), &json!(3)));
    let one = plane.get("/usage?group_by=&tenant=acme&key=bot&model=gpt-4o").await;
    assert_eq!((&one["rows"][0], one["total"]["requests"].clone()), (&one["total"], json!(1)));
    assert_eq!(plane.get("/usage?tenant=nobody").await["rows"], json!([]));
    for (query, says) in [
        ("group_by=user,tag", "`group_by`"),
        ("slot=week", "`slot`"),
        ("from=soon", "`from`"),
        ("format=xml", "`format`"),
    ] {
        assert!(plane.refused(422, Method::GET, &format!("/usage?{query}"), Value::Null).await.contains(says));
    }
    assert!(plane.refused(400, Method::GET, "/usage?colour=blue", Value::Null).await.contains("colour"));
}

#[tokio::test]
async fn a_report_is_csv_for_whom_asks_for_it_and_runs_nothing() {
    let mut rows = some();
    rows[0].user = Some("=HYPERLINK(\"http://x\")".to_owned());
    let plane = plane_with(&rows).await;
    let ask = async |query: &str, accept: &str| {
        let request = Request::builder().uri(format!("/admin/v1/usage?{query}")).header(HOST, "localhost");
        let request = request.header(AUTHORIZATION, format!("Bearer {TOKEN}")).header(ACCEPT, accept);
        let answer = plane.router.clone().call(request.body(Body::empty()).unwrap()).await.unwrap();
        let kind = answer.headers()[CONTENT_TYPE].to_str().unwrap().to_owned();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        (kind, String::from_utf8(bytes.to_vec()).unwrap())
    };
    let (kind, sheet) = ask("group_by=user&from=-1h", "application/json;q=0.5, Text/CSV").await;
    assert!(kind.starts_with("text/csv"), "{kind}");
    assert!(sheet.starts_with("user,requests,hits_exact,"), "{sheet}");
    assert!(sheet.lines().any(|line| line.starts_with("\"'=HYPERLINK(\"\"http://x\"\")\",1,")), "{sheet}");
    assert!(ask("group_by=user&format=json", "text/csv").await.0.starts_with("application/json"), "the query wins");
    assert!(ask("format=csv", "*/*").await.0.starts_with("text/csv"));
}

#[tokio::test]
async fn savings_are_held_against_what_the_same_answers_would_have_cost() {
    let plane = plane_with(&some()).await;
    let told = plane.get("/savings?slot=hour").await;
    assert_eq!((&told["counterfactual_usd"], &told["spend_usd"]), (&json!("4.50"), &json!("3.00000002")));
    assert_eq!((&told["saved_net_usd"], &told["unmatched_usd"]), (&json!("1.49999998"), &json!("0.00")));
    assert_eq!((&told["met"], told["ratio"].as_f64().unwrap() > 0.33334), (&json!(true), false));
    assert_eq!(told["slots"].as_array().unwrap().len(), 1);
    assert_eq!(told["slots"][0]["saved_net_usd"], told["saved_net_usd"]);
    let globex = plane.get("/savings?tenant=globex").await;
    assert_eq!((&globex["met"], &globex["saved_net_nano_usd"]), (&json!(false), &json!(-5)));
    assert_eq!(plane.get("/savings?tenant=nobody").await["met"], Value::Null);
}

#[tokio::test]
async fn a_token_of_one_tenant_sees_the_sums_of_that_tenant_only() {
    let plane = plane_with(&some()).await;
    plane.post("/tenants", json!({ "name": "acme", "adopt_data": true })).await;
    let made = plane.post("/tokens", json!({ "name": "t", "role": "viewer", "tenant": "acme" })).await;
    let ask = async |path: &str| {
        plane.request(Some(text(&made["secret"])), Method::GET, &format!("/admin/v1{path}"), None).await
    };
    for path in [
        "/usage?group_by=key",
        "/usage?group_by=tenant&slot=day",
        "/usage?format=csv",
        "/savings",
        "/requests?from=-1h",
    ] {
        let (status, body) = ask(path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        assert!(body.contains("acme") && !body.contains("globex"), "{path}: {body}");
        let sign = if path.contains('?') { '&' } else { '?' };
        assert_eq!(ask(&format!("{path}{sign}tenant=globex")).await.0, StatusCode::FORBIDDEN, "{path}");
    }
    let (_, elsewhere) = ask("/usage?key=globex/app").await;
    assert!(elsewhere.contains("\"rows\":[]"), "{elsewhere}");
}

#[tokio::test]
async fn a_request_tells_what_it_cost_by_each_call_and_what_it_costs_since_it_was_corrected() {
    let first =
        LedgerRow { attempts: vec![attempt(1, None), attempt(2, Some(1_000_000_000))], ..row("acme", "app", 1) };
    let plane = plane_with(&[first.clone(), row("acme", "bot", 2)]).await;
    let id = first.request.to_string();
    let before = plane.get(&format!("/requests/{id}")).await;
    assert_eq!((&before["cost_usd"], &before["current"]["cost_usd"]), (&json!("1.00"), &json!("1.00")));
    assert_eq!((&before["corrections"], &before["tokens"]["audio_input"]), (&json!([]), &json!(7)));
    assert_eq!(
        (&before["attempts"][0]["cost_usd"], &before["attempts"][1]["cost_usd"]),
        (&Value::Null, &json!("1.00"))
    );
    let after = Rated { cost: Some(2_500_000_000), price_version: Some("2026-12".into()), ..Rated::of(&first) };
    let correction = Correction {
        request: first.request,
        started_at: first.started_at,
        at: START + 10,
        before: Rated::of(&first),
        after,
    };
    assert_eq!(plane.stores.usage.correct(&[correction]).await.unwrap(), 1);
    let since = plane.get(&format!("/requests/{id}")).await;
    assert_eq!((&since["cost_usd"], &since["current"]["cost_usd"]), (&json!("1.00"), &json!("2.50")), "both stay");
    assert_eq!(since["corrections"][0]["before"]["price_version"], "2026-11");
    assert_eq!(since["corrections"][0]["after"]["price_version"], "2026-12");
    assert_eq!(plane.get("/usage?tenant=acme").await["total"]["cost_usd"], "3.50");
    let dear = plane.get("/requests?min_cost_usd=2").await;
    assert_eq!((dear["data"].as_array().unwrap().len(), &dear["data"][0]["request_id"]), (1, &json!(id)));
    let latest = plane.get("/requests?limit=2").await;
    let now: Vec<&Value> = latest["data"].as_array().unwrap().iter().map(|row| &row["current"]["cost_usd"]).collect();
    assert_eq!(now, ["1.00", "2.50"], "the latest first, each with what it costs now");
}

fn attempt(number: u16, cost_nano_usd: Option<i64>) -> Attempt {
    Attempt {
        number,
        kind: "completion".into(),
        started_at: START,
        upstream: "openai".into(),
        model: Some("gpt-4o".into()),
        status: cost_nano_usd.map(|_| 200),
        latency_us: 5,
        tokens: Tokens::default(),
        tokens_source: None,
        service: None,
        cost_nano_usd,
        price_version: None,
    }
}

#[tokio::test]
async fn the_requests_behind_a_sum_are_found_page_by_page_each_once() {
    let rows: Vec<LedgerRow> = (0..1_203).map(|n| row("acme", if n % 3 == 0 { "app" } else { "bot" }, n)).collect();
    let plane = plane_with(&rows).await;
    let wanted: Vec<String> =
        rows.iter().filter(|row| row.key == Some(KeyId::new("acme/app"))).map(|row| row.request.to_string()).collect();
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = plane.get(&format!("/requests?tenant=acme&key=app&from=-1h&limit=100{cursor}")).await;
        found.extend(page["data"].as_array().unwrap().iter().map(|row| text(&row["request_id"]).to_owned()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(found, wanted);
    let count = async |query: &str| {
        plane.get(&format!("/requests?from=-1h&limit=1000&{query}")).await["data"].as_array().unwrap().len()
    };
    assert_eq!(count("outcome=hit").await, 0);
    assert_eq!((count("user=nobody").await, count("model=gpt-4o&user=Zo%C3%AB").await), (0, 1_000));
    assert_eq!(count("tag=team=nothing").await, 0);
    assert_eq!(count(&format!("to={}&cursor={}", START + 50, rows[39].request)).await, 10);
    for (query, says) in [("min_cost_usd=-1", "`min_cost_usd`"), ("tag=x", "`tag`"), ("to=never", "`to`")] {
        assert!(plane.refused(422, Method::GET, &format!("/requests?{query}"), Value::Null).await.contains(says));
    }
    assert!(plane.refused(400, Method::GET, "/requests?cursor=x", Value::Null).await.contains("`cursor`"));
    assert_eq!(rows[0].tenant, Some(TenantId::new("acme")));
}
