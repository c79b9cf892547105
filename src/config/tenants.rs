//! `[[tenant]]` and its keys. Nothing here has a default in the embedded file, where no tenant is declared.

use std::collections::BTreeSet;

use super::credential::{self, Purpose};
use super::model::{CacheMode, Share, Tenant, TenantCache, TenantKey};
use super::problem::{ProblemKind, quote};
use super::reader::Reader;
use super::sections::{MODES, SHARES, max_error_rate, name_like, similarity, ttl};
use super::{KeySpec, Right, Secret, TenantSpec};

/// What must be unique over all tenants.
#[derive(Default)]
struct Seen {
    names: BTreeSet<String>,
    secrets: Vec<Secret>,
}

/// Reads all tenants.
pub(super) fn read(root: &mut Reader<'_>) -> Vec<Tenant> {
    let mut seen = Seen::default();
    root.list("tenant", |reader| tenant(reader, &mut seen))
}

fn tenant(reader: &mut Reader<'_>, seen: &mut Seen) -> Tenant {
    let name = unique_name(reader, &mut seen.names);
    let mut key_names = BTreeSet::new();
    let keys = reader.list("key", |reader| key(reader, &mut key_names, &mut seen.secrets));
    if keys.is_empty() && !reader.context.problems.touch(&reader.path_of("key")) {
        let source = reader.source_of("key");
        let message = "the tenant has no key, so nobody could call as this tenant".to_owned();
        let fix = "add a [[tenant.key]] with `name` and `secret_env` or `secret_file`".to_owned();
        reader.note("key", &source, ProblemKind::Missing, message, fix);
    }
    Tenant {
        name,
        keys,
        upstream_api_key: credential::read(reader, "upstream_api_key", Purpose::Sent),
        spec: TenantSpec { cache: reader.section("cache", cache), ..TenantSpec::default() },
    }
}

fn key(reader: &mut Reader<'_>, names: &mut BTreeSet<String>, secrets: &mut Vec<Secret>) -> TenantKey {
    let name = unique_name(reader, names);
    let secret = unique_secret(reader, secrets);
    let spec = KeySpec { models: models(reader), rights: rights(reader), ..KeySpec::default() };
    TenantKey { name, secret, spec }
}

fn cache(reader: &mut Reader<'_>) -> TenantCache {
    TenantCache {
        mode: reader.has("mode").then(|| reader.choice("mode", CacheMode::Off, &MODES)),
        ttl: reader.has("ttl").then(|| ttl(reader)),
        similarity: reader.has("similarity").then(|| similarity(reader)),
        max_error_rate: reader.has("max_error_rate").then(|| max_error_rate(reader)),
        share: reader.has("share").then(|| reader.choice("share", Share::Key, &SHARES)),
    }
}

fn unique_name(reader: &mut Reader<'_>, names: &mut BTreeSet<String>) -> String {
    let name = name_like(reader, "name");
    if !name.is_empty() && !names.insert(name.clone()) {
        let source = reader.source_of("name");
        let message = format!("the name {} is used twice", quote(&name));
        reader.note("name", &source, ProblemKind::Duplicate, message, "give each its own name".to_owned());
    }
    name
}

/// Two keys with one secret could not be told apart, and would let one tenant read what the other wrote.
fn unique_secret(reader: &mut Reader<'_>, secrets: &mut Vec<Secret>) -> Secret {
    let before = reader.context.problems.len();
    let Some(secret) = credential::read(reader, "secret", Purpose::Presented) else {
        if reader.context.problems.len() == before {
            let source = reader.source_of("secret_env");
            let fix = "name an environment variable in `secret_env`, or a file in `secret_file`".to_owned();
            reader.note("secret_env", &source, ProblemKind::Missing, "the key has no secret".to_owned(), fix);
        }
        return Secret::new(String::new());
    };
    if secrets.contains(&secret) {
        let source = reader.source_of("name");
        let message = "another key has the same secret".to_owned();
        reader.note("name", &source, ProblemKind::Duplicate, message, "make a secret for each key".to_owned());
    }
    secrets.push(secret.clone());
    secret
}

fn models(reader: &mut Reader<'_>) -> Vec<String> {
    if !reader.has("models") {
        return vec!["*".to_owned()];
    }
    let models = reader.strings("models");
    if models.iter().any(|model| model.is_empty() || model.len() > 256 || model.chars().any(char::is_control)) {
        let source = reader.source_of("models");
        let message = "a model pattern is empty, longer than 256 bytes or has control characters".to_owned();
        let fix = "write model names, with * for any run of characters, as in [\"gpt-4o*\"]".to_owned();
        reader.note("models", &source, ProblemKind::BadValue, message, fix);
    }
    models
}

fn rights(reader: &mut Reader<'_>) -> Vec<Right> {
    let names = if reader.has("rights") { reader.strings("rights") } else { Vec::new() };
    let mut rights = Vec::new();
    for name in &names {
        let Some(right) = Right::ALL.into_iter().find(|right| right.as_str() == name) else {
            let source = reader.source_of("rights");
            let message = format!("{} is not a right", quote(name));
            let known = Right::ALL.map(|right| quote(right.as_str())).join(" and ");
            reader.note("rights", &source, ProblemKind::BadValue, message, format!("the rights are {known}"));
            continue;
        };
        rights.push(right);
    }
    rights
}
