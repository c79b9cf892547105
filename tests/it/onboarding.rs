//! Ten tenants from one file into a running proxy, by the command line, as the manual says.

use std::path::Path;

use http::StatusCode;
use remora::simulate::{self, KeyRule, Options};
use serde_json::Value;

use crate::child::{Home, Ran, Running, says};
use crate::rig::chat;

struct Onboarded {
    home: Home,
    running: Running,
    _sim: simulate::Handle,
}

impl Onboarded {
    async fn new() -> Self {
        let options = Options { require_key: KeyRule::None, ..Options::default() };
        let sim = simulate::spawn(options, "127.0.0.1:0".parse().unwrap()).await.unwrap();
        let home =
            Home::new(&sim.url()).exact().with("[server]\npassthrough = false").env("INITECH_OPENAI_KEY", "sk-canary");
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples/tenants.toml");
        home.write("tenants.toml", std::fs::read_to_string(example).unwrap());
        let running = home.start().await;
        Self { home, running, _sim: sim }
    }

    async fn cli(&self, args: &[&str]) -> Ran {
        self.home.run(&[args, &["--admin", &self.running.admin_url()]].concat()).await
    }

    async fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(self.cli(&[args, &["--json"]].concat()).await.ok()).unwrap()
    }

    async fn status(&self, key: &str, prompt: &str) -> StatusCode {
        self.running.chat(key, &chat(prompt)).await.status
    }

    /// The secrets that were kept in a file.
    fn secrets(&self) -> toml::Table {
        std::fs::read_to_string(self.home.path("new-keys.toml")).unwrap().parse().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_tenants_come_in_from_one_file_and_coming_again_changes_nothing() {
    let on = Onboarded::new().await;
    let apply = ["tenant", "apply", "tenants.toml", "--secrets", "new-keys.toml"];
    let dry = on.cli(&["tenant", "apply", "tenants.toml", "--dry-run"]).await;
    says(dry.ok(), &["+ tenant acme\n", "+ key wonka/trial\n", "26 to make, 0 to change", "Nothing was changed"]);
    assert!(on.json(&["tenant", "list"]).await["tenants"].as_array().unwrap().is_empty());

    says(
        on.cli(&apply).await.ok(),
        &["26 made, 0 changed, 0 as they were.", "16 secrets of new keys are in new-keys.toml"],
    );
    let secrets = on.secrets();
    assert_eq!(secrets.len(), 16);
    let again = on.cli(&apply).await;
    says(again.ok(), &["= tenant acme\n", "Nothing to change: all is as the file says."]);
    assert_eq!(on.secrets(), secrets);

    for (key, secret) in &secrets {
        let expected = if key.starts_with("tyrell/") { StatusCode::FORBIDDEN } else { StatusCode::OK };
        let expected = if key == "stark/indexer" { StatusCode::FORBIDDEN } else { expected };
        let mut body = chat("Who are you?");
        body["model"] = "gpt-4o-mini".into();
        let answer = on.running.chat(secret.as_str().unwrap(), &body).await;
        assert_eq!(answer.status, expected, "{key}: {}", answer.text());
    }
    let changed = std::fs::read_to_string(on.home.path("tenants.toml")).unwrap();
    let changed = changed.replace("rpm = 6000", "rpm = 7000").replace("usd = \"2500\" }]", "usd = \"2600\" }]");
    on.home.write("tenants.toml", changed.replace("unknown_price = \"deny\"\n", ""));
    let told = on.cli(&apply).await;
    says(
        told.ok(),
        &[
            "~ tenant acme\n    limits.rpm  6000 → 7000\n",
            "~ tenant globex\n    budgets[month].usd  2500.00 → 2600.00\n",
        ],
    );
    says(told.ok(), &["~ tenant hooli\n    unknown_price  deny → –\n", "0 made, 3 changed, 23 as they were."]);

    let listed = on.cli(&["tenant", "list"]).await;
    says(
        listed.ok(),
        &[
            "initech     enabled   1     own",
            "tyrell      disabled  1     shared",
            "rpm=7000 tpm=2000000 concurrency=200",
        ],
    );
    let shown = on.cli(&["tenant", "show", "umbrella"]).await;
    says(shown.ok(), &["team-search    month   1500.00  tag:team=search", "umbrella/research"]);
    for ran in [&dry, &again, &told, &listed, &shown] {
        assert!(!ran.out.contains("canary"), "{ran:?}");
        assert!(secrets.values().all(|secret| !ran.out.contains(secret.as_str().unwrap())), "{ran:?}");
    }
    says(on.cli(&["audit", "verify"]).await.ok(), &["The audit is whole: 29 rows."]);
    assert_eq!(on.json(&["budget", "show"]).await["tenants"].as_array().unwrap().len(), 10);
    says(on.cli(&["budget", "show", "umbrella"]).await.ok(), &["team-search    month   1500.00", "0.0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_and_its_key_live_and_end_on_the_command_line() {
    let on = Onboarded::new().await;
    let made = on
        .cli(&["tenant", "create", "acme", "--rpm", "600", "--budget", "month=500", "--budget", "day:gpt-4o*=20,soft"])
        .await;
    says(made.ok(), &["limits         rpm=600", "day-gpt-4o  day     20.00   gpt-4o*  warns       50/80/100"]);
    let wrong = on.cli(&["tenant", "set", "acme", "--rpm", "0", "--budget", "month=0"]).await;
    says(wrong.failed(1), &["422", "limits.rpm: out of range", "budgets[0].usd", "fix: "]);
    says(
        on.cli(&["tenant", "set", "acme", "--rpm", "none", "--budget", "month=600", "--cache", "exact"]).await.ok(),
        &["mode=exact", "month       month   600.00"],
    );

    let first = on.cli(&["key", "create", "acme/app", "--quiet"]).await.ok().trim().to_owned();
    assert_eq!(on.status(&first, "one").await, StatusCode::OK);
    says(on.cli(&["key", "create", "acme/app"]).await.failed(1), &["409", "already"]);
    let second = on.cli(&["key", "rotate", "acme/app", "--overlap", "1h", "--quiet"]).await.ok().trim().to_owned();
    assert_ne!(first, second);
    assert_eq!((on.status(&first, "two").await, on.status(&second, "three").await), (StatusCode::OK, StatusCode::OK));
    let listed = on.cli(&["key", "list"]).await;
    says(listed.ok(), &["acme/app", "replaced by"]);
    assert_eq!(listed.out.lines().count(), 3);
    says(
        on.cli(&["key", "set", "acme/app", "--model", "gpt-5", "--right", "cache:inspect"]).await.ok(),
        &["models     gpt-5", "rights     cache:inspect"],
    );
    assert_eq!(on.status(&second, "four").await, StatusCode::FORBIDDEN);
    on.cli(&["key", "set", "acme/app", "--model", "*"]).await.ok();
    on.cli(&["tenant", "disable", "acme"]).await.ok();
    assert_eq!(on.status(&second, "five").await, StatusCode::FORBIDDEN);
    on.cli(&["tenant", "enable", "acme"]).await.ok();
    assert_eq!(on.status(&second, "six").await, StatusCode::OK);
    on.cli(&["key", "revoke", "acme/app"]).await.ok();
    assert_eq!(on.status(&second, "seven").await, StatusCode::UNAUTHORIZED);

    let token = on.cli(&["token", "create", "acme-team", "--role", "viewer", "--tenant", "acme", "--quiet"]).await;
    assert!(token.ok().starts_with("ra-"), "{token:?}");
    says(on.cli(&["token", "list"]).await.ok(), &["acme-team", "viewer", "acme"]);
    on.cli(&["token", "remove", "acme-team"]).await.ok();
    on.cli(&["tenant", "upstream-key", "set", "acme", "--env", "INITECH_OPENAI_KEY"]).await.ok();
    says(on.cli(&["tenant", "show", "acme"]).await.ok(), &["upstream key   own"]);
    on.cli(&["tenant", "upstream-key", "remove", "acme"]).await.ok();
    says(on.cli(&["reload"]).await.ok(), &["reloaded"]);
    on.cli(&["tenant", "remove", "acme"]).await.ok();
    says(on.cli(&["tenant", "show", "acme"]).await.failed(1), &["404"]);
    says(
        on.cli(&["audit", "list"]).await.ok(),
        &["tenant.create", "key.rotate", "key.revoke", "token.create", "tenant.delete"],
    );
    on.cli(&["audit", "verify"]).await.ok();
}
