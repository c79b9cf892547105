//! The directory: everybody who may call, kept up to date with the store.
//!
//! What requests meet is a [`Snapshot`], swapped as a whole. A task looks every [`LOOK_EVERY`] whether the store has a new
//! number, so a key that is revoked on one replica is refused by all of them within a second. While the store cannot be
//! asked, known keys go on being served; one that is not known may be new, so it gets "try again" instead of "never".

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderMap;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::credential::SealKey;
use super::role::{TokenError, TokenHolder};
use super::snapshot::{Builder, Declared, Known, Looked, Snapshot};
use super::virtual_key::Kind;
use super::{AuthError, CREDENTIALS, Credential, IDENTITY, Principal, is_blank, presented};
use crate::call::SecretKey;
use crate::clock::{Clock, UnixMs};
use crate::config::{Config, KeySpec, Right, Secret};
use crate::ids::{KeyId, TenantId};
use crate::json::tagged;
use crate::limit::Terms;
use crate::store::{Digest, DirectoryImage, DirectoryStore, StoreError};
use crate::telemetry::tenants::TenantLabels;

/// How often the store is asked for changes.
pub const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Longest wait for its answer.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long no word from the store means nothing, milliseconds.
const STALE_MS: u64 = 5_000;
/// How often it is noted which keys were used.
const NOTE_EVERY: Duration = Duration::from_secs(60);

/// What snapshots are made of.
pub(super) struct Inputs {
    pub(super) declared: Arc<Declared>,
    pub(super) image: Arc<DirectoryImage>,
}

/// Everybody who may call.
pub struct Directory {
    secret: SecretKey,
    seal: SealKey,
    pub(super) clock: Clock,
    store: Option<Arc<dyn DirectoryStore>>,
    labels: Option<TenantLabels>,
    snapshot: ArcSwap<Snapshot>,
    /// Held while a new snapshot is made, so that an older one never takes the place of a newer one.
    pub(super) inputs: Mutex<Inputs>,
    /// When the store last answered.
    looked_at: AtomicU64,
    /// What callers in passthrough mode are held to: nothing. They may ask REM, which shows them what is their own.
    unbound: (Arc<Terms>, Arc<KeySpec>),
}

impl Directory {
    /// A directory of declared tenants only. `secret` keys the hashes.
    pub fn new(config: &Config, secret: SecretKey) -> Self {
        let (seal, image) = (SealKey::new(&secret), Arc::new(DirectoryImage::default()));
        let inputs = Inputs { declared: Arc::new(Declared::of(config)), image };
        let first =
            Builder { secret: &secret, seal: &seal, declared: &inputs.declared, image: &inputs.image, before: None };
        Self {
            snapshot: ArcSwap::from_pointee(first.build()),
            inputs: Mutex::new(inputs),
            secret,
            seal,
            clock: Clock::default(),
            store: None,
            labels: None,
            looked_at: AtomicU64::new(0),
            unbound: (Arc::default(), Arc::new(KeySpec { rights: vec![Right::Rem], ..KeySpec::default() })),
        }
    }

    /// Adds what a store keeps, from the first [`Directory::look`] on.
    #[must_use]
    pub fn with_store(mut self, store: Arc<dyn DirectoryStore>, clock: Clock) -> Self {
        self.looked_at = AtomicU64::new(clock.now_ms());
        self.store = Some(store);
        self.clock = clock;
        self
    }

    /// Gives all tenants, as they come and go, labels of their own in the metrics.
    #[must_use]
    pub fn with_labels(self, labels: TenantLabels) -> Self {
        Self { labels: Some(labels), ..self }
    }

    /// Finds out who sent these headers.
    ///
    /// # Errors
    /// No credential, or none that is accepted here.
    pub fn authenticate(&self, headers: &HeaderMap) -> Result<Principal, AuthError> {
        let snapshot = self.snapshot.load();
        let presented = presented(headers);
        if let Ok(key) = presented {
            // Where no key was ever made, a text of our form is just a text, perhaps the key of another Remora behind us.
            let ours = snapshot.issues || !snapshot.passthrough;
            match snapshot.key(&self.secret, key, self.clock.now_ms()) {
                Looked::Found(answer) => return answer,
                Looked::Gone if ours && self.is_stale() => return Err(AuthError::Unavailable),
                Looked::Gone if ours => return Err(AuthError::Unknown),
                Looked::Mistyped if snapshot.issues => return Err(AuthError::Mistyped),
                _ if !snapshot.passthrough => return Err(AuthError::Unknown),
                _ => {}
            }
        }
        if snapshot.passthrough {
            Ok(self.stranger(headers))
        } else {
            Err(presented.err().unwrap_or(AuthError::Unknown))
        }
    }

    /// Finds out who holds an admin token.
    ///
    /// # Errors
    /// It is not accepted.
    pub fn token(&self, text: &str) -> Result<TokenHolder, TokenError> {
        let found = self.snapshot.load().token(&self.secret, text, self.clock.now_ms());
        match found {
            Err(TokenError::Unknown) if self.is_stale() && text.starts_with(Kind::Token.prefix()) => {
                Err(TokenError::Unavailable)
            }
            found => found,
        }
    }

    /// A tenant, if it is declared or stored.
    pub fn tenant(&self, tenant: &TenantId) -> Option<Known> {
        self.snapshot.load().tenants.get(tenant).cloned()
    }

    /// All tenants that are declared or stored, by name.
    pub fn tenants(&self) -> Vec<(TenantId, Known)> {
        self.snapshot.load().tenants.iter().map(|(tenant, known)| (tenant.clone(), known.clone())).collect()
    }

    /// What the configuration declares.
    pub fn declared(&self) -> Arc<Declared> {
        Arc::clone(&self.snapshot.load().configured)
    }

    /// Seals and opens upstream credentials.
    pub fn seal(&self) -> &SealKey {
        &self.seal
    }

    /// What is kept of a key or token instead of its text.
    pub fn hash(&self, kind: Kind, secret: &Secret) -> Digest {
        self.secret.digest(kind.domain(), secret.expose().as_bytes())
    }

    /// The store, where there is one.
    pub fn store(&self) -> Option<&Arc<dyn DirectoryStore>> {
        self.store.as_ref()
    }

    /// Takes over what has changed in the store; says whether anything has.
    ///
    /// # Errors
    /// The store cannot be read; then nothing has changed.
    pub async fn look(&self) -> Result<bool, StoreError> {
        let Some(store) = &self.store else { return Ok(false) };
        let mut inputs = self.inputs.lock().await;
        let version = store.directory_version().await?;
        // Not "greater": a database that was restored has a smaller number.
        let changed = version != inputs.image.version;
        if changed {
            inputs.image = Arc::new(store.directory().await?);
            self.rebuild(&inputs);
        }
        self.looked_at.fetch_max(self.clock.now_ms(), Ordering::Relaxed);
        Ok(changed)
    }

    /// Makes what requests meet from the inputs. The lock on them must be held.
    pub(super) fn rebuild(&self, inputs: &Inputs) {
        let before = self.snapshot.load_full();
        let builder = Builder {
            secret: &self.secret,
            seal: &self.seal,
            declared: &inputs.declared,
            image: &inputs.image,
            before: Some(&before),
        };
        let snapshot = builder.build();
        if let Some(labels) = &self.labels {
            labels.set(snapshot.tenants.keys().map(|tenant| tenant.as_str().to_owned()));
        }
        self.snapshot.store(Arc::new(snapshot));
    }

    /// Notes in the store when keys and tokens were last used.
    ///
    /// # Errors
    /// The store cannot be written; the next call tries again.
    pub async fn note_used(&self, noted: &mut Noted) -> Result<(), StoreError> {
        let Some(store) = &self.store else { return Ok(()) };
        let (since, now) = (noted.0, self.clock.now_ms());
        let snapshot = self.snapshot.load_full();
        let used: Vec<(String, UnixMs)> = snapshot
            .uses()
            .filter_map(|(id, used)| Some(used.at()).filter(|at| *at > 0 && *at >= since).map(|at| (id.clone(), at)))
            .collect();
        if !used.is_empty() {
            store.note_used(&used).await?;
        }
        noted.0 = now;
        Ok(())
    }

    /// Follows the store until the task is ended.
    pub async fn run(self: Arc<Self>) {
        let (mut noted, mut last_note, mut failing) = (Noted::default(), Instant::now(), false);
        loop {
            sleep(LOOK_EVERY).await;
            let problem = match timeout(LOOK_TIMEOUT, self.look()).await {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("no answer in time".to_owned()),
            };
            match (&problem, failing) {
                (Some(error), false) => {
                    tracing::warn!(error, "the directory of tenants cannot be read; what is known stays")
                }
                (None, true) => tracing::info!("the directory of tenants can be read again"),
                _ => {}
            }
            failing = problem.is_some();
            if last_note.elapsed() >= NOTE_EVERY && !failing {
                last_note = Instant::now();
                if let Err(error) = self.note_used(&mut noted).await {
                    tracing::warn!(%error, "it could not be noted which keys were used");
                }
            }
        }
    }

    fn is_stale(&self) -> bool {
        self.store.is_some() && self.clock.now_ms().saturating_sub(self.looked_at.load(Ordering::Relaxed)) > STALE_MS
    }

    /// In passthrough mode everything that may tell upstream who is calling is part of who the tenant is.
    fn stranger(&self, headers: &HeaderMap) -> Principal {
        let mut bytes = Vec::with_capacity(256);
        let mut anonymous = true;
        for name in IDENTITY {
            for value in headers.get_all(name) {
                anonymous &= !CREDENTIALS.contains(&name) || is_blank(value.as_bytes());
                tagged(&mut bytes, b'h', name.as_bytes());
                tagged(&mut bytes, b'v', value.as_bytes());
            }
        }
        let hash = blake3::Hash::from_bytes(self.secret.digest("passthrough", &bytes));
        let id = format!("p-{}", hash.to_hex().get(..32).unwrap_or_default());
        let (terms, spec) = (Arc::clone(&self.unbound.0), Arc::clone(&self.unbound.1));
        let (tenant, key) = (TenantId::new(id.as_str()), KeyId::new(id));
        Principal { anonymous, ..Principal::known(tenant, key, Credential::Caller, terms, spec) }
    }
}

/// Up to when uses have been noted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Noted(UnixMs);
