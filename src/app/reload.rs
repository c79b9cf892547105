//! The configuration read again while the program runs: on SIGHUP, on request, and when its file has changed.
//!
//! It is read whole and checked whole. One that is not valid changes nothing; of a valid one, everything about who may call
//! (tenants, keys, what they are held to, the shared upstream credential, passthrough) is swapped at once, and so is the price list.
//! What else differs needs a restart, and is named.

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
use crate::price::PriceBook;
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
    prices: Arc<PriceBook>,
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
        prices: Arc<PriceBook>,
        audit: Arc<dyn AuditStore>,
        clock: Clock,
    ) -> Self {
        Self { source, running, directory, prices, audit, clock, turn: Mutex::new(()) }
    }

    async fn read_again(&self, actor: &str) -> Result<Reloaded, NotReloaded> {
        let _turn = self.turn.lock().await;
        let Source { path, env, overrides } = self.source.clone();
        let read = move || Config::load(path.as_deref(), env.into_iter(), &overrides);
        let read = tokio::task::spawn_blocking(read).await.map_err(|_| NotReloaded::Store)?;
        let config = read.map_err(|problems| NotReloaded::Invalid(check_report(&problems)))?;
        let file = config.prices.file.clone();
        let prices = tokio::task::spawn_blocking(move || PriceBook::load(file.as_deref())).await;
        let prices =
            prices.map_err(|_| NotReloaded::Store)?.map_err(|error| NotReloaded::Invalid(error.to_string()))?;
        let before = self.directory.declared();
        let failed = |error: crate::store::StoreError| {
            tracing::error!(%error, "the configuration was read again, but the store fails");
            NotReloaded::Store
        };
        let reconciled = self.directory.declare(&config, actor).await.map_err(failed)?;
        self.prices.replace(&prices);
        let reloaded = Reloaded {
            tenants_changed: reconciled.declared,
            tenants_undeclared: reconciled.undeclared,
            prices: prices.version(),
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
                "prices": reloaded.prices.as_ref(),
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
                Ok(Reloaded { tenants_changed, tenants_undeclared, prices, need_restart }) => tracing::info!(
                    actor,
                    tenants_changed,
                    tenants_undeclared,
                    prices = prices.as_ref(),
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
    // Read again by itself.
    new.prices.file.clone_from(&running.prices.file);
    let Config {
        server,
        admin,
        rem,
        store,
        redis,
        limits,
        embedding,
        cache,
        upstream,
        prices,
        savings,
        alerts,
        tenants: _,
        telemetry,
    } = running;
    [
        ("[server]", *server != new.server),
        ("[admin]", *admin != new.admin),
        ("[rem]", *rem != new.rem),
        ("[store]", *store != new.store),
        ("[redis]", *redis != new.redis),
        ("[limits]", *limits != new.limits),
        ("[embedding]", *embedding != new.embedding),
        ("[cache]", *cache != new.cache),
        ("[[upstream]]", *upstream != new.upstream),
        ("[prices]", *prices != new.prices),
        ("[savings]", *savings != new.savings),
        ("[alerts]", *alerts != new.alerts),
        ("[telemetry]", *telemetry != new.telemetry),
    ]
    .into_iter()
    .filter_map(|(section, differs)| differs.then_some(section))
    .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::call::SecretKey;
    use crate::ids::TenantId;
    use crate::store::{BoxFuture, Database, DirectoryImage, DirectoryStore, DirectoryWrite, StoreError};

    /// A store that is away for a while.
    struct Away(Arc<dyn DirectoryStore>, Arc<AtomicBool>);

    impl DirectoryStore for Away {
        fn directory_version(&self) -> BoxFuture<'_, u64> {
            self.0.directory_version()
        }

        fn directory(&self) -> BoxFuture<'_, DirectoryImage> {
            if self.1.load(Ordering::SeqCst) {
                return Box::pin(async { Err(StoreError::Failed("away".into())) });
            }
            self.0.directory()
        }

        fn change_directory<'a>(
            &'a self,
            seen: u64,
            writes: &'a [DirectoryWrite],
            audit: &'a [AuditRow],
        ) -> BoxFuture<'a, Option<u64>> {
            self.0.change_directory(seen, writes, audit)
        }

        fn note_used<'a>(&'a self, used: &'a [(String, u64)]) -> BoxFuture<'a, ()> {
            self.0.note_used(used)
        }
    }

    #[tokio::test]
    async fn a_file_that_changed_during_an_outage_of_the_store_is_taken_over_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("remora.toml");
        std::fs::write(&path, "").unwrap();
        let store = Some(format!("sqlite://{}", dir.path().join("remora.db").display()));
        let overrides = Overrides { store, ..Overrides::default() };
        let load = || Config::load(Some(&path), std::iter::empty(), &overrides).unwrap_or_else(|p| panic!("{p}"));
        let config = load();
        let stores = Database::open(&config.store.url, config.store.migrate).await.unwrap().stores();
        let away = Arc::new(AtomicBool::new(false));
        let store = Away(Arc::clone(&stores.directory), Arc::clone(&away));
        let directory = Directory::new(&config, SecretKey::new([7; 32])).with_store(Arc::new(store), Clock::default());
        let directory = Arc::new(directory);
        let source = Source { path: Some(path.clone()), env: BTreeMap::new(), overrides: overrides.clone() };
        let audit = Arc::clone(&stores.audit);
        let prices = Arc::new(PriceBook::load(None).unwrap());
        let reloader =
            Reloader::new(source, config, Arc::clone(&directory), Arc::clone(&prices), audit, Clock::default());
        let mut taken = reloader.mark().await;
        let mut before = taken;

        std::fs::write(&path, "[[tenant]]\nname = \"late\"\n").unwrap();
        away.store(true, Ordering::SeqCst);
        for _ in 0..3 {
            reloader.look(&mut taken, &mut before).await;
        }
        let late = TenantId::new("late");
        assert!(directory.tenant(&late).is_none());
        away.store(false, Ordering::SeqCst);
        reloader.look(&mut taken, &mut before).await;
        assert!(directory.tenant(&late).is_some());

        let rows = async || stores.audit.trail(None, 100).await.unwrap().len();
        let seen = rows().await;
        reloader.look(&mut taken, &mut before).await;
        assert_eq!(rows().await, seen, "once is enough");

        let (list, price) = (dir.path().join("prices.json"), || prices.price("mine", 0));
        let declare = |name: &str| {
            let text = format!("[prices]\nfile = {:?}\n\n[[tenant]]\nname = {name:?}\n", list.display().to_string());
            std::fs::write(&path, text).unwrap();
        };
        declare("later");
        std::fs::write(&list, "{").unwrap();
        let refused = reloader.reload("test").await.unwrap_err().to_string();
        assert!(refused.contains("prices.json") && price().is_none(), "{refused}");
        assert!(directory.tenant(&TenantId::new("later")).is_none(), "nothing of it is taken over");
        std::fs::write(&list, r#"{"version":"ours","models":[{"names":["mine"],"input":"1","output":"2"}]}"#).unwrap();
        let reloaded = reloader.reload("test").await.unwrap();
        assert!(reloaded.prices.starts_with("ours+") && reloaded.need_restart.is_empty(), "{reloaded:?}");
        assert!(price().is_some() && directory.tenant(&TenantId::new("later")).is_some());
    }
}
