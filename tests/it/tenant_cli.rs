//! The commands about tenants, keys, tokens, budgets and alerts: what they ask of the admin plane, and what they print.
//!
//! The admin plane here is one that answers as it is told to, so that each answer there can be is seen.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::canned::Canned;
use crate::child::{Home, Ran, says};

const SECRET: &str = "rk-canarysecret";

/// A file that two tenants are in.
const TWO: &str = "[[tenant]]\nname = \"acme\"\nupstream_api_key_env = \"ACME_UP\"\nlimits = { rpm = 100 }\n\
                   budgets = [{ period = \"month\", usd = 500 }]\n[[tenant.key]]\nname = \"app\"\nexpires_in = \"90d\"\n\
                   [[tenant]]\nname = \"globex\"\n";

struct Plane {
    canned: Canned,
    home: Home,
}

impl Plane {
    /// `answer` gets method and path, and gives status and body.
    async fn new(answer: impl Fn(&str) -> (u16, Value) + Send + Sync + 'static) -> Self {
        let reply = move |request: &str| {
            let asked = request.lines().next().unwrap().trim_end_matches(" HTTP/1.1");
            let (status, body) = answer(asked);
            let (kind, body) = ("application/json", body.to_string());
            let head = format!(
                "HTTP/1.1 {status} x\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            vec![(head + &body).into_bytes()]
        };
        let home = Home::nowhere().env("ACME_UP", "sk-canary-up").env("REMORA_ADMIN_TOKEN", "ra-token");
        Self { canned: Canned::start(reply).await, home }
    }

    async fn cli(&self, args: &[&str]) -> Ran {
        let admin = format!("http://{}", self.canned.addr);
        self.home.run(&[args, &["--admin", &admin]].concat()).await
    }

    /// What was asked so far, as method and path with the body.
    fn asked(&self) -> Vec<(String, Value)> {
        let read = |request: &String| {
            assert!(request.contains("authorization: Bearer ra-token"), "{request}");
            let (head, body) = request.split_once("\r\n\r\n").unwrap();
            let line = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
            (line, serde_json::from_str(body).unwrap_or_default())
        };
        self.canned.requests().iter().map(read).collect()
    }
}

fn applied(asked: &str) -> (u16, Value) {
    assert_eq!(asked, "POST /admin/v1/tenants/apply");
    let told = json!({
        "dry_run": false,
        "changes": [
            { "kind": "tenant", "tenant": "acme", "name": "acme", "action": "change",
              "before": { "limits": { "rpm": 60 } }, "after": { "limits": { "rpm": 100 } } },
            { "kind": "key", "tenant": "acme", "name": "app", "action": "create", "before": null, "after": {} },
            { "kind": "tenant", "tenant": "globex", "name": "globex", "action": "unchanged", "before": {}, "after": {} },
        ],
        "secrets": [{ "tenant": "acme", "key": "app", "secret": SECRET }],
    });
    (200, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_tenants_is_applied_as_a_whole_and_its_new_secrets_go_where_they_are_wanted() {
    let plane = Plane::new(applied).await;
    plane.home.write("tenants.toml", TWO);
    let ran = plane.cli(&["tenant", "apply", "tenants.toml"]).await;
    says(ran.ok(), &["~ tenant acme\n    limits.rpm  60 → 100\n", "+ key acme/app\n", "= tenant globex\n"]);
    says(ran.ok(), &["1 made, 1 changed, 1 as they were.", SECRET, "shown this once"]);
    assert!(!ran.out.contains("canary-up") && ran.err.is_empty(), "{ran:?}");

    let ran = plane.cli(&["tenant", "apply", "tenants.toml", "--secrets", "keys.toml"]).await;
    says(ran.ok(), &["1 secrets of new keys are in keys.toml"]);
    assert!(!ran.out.contains(SECRET), "{ran:?}");
    let kept = plane.home.path("keys.toml");
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), format!("\"acme/app\" = \"{SECRET}\"\n"));
    assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    let ran = plane.cli(&["tenant", "apply", "tenants.toml", "--secrets", "keys.toml", "--json"]).await;
    let told: Value = serde_json::from_str(ran.ok()).unwrap();
    assert_eq!((&told["secrets"], told["changes"].as_array().unwrap().len()), (&json!([]), 3));

    let dry = plane.cli(&["tenant", "apply", "tenants.toml", "--dry-run", "--secrets", "none.toml"]).await;
    says(dry.ok(), &["Nothing was changed (--dry-run)."]);
    assert!(!plane.home.path("none.toml").exists());
    let asked = plane.asked();
    let dry_runs: Vec<_> = asked.iter().map(|(_, body)| body["dry_run"].clone()).collect();
    assert_eq!(dry_runs, [false, false, false, true]);
    let [acme, globex] = asked[0].1["tenants"].as_array().unwrap().as_slice() else { panic!("{asked:?}") };
    assert_eq!((&acme["upstream_api_key"], &acme["limits"]), (&json!("sk-canary-up"), &json!({ "rpm": 100 })));
    assert_eq!((&acme["budgets"][0]["usd"], &acme["budgets"][0]["name"]), (&json!("500.00"), &json!("month")));
    assert_eq!((&acme["keys"][0]["name"], &acme["keys"][0]["expires_in"]), (&json!("app"), &json!("90d")));
    assert_eq!(globex["unknown_price"], Value::Null, "what the file does not say is taken away");
    assert!(
        globex.get("unknown_price").is_some()
            && globex.get("upstream_api_key").is_none()
            && globex["keys"] == json!([]),
        "{globex}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_or_nowhere_to_put_secrets_is_told_before_anything_is_asked() {
    let plane = Plane::new(applied).await;
    let bad = "[[tenant]]\nname = \"acme\"\nlimits = { rpm = -1 }\nbudget = 5\n[[tenant.key]]\nname = \"app\"\nsecret = \"canary-1\"\n";
    plane.home.write("bad.toml", bad);
    plane.home.write("tenants.toml", TWO);
    plane.home.write("mine.env", "export A=b\n");
    let ran = plane.cli(&["tenant", "apply", "bad.toml"]).await;
    says(
        ran.failed(1),
        &["bad.toml:3:12: tenant[0].limits.rpm", "did you mean `budgets`?", "bad.toml:7:1", "fix: ", "3 problems"],
    );
    assert!(!ran.err.contains("canary"), "{ran:?}");
    says(plane.cli(&["tenant", "apply", "none.toml"]).await.failed(1), &["none.toml", "cannot be read"]);
    let ran = plane.cli(&["tenant", "apply", "tenants.toml", "--secrets", "mine.env"]).await;
    says(ran.failed(1), &["mine.env", "name another file"]);
    assert_eq!(std::fs::read_to_string(plane.home.path("mine.env")).unwrap(), "export A=b\n");
    assert_eq!(plane.asked(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_one_budget_keeps_the_others_and_all_that_was_not_said() {
    let spec = json!({
        "enabled": true, "limits": { "rpm": 60 }, "cache": {}, "hits_when_spent": true, "hits_take_tokens": false,
        "budgets": [
            { "name": "all", "period": "month", "usd": "500.00", "hard": false, "alert_at": [0.7] },
            { "name": "day", "period": "day", "usd": "5.00", "hard": true, "alert_at": [0.5, 0.8, 1.0] },
        ],
    });
    let view = json!({ "name": "acme", "declared": false, "spec": spec, "has_upstream_key": true, "keys": 2, "created_at": 0, "updated_at": 0 });
    let plane = Plane::new(move |_| (200, view.clone())).await;
    let args = [
        "tenant",
        "set",
        "acme",
        "--rpm",
        "none",
        "--tpm",
        "2_000",
        "--budget",
        "month=600",
        "--budget",
        "week:gpt-4o*=9,soft",
        "--no-budget",
        "day",
        "--cache",
        "exact",
    ];
    let ran = plane.cli(&args).await;
    says(
        ran.ok(),
        &[
            "name           acme",
            "state          enabled",
            "upstream key   own",
            "limits         rpm=60",
            "all     month   500.00  all  warns       70\n",
        ],
    );
    let asked = plane.asked();
    let expected = json!({
        "limits": { "rpm": null, "tpm": 2000 },
        "cache": { "mode": "exact" },
        "budgets": [
            { "name": "all", "period": "month", "usd": "600.00", "hard": false, "alert_at": [0.7] },
            { "name": "week-gpt-4o", "period": "week", "usd": "9.00", "hard": false, "alert_at": [0.5, 0.8, 1.0], "model": "gpt-4o*" },
        ],
        "if_updated_at": 0,
    });
    assert_eq!(asked[0].0, "GET /admin/v1/tenants/acme");
    assert_eq!(asked[1], ("PATCH /admin/v1/tenants/acme".to_owned(), expected));

    plane.cli(&["tenant", "disable", "acme"]).await.ok();
    assert_eq!(plane.asked()[2], ("PATCH /admin/v1/tenants/acme".to_owned(), json!({ "enabled": false })));
    says(plane.cli(&["tenant", "set", "acme"]).await.failed(1), &["nothing to change"]);
    says(plane.cli(&["tenant", "set", "acme", "--no-budget", "gone"]).await.failed(1), &["there are: all, day"]);
    for wrong in [
        &["tenant", "set", "acme", "--budget", "month"][..],
        &["tenant", "set", "acme", "--rpm", "lots"],
        &["key", "create", "acme"],
        &["token", "create", "t", "--role", "king"],
    ] {
        assert_eq!(plane.cli(wrong).await.code, Some(2), "{wrong:?}");
    }
    assert_eq!(plane.asked().len(), 4, "wrong usage asks for nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_that_is_set_while_somebody_else_sets_one_takes_nothing_back() {
    let asked = std::sync::atomic::AtomicU64::new(0);
    // Each look shows a later state with one budget more, and the first change comes too late.
    let plane = Plane::new(move |line| {
        let number = asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let budget = |name: u64| json!({ "name": format!("b{name}"), "period": "day", "usd": "1.00" });
        let budgets: Vec<Value> = (0..=number).map(budget).collect();
        let view = json!({ "name": "acme", "spec": { "budgets": budgets }, "updated_at": 100 + number });
        match (line.split(' ').next().unwrap(), number) {
            ("PATCH", 1) => (412, json!({ "detail": "changed since" })),
            _ => (200, view),
        }
    })
    .await;
    plane.cli(&["tenant", "set", "acme", "--budget", "month=5"]).await.ok();
    let asked = plane.asked();
    let seen: Vec<_> = asked
        .iter()
        .map(|(line, body)| {
            let names = body["budgets"].as_array().into_iter().flatten().map(|budget| budget["name"].as_str().unwrap());
            (line.split(' ').next().unwrap(), body["if_updated_at"].as_u64(), names.collect::<Vec<_>>())
        })
        .collect();
    let expected = [
        ("GET", None, vec![]),
        ("PATCH", Some(100), vec!["b0", "month"]),
        ("GET", None, vec![]),
        ("PATCH", Some(102), vec!["b0", "b1", "b2", "month"]),
    ];
    assert_eq!(seen, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_printed_once_and_alone_when_it_is_to_be_piped() {
    let plane = Plane::new(|_| {
        let key = json!({ "id": "abcd1234", "name": "app", "tenant": "acme", "declared": false, "expires_at": 1_793_491_200_000_i64,
            "replaced_by": null, "created_at": 0, "updated_at": 0, "used_at": null,
            "spec": { "enabled": true, "models": ["gpt-4o*"], "routes": ["*"], "rights": [], "limits": { "rpm": 60 } } });
        (201, json!({ "key": key, "secret": SECRET, "token": { "name": "ci", "role": "viewer", "tenant": null } }))
    })
    .await;
    let ran = plane
        .cli(&[
            "key",
            "create",
            "acme/app",
            "--model",
            "gpt-4o*",
            "--rpm",
            "60",
            "--expires-in",
            "90d",
            "--right",
            "rem",
        ])
        .await;
    says(
        ran.ok(),
        &[
            "key        acme/app",
            "limits     rpm=60",
            "expires    2026-11-01T00:00:00Z",
            "last used  –",
            SECRET,
            "shown this once",
        ],
    );
    assert_eq!(ran.out.matches(SECRET).count(), 1);
    let body = json!({ "name": "app", "models": ["gpt-4o*"], "rights": ["rem"], "limits": { "rpm": 60 }, "expires_in": "90d" });
    assert_eq!(plane.asked()[0], ("POST /admin/v1/tenants/acme/keys".to_owned(), body));
    for args in [
        &["key", "create", "acme/app"][..],
        &["key", "rotate", "acme/app", "--overlap", "1h", "--expires-in", "30d"],
        &["token", "create", "ci", "--role", "viewer", "--tenant", "a b"],
    ] {
        assert_eq!(plane.cli(&[args, &["--quiet"]].concat()).await.ok(), format!("{SECRET}\n"), "{args:?}");
    }
    let asked = plane.asked();
    assert_eq!(
        asked[2],
        ("POST /admin/v1/tenants/acme/keys/app/rotate".to_owned(), json!({ "overlap": "1h", "expires_in": "30d" }))
    );
    assert_eq!(
        asked[3],
        ("POST /admin/v1/tokens".to_owned(), json!({ "name": "ci", "role": "viewer", "tenant": "a b" }))
    );
    plane.cli(&["key", "revoke", "acme/a/b"]).await.ok();
    assert_eq!(plane.asked()[4].0, "DELETE /admin/v1/tenants/acme/keys/a%2Fb");

    plane.cli(&["tenant", "upstream-key", "set", "acme", "--env", "ACME_UP"]).await.ok();
    let (line, body) = plane.asked().pop().unwrap();
    assert_eq!(
        (line.as_str(), body),
        ("PUT /admin/v1/tenants/acme/upstream-key", json!({ "api_key": "sk-canary-up" }))
    );
    says(
        plane.cli(&["tenant", "upstream-key", "set", "acme", "--env", "sk-canary-pasted"]).await.failed(1),
        &["--env", "not set"],
    );
    assert_eq!(plane.cli(&["tenant", "upstream-key", "set", "acme"]).await.code, Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_admin_plane_finds_wrong_is_the_end_and_is_told_whole() {
    let plane = Plane::new(|asked| match asked {
        "GET /admin/v1/audit/verify" => {
            (200, json!({ "ok": false, "rows": 9, "head": "ff", "broken_at": 4, "why": "the hash does not fit" }))
        }
        "POST /admin/v1/alerts/test" => {
            let sent = json!({ "channel": "slack", "state": "sent", "attempts": 1, "error": null });
            let failed = json!({ "channel": "webhook", "state": "failed", "attempts": 3, "error": "503" });
            (200, json!({ "deliveries": [sent, failed] }))
        }
        _ => {
            let errors = json!([{ "place": "limits.rpm", "what": "out of range", "fix": "write a number from 1" }]);
            (
                422,
                json!({ "type": "about:blank", "status": 422, "detail": "the tenant cannot be so", "errors": errors }),
            )
        }
    })
    .await;
    let ran = plane.cli(&["tenant", "create", "acme", "--rpm", "0"]).await;
    says(ran.failed(1), &["422", "limits.rpm: out of range", "fix: write a number from 1"]);
    says(plane.cli(&["audit", "verify"]).await.failed(1), &["broken at row 4", "the hash does not fit"]);
    let ran = plane.cli(&["alerts", "test"]).await;
    says(ran.failed(1), &["1 of 2 channels"]);
    says(&ran.out, &["slack    sent", "webhook  failed  3", "503"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_read_page_by_page_and_shown_as_tables() {
    let plane = Plane::new(|asked| {
        let budget = |spent: &str| json!({ "name": "month", "period": "month", "usd": "100.00", "spent": spent, "held": "0.00",
            "left": "1.00", "hard": true, "from": 0, "until": 1_793_491_200_000_i64, "drift": "0.00" });
        let tenant = |name: &str| json!({ "name": name, "declared": name == "b", "spec": { "limits": { "rpm": 5 } }, "keys": 1, "has_upstream_key": false });
        let told = match asked {
            "GET /admin/v1/tenants" => json!({ "tenants": [tenant("a")], "next": "a/1" }),
            "GET /admin/v1/tenants?cursor=a%2F1" => json!({ "tenants": [tenant("b")], "next": null }),
            "GET /admin/v1/tenants/a/budgets" => json!({ "budgets": [budget("25.00")] }),
            "GET /admin/v1/tenants/b/budgets" => json!({ "budgets": [budget("99.00")] }),
            other => panic!("{other}"),
        };
        (200, told)
    })
    .await;
    let ran = plane.cli(&["tenant", "list"]).await;
    says(ran.ok(), &["name  state    keys  upstream key  limits  budgets  from", "config file", "admin API"]);
    assert_eq!(ran.out.lines().count(), 3);
    let ran = plane.cli(&["budget", "show"]).await;
    says(ran.ok(), &["a       month   month   100.00  25.00  25.0", "b       month   month   100.00  99.00  99.0"]);
    let ran = plane.cli(&["budget", "show", "b", "--json"]).await;
    let told: Value = serde_json::from_str(ran.ok()).unwrap();
    assert_eq!(told["tenants"][0]["budgets"][0]["spent"], "99.00");
}
