use serde_json::json;

use super::*;

fn ten() -> Value {
    let tenant = |number: u64| {
        json!({
            "name": format!("team-{number}"),
            "limits": { "rpm": 60 * number },
            "budgets": [{ "period": "month", "usd": "500" }],
            "upstream_api_key": format!("sk-team-{number}"),
            "keys": [{ "name": "app", "expires_in": "90d" }, { "name": "batch", "models": ["gpt-4o-mini"] }],
        })
    };
    json!({ "tenants": (1..=10).map(tenant).collect::<Vec<_>>() })
}

fn actions(answer: &Value) -> Vec<(String, String)> {
    let changes = answer["changes"].as_array().unwrap().iter();
    changes
        .map(|change| {
            (format!("{}/{}", text(&change["tenant"]), text(&change["name"])), text(&change["action"]).to_owned())
        })
        .collect()
}

fn how_many(answer: &Value, action: &str) -> usize {
    actions(answer).iter().filter(|(_, what)| what == action).count()
}

#[tokio::test]
async fn ten_tenants_come_from_one_request_and_asking_again_changes_nothing() {
    let plane = Plane::new().await;
    let first = plane.post("/tenants/apply", ten()).await;
    assert_eq!(how_many(&first, "create"), 30);
    let secrets = first["secrets"].as_array().unwrap();
    assert_eq!(secrets.len(), 20);
    for made in secrets {
        let caller = call(&plane.directory, text(&made["secret"])).unwrap();
        assert_eq!(caller.key.as_str(), format!("{}/{}", text(&made["tenant"]), text(&made["key"])));
    }
    let before = plane.stores.directory.directory().await.unwrap();
    plane.clock.advance_ms(1_000);
    let again = plane.post("/tenants/apply", ten()).await;
    assert_eq!((how_many(&again, "unchanged"), again["secrets"].as_array().unwrap().len()), (30, 0));
    assert_eq!(plane.stores.directory.directory().await.unwrap(), before);
    assert!(!plane.everything_stored().await.contains("sk-team"));
}

#[tokio::test]
async fn a_dry_run_tells_what_would_happen_and_does_nothing() {
    let plane = Plane::new().await;
    let untouched = plane.stores.directory.directory().await.unwrap();
    let mut ask = ten();
    ask["dry_run"] = json!(true);
    let told = plane.post("/tenants/apply", ask).await;
    assert_eq!((how_many(&told, "create"), told["secrets"].as_array().unwrap().len()), (30, 0));
    assert_eq!(plane.stores.directory.directory().await.unwrap(), untouched);

    plane.post("/tenants/apply", ten()).await;
    let before = plane.stores.directory.directory().await.unwrap();
    let change = json!({ "dry_run": true, "tenants": [
        { "name": "team-1", "limits": { "tpm": 5 }, "upstream_api_key": "sk-new", "keys": [{ "name": "app", "enabled": false }] },
        { "name": "team-2" },
    ] });
    let told = plane.post("/tenants/apply", change.clone()).await;
    let expected = [("team-1/team-1", "change"), ("team-1/app", "change"), ("team-2/team-2", "unchanged")];
    assert_eq!(actions(&told), expected.map(|(what, action)| (what.to_owned(), action.to_owned())));
    let (old, new) = (&told["changes"][0]["before"], &told["changes"][0]["after"]);
    assert_eq!(
        (&old["limits"], &new["limits"]),
        (&json!({ "rpm": 60 }), &json!({ "tpm": 5 })),
        "a member that is given is whole"
    );
    assert_eq!((&old["budgets"], &old["upstream_key"]), (&new["budgets"], &json!("set")), "one that is left out stays");
    assert_eq!(plane.stores.directory.directory().await.unwrap(), before);
    let mut done = change;
    done["dry_run"] = json!(false);
    assert_eq!(
        actions(&plane.post("/tenants/apply", done.clone()).await),
        actions(&told),
        "what was said is what is done"
    );
    assert_eq!(how_many(&plane.post("/tenants/apply", done).await, "unchanged"), 3);
}

#[tokio::test]
async fn one_wrong_tenant_among_ten_and_nothing_is_applied() {
    let plane = Plane::new().await;
    let before = plane.stores.directory.directory().await.unwrap();
    let mut ask = ten();
    ask["tenants"][3]["budgets"][0]["usd"] = json!("0");
    ask["tenants"][3]["keys"][1]["models"] = json!([]);
    ask["tenants"][7]["limits"]["rpm"] = json!(0);
    let (status, problem) = plane.ask(Method::POST, "/tenants/apply", &ask).await;
    let places: Vec<&str> = problem["errors"].as_array().unwrap().iter().map(|wrong| text(&wrong["place"])).collect();
    assert_eq!(status, 422);
    assert_eq!(places, ["tenants[3].budgets[0].usd", "tenants[3].keys[1].models", "tenants[7].limits.rpm"]);
    let mut twice = ten();
    twice["tenants"][1]["name"] = json!("team-1");
    assert!(plane.refused(422, Method::POST, "/tenants/apply", twice).await.starts_with("tenants[1]: "));
    assert_eq!(plane.stores.directory.directory().await.unwrap(), before);
}

#[tokio::test]
async fn a_change_made_from_what_is_no_more_is_refused() {
    let plane = Plane::new().await;
    let first = plane.post("/tenants", json!({ "name": "acme" })).await;
    // The clock stands still, but one state is told from another all the same.
    let patch = |rpm: u32| json!({ "limits": { "rpm": rpm }, "if_updated_at": first["updated_at"] });
    let (status, second) = plane.ask(Method::PATCH, "/tenants/acme", &patch(1)).await;
    assert_eq!(status, 200, "{second}");
    plane.refused(412, Method::PATCH, "/tenants/acme", patch(2)).await;
    assert_eq!(plane.get("/tenants/acme").await["spec"]["limits"]["rpm"], 1);
    let again = json!({ "limits": { "rpm": 2 }, "if_updated_at": second["updated_at"] });
    assert_eq!(plane.ask(Method::PATCH, "/tenants/acme", &again).await.0, 200);
    plane.refused(422, Method::PATCH, "/tenants/acme", json!({ "if_updated_at": "now" })).await;
}

#[tokio::test]
async fn changes_made_at_the_same_time_all_happen() {
    let plane = Arc::new(Plane::new().await);
    plane.post("/tenants", json!({ "name": "acme" })).await;
    let mut making = tokio::task::JoinSet::new();
    for number in 0..8 {
        let plane = Arc::clone(&plane);
        making.spawn(async move { plane.post("/tenants/acme/keys", json!({ "name": format!("k{number}") })).await });
    }
    let made: Vec<Value> = making.join_all().await;
    for key in &made {
        assert_eq!(refusal(&plane.directory, text(&key["secret"])), None);
    }
    assert_eq!(plane.get("/tenants/acme").await["keys"], made.len());
}

#[tokio::test]
async fn limits_and_budgets_are_shown_as_they_stand_and_can_be_counted_anew() {
    let plane = Plane::new().await;
    plane.post("/tenants/apply", ten()).await;
    let limits = plane.get("/tenants/team-3/limits").await;
    assert_eq!(limits["limits"], json!({ "rpm": 180 }));
    assert_eq!(limits["keys"].as_array().unwrap().len(), 2);
    for standing in
        [plane.get("/tenants/team-3/budgets").await, plane.post("/tenants/team-3/budgets/rebuild", json!({})).await]
    {
        let budget = &standing["budgets"][0];
        let shown = ["name", "period", "usd", "spent", "held", "left", "drift"].map(|member| text(&budget[member]));
        assert_eq!(shown, ["month", "month", "500.00", "0.00", "0.00", "500.00", "0.00"]);
        assert!(budget["from"].as_u64() <= Some(START) && budget["until"].as_u64() > Some(START));
    }
    assert_eq!(plane.get("/audit").await["data"][0]["action"], "budget.rebuild");
    plane.refused(404, Method::GET, "/tenants/nobody/budgets", Value::Null).await;
}
