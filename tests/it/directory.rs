//! Tenants, keys and tokens of the real program: made while it runs, obeyed at once, read again from its file.

use http::{Method, StatusCode};
use remora::simulate::{self, KeyRule, Options};
use serde_json::{Value, json};

use crate::child::{Home, Running, says, until};
use crate::rig::chat;

async fn home() -> (simulate::Handle, Home) {
    let options = Options { require_key: KeyRule::None, ..Options::default() };
    let sim = simulate::spawn(options, "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let home = Home::new(&sim.url()).exact();
    (sim, home)
}

async fn made(running: &Running, path: &str, body: Value) -> Value {
    let answer = running.admin(Method::POST, path, Some(body)).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{path}: {}", answer.text());
    answer.json()
}

/// Status and code of what a chat request with this key gets.
async fn asked(running: &Running, key: &str) -> (StatusCode, String) {
    let answer = running.chat(key, &chat("hello")).await;
    let code = answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned();
    (answer.status, code)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_made_while_the_program_runs_is_served_billed_and_ended_by_name() {
    let (_sim, home) = home().await;
    let running = home.start().await;
    made(&running, "/admin/v1/tenants", json!({ "name": "acme" })).await;
    let key = made(&running, "/admin/v1/tenants/acme/keys", json!({ "name": "app", "routes": ["/v1/chat/*"] })).await;
    let secret = key["secret"].as_str().unwrap();
    let answer = running.chat(secret, &chat("hello")).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let row = running.row(&answer).await;
    assert_eq!((&row["tenant"], &row["key"]), (&json!("acme"), &json!("acme/app")));
    let metrics = running.admin(Method::GET, "/metrics", None).await.text();
    assert!(metrics.contains(r#"tenant="acme""#), "a tenant of the directory has series of its own");
    let elsewhere = running.exchange(crate::child::request(
        Method::POST,
        running.data,
        "/v1/embeddings",
        &[("authorization", &format!("Bearer {secret}"))],
        json!({ "model": "m", "input": "x" }).to_string().into(),
    ));
    let elsewhere = elsewhere.await;
    assert_eq!(
        (elsewhere.status, &elsewhere.json()["error"]["code"]),
        (StatusCode::FORBIDDEN, &json!("route_not_allowed"))
    );

    running.admin(Method::PATCH, "/admin/v1/tenants/acme", Some(json!({ "enabled": false }))).await;
    assert_eq!(asked(&running, secret).await, (StatusCode::FORBIDDEN, "tenant_disabled".to_owned()));
    running.admin(Method::PATCH, "/admin/v1/tenants/acme", Some(json!({ "enabled": true }))).await;
    let mut typo = secret.to_owned();
    let last = if typo.pop() == Some('0') { '1' } else { '0' };
    typo.push(last);
    assert_eq!(asked(&running, &typo).await, (StatusCode::UNAUTHORIZED, "mistyped_api_key".to_owned()));
    running.admin(Method::DELETE, "/admin/v1/tenants/acme/keys/app", None).await;
    assert_eq!(asked(&running, secret).await, (StatusCode::UNAUTHORIZED, "invalid_api_key".to_owned()));
    assert_eq!(asked(&running, "sk-of-my-own").await.0, StatusCode::OK, "passthrough goes on beside it");
    let log = running.stop().await;
    assert!(!log.contains(&secret[11..54]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_is_read_again_whole_or_not_at_all() {
    const ACME: &str = "[[tenant]]\nname = \"acme\"\n[[tenant.key]]\nname = \"app\"\nsecret_env = \"ACME\"\n";
    let (_sim, home) = home().await;
    let home = home
        .env("ACME", "rk-acme-0123456789abcdef")
        .env("GLOBEX", "rk-globex-0123456789abcdef")
        .with("[server]\npassthrough = false")
        .with(ACME);
    let running = home.start().await;
    let (acme, globex) = ("rk-acme-0123456789abcdef", "rk-globex-0123456789abcdef");
    assert_eq!(
        (asked(&running, acme).await.0, asked(&running, globex).await.0),
        (StatusCode::OK, StatusCode::UNAUTHORIZED)
    );
    let before = std::fs::read_to_string(home.path("remora.toml")).unwrap();

    // A file that is not valid changes nothing and is told with its line.
    home.write("remora.toml", format!("{before}[[tenant]]\nname = \"globex\"\nlimits = {{ rpm = 0 }}\n"));
    let answer = running.admin(Method::POST, "/admin/v1/reload", None).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    says(answer.json()["detail"].as_str().unwrap(), &["remora.toml", "rpm", "fix:"]);
    assert_eq!(
        (asked(&running, acme).await.0, asked(&running, globex).await.0),
        (StatusCode::OK, StatusCode::UNAUTHORIZED)
    );

    // A valid one is taken over, and what is not is named.
    let globex_section = ACME.replace("acme", "globex").replace("ACME", "GLOBEX");
    let more = format!("{before}{globex_section}[telemetry]\nmodels = [\"gpt-4o\"]\n");
    home.write("remora.toml", &more);
    let told = running.admin(Method::POST, "/admin/v1/reload", None).await.json();
    assert_eq!((&told["tenants_changed"], &told["need_restart"]), (&json!(1), &json!(["[telemetry]"])));
    assert_eq!((asked(&running, acme).await.0, asked(&running, globex).await.0), (StatusCode::OK, StatusCode::OK));

    // By signal: what is declared no longer is refused at once.
    home.write("remora.toml", before.replace(ACME, ""));
    running.child.signal("HUP");
    let gone = || async { (asked(&running, globex).await.0 == StatusCode::UNAUTHORIZED).then_some(()) };
    until("the signal is obeyed", gone).await;
    let shown = running.told("/admin/v1/tenants/acme").await;
    assert_eq!((&shown["declared"], &shown["spec"]["enabled"]), (&json!(false), &json!(false)));

    // And without being told, once the file has changed.
    home.write("remora.toml", &before);
    let back = || async { (asked(&running, acme).await.0 == StatusCode::OK).then_some(()) };
    until("the changed file is read", back).await;
    let trail = running.told("/admin/v1/audit").await;
    let actors: Vec<&str> =
        trail["data"].as_array().unwrap().iter().map(|row| row["actor"].as_str().unwrap()).collect();
    for actor in ["configuration file", "SIGHUP", "loopback", "start"] {
        assert!(actors.contains(&actor), "{actor}: {actors:?}");
    }
    assert_eq!(running.told("/admin/v1/audit/verify").await["ok"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_guesses_admin_tokens_is_made_to_wait() {
    let (_sim, home) = home().await;
    let right = "admin-0123456789abcdef";
    let running = home.with("[admin]\ntoken_env = \"TOKEN\"").env("TOKEN", right).start().await;
    let ask = async |token: &str| {
        let bearer = format!("Bearer {token}");
        running.admin_with(Method::GET, "/admin/v1/tenants", &[("authorization", &bearer)], "").await
    };
    assert_eq!(ask(right).await.status, StatusCode::OK);
    for guess in 0..20 {
        assert_eq!(ask(&format!("admin-{guess}")).await.status, StatusCode::UNAUTHORIZED);
    }
    let refused = ask("admin-20").await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert!((1..=60).contains(&refused.header("retry-after").parse::<u64>().unwrap()));
    assert_eq!(ask(right).await.status, StatusCode::OK, "whoever has it is not shut out by others of the address");
    let nobody = running.admin(Method::GET, "/admin/v1/tenants", None).await;
    assert_eq!(nobody.status, StatusCode::UNAUTHORIZED);
    assert_eq!(running.admin(Method::GET, "/livez", None).await.status, StatusCode::OK);
}
