//! The file of `remora tenant apply`: tenants to be made or changed in a running proxy.
//!
//! It has the form of `[[tenant]]` in the configuration, but no secrets of keys: the proxy makes those. Must never repeat a
//! secret.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::credential::{self, Purpose};
use super::problem::{Problem, ProblemKind, Problems, Source};
use super::reader::{Context, Reader};
use super::tenants::{tenant_name, unique_name};
use super::terms::{KeySpec, TenantSpec};
use super::{Secret, read_file, spec, tree};

const MINUTE: Duration = Duration::from_secs(60);
const TEN_YEARS: Duration = Duration::from_secs(3650 * 24 * 60 * 60);

/// A tenant as it is to be.
#[derive(Clone)]
pub struct TenantPlan {
    /// Unique in the file.
    pub name: String,
    /// What it is held to.
    pub spec: TenantSpec,
    /// Its own upstream credential; without one, what is there stays.
    pub upstream_api_key: Option<Secret>,
    /// Its keys; others that it has stay.
    pub keys: Vec<KeyPlan>,
}

/// A key as it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPlan {
    /// Unique within the tenant.
    pub name: String,
    /// What it may do and what it is held to.
    pub spec: KeySpec,
    /// How long it is good for once it is made; for ever if `None`.
    pub expires_in: Option<Duration>,
}

impl TenantPlan {
    /// Reads all tenants of the file at `path`. `env` has the variables that `upstream_api_key_env` may name.
    ///
    /// # Errors
    /// Every problem there is; when the file cannot be read or is not TOML at all, that alone.
    pub fn load(path: &Path, env: impl Iterator<Item = (String, String)>) -> Result<Vec<Self>, Problems> {
        let mut problems = Problems::default();
        match read_file(path, &mut problems) {
            Some(text) => Self::from_text(&path.display().to_string().into(), &text, env),
            None => Err(problems),
        }
    }

    /// [`TenantPlan::load`] with the file already read.
    pub(super) fn from_text(
        name: &Arc<str>,
        text: &str,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Vec<Self>, Problems> {
        let mut problems = Problems::default();
        let Some(root) = tree::parse(text, Some(name), &mut problems) else { return Err(problems) };
        let env: BTreeMap<String, String> = env.collect();
        let mut context = Context { env, problems, known: Vec::new() };
        let mut names = BTreeSet::new();
        let plans = Reader::root(&root, &mut context, |root| root.list("tenant", |reader| tenant(reader, &mut names)));
        let mut problems = context.problems;
        if plans.is_empty() && problems.is_empty() {
            problems.push(Problem {
                source: Source::File { path: Arc::clone(name), line: 1, column: 1 },
                key: "tenant".to_owned(),
                kind: ProblemKind::Missing,
                message: "there is no tenant in the file".to_owned(),
                fix: "add a [[tenant]] with a `name`; config/examples/tenants.toml shows how".to_owned(),
                suggestion: None,
            });
        }
        if problems.is_empty() { Ok(plans) } else { Err(problems.in_reading_order()) }
    }
}

fn tenant(reader: &mut Reader<'_>, names: &mut BTreeSet<String>) -> TenantPlan {
    let name = tenant_name(reader, names);
    let mut key_names = BTreeSet::new();
    TenantPlan {
        name,
        keys: reader.list("key", |reader| key(reader, &mut key_names)),
        upstream_api_key: credential::read(reader, "upstream_api_key", Purpose::Sent),
        spec: spec::tenant(reader),
    }
}

fn key(reader: &mut Reader<'_>, names: &mut BTreeSet<String>) -> KeyPlan {
    for given in ["secret", "secret_env", "secret_file"] {
        if let Some(node) = reader.refuse(given) {
            let message = "the proxy makes the secrets of the keys in this file".to_owned();
            let fix = "remove it; new secrets are printed once, or written to the file named by --secrets".to_owned();
            let kind = if given == "secret" { ProblemKind::LiteralSecret } else { ProblemKind::NotSupported };
            reader.note(given, &node.source, kind, message, fix);
        }
    }
    KeyPlan {
        name: unique_name(reader, names),
        spec: spec::key(reader),
        expires_in: reader.has("expires_in").then(|| reader.duration("expires_in", MINUTE, TEN_YEARS)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Budget, NanoUsd, Period, RateLimits, Right, check_report};
    use super::*;

    fn read(text: &str) -> Result<Vec<TenantPlan>, Problems> {
        let env = [("UP".to_owned(), "sk-canary-up".to_owned())];
        TenantPlan::from_text(&Arc::from("tenants.toml"), text, env.into_iter())
    }

    #[test]
    fn a_tenant_is_read_with_its_limits_budgets_and_keys() {
        let text = "[[tenant]]\nname = \"acme\"\nupstream_api_key_env = \"UP\"\nhits_when_spent = false\n\
                    limits = { rpm = 600, tpd = 5_000_000_000 }\nunknown_price = \"deny\"\n\
                    budgets = [{ period = \"month\", usd = \"500\" },\n\
                    { period = \"30m\", usd = 0.25, hard = false, alert_at = [0.9], tag = \"team=a\", name = \"burst\" }]\n\
                    [[tenant.key]]\nname = \"app\"\nmodels = [\"gpt-4o*\"]\nrights = [\"rem\"]\nexpires_in = \"90d\"\n\
                    limits = { concurrency = 4 }\n[[tenant]]\nname = \"none\"\n";
        let plans = read(text).unwrap_or_else(|problems| panic!("{problems}"));
        let [acme, none] = plans.as_slice() else { panic!("two tenants") };
        assert_eq!(acme.upstream_api_key.as_ref().unwrap().expose(), "sk-canary-up");
        let month = Budget {
            name: "month".to_owned(),
            period: Period::Month,
            usd: NanoUsd::dollars(500),
            hard: true,
            alert_at: vec![0.5, 0.8, 1.0],
            key: None,
            model: None,
            tag: None,
        };
        let burst = Budget {
            name: "burst".to_owned(),
            period: Period::Rolling(Duration::from_secs(1800)),
            usd: NanoUsd(250_000_000),
            hard: false,
            alert_at: vec![0.9],
            tag: Some("team=a".to_owned()),
            ..month.clone()
        };
        assert_eq!(acme.spec.budgets, [month, burst]);
        assert_eq!(acme.spec.limits, RateLimits { rpm: Some(600), tpd: Some(5_000_000_000), ..Default::default() });
        assert!(!acme.spec.hits_when_spent && !acme.spec.hits_take_tokens);
        let key = KeyPlan {
            name: "app".to_owned(),
            spec: KeySpec {
                models: vec!["gpt-4o*".to_owned()],
                rights: vec![Right::Rem],
                limits: RateLimits { concurrency: Some(4), ..Default::default() },
                ..KeySpec::default()
            },
            expires_in: Some(Duration::from_secs(90 * 24 * 3600)),
        };
        assert_eq!(acme.keys, [key]);
        assert!(none.spec == TenantSpec::default() && none.keys.is_empty() && none.upstream_api_key.is_none());
    }

    #[test]
    fn every_problem_of_the_file_is_told_at_once_with_its_line_and_no_secret() {
        let text = "[[tenant]]\nname = \"a b\"\nlimits = { rpm = 0, tmp = 5 }\nupstream_api_key = \"canary-1\"\n\
                    budgets = [{ period = \"fortnight\", usd = \"1\" }, { period = \"day\", usd = \"-1\" },\n\
                    { period = \"day\", usd = 0, alert_at = [0.8, 0.5] },\n\
                    { period = \"week\", usd = \"1\", key = \"k\", model = \"m\" }]\n\
                    [[tenant.key]]\nname = \"k\"\nsecret_env = \"canary-2\"\nroutes = [\"\"]\nexpires_in = \"1s\"\n\
                    [[tenant.key]]\nname = \"k\"\nsecret = \"canary-3\"\nrights = [\"root\"]\n";
        let problems = read(text).err().unwrap();
        let shown: Vec<_> = problems.iter().map(|p| format!("{} {} {}", p.source, p.key, p.kind.as_str())).collect();
        assert_eq!(
            shown,
            [
                "tenants.toml:2:1 tenant[0].name bad_value",
                "tenants.toml:3:12 tenant[0].limits.rpm out_of_range",
                "tenants.toml:3:21 tenant[0].limits.tmp unknown_key",
                "tenants.toml:4:1 tenant[0].upstream_api_key literal_secret",
                "tenants.toml:5:14 tenant[0].budgets[0].period bad_value",
                "tenants.toml:5:67 tenant[0].budgets[1].usd bad_value",
                "tenants.toml:6:1 tenant[0].budgets[2].name bad_value",
                "tenants.toml:6:19 tenant[0].budgets[2].usd bad_value",
                "tenants.toml:6:28 tenant[0].budgets[2].alert_at bad_value",
                "tenants.toml:7:31 tenant[0].budgets[3].key bad_value",
                "tenants.toml:10:1 tenant[0].key[0].secret_env not_supported",
                "tenants.toml:11:1 tenant[0].key[0].routes bad_value",
                "tenants.toml:12:1 tenant[0].key[0].expires_in out_of_range",
                "tenants.toml:14:1 tenant[0].key[1].name duplicate",
                "tenants.toml:15:1 tenant[0].key[1].secret literal_secret",
                "tenants.toml:16:1 tenant[0].key[1].rights bad_value",
            ]
        );
        let report = check_report(&problems);
        assert!(report.contains("did you mean `tpm`?") && !report.contains("canary"), "{report}");
    }

    #[test]
    fn a_file_without_tenants_and_one_with_other_sections_are_refused() {
        for (text, key) in [("", "tenant"), ("[cache]\nttl = \"1h\"\n[[tenant]]\nname = \"a\"\n", "cache")] {
            let problems = read(text).err().unwrap();
            assert_eq!(problems.iter().map(|problem| problem.key.as_str()).collect::<Vec<_>>(), [key]);
        }
    }

    #[test]
    fn an_amount_that_a_float_cannot_hold_is_asked_for_in_quotes() {
        let with =
            |usd: &str| read(&format!("[[tenant]]\nname = \"a\"\nbudgets = [{{ period = \"day\", usd = {usd} }}]\n"));
        for (text, nano) in
            [("12.50", 12_500_000_000), ("7", 7_000_000_000), ("\"123456789.123456789\"", 123_456_789_123_456_789)]
        {
            assert_eq!(with(text).unwrap()[0].spec.budgets[0].usd, NanoUsd(nano), "{text}");
        }
        for text in ["123456789.123456789", "1e30", "-5", "nan", "true", "99999999999"] {
            let problems = with(text).err().unwrap_or_else(|| panic!("{text}"));
            assert_eq!(problems.len(), 1, "{problems}");
            assert!(check_report(&problems).contains("\"12.50\""), "{problems}");
        }
    }
}
