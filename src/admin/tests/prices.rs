//! Prices, and the ledger priced anew, through the admin API.

use http::Method;
use serde_json::json;

use super::{Plane, START};

#[tokio::test]
async fn prices_are_shown_by_name_by_pattern_and_by_day() {
    let plane = Plane::new().await;
    let one = plane.get("/prices?model=openai/gpt-4o-mini-2024-07-18").await;
    let price = &one["prices"][0];
    assert_eq!(one["prices"].as_array().unwrap().len(), 1);
    assert_eq!((&price["names"][0], &price["list"]), (&json!("gpt-4o-mini"), &json!("shipped")));
    assert_eq!(price["prices"][0]["standard"]["cache_read"], "0.075");
    assert_eq!(price["prices"][0]["batch"]["output"], "0.30");
    assert!(price["source"].as_str().unwrap().starts_with("https://"));
    let some = plane.get("/prices?model=claude-*&at=2026-11-26").await;
    let some = some["prices"].as_array().unwrap();
    assert!(some.len() > 5 && some.iter().all(|price| price["provider"] == "anthropic"));
    assert_eq!(plane.get("/prices?model=made-up").await["prices"], json!([]));
    assert!(plane.refused(422, Method::GET, "/prices?at=yesterday", json!(null)).await.contains("`at`"));
}

#[tokio::test]
async fn a_question_to_price_the_ledger_anew_must_be_meant() {
    let plane = Plane::new().await;
    for (body, told) in [
        (json!({}), "`from` is missing"),
        (json!({ "from": "1.10.2026" }), "`from` must be a day"),
        (json!({ "from": START, "until": START }), "not before"),
        (json!({ "from": 0, "after": "x" }), "`after`"),
        (json!({ "from": 0, "dry": true }), "`dry`"),
    ] {
        let detail = plane.refused(422, Method::POST, "/prices/rerate", body).await;
        assert!(detail.contains(told), "{detail}");
    }
    let nothing = plane.post("/prices/rerate", json!({ "from": "2026-10-01", "dry_run": true })).await;
    assert_eq!((&nothing["rows"], &nothing["next"]), (&json!(0), &json!(null)));
    let audit = plane.get("/audit").await;
    assert!(!audit.to_string().contains("prices.rerate"), "what writes nothing leaves no row");
    plane.post("/prices/rerate", json!({ "from": "2026-10-01" })).await;
    let audit = plane.get("/audit").await.to_string();
    assert_eq!(audit.matches("prices.rerate").count(), 2, "when it began and what came of it: {audit}");
    assert!(audit.contains("begun") && audit.contains("left_out"), "{audit}");
}
