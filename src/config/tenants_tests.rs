//! What operators may rely on in `[[tenant]]`: what is written is what holds, and what cannot hold is told.

use super::tests::{KEY, load_with};
use super::*;

#[test]
fn tenants_and_keys_are_told_apart() {
    let head = "[[tenant]]\nname = \"t\"\n[[tenant.key]]\nname = \"k\"\nsecret_env = \"A\"\n";
    let cases = [
        (format!("{head}[[tenant.key]]\nname = \"k\"\nsecret_env = \"B\"\n"), "tenant[0].key[1].name duplicate"),
        (format!("{head}[[tenant.key]]\nname = \"l\"\nsecret_env = \"A\"\n"), "tenant[0].key[1].name duplicate"),
        (format!("{head}[[tenant.key]]\nname = \"l\"\n"), "tenant[0].key[1].secret_env missing"),
        (
            format!("{head}[[tenant.key]]\nname = \"l\"\nsecret_env = \"SHORT\"\n"),
            "tenant[0].key[1].secret_env bad_secret",
        ),
        ("[[tenant]]\nname = \"p-0123456789abcdef0123456789abcdef\"\n".to_owned(), "tenant[0].name bad_value"),
        (format!("{head}rights = [\"root\"]\n"), "tenant[0].key[0].rights bad_value"),
        (
            format!("{}[[tenant]]\nname = \"t\"\n{}", head, "[[tenant.key]]\nname = \"k\"\nsecret_env = \"B\"\n"),
            "tenant[1].name duplicate",
        ),
    ];
    let env = [("A", KEY), ("B", "rk-another-key-that-is-long"), ("SHORT", "rk-short")];
    for (text, expected) in cases {
        let problems = load_with(&text, &env, &Overrides::default()).err().unwrap_or_default();
        let shown: Vec<_> = problems.iter().map(|p| format!("{} {}", p.key, p.kind.as_str())).collect();
        assert_eq!(shown, [expected], "{text}");
    }
}

#[test]
fn a_tenant_with_all_that_it_can_have_is_rendered_and_loads_again_the_same() {
    let tenants = "[[tenant]]\nname = \"a\"\nenabled = false\nhits_take_tokens = true\nunknown_price = \"assume_max\"\n\
                   limits = { rpm = 1, tpm = 2, tpd = 3, concurrency = 4 }\ncache = { mode = \"exact\", ttl = \"1h\" }\n\
                   budgets = [{ period = \"30d\", usd = \"0.000000001\", hard = false, alert_at = [0.25, 2], key = \"k\" },\n\
                   { period = \"week\", usd = \"7\", model = \"gpt*\" }, { name = \"t\", period = \"day\", usd = \"1\", tag = \"a=b\" }]\n\
                   [[tenant.key]]\nname = \"k\"\nsecret_env = \"K\"\nenabled = false\nmodels = [\"m\"]\nroutes = [\"/v1/*\"]\n\
                   rights = [\"rem\", \"cache:inspect\"]\nlimits = { tpd = 9 }\n[[tenant]]\nname = \"b\"\n";
    let load = |text: &str| load_with(text, &[("K", KEY)], &Overrides::default());
    let first = load(tenants).unwrap();
    // Secrets are not shown, so they are named again.
    let shown = first.render().replace("secret = \"***\"", "secret_env = \"K\"");
    let again = load(&shown).unwrap_or_else(|problems| panic!("{shown}\n{problems}"));
    assert_eq!(again.render(), first.render());
    let specs = |config: &Config| config.tenants.iter().map(|t| t.spec.clone()).collect::<Vec<_>>();
    let keys =
        |config: &Config| config.tenants.iter().flat_map(|t| &t.keys).map(|k| k.spec.clone()).collect::<Vec<_>>();
    assert!(specs(&again) == specs(&first) && keys(&again) == keys(&first), "{shown}");
}

#[test]
fn limits_and_budgets_that_cannot_hold_are_told_at_their_place_and_none_hides_another() {
    let text = "[[tenant]]\nname = \"t\"\nlimits = { rpm = 0, tpm = \"many\" }\n\
                [[tenant.budgets]]\nperiod = \"month\"\nusd = \"5\"\n[[tenant.budgets]]\nperiod = \"month\"\nusd = \"6\"\n\
                [[tenant.budgets]]\nusd = \"7\"\nalert = [0.5]\n[tenant.budget]\nusd = 1\n\
                [[tenant.key]]\nname = \"k\"\nsecret_env = \"K\"\nmodels = [\"\"]\nunknown_price = \"deny\"\n";
    let problems = load_with(text, &[("K", KEY)], &Overrides::default()).err().unwrap();
    let shown: Vec<_> = problems.iter().map(|p| format!("{} {} {}", p.source, p.key, p.kind.as_str())).collect();
    assert_eq!(
        shown,
        [
            "remora.toml:3:12 tenant[0].limits.rpm out_of_range",
            "remora.toml:3:21 tenant[0].limits.tpm wrong_type",
            "remora.toml:7:1 tenant[0].budgets[1].name bad_value",
            "remora.toml:10:1 tenant[0].budgets[2].period missing",
            "remora.toml:12:1 tenant[0].budgets[2].alert unknown_key",
            "remora.toml:13:9 tenant[0].budget unknown_key",
            "remora.toml:18:1 tenant[0].key[0].models bad_value",
            "remora.toml:19:1 tenant[0].key[0].unknown_price unknown_key",
        ]
    );
    let report = check_report(&problems);
    assert!(report.contains("did you mean `budgets`?"), "{report}");
}
