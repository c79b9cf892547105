//! What people send to change the directory: read member by member, so that a problem names its place, and nothing that is
//! not meant to be set can be.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use http::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::Problem;
use crate::clock::UnixMs;
use crate::config::{Secret, TenantSpec, Wrong, is_passthrough_name, parse_duration};

/// Longest life of a key or token: ten years.
const LONGEST_LIFE: u64 = 3_650 * 24 * 60 * 60 * 1_000;
/// Longest credential.
const CREDENTIAL_BYTES: usize = 4_096;

/// The members of an object that are not read yet.
pub(super) struct Members(Map<String, Value>);

/// A body that may or may not be JSON.
pub(super) type Body = Result<Json<Value>, JsonRejection>;

impl Members {
    pub(super) fn of(body: Body) -> Result<Self, Problem> {
        let Json(value) = body?;
        Self::from(value).ok_or_else(|| unprocessable("the body must be a JSON object"))
    }

    pub(super) fn from(value: Value) -> Option<Self> {
        if let Value::Object(members) = value { Some(Self(members)) } else { None }
    }

    /// Takes a member out. `null` is the same as none.
    pub(super) fn take<T: DeserializeOwned>(&mut self, name: &'static str) -> Result<Option<T>, Problem> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                serde_json::from_value(value).map(Some).map_err(|error| unprocessable(&format!("`{name}`: {error}")))
            }
        }
    }

    /// A member that must be there.
    pub(super) fn need<T: DeserializeOwned>(&mut self, name: &'static str) -> Result<T, Problem> {
        self.take(name)?.ok_or_else(|| unprocessable(&format!("`{name}` is missing")))
    }

    /// A credential, which is never repeated in a problem.
    pub(super) fn credential(&mut self, name: &'static str) -> Result<Option<Secret>, Problem> {
        let text = match self.0.remove(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) => text,
            Some(_) => return Err(unprocessable(&format!("`{name}` must be a text"))),
        };
        let sendable = !text.is_empty() && text.len() <= CREDENTIAL_BYTES && text.bytes().all(|b| b.is_ascii_graphic());
        if !sendable {
            let fix = "write the provider's API key as it is: up to 4096 visible ASCII characters without blanks";
            return Err(unprocessable(&format!("`{name}` cannot be a credential: {fix}")));
        }
        Ok(Some(Secret::new(text)))
    }

    /// When something that is made now ends, from `expires_in` or `expires_at`.
    pub(super) fn expiry(&mut self, now: UnixMs) -> Result<Option<UnixMs>, Problem> {
        let (lasts, at): (Option<String>, Option<UnixMs>) = (self.take("expires_in")?, self.take("expires_at")?);
        match (lasts, at) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => {
                Err(unprocessable("`expires_in` and `expires_at` are two ways to say one thing; give one"))
            }
            (Some(lasts), None) => {
                let fits = |ms: &u64| (60_000..=LONGEST_LIFE).contains(ms);
                let lasts = duration_ms(&lasts)
                    .filter(fits)
                    .ok_or_else(|| unprocessable("`expires_in` must be a duration of 1m to 3650d, as in \"90d\""))?;
                Ok(Some(now.saturating_add(lasts)))
            }
            (None, Some(at)) if at > now && at <= now.saturating_add(LONGEST_LIFE) => Ok(Some(at)),
            (None, Some(_)) => Err(unprocessable(
                "`expires_at` must be in the future, at most ten years, in milliseconds since 1970-01-01 UTC",
            )),
        }
    }

    /// What is left.
    pub(super) fn rest(self) -> Value {
        Value::Object(self.0)
    }

    /// Nothing else may be there.
    pub(super) fn end(self) -> Result<(), Problem> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => Err(unprocessable(&format!("`{}` is not a member of this body", shown(name)))),
        }
    }

    /// What is left, merged into `base` as RFC 7396 says.
    pub(super) fn merged<T: Serialize + DeserializeOwned>(self, base: &T) -> Result<T, Vec<Wrong>> {
        let mut value = serde_json::to_value(base).unwrap_or_default();
        for (name, part) in &self.0 {
            if part.is_null() && is_unknown::<T>(name) {
                return Err(self.blame::<T>(&value));
            }
        }
        merge(&mut value, Value::Object(self.0.clone()));
        T::deserialize(&value).map_err(|_| self.blame::<T>(&value))
    }

    /// What is left, each member in the place of the one of `base`.
    pub(super) fn replaced<T: Serialize + DeserializeOwned>(self, base: &T) -> Result<T, Vec<Wrong>> {
        let mut without = serde_json::to_value(base).unwrap_or_default();
        if let Some(members) = without.as_object_mut() {
            members.retain(|name, _| !self.0.contains_key(name));
        }
        let base = T::deserialize(&without).map_err(|_| self.blame::<T>(&without))?;
        self.merged(&base)
    }

    /// Which of the members cannot be read, and why.
    fn blame<T: DeserializeOwned>(&self, merged: &Value) -> Vec<Wrong> {
        let mut found = Vec::new();
        for (name, given) in &self.0 {
            let value = merged.get(name).unwrap_or(given);
            let alone = |value: &Value| T::deserialize(Value::Object(Map::from_iter([(name.clone(), value.clone())])));
            let Err(error) = alone(value) else { continue };
            let parts = value.as_array().map(Vec::as_slice).unwrap_or_default();
            let unknown = is_unknown::<T>(name);
            let broken =
                parts.iter().filter(|_| !unknown).position(|part| alone(&Value::Array(vec![part.clone()])).is_err());
            let place = match broken {
                Some(index) => format!("{}[{index}]", shown(name)),
                None => shown(name),
            };
            found.push(Wrong { place, what: error.to_string(), fix: "see docs/tenants.md for what there is" });
        }
        found
    }
}

fn is_unknown<T: DeserializeOwned>(name: &str) -> bool {
    let alone = Value::Object(Map::from_iter([(name.to_owned(), Value::Null)]));
    T::deserialize(alone).is_err_and(|error| error.to_string().starts_with("unknown field"))
}

/// RFC 7396.
fn merge(into: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *into = patch;
        return;
    };
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    let Some(members) = into.as_object_mut() else { return };
    for (name, part) in patch {
        if part.is_null() {
            members.shift_remove(&name);
        } else {
            merge(members.entry(name).or_insert(Value::Null), part);
        }
    }
}

/// A tenant's spec, complete and possible.
pub(super) fn checked(mut spec: TenantSpec) -> Result<TenantSpec, Vec<Wrong>> {
    spec.name_budgets();
    let wrong = spec.wrong();
    if wrong.is_empty() { Ok(spec) } else { Err(wrong) }
}

/// Checks the name of something new.
pub(super) fn name(text: &str) -> Result<(), Problem> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let named = text.bytes().any(|byte| byte.is_ascii_alphanumeric());
    if named && text.len() <= 64 && text.bytes().all(good) {
        return Ok(());
    }
    Err(unprocessable("`name` cannot be a name: use 1 to 64 of a-z A-Z 0-9 . - _, a letter or digit among them"))
}

/// Checks the name of a new tenant. One in the form of a passthrough tenant would be that caller's.
pub(super) fn tenant_name(text: &str) -> Result<(), Problem> {
    if is_passthrough_name(text) || text == "apply" {
        return Err(unprocessable(&format!("`name`: `{text}` has a meaning of its own here; choose another")));
    }
    name(text)
}

/// Milliseconds of a duration.
pub(super) fn duration_ms(text: &str) -> Option<u64> {
    parse_duration(text).and_then(|lasts| u64::try_from(lasts.as_millis()).ok())
}

pub(super) fn unprocessable(text: &str) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, text)
}

fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(64).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::KeySpec;

    fn members(value: Value) -> Members {
        Members::from(value).unwrap()
    }

    /// The examples of RFC 7396, appendix A.
    #[test]
    fn patches_merge_as_the_standard_says() {
        for (mut into, patch, result) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a":"b"}), json!(["c"]), json!(["c"])),
            (json!({"a":"foo"}), json!(null), json!(null)),
            (json!({"a":"foo"}), json!("bar"), json!("bar")),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!([1, 2]), json!({"a":"b","c":null}), json!({"a":"b"})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ] {
            merge(&mut into, patch);
            assert_eq!(into, result);
        }
    }

    #[test]
    fn a_patch_changes_what_it_names_and_nothing_else() {
        let base: TenantSpec = serde_json::from_value(json!({
            "limits": { "rpm": 10, "tpm": 20 },
            "budgets": [{ "period": "day", "usd": "5" }],
        }))
        .unwrap();
        let patched = members(json!({ "limits": { "rpm": null, "concurrency": 3 } })).merged(&base).unwrap();
        let limits = crate::config::RateLimits { concurrency: Some(3), tpm: Some(20), ..Default::default() };
        assert_eq!(patched, TenantSpec { limits, ..base.clone() });
        let replaced = members(json!({ "limits": { "rpm": 1 } })).replaced(&base).unwrap();
        assert_eq!((replaced.limits.rpm, replaced.limits.tpm), (Some(1), None));
        assert_eq!(replaced.budgets, base.budgets);
        assert_eq!(members(json!({ "enabled": null })).merged(&base).unwrap(), base, "null is the default");
    }

    #[test]
    fn what_cannot_be_set_is_refused_and_every_problem_has_its_place() {
        let wrong = |value: Value| {
            let found = members(value).merged(&TenantSpec::default()).unwrap_err();
            found.into_iter().map(|wrong| wrong.place).collect::<Vec<_>>()
        };
        assert_eq!(wrong(json!({ "declared": true })), ["declared"]);
        assert_eq!(wrong(json!({ "declared": null })), ["declared"]);
        assert_eq!(wrong(json!({ "id": "x", "enabled": true, "hash": [1] })), ["id", "hash"]);
        assert_eq!(wrong(json!({ "limits": { "rpm": "many" }, "enabled": 1 })), ["limits", "enabled"]);
        let second = json!({ "budgets": [{ "period": "day", "usd": "1" }, { "period": "fortnight", "usd": "1" }] });
        assert_eq!(wrong(second), ["budgets[1]"]);
        for name in ["id", "hash", "tenant", "name", "replaced_by", "used_at"] {
            assert!(members(json!({ (name): "x" })).merged(&KeySpec::default()).is_err(), "{name}");
        }
    }

    #[test]
    fn names_are_plain_and_none_is_a_passthrough_tenants() {
        for good in ["acme", "a", "team.search-2_x"] {
            assert!(tenant_name(good).is_ok(), "{good}");
        }
        let long = "x".repeat(65);
        for bad in ["", ".", "..", "a/b", "a b", "ä", "apply", "p-0123456789abcdef0123456789abcdef", long.as_str()] {
            assert!(tenant_name(bad).is_err(), "{bad}");
        }
    }
}
