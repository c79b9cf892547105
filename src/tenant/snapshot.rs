//! Everybody who may call, as it was at one moment: built as a whole, then only read.
//!
//! Made of what the configuration declares and what the store keeps. Where both have a tenant or a key of one name, the
//! declared one holds.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::de::DeserializeOwned;
use subtle::ConstantTimeEq;

use super::credential::{SealKey, Unsealed};
use super::role::{Role, TokenError, TokenHolder};
use super::virtual_key::{Kind, Mistake, parse};
use super::{AuthError, Credential, Principal};
use crate::call::SecretKey;
use crate::clock::UnixMs;
use crate::config::{Config, KeySpec, Secret, Tenant, TenantKey, TenantSpec};
use crate::ids::{KeyId, TenantId};
use crate::limit::Terms;
use crate::store::{Digest, DirectoryImage, KeyRow, TenantRecord, TokenRow};

/// What the configuration says about who may call.
#[derive(Clone)]
pub struct Declared {
    pub(super) tenants: Vec<Tenant>,
    /// Upstream credential of tenants that have none of their own.
    shared: Option<Secret>,
    pub(super) passthrough: bool,
}

impl Declared {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            tenants: config.tenants.clone(),
            shared: config.upstream.api_key.clone(),
            passthrough: config.server.passthrough,
        }
    }

    /// The declared tenant of this name.
    pub fn tenant(&self, tenant: &TenantId) -> Option<&Tenant> {
        self.tenants.iter().find(|declared| declared.name == tenant.as_str())
    }

    /// What another declares otherwise about keys, credentials and passthrough: names alone, a line for each. What tenants
    /// are held to is not among it.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let mut differ = |what: String, before: bool, after: bool, same: bool| match (before, after) {
            (false, true) => found.push(format!("{what}: new")),
            (true, false) => found.push(format!("{what}: gone")),
            (true, true) if !same => found.push(format!("{what}: changed")),
            _ => {}
        };
        let (one, two) = (&self.shared, &other.shared);
        differ("shared upstream credential".to_owned(), one.is_some(), two.is_some(), one == two);
        differ("passthrough".to_owned(), self.passthrough, other.passthrough, true);
        let (before, after) = (self.by_name(), other.by_name());
        let names: BTreeSet<&str> = before.keys().chain(after.keys()).copied().collect();
        for name in names {
            let (before, after) = (before.get(name).copied(), after.get(name).copied());
            let own = |tenant: Option<&'_ Tenant>| tenant.and_then(|tenant| tenant.upstream_api_key.clone());
            let (one, two) = (own(before), own(after));
            differ(format!("upstream credential of {name}"), one.is_some(), two.is_some(), one == two);
            let (before, after) = (keys_of(before), keys_of(after));
            let keys: BTreeSet<&str> = before.keys().chain(after.keys()).copied().collect();
            for key in keys {
                let (one, two) = (before.get(key), after.get(key));
                differ(format!("key {name}/{key}"), one.is_some(), two.is_some(), true);
                if let (Some(one), Some(two)) = (one, two) {
                    differ(format!("secret of key {name}/{key}"), true, true, one.secret == two.secret);
                    differ(format!("terms of key {name}/{key}"), true, true, one.spec == two.spec);
                }
            }
        }
        found
    }

    fn by_name(&self) -> BTreeMap<&str, &Tenant> {
        self.tenants.iter().map(|tenant| (tenant.name.as_str(), tenant)).collect()
    }

    fn credential(&self, own: Option<&Secret>) -> Credential {
        let held = own.or(self.shared.as_ref()).cloned();
        Credential::Held(held.unwrap_or_else(|| Secret::new(String::new())))
    }
}

fn keys_of(tenant: Option<&Tenant>) -> BTreeMap<&str, &TenantKey> {
    tenant.into_iter().flat_map(|tenant| &tenant.keys).map(|key| (key.name.as_str(), key)).collect()
}

/// A tenant that is declared or stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// Whether the configuration declares it.
    pub declared: bool,
    /// What it is held to.
    pub spec: Arc<TenantSpec>,
}

/// When something was last used, so far unnoted if it is later than what the store has.
#[derive(Clone, Default)]
pub(super) struct Use(Arc<AtomicU64>);

impl Use {
    fn now(&self, now: UnixMs) {
        // To the minute is enough, and spares a busy key the fight for one cache line.
        if now.saturating_sub(self.0.load(Ordering::Relaxed)) >= 1_000 {
            self.0.fetch_max(now, Ordering::Relaxed);
        }
    }

    pub(super) fn at(&self) -> UnixMs {
        self.0.load(Ordering::Relaxed)
    }
}

/// A key.
struct Held {
    hash: Digest,
    principal: Principal,
    expires_at: Option<UnixMs>,
    /// Why it is refused although it is the right one.
    refused: Option<AuthError>,
    used: Use,
}

impl Held {
    fn admit(&self, now: UnixMs) -> Result<Principal, AuthError> {
        if self.expires_at.is_some_and(|end| end <= now) {
            return Err(AuthError::Expired);
        }
        if let Some(refused) = self.refused {
            return Err(refused);
        }
        self.used.now(now);
        Ok(self.principal.clone())
    }
}

/// An admin token.
struct HeldToken {
    hash: Digest,
    holder: TokenHolder,
    expires_at: Option<UnixMs>,
    used: Use,
}

/// What a look-up of a key ended with.
pub(super) enum Looked {
    /// The key is one of ours.
    Found(Result<Principal, AuthError>),
    /// It has the form of our keys, but nobody has it.
    Gone,
    /// It has nearly the form of our keys.
    Mistyped,
    /// It is something else.
    Foreign,
}

/// Everybody who may call.
pub(super) struct Snapshot {
    /// What the configuration declares.
    pub(super) configured: Arc<Declared>,
    pub(super) passthrough: bool,
    /// Whether there are stored tenants, so that the form of virtual keys means something here.
    pub(super) issues: bool,
    declared: HashMap<Digest, Held>,
    keys: HashMap<String, Held>,
    tokens: HashMap<String, HeldToken>,
    pub(super) tenants: BTreeMap<TenantId, Known>,
}

/// What a snapshot is built with.
pub(super) struct Builder<'a> {
    pub(super) secret: &'a SecretKey,
    pub(super) seal: &'a SealKey,
    pub(super) declared: &'a Arc<Declared>,
    pub(super) image: &'a DirectoryImage,
    /// The snapshot before, for what was used.
    pub(super) before: Option<&'a Snapshot>,
}

impl Snapshot {
    /// Finds a key. All that is secret is compared in constant time, and an unknown id costs what a known one does.
    pub(super) fn key(&self, secret: &SecretKey, text: &str, now: UnixMs) -> Looked {
        let digest = secret.digest("credential", text.as_bytes());
        if let Some(held) = self.declared.get(&digest).filter(|held| bool::from(held.hash.ct_eq(&digest))) {
            return Looked::Found(held.admit(now));
        }
        match parse(Kind::Key, text) {
            Ok(parsed) => {
                let digest = secret.digest(Kind::Key.domain(), text.as_bytes());
                let found = self.keys.get(parsed.id);
                let same = bool::from(found.map_or(&[0; 32], |held| &held.hash).ct_eq(&digest));
                found.filter(|_| same).map_or(Looked::Gone, |held| Looked::Found(held.admit(now)))
            }
            Err(Mistake::Mistyped) => Looked::Mistyped,
            Err(Mistake::Foreign) => Looked::Foreign,
        }
    }

    /// Finds the holder of an admin token.
    pub(super) fn token(&self, secret: &SecretKey, text: &str, now: UnixMs) -> Result<TokenHolder, TokenError> {
        let parsed = parse(Kind::Token, text).map_err(|mistake| match mistake {
            Mistake::Mistyped => TokenError::Mistyped,
            Mistake::Foreign => TokenError::Unknown,
        })?;
        let digest = secret.digest(Kind::Token.domain(), text.as_bytes());
        let found = self.tokens.get(parsed.id);
        let same = bool::from(found.map_or(&[0; 32], |held| &held.hash).ct_eq(&digest));
        let held = found.filter(|_| same).ok_or(TokenError::Unknown)?;
        if held.expires_at.is_some_and(|end| end <= now) {
            return Err(TokenError::Expired);
        }
        held.used.now(now);
        Ok(held.holder.clone())
    }

    /// When each key and token was last used, as far as this program has seen.
    pub(super) fn uses(&self) -> impl Iterator<Item = (&String, &Use)> {
        let keys = self.keys.iter().map(|(id, held)| (id, &held.used));
        keys.chain(self.tokens.iter().map(|(id, held)| (id, &held.used)))
    }
}

impl Builder<'_> {
    pub(super) fn build(&self) -> Snapshot {
        let mut snapshot = Snapshot {
            configured: Arc::clone(self.declared),
            passthrough: self.declared.passthrough,
            issues: !self.image.keys.is_empty() || self.image.tenants.iter().any(|tenant| !tenant.declared),
            declared: HashMap::new(),
            keys: HashMap::new(),
            tokens: HashMap::new(),
            tenants: BTreeMap::new(),
        };
        let mut owners = BTreeMap::new();
        for tenant in &self.declared.tenants {
            let owner = self.declare(tenant, &mut snapshot);
            owners.insert(owner.tenant.clone(), owner);
        }
        for record in self.image.tenants.iter().filter(|record| self.declared.tenant(&record.tenant).is_none()) {
            let owner = self.stored(record);
            snapshot.tenants.insert(owner.tenant.clone(), Known { declared: false, spec: Arc::clone(&owner.spec) });
            owners.insert(owner.tenant.clone(), owner);
        }
        for row in &self.image.keys {
            let declared = self.declared.tenant(&row.tenant);
            if declared.is_some_and(|tenant| tenant.keys.iter().any(|key| key.name == row.name)) {
                continue;
            }
            if let Some(owner) = owners.get(&row.tenant) {
                snapshot.keys.insert(row.id.clone(), self.key(owner, row));
            }
        }
        for row in &self.image.tokens {
            if let Some(held) = self.token(row) {
                snapshot.tokens.insert(row.id.clone(), held);
            }
        }
        snapshot
    }

    fn declare(&self, tenant: &Tenant, snapshot: &mut Snapshot) -> Owner {
        let owner = Owner {
            tenant: TenantId::new(tenant.name.as_str()),
            credential: self.declared.credential(tenant.upstream_api_key.as_ref()),
            refused: (!tenant.spec.enabled).then_some(AuthError::TenantDisabled),
            spec: Arc::new(tenant.spec.clone()),
        };
        for key in &tenant.keys {
            let hash = self.secret.digest("credential", key.secret.expose().as_bytes());
            snapshot.declared.insert(hash, owner.key(hash, &key.name, key.spec.clone()));
        }
        snapshot.tenants.insert(owner.tenant.clone(), Known { declared: true, spec: Arc::clone(&owner.spec) });
        owner
    }

    fn stored(&self, record: &TenantRecord) -> Owner {
        let spec: Option<TenantSpec> = read("tenant", record.tenant.as_str(), &record.spec);
        let opened = record.credential.as_ref().map(|sealed| self.seal.open(&record.tenant, sealed));
        let (credential, closed) = match opened {
            Some(Unsealed::Open(own)) => (self.declared.credential(Some(&own)), None),
            // Never the shared one instead: somebody else would pay.
            Some(Unsealed::Closed) => {
                tracing::error!(tenant = %record.tenant, "the tenant's upstream credential cannot be opened: set it again");
                (Credential::Held(Secret::new(String::new())), Some(AuthError::Credential))
            }
            None => (self.declared.credential(None), None),
        };
        let refused = match &spec {
            None => Some(AuthError::Unreadable),
            Some(spec) if !spec.enabled => Some(AuthError::TenantDisabled),
            Some(_) => closed,
        };
        Owner { tenant: record.tenant.clone(), credential, refused, spec: Arc::new(spec.unwrap_or_default()) }
    }

    fn key(&self, owner: &Owner, row: &KeyRow) -> Held {
        let spec: Option<KeySpec> = read("key", &row.id, &row.spec);
        let unreadable = spec.is_none().then_some(AuthError::Unreadable);
        let held = owner.key(row.hash, &row.name, spec.unwrap_or_default());
        let used = self.before.and_then(|before| before.keys.get(&row.id)).map(|held| held.used.clone());
        Held {
            refused: unreadable.or(held.refused),
            expires_at: row.expires_at,
            used: used.unwrap_or_default(),
            ..held
        }
    }

    fn token(&self, row: &TokenRow) -> Option<HeldToken> {
        let Ok(role) = row.role.parse::<Role>() else {
            tracing::error!(
                token = row.name,
                role = row.role,
                "an admin token has a role that this program does not know"
            );
            return None;
        };
        let holder = TokenHolder { name: row.name.clone(), role, tenant: row.tenant.clone() };
        let used = self.before.and_then(|before| before.tokens.get(&row.id)).map(|held| held.used.clone());
        Some(HeldToken { hash: row.hash, holder, expires_at: row.expires_at, used: used.unwrap_or_default() })
    }
}

/// A tenant with what its keys inherit.
struct Owner {
    tenant: TenantId,
    credential: Credential,
    refused: Option<AuthError>,
    spec: Arc<TenantSpec>,
}

impl Owner {
    fn key(&self, hash: Digest, name: &str, spec: KeySpec) -> Held {
        let disabled = (!spec.enabled).then_some(AuthError::KeyDisabled);
        let terms = Terms { tenant: Arc::clone(&self.spec), key: spec.limits, key_name: name.to_owned() };
        let id = KeyId::new(format!("{}/{name}", self.tenant));
        Held {
            hash,
            principal: Principal::known(self.tenant.clone(), id, self.credential.clone(), terms, spec),
            expires_at: None,
            refused: disabled.or(self.refused),
            used: Use::default(),
        }
    }
}

/// A spec from the store. One that cannot be read must not become one without limits.
fn read<T: DeserializeOwned>(what: &'static str, name: &str, spec: &str) -> Option<T> {
    serde_json::from_str(spec)
        .inspect_err(|error| {
            tracing::error!(what, name, %error, "a stored spec cannot be read: it is refused until it is set again");
        })
        .ok()
}
