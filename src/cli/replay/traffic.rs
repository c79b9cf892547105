//! `remora replay --store`: opening a store and taking recorded traffic from it.
//!
//! The store may belong to a running proxy: it is opened for reading alone, and closed before anything is computed.

use std::time::Duration;

use super::{AnswerKind, Replay, misuse};
use crate::cli::migrate;
use crate::clock::Clock;
use crate::config::parse_duration;
use crate::ids::TenantId;
use crate::replay::recording::{Selection, Traffic};
use crate::store::SqliteStore;

impl Replay {
    /// Ends the program if options were given that mean nothing for recorded traffic, or for anything else.
    pub(super) fn check_traffic_usage(&self) {
        let selecting =
            [("--tenant", self.tenant.is_some()), ("--model", self.model.is_some()), ("--since", self.since.is_some())];
        if self.store.is_none()
            && let Some((flag, _)) = selecting.into_iter().find(|(_, given)| *given)
        {
            misuse(&format!("{flag} selects from recorded traffic; give --store sqlite://PATH instead of a file"));
        }
        if self.store.is_some() && self.answers != AnswerKind::Ideal {
            misuse("--answers is for files of intents; recorded traffic is judged by what really happened");
        }
    }

    /// What the options select of what the store has recorded.
    pub(super) async fn traffic(&self, url: &str) -> Result<Traffic, String> {
        let path = migrate::path(url)?;
        let age = self.since.map_or(u64::MAX, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        let selection = Selection {
            tenant: self.tenant.as_deref().map(TenantId::new),
            model: self.model.clone(),
            since: Clock::system().now_ms().saturating_sub(age),
            most: self.limit.map(|_| self.most()),
        };
        let store = SqliteStore::open_to_read(&path).await.map_err(|error| error.to_string())?;
        let traffic = Traffic::read(&*store, &*store, &selection).await;
        store.close().await;
        traffic.map_err(|error| format!("{url}: {error}"))
    }
}

/// An age, as in 7d.
pub(super) fn age(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "give a number with s, m, h or d, as in 7d".to_owned())
}
