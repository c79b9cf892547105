//! What operators may rely on: every mistake is found, named, placed and explained; nothing panics; nothing leaks.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

pub(super) const KEY: &str = "rk-0123456789abcdefghij";

pub(super) fn load_with(text: &str, env: &[(&str, &str)], overrides: &Overrides) -> Result<Config, Problems> {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::from_text(Some((Arc::from("remora.toml"), text)), env, overrides)
}

fn load(text: &str) -> Result<Config, Problems> {
    load_with(text, &[], &Overrides::default())
}

fn problems(text: &str) -> Problems {
    load(text).err().unwrap_or_default()
}

/// The one problem of a file, as `source key kind`.
fn only(text: &str) -> String {
    let problems = problems(text);
    assert_eq!(problems.len(), 1, "{problems}");
    problems.iter().map(|found| format!("{} {} {}", found.source, found.key, found.kind.as_str())).collect()
}

#[test]
fn the_embedded_file_is_valid_and_every_key_of_it_is_read() {
    let config = load("").unwrap();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.admin.listen.to_string(), "127.0.0.1:8081");
    assert!(config.server.passthrough && config.tenants.is_empty() && config.server.tls.is_none());
    assert_eq!(config.server.drain, Duration::from_secs(120));
    assert_eq!(config.server.limits.connections, 20_000);
    assert_eq!(config.server.limits.body_bytes, 8 << 20);
    assert_eq!(config.server.deadlines.head, Duration::from_secs(10));
    assert_eq!(config.store.url.file(), Some(Path::new("remora.db")));
    assert_eq!(config.store.secret_file.as_deref(), Some(Path::new("remora.db.key")));
    assert!(config.redis.is_none());
    assert_eq!(config.limits.offline_usd, NanoUsd::dollars(1));
    assert!(matches!(config.embedding.kind, EmbeddingKind::Builtin));
    assert_eq!(config.cache.mode, CacheMode::Semantic);
    assert_eq!((config.cache.similarity, config.cache.max_temperature), (0.6, 1.0));
    assert_eq!((config.cache.max_error_rate, config.cache.audit.rate), (0.005, 0.02));
    assert_eq!(config.upstream.url, "https://api.openai.com/v1");
    assert_eq!(config.upstream.total, Duration::from_secs(600));
}

#[test]
fn every_key_of_the_embedded_file_has_a_comment_right_above_it() {
    let mut above = "";
    for line in DEFAULTS.lines() {
        let is_key = line.contains(" = ") && !line.starts_with('#');
        assert!(!is_key || above.starts_with("# "), "no comment above: {line}");
        above = line;
    }
}

/// Every `Range: A to B` of the manual, with the path of its key.
fn documented_ranges() -> Vec<(String, String, String)> {
    let (mut section, mut comment, mut found) = (String::new(), String::new(), Vec::new());
    for line in DEFAULTS.lines() {
        if let Some(text) = line.strip_prefix("# ") {
            comment.push_str(text);
            comment.push(' ');
            continue;
        }
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']).to_owned();
        } else if let (Some((key, value)), false) = (line.split_once(" = "), line.starts_with('#')) {
            let range = comment.split_once("Range: ").map(|(_, after)| after);
            if let Some((least, after)) = range.and_then(|range| range.split_once(" to ")) {
                let most = after.split(['.', ';']).next().unwrap();
                found.push((format!("{section}.{key}"), least.to_owned(), most.to_owned()));
            } else {
                let measured = value.starts_with(|c: char| c.is_ascii_digit())
                    || units::parse_duration(value.trim_matches('"')).is_some()
                    || units::parse_size(value.trim_matches('"')).is_some();
                assert!(!measured, "{section}.{key} is a quantity without a documented range");
            }
        }
        comment.clear();
    }
    found
}

/// The value one step outside of a documented bound.
fn step(bound: &str, up: bool) -> Option<String> {
    let moved = |value: u64| if up { value.checked_add(1) } else { value.checked_sub(1) };
    if let Some(duration) = units::parse_duration(bound) {
        return moved(u64::try_from(duration.as_millis()).unwrap()).map(|ms| format!("{ms}ms"));
    }
    if bound.parse::<u64>().is_err() {
        return moved(units::parse_size(bound).unwrap()).map(|bytes| bytes.to_string());
    }
    match bound.parse::<i64>() {
        Ok(number) => Some((number + if up { 1 } else { -1 }).to_string()),
        Err(_) => None,
    }
}

#[test]
fn the_documented_ranges_are_the_ones_that_are_checked() {
    let out_of_range = |path: &str, text: &str| {
        let name = format!("REMORA__{}", path.replace('.', "__").to_uppercase());
        let result = load_with("", &[(&name, text)], &Overrides::default());
        let problems = result.err().unwrap_or_default();
        let bad = |found: &Problem| found.kind == ProblemKind::OutOfRange;
        assert!(problems.iter().all(|found| bad(found) || found.kind == ProblemKind::Conflict), "{path}: {problems}");
        problems.iter().any(bad)
    };
    let ranges = documented_ranges();
    assert!(ranges.len() > 40, "{}", ranges.len());
    for (path, least, most) in ranges {
        assert!(!out_of_range(&path, &least), "{path} = {least}");
        assert!(!out_of_range(&path, &most), "{path} = {most}");
        if let Some(below) = step(&least, false) {
            assert!(out_of_range(&path, &below), "{path} = {below}");
        }
        assert!(out_of_range(&path, &step(&most, true).unwrap()), "{path} above {most}");
    }
}

#[test]
fn the_tenant_example_in_the_manual_is_valid() {
    let uncommented: String = DEFAULTS
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(code) if !code.is_empty() && !code.starts_with(' ') => format!("{code}\n"),
            _ => String::new(),
        })
        .collect();
    let env = [("ACME_OPENAI_KEY", "sk-x"), ("ACME_APP_KEY", KEY)];
    let config = load_with(&uncommented, &env, &Overrides::default()).unwrap();
    assert_eq!(config.tenants.len(), 1);
    let tenant = config.tenants.first().unwrap();
    assert_eq!(tenant.spec.cache.mode, Some(CacheMode::Exact));
    assert_eq!((tenant.spec.limits.rpm, tenant.spec.budgets.len()), (Some(600), 2));
    let key = &tenant.keys.first().unwrap().spec;
    assert_eq!((key.rights.as_slice(), key.limits.rpm), ([Right::CacheInspect].as_slice(), Some(120)));
    assert!(!config.server.passthrough, "passthrough is off once a tenant is declared");
}

#[test]
fn every_example_is_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples");
    let env = ["OPENAI_API_KEY", "REMORA_KEY_WEB", "REMORA_KEY_BATCH", "REMORA_KEY_RESEARCH", "INITECH_OPENAI_KEY"];
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let env = env.iter().map(|name| ((*name).to_owned(), format!("{KEY}-{name}")));
        let read = if path.ends_with("tenants.toml") {
            TenantPlan::load(&path, env).map(|tenants| assert_eq!(tenants.len(), 10))
        } else {
            Config::load(Some(&path), env, &Overrides::default()).map(|_| ())
        };
        if let Err(problems) = read {
            panic!("{}\n{problems}", path.display());
        }
        seen += 1;
    }
    assert!(seen >= 3);
}

#[test]
fn what_is_rendered_loads_again_and_is_the_same() {
    let text = "[cache]\nttl = \"90s\"\nsimilarity = 0.9\nguards_off = [\"numbers\"]\n[embedding]\nkind = \"openai\"\n";
    let redis = "[redis]\nurl = \"rediss://u@cache:6380/2\"\nca_file = \"Cargo.toml\"\nlease_wait = \"0s\"\n";
    let limits = "[limits]\nhold = \"10s\"\noffline_usd = \"0.000000001\"\noffline_share = 0.5\n";
    for text in ["", text, redis, limits] {
        let shown = load(text).unwrap().render();
        assert_eq!(load(&shown).unwrap_or_else(|problems| panic!("{shown}\n{problems}")).render(), shown);
    }
}

#[test]
fn no_secret_is_rendered() {
    let text = "[admin]\ntoken_env = \"A\"\n[redis]\nurl = \"redis://cache\"\npassword_env = \"B\"\n[[upstream]]\napi_key_env = \"B\"\n[[tenant]]\nname = \"t\"\n\
                [[tenant.key]]\nname = \"k\"\nsecret_env = \"C\"\n";
    let secrets = [("A", "canary-aaaaaaaaaaaaaaaa"), ("B", "canary-b"), ("C", "canary-cccccccccccccccc")];
    let shown = load_with(text, &secrets, &Overrides::default()).unwrap().render();
    assert!(!shown.contains("canary"), "{shown}");
    assert_eq!(shown.matches("\"***\"").count(), 4, "{shown}");
    let flag = Overrides { redis: Some("redis://me:canary@cache".into()), ..Default::default() };
    let shown = load_with("", &[], &flag).unwrap().render();
    assert!(shown.contains("redis://me@cache") && !shown.contains("canary"), "{shown}");
}

#[test]
fn later_sources_win_over_earlier_ones() {
    let text = "[server]\nlisten = \"127.0.0.1:1\"\n[cache]\nttl = \"1m\"\n[[upstream]]\nurl = \"http://file\"\n";
    let env = [
        ("REMORA__CACHE__TTL", "2m"),
        ("REMORA__SERVER__LISTEN", "127.0.0.1:2"),
        ("REMORA_UPSTREAM", "http://env/v1/"),
        ("REMORA__TELEMETRY__MODELS", "a, b"),
        ("REMORA__SERVER__LIMITS__TOOLS", "7"),
        ("REMORA__CACHE__SIMILARITY", "0.5"),
        ("UNRELATED", "x"),
    ];
    let config = load_with(text, &env, &Overrides::default()).unwrap();
    assert_eq!(config.cache.ttl, Duration::from_secs(120));
    assert_eq!(config.server.listen.port(), 2);
    assert_eq!(config.upstream.url, "http://env/v1");
    assert_eq!(config.telemetry.models, ["a", "b"]);
    assert_eq!((config.server.limits.tools, config.cache.similarity), (7, 0.5));

    let flags =
        Overrides { listen: Some("127.0.0.1:3".into()), upstream: Some("http://flag".into()), ..Default::default() };
    let config = load_with(text, &env, &flags).unwrap();
    assert_eq!((config.server.listen.port(), config.upstream.url.as_str()), (3, "http://flag"));
    assert_eq!(
        config.upstream.connect,
        Duration::from_secs(3),
        "what a user's [[upstream]] leaves out has its default"
    );
}

#[test]
fn every_problem_is_reported_at_once_with_its_place() {
    let text = "[cache]\nttl = 30\nsimilarity = 95\ntll = \"1h\"\n[server.limits]\nbody_bytes = \"8MB\"\n\
                [[upstream]]\nurl = \"ftp://x\"\nconnect = \"soon\"\n";
    let env = [("REMORA__CACHE__MODE", "fuzzy")];
    let flags = Overrides { listen: Some("localhost".into()), ..Default::default() };
    let problems = load_with(text, &env, &flags).err().unwrap();
    let shown: Vec<_> = problems.iter().map(|p| format!("{} {} {}", p.source, p.key, p.kind.as_str())).collect();
    assert_eq!(
        shown,
        [
            "remora.toml:2:1 cache.ttl wrong_type",
            "remora.toml:3:1 cache.similarity out_of_range",
            "remora.toml:4:1 cache.tll unknown_key",
            "remora.toml:6:1 server.limits.body_bytes bad_value",
            "remora.toml:8:1 upstream[0].url bad_value",
            "remora.toml:9:1 upstream[0].connect bad_value",
            "--listen server.listen bad_value",
            "environment variable REMORA__CACHE__MODE cache.mode bad_value",
        ]
    );
    let report = check_report(&problems);
    assert!(report.contains("did you mean `ttl`?") && report.contains("8 problems"), "{report}");
    let json = problems.to_json();
    assert_eq!(json[2]["suggestion"], "ttl");
    assert_eq!(json[2]["source"]["line"], 4);
}

#[test]
fn a_misplaced_key_is_suggested_where_it_belongs() {
    let problems = problems("[server]\nttl = \"1h\"\n");
    assert_eq!(problems.iter().next().unwrap().suggestion.as_deref(), Some("cache.ttl"));
}

#[test]
fn an_unknown_variable_is_answered_with_the_variable_that_was_meant() {
    let problems = load_with("", &[("REMORA__CACHE__TLL", "1h")], &Overrides::default()).err().unwrap();
    assert!(check_report(&problems).contains("set REMORA__CACHE__TTL instead"), "{problems}");
}

#[test]
fn what_this_version_does_not_have_is_called_so() {
    for (text, key) in [
        ("[[route]]\nmodel = \"x\"\n", "route"),
        ("[[upstream]]\nkind = \"anthropic\"\n", "upstream[0].kind"),
        ("[[upstream]]\nname = \"a\"\n[[upstream]]\nname = \"b\"\n", "upstream"),
    ] {
        assert!(only(text).ends_with(&format!(" {key} not_supported")), "{}", only(text));
    }
    assert!(
        check_report(&problems("[store]\nurl = \"mysql://u:hunter2@h/d\"\n"))
            .contains("not the URL of a supported store")
    );
}

#[test]
fn secrets_in_the_configuration_are_refused_and_never_repeated() {
    let text = "[admin]\ntoken = \"canary-1\"\n[store]\nurl = \"mysql://u:canary-2@h/d\"\n\
                [[upstream]]\napi_key = \"sk-canary-3\"\nurl = \"https://u:canary-4@h/v1\"\n\
                [[tenant]]\nname = \"t\"\nupstream_api_key = \"canary-5\"\n[[tenant.key]]\nname = \"k\"\n\
                secret = \"canary-6\"\n[[tenant]]\nname = \"u\"\nupstream_api_key_env = \"sk-canary-7\"\n\
                [[tenant.key]]\nname = \"k\"\nsecret_env = \"C\"\n";
    let problems = load_with(text, &[("C", "canary-8")], &Overrides::default()).err().unwrap();
    let kinds: Vec<_> = problems.iter().map(|problem| problem.kind).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == ProblemKind::LiteralSecret).count(), 4, "{problems}");
    assert_eq!(kinds.iter().filter(|kind| **kind == ProblemKind::BadSecret).count(), 2, "{problems}");
    assert_eq!(kinds.len(), 8, "{problems}");
    assert!(!format!("{problems} {problems:?} {}", problems.to_json()).contains("canary"), "{problems}");
}

#[test]
fn secrets_come_from_variables_and_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, format!("{KEY}\n")).unwrap();
    let text = format!(
        "[[upstream]]\napi_key_env = \"UP\"\n[[tenant]]\nname = \"t\"\n[[tenant.key]]\nname = \"k\"\nsecret_file = {}\n",
        toml::Value::String(file.display().to_string())
    );
    let config = load_with(&text, &[("UP", "sk-up")], &Overrides::default()).unwrap();
    assert_eq!(config.upstream.api_key.unwrap().expose(), "sk-up");
    assert_eq!(config.tenants.first().unwrap().keys.first().unwrap().secret.expose(), KEY);
    assert_eq!(only("[[upstream]]\napi_key_env = \"GONE\"\n"), "remora.toml:2:1 upstream[0].api_key_env bad_secret");
    assert_eq!(only("[admin]\ntoken_file = \"/gone\"\n"), "remora.toml:2:1 admin.token_file unreadable");
    assert_eq!(
        only("[[upstream]]\napi_key_env = \"A\"\napi_key_file = \"b\"\n"),
        "remora.toml:3:1 upstream[0].api_key_file conflict"
    );
}

#[test]
fn values_that_cannot_hold_together_are_refused() {
    for (text, expected) in [
        ("[admin]\nlisten = \"0.0.0.0:8081\"\n", "remora.toml:2:1 admin.token_env missing"),
        ("[admin]\nlisten = \"127.0.0.1:8080\"\n", "remora.toml:2:1 admin.listen conflict"),
        ("[store]\nurl = \"sqlite://a\"\nshadow = \"sqlite://a\"\n", "remora.toml:3:1 store.shadow conflict"),
        ("[[upstream]]\nfirst_byte = \"10m\"\n", "remora.toml:2:1 upstream[0].total conflict"),
        ("[server.deadlines]\nbody = \"11s\"\n", "remora.toml:2:1 server.deadlines.body conflict"),
        ("[embedding]\ndeadline = \"30s\"\n", "remora.toml:2:1 upstream[0].first_byte_stream conflict"),
        ("[cache]\nmemory_bytes = \"4GiB\"\n", "remora.toml:2:1 cache.memory_bytes conflict"),
        ("[server.limits]\nconnections = 100\n", "remora.toml:2:1 server.limits.connections_per_ip conflict"),
        ("[redis]\nurl = \"redis://x/2\"\ncluster = true\n", "remora.toml:3:1 redis.cluster conflict"),
        ("[redis]\nurl = \"redis://x\"\nca_file = \"Cargo.toml\"\n", "remora.toml:3:1 redis.ca_file conflict"),
        ("[redis]\nurl = \"http://x\"\n", "remora.toml:2:1 redis.url bad_value"),
        ("[server.tls]\ncert = \"Cargo.toml\"\n", "remora.toml:2:1 server.tls.key missing"),
        ("upstream = []\n", "remora.toml:1:1 upstream missing"),
        ("[upstream]\nurl = \"http://x\"\n", "remora.toml:1:2 upstream wrong_type"),
        ("cache = 1\n", "remora.toml:1:1 cache wrong_type"),
    ] {
        assert_eq!(only(text), expected, "{text}");
    }
    assert!(load("[server.deadlines]\nbody = \"11001ms\"\n").is_ok(), "just above 10 % is enough");
}

#[test]
fn files_from_other_systems_are_read_with_the_right_places() {
    assert_eq!(load("\u{feff}[cache]\r\nttl = \"1h\"\r\n").unwrap().cache.ttl, Duration::from_secs(3600));
    assert_eq!(only("\u{feff}[cache]\r\n\r\ntll = \"1h\"\r\n"), "remora.toml:3:1 cache.tll unknown_key");
}

#[test]
fn numbers_that_do_not_fit_are_out_of_range() {
    for (value, key) in [
        ("-1", "cache.max_bytes"),
        ("9999999999999999999999", "cache.max_bytes"),
        ("-1", "embedding.queue"),
        ("0xffffffffffffffffffffffffffffffffffffffffff", "embedding.queue"),
        ("nan", "cache.similarity"),
        ("-inf", "cache.max_temperature"),
    ] {
        let (section, name) = key.split_once('.').unwrap();
        assert_eq!(only(&format!("[{section}]\n{name} = {value}\n")), format!("remora.toml:2:1 {key} out_of_range"));
    }
}

#[test]
fn a_file_that_cannot_be_read_is_one_problem() {
    let problems = Config::load(Some(Path::new("/no/such/file.toml")), std::iter::empty(), &Overrides::default());
    let problems = problems.err().unwrap();
    assert_eq!(problems.iter().map(|problem| problem.kind).collect::<Vec<_>>(), [ProblemKind::Unreadable]);
    assert!(check_report(&problems).contains("/no/such/file.toml"));
}

#[test]
fn a_variable_that_nothing_is_declared_for_is_refused() {
    for name in ["REMORA__TENANT__0__NAME", "REMORA__UPSTREAM__7__URL", "REMORA__CACHE__TTL__X", "REMORA__"] {
        assert!(load_with("", &[(name, "x")], &Overrides::default()).is_err(), "{name}");
    }
}

#[test]
fn the_container_image_sets_variables_that_are_valid() {
    let dockerfile = include_str!("../../Dockerfile");
    let set = dockerfile.lines().filter_map(|line| line.strip_prefix("ENV REMORA__"));
    let env: Vec<_> = set.map(|line| line.split_once('=').unwrap()).collect();
    assert!(env.len() >= 2);
    let env = env.into_iter().map(|(name, value)| (format!("REMORA__{name}"), value.to_owned()));
    let config = Config::load(None, env, &Overrides::default()).unwrap();
    assert!(config.server.listen.ip().is_unspecified() && config.admin.listen.ip().is_loopback());
    assert!(config.store.url.file().is_some_and(Path::is_absolute));
}

#[test]
fn the_replicas_of_the_compose_file_have_variables_that_are_valid() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, KEY).unwrap();
    let compose = include_str!("../../compose.yaml");
    let set = compose.lines().filter_map(|line| line.trim().strip_prefix("REMORA__")?.split_once(": "));
    let env: Vec<_> = set
        .map(|(name, value)| {
            let value = value.trim_matches('"').replace("/run/secrets/admin_token", token.to_str().unwrap());
            (format!("REMORA__{name}"), value.replace("${POSTGRES_PASSWORD:?set it to random letters and digits}", "p"))
        })
        .collect();
    assert!(env.len() >= 6 && env.iter().all(|(_, value)| !value.contains('$')), "{env:?}");
    let config = Config::load(None, env.into_iter(), &Overrides::default()).unwrap_or_else(|found| panic!("{found}"));
    assert!(config.store.url.is_shared() && config.redis.is_some() && config.admin.token.is_some());
}

/// Every key of the manual, as section and name.
fn keys() -> Vec<(String, String)> {
    let mut problems = Problems::default();
    let mut paths = Vec::new();
    tree::paths(&tree::parse(DEFAULTS, None, &mut problems).unwrap(), "", &mut paths);
    paths.iter().filter_map(|path| path.rsplit_once('.')).map(|(a, b)| (a.to_owned(), b.to_owned())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_single_typing_error_in_any_key_is_answered_with_the_right_key(
        (section, name) in prop::sample::select(keys()), place in 0usize..64, edit in 0u8..4, letter in "[a-z_]"
    ) {
        let mut letters: Vec<char> = name.chars().collect();
        let place = place % letters.len();
        let letter = letter.chars().next().unwrap();
        match edit {
            0 => { letters.remove(place); }
            1 => letters.insert(place, letter),
            2 => letters[place] = letter,
            _ => { let next = (place + 1) % letters.len(); letters.swap(place, next); }
        }
        let typo: String = letters.into_iter().collect();
        prop_assume!(!typo.is_empty() && !keys().contains(&(section.clone(), typo.clone())));
        // A swap of the first and last letter of a long name is no single typing error.
        prop_assume!(strsim::damerau_levenshtein(&typo, &name) == 1);
        let head = if section == "upstream" { "[[upstream]]".to_owned() } else { format!("[{section}]") };
        let problems = problems(&format!("{head}\n{typo} = 1\n"));
        let found = problems.iter().find(|problem| problem.kind == ProblemKind::UnknownKey);
        prop_assert_eq!(found.and_then(|problem| problem.suggestion.as_deref()), Some(name.as_str()), "{}", typo);
    }

    #[test]
    fn any_text_is_answered_without_a_panic(text in any::<String>()) {
        let _ = load(&text).map_err(|problems| (check_report(&problems), problems.to_json()));
    }

    #[test]
    fn any_toml_like_text_is_answered_without_a_panic(
        text in r#"([\[\]a-z_.="'0-9#{},\n -]|\[\[upstream\]\]\n|\[cache\]\n|\[\[tenant\]\]\n|ttl|key|= ){0,40}"#
    ) {
        let _ = load(&text).map_err(|problems| (check_report(&problems), problems.to_json()));
    }

    #[test]
    fn any_value_at_any_key_is_answered_without_a_panic(
        (section, name) in prop::sample::select(keys()), value in any::<String>()
    ) {
        let variable = format!("REMORA__{section}__{name}").replace('.', "__").to_uppercase();
        let _ = load_with("", &[(&variable, &value)], &Overrides::default());
    }
}
