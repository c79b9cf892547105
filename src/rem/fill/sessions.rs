//! Sessions of users as moments: requests of one user with less than half an hour between them.
//!
//! A session is not counted up but counted: its edges say of each request what it was, so however often a request is seen it counts
//! once. Which session a request belongs to is told by those that are stored, which have an alias in common.

use std::collections::BTreeSet;

use serde_json::Value;

use super::entries::identity;
use super::{Filler, edge, made, put, shortened};
use crate::clock::UnixMs;
use crate::config::NanoUsd;
use crate::ids::RemId;
use crate::store::rem::{RemEdge, RemEdges, RemRow, RemTable, RemWrite, Scope, normalise};
use crate::store::{LedgerRow, StoreError};

/// A longer silence ends a session.
const GAP_MS: u64 = 30 * 60_000;
/// Requests of a session that are counted.
const COUNTED: u32 = 2_000;
/// Characters of a user in the name of a session.
const USER: usize = 100;
/// Members that say whose a session is, and which one a request is part of.
const USER_OF: &str = "user";
const SESSION: &str = "session";

impl Filler {
    /// Brings the sessions of these requests of one caller up to date.
    pub(super) async fn sessions(&mut self, scope: &Scope, rows: &[LedgerRow]) -> Result<(), StoreError> {
        let users: BTreeSet<&str> = rows.iter().filter_map(user).collect();
        for user_name in users {
            let of_user: Vec<&LedgerRow> = rows.iter().filter(|row| user(row) == Some(user_name)).collect();
            self.sessions_of(scope, user_name, &of_user).await?;
        }
        Ok(())
    }

    async fn sessions_of(&mut self, scope: &Scope, user: &str, rows: &[&LedgerRow]) -> Result<(), StoreError> {
        let alias = format!("session of {}", shortened(user, USER));
        let found = self.rem.rem_named(scope, &[normalise(&alias)], &[RemTable::Moments], u32::MAX).await?;
        let mut sessions: Vec<RemRow> = found
            .into_iter()
            .map(|found| found.row)
            // Names of users may have one normal form, and begin alike for longer than a name is kept.
            .filter(|row| row.made && row.label == "session" && row.owner == scope.owner() && is_of(row, user))
            .collect();
        let mut touched: BTreeSet<RemId> = BTreeSet::new();
        let mut edges = Vec::new();
        for row in rows {
            let (starts, ends) = (row.started_at, row.started_at.saturating_add(row.latency_us / 1_000));
            let near = |session: &&mut RemRow| {
                starts.saturating_add(GAP_MS) >= session.starts_at.unwrap_or_default()
                    && starts <= session.ends_at.unwrap_or_default().saturating_add(GAP_MS)
            };
            let session = if let Some(session) = sessions.iter_mut().find(near) {
                session.starts_at = session.starts_at.map(|at| at.min(starts));
                session.ends_at = session.ends_at.map(|at| at.max(ends));
                session
            } else {
                sessions.push(begun(scope, user, &alias, starts, ends));
                let Some(session) = sessions.last_mut() else { continue };
                session
            };
            touched.insert(session.id);
            edges.push(in_session(row, session));
        }
        sessions.sort_by_key(|session| session.starts_at);
        self.write(&scope.tenant, &scope.owner(), &[RemWrite::Link { owner: scope.owner(), edges }]).await?;
        let mut writes = Vec::new();
        let mut before: Option<String> = None;
        for mut session in sessions {
            let name = session.name.clone();
            if touched.contains(&session.id) {
                self.count(scope, &mut session).await?;
                session.previous = before;
                // When it ended is when it was last written, on every replica.
                session.updated_at = session.ends_at.unwrap_or(session.updated_at);
                writes.push(put(session));
            }
            before = Some(name);
        }
        self.write(&scope.tenant, &scope.owner(), &writes).await
    }

    /// Says in numbers what a session was.
    async fn count(&self, scope: &Scope, session: &mut RemRow) -> Result<(), StoreError> {
        let kinds = ["in_session".to_owned()];
        let wanted = RemEdges { kinds: &kinds, min_weight: 0.0, limit: COUNTED };
        let mut edges = self.rem.rem_edges_to(scope, &[normalise(&session.name)], wanted).await?;
        let at_least = if edges.len() >= COUNTED as usize { "at least " } else { "" };
        // Another's session may have the same name.
        let id = Value::from(session.id.to_string());
        edges.retain(|edge| edge.properties.get(SESSION) == Some(&id));
        let requests = u64::try_from(edges.len()).unwrap_or(u64::MAX);
        let hits = edges.iter().filter(|edge| edge.properties.get("hit") == Some(&Value::Bool(true))).count();
        let cost = |edge: &RemEdge| edge.properties.get("cost_nano_usd").and_then(Value::as_i64).unwrap_or(0);
        let cost = edges.iter().map(cost).fold(0, i64::saturating_add);
        session.text = format!(
            "{at_least}{requests} {}, {hits} answered from the cache, cost ${}",
            if requests == 1 { "request" } else { "requests" },
            NanoUsd(cost)
        );
        session.data.insert("requests".to_owned(), requests.into());
        session.data.insert("hits".to_owned(), hits.into());
        session.data.insert("cost_usd".to_owned(), NanoUsd(cost).to_string().into());
        Ok(())
    }
}

/// The user whose session a request is part of.
fn user(row: &LedgerRow) -> Option<&str> {
    let user = row.user.as_deref().filter(|_| row.outcome != "refused");
    user.filter(|user| !normalise(user).is_empty())
}

fn begun(scope: &Scope, user: &str, alias: &str, starts: UnixMs, ends: UnixMs) -> RemRow {
    let at = i64::try_from(starts).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).unwrap_or_default();
    let name = format!("{} {at}", shortened(user, USER));
    let id = identity(&scope.tenant, &scope.owner(), "session", &format!("{user}\n{starts}"));
    let mut row = made(id, RemTable::Moments, scope.owner(), &name, "session", starts);
    row.starts_at = Some(starts);
    row.ends_at = Some(ends);
    row.aliases = vec![alias.to_owned()];
    row.data.insert(USER_OF.to_owned(), exact(user).into());
    row
}

/// Whether a session is one of this very user.
fn is_of(session: &RemRow, user: &str) -> bool {
    session.data.get(USER_OF).and_then(Value::as_str) == Some(exact(user).as_str())
}

/// The user as he is kept: no database keeps a NUL.
fn exact(user: &str) -> String {
    user.replace('\0', "")
}

fn in_session(row: &LedgerRow, session: &RemRow) -> RemEdge {
    let id = RemId::from_bytes(row.request.to_bytes());
    let mut edge = edge(id, RemTable::Requests, "in_session", &session.name, 1.0, row.started_at);
    edge.properties.insert(SESSION.to_owned(), session.id.to_string().into());
    edge.properties.insert("hit".to_owned(), (row.outcome == "hit").into());
    let cost = row.cost_nano_usd.unwrap_or(0).saturating_add(row.embedding_nano_usd.unwrap_or(0));
    edge.properties.insert("cost_nano_usd".to_owned(), cost.into());
    edge
}
