//! Reports of the real program, through its command line: what a caller was told each request cost is what the sums say.

use remora::simulate::{self, KeyRule, Options};
use serde_json::{Value, json};

use crate::child::{Home, says, until};
use crate::rig::chat;

#[tokio::test(flavor = "multi_thread")]
async fn what_callers_were_told_is_what_reports_savings_and_gauges_say() {
    let options = Options { require_key: KeyRule::None, ..Options::default() };
    let sim = simulate::spawn(options, "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let home = Home::new(&sim.url());
    let running = home.start().await;
    let miss = running.chat_with("sk-a", &[("x-remora-tags", "team=search")], &chat("one")).await;
    let hit = running.chat_with("sk-a", &[("x-remora-tags", "team==cmd")], &chat("one")).await;
    assert_eq!((miss.cache(), hit.cache()), ("MISS", "HIT"));
    let cost = miss.header("x-remora-cost-usd").to_owned();
    let tenant = running.row(&hit).await["tenant"].as_str().unwrap().to_owned();
    running.row(&miss).await;

    let admin = running.admin_url();
    let ask = async |args: &[&str]| home.run(&[args, &["--admin", &admin]].concat()).await;
    let told: Value = serde_json::from_str(ask(&["usage", "--json"]).await.ok()).unwrap();
    assert_eq!((&told["total"]["requests"], &told["total"]["spend_usd"]), (&json!(2), &json!(cost)), "{told}");
    assert_eq!(told["total"]["saved_net_usd"], json!(cost));
    says(ask(&["usage", "--by", "tenant,model"]).await.ok(), &[&tenant, "gpt-4o-mini", "50.0", "spend usd"]);
    let sheet = ask(&["usage", "--by", "tag:team", "--csv"]).await;
    let lines: Vec<&str> = sheet.ok().split("\r\n").collect();
    assert!(lines[0].starts_with("tag:team,requests,"), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("search,1,0,0,")), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("'=cmd,1,1,0,")), "{lines:?}");
    says(ask(&["usage", "--by", "user,tag"]).await.failed(1), &["`group_by`", "user and tag"]);
    says(ask(&["savings"]).await.ok(), &["ratio", "50.0 % (target 30.0 %: met)", "1 exact hits"]);
    let behind: Value =
        serde_json::from_str(ask(&["request", "--json", "--from", "-1h", "--min-cost-usd", "0.000000001"]).await.ok())
            .unwrap();
    assert_eq!(behind["data"].as_array().unwrap().len(), 1, "{behind}");
    assert_eq!(behind["data"][0]["request_id"], json!(miss.header("x-remora-request-id")));
    assert_eq!(behind["data"][0]["attempts"][0]["cost_usd"], json!(cost));

    // The gauges are read when the program starts, and each minute.
    running.stop().await;
    let again = home.start().await;
    let metrics = until("the gauges of the month", || async {
        let text = again.admin(http::Method::GET, "/metrics", None).await.text();
        text.contains("remora_month_spend_usd").then_some(text)
    });
    let metrics = metrics.await;
    let value = |series: &str| -> f64 {
        let line =
            metrics.lines().find(|line| line.starts_with(series)).unwrap_or_else(|| panic!("{series}: {metrics}"));
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    };
    let cost: f64 = cost.parse().unwrap();
    for series in ["remora_month_spend_usd{tenant=\"other\"}", "remora_month_saved_usd{basis=\"net\",tenant=\"other\"}"]
    {
        assert!((value(series) - cost).abs() < 1e-12, "{series}: {metrics}");
    }
    assert!(value("remora_month_forecast_usd{tenant=\"other\"}") >= cost);
    assert!(metrics.contains("remora_savings_target_ratio 0.3"), "{metrics}");
}
