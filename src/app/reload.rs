//! The configuration read again while the program runs: on SIGHUP, on request, and when its file has changed.
//!
//! It is read whole and checked whole. One that is not valid changes nothing; of a valid one, everything about who may call
//! (tenants, keys, what they are held to, the shared upstream credential, passthrough) is swapped at once. What else differs
//! needs a restart, and is named.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::sleep;

use crate::admin::{NotReloaded, Reload, Reloaded, Reloading};
use crate::clock::Clock;
use crate::config::{Config, Overrides, check_report};
use crate::ids::AuditId;
use crate::store::{AuditRow, AuditStore};
use crate::tenant::Directory;

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Where the configuration came from, so that it can be read again.
#[derive(Clone, Default)]
pub struct Source {
    /// The file.
    pub path: Option<PathBuf>,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// What the command line said.
    pub overrides: Overrides,
}

/// Reads the configuration again.
pub(super) struct Reloader {
    source: Source,
    /// What the program was started with.
    running: Config,
    directory: Arc<Directory>,
    audit: Arc<dyn AuditStore>,
    clock: Clock,
    /// One at a time.
    turn: Mutex<()>,
}

/// What tells that a file has changed.
type Mark = Option<(SystemTime, u64)>;

impl Reloader {
    pub(super) fn new(
        source: Source,
        running: Config,
        directory: Arc<Directory>,
        audit: Arc<dyn AuditStore>,
        clock: Clock,
    ) -> Self {
        Self { source, running, directory, audit, clock, turn: Mutex::new(()) }
    }

    async fn read_again(&self, actor: &str) -> Result<Reloaded, NotReloaded> {
        let _turn = self.turn.lock().await;
        let Source { path, env, overrides } = self.source.clone();
        let read = move || Config::load(path.as_deref(), env.into_iter(), &overrides);
        let read = tokio::task::spawn_blocking(read).await.map_err(|_| NotReloaded::Store)?;
        let config = read.map_err(|problems| NotReloaded::Invalid(check_report(&problems)))?;
        let before = self.directory.declared();
        let failed = |error: crate::store::StoreError| {
            tracing::error!(%error, "the configuration was read again, but the store fails");
            NotReloaded::Store
        };
        let reconciled = self.directory.declare(&config, actor).await.map_err(failed)?;
        let reloaded = Reloaded {
            tenants_changed: reconciled.declared,
            tenants_undeclared: reconciled.undeclared,
            need_restart: changed(&self.running, &config),
        };
        let at = self.clock.now_ms();
        let row = AuditRow {
            id: AuditId::at(at),
            at,
            actor: actor.to_owned(),
            action: "config.reload".into(),
            reason: None,
            what: json!({ "file": self.source.path.as_ref().map(|path| path.display().to_string()) }).to_string(),
            result: json!({
                "tenants_changed": reloaded.tenants_changed,
                "tenants_undeclared": reloaded.tenants_undeclared,
                "need_restart": reloaded.need_restart,
                "callers_changed": before.differences(&self.directory.declared()),
            })
            .to_string(),
        };
        if let Err(error) = self.audit.record(&row, &[]).await {
            tracing::error!(%error, "the configuration was taken over, but its audit row cannot be written");
        }
        Ok(reloaded)
    }

    /// Looks at the file until the task is ended. A file is read once it has stayed as it is for a while, because a program
    /// that writes it may be half-way, and half of a file may be a valid one.
    pub(super) async fn watch(self: Arc<Self>) {
        let mut taken = self.mark().await;
        let mut before = taken;
        loop {
            sleep(LOOK_EVERY).await;
            self.look(&mut taken, &mut before).await;
        }
    }

    /// Looks once. `taken` is the file that was read last, `before` the one of the last look.
    async fn look(&self, taken: &mut Mark, before: &mut Mark) {
        let mark = self.mark().await;
        if mark != *taken && mark == *before && mark.is_some() {
            // What came of it is in the log. A store that is away now is asked again at the next look; a file that is not
            // valid stays so until it changes.
            if !matches!(self.reload("configuration file").await, Err(NotReloaded::Store)) {
                *taken = mark;
            }
        }
        *before = mark;
    }

    async fn mark(&self) -> Mark {
        let metadata = tokio::fs::metadata(self.source.path.as_ref()?).await.ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    }
}

impl Reload for Reloader {
    fn reload<'a>(&'a self, actor: &'a str) -> Reloading<'a> {
        Box::pin(async move {
            let reloaded = self.read_again(actor).await;
            match &reloaded {
                Ok(Reloaded { tenants_changed, tenants_undeclared, need_restart }) => tracing::info!(
                    actor,
                    tenants_changed,
                    tenants_undeclared,
                    need_restart = need_restart.join(" "),
                    "configuration taken over"
                ),
                Err(error) => tracing::error!(actor, %error, "configuration not taken over"),
            }
            reloaded
        })
    }
}

/// Sections in which the two differ by more than what a reload takes over.
fn changed(running: &Config, new: &Config) -> Vec<&'static str> {
    let mut new = new.clone();
    // Taken over with the tenants.
    new.server.passthrough = running.server.passthrough;
    new.upstream.api_key.clone_from(&running.upstream.api_key);
    let Config {
        server,
        admin,
        store,
        redis,
        limits,
        embedding,
        cache,
        upstream,
        prices,
        alerts,
        tenants: _,
        telemetry,
    } = running;
    [
        ("[server]", *server != new.server),
        ("[admin]", *admin != new.admin),
        ("[store]", *store != new.store),
        ("[redis]", *redis != new.redis),
        ("[limits]", *limits != new.limits),
        ("[embedding]", *embedding != new.embedding),
        ("[cache]", *cache != new.cache),
        ("[[upstream]]", *upstream != new.upstream),
        ("[prices]", *prices != new.prices),
        ("[alerts]", *alerts != new.alerts),
        ("[telemetry]", *telemetry != new.telemetry),
    ]
    .into_iter()
    .filter_map(|(section, differs)| differs.then_some(section))
    .collect()
}
