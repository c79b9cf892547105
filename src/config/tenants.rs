//! `[[tenant]]` and its keys. Nothing here has a default in the embedded file, where no tenant is declared.

use std::collections::BTreeSet;

use super::credential::{self, Purpose};
use super::model::{Tenant, TenantKey};
use super::problem::{ProblemKind, quote};
use super::reader::Reader;
use super::sections::name_like;
use super::{Secret, spec};

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
    let name = tenant_name(reader, &mut seen.names);
    let mut key_names = BTreeSet::new();
    Tenant {
        name,
        keys: reader.list("key", |reader| key(reader, &mut key_names, &mut seen.secrets)),
        upstream_api_key: credential::read(reader, "upstream_api_key", Purpose::Sent),
        spec: spec::tenant(reader),
    }
}

fn key(reader: &mut Reader<'_>, names: &mut BTreeSet<String>, secrets: &mut Vec<Secret>) -> TenantKey {
    TenantKey { name: unique_name(reader, names), secret: unique_secret(reader, secrets), spec: spec::key(reader) }
}

/// Whether a name has the form that callers in passthrough mode get as tenants. A tenant of such a name would be one of them.
pub fn is_passthrough_name(name: &str) -> bool {
    name.strip_prefix("p-").is_some_and(|hex| hex.len() == 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// The name of a tenant that no other in `names` has.
pub(super) fn tenant_name(reader: &mut Reader<'_>, names: &mut BTreeSet<String>) -> String {
    let name = unique_name(reader, names);
    if is_passthrough_name(&name) {
        let source = reader.source_of("name");
        let message = format!("the name {} has the form of callers in passthrough mode", quote(&name));
        reader.note("name", &source, ProblemKind::BadValue, message, "choose another name".to_owned());
    }
    name
}

/// A name that no other in `names` has.
pub(super) fn unique_name(reader: &mut Reader<'_>, names: &mut BTreeSet<String>) -> String {
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
