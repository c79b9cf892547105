//! The statements that change rows and what belongs to them. Each changes nothing when it is run again.
//!
//! Neighbouring writes of one kind travel together if they do not meet. Several replicas write the same derived rows at once:
//! rows are locked in the order of their ids, and all that belongs to a row is changed under its lock.

use std::collections::{HashMap, HashSet};

use pgvector::Vector;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, query};

use super::super::super::StoreError;
use super::super::super::rem::{Owner, RemEdge, RemRow, RemTable, RemVector, RemWrite};
use super::super::PostgresStore;
use super::super::cells::{Cells, escaped, stored};
use super::super::spaces::Space;
use super::spaces::space_of;
use crate::clock::UnixMs;
use crate::ids::{RemId, TenantId};

/// Rows of one statement.
const MANY: usize = 500;

const HIDE: &str = "UPDATE rem_rows SET deleted_at = $4, words = NULL \
    WHERE tenant = $1 AND id = $2 AND owner = $3 AND deleted_at IS NULL RETURNING no";
// Names, vectors and edges go with it.
const PURGE: &str = "DELETE FROM rem_rows WHERE no IN \
    (SELECT no FROM rem_rows WHERE tenant = $1 AND id = ANY ($2) AND owner = $3 ORDER BY id FOR UPDATE)";
const FORGET_REQUESTS: &str = "DELETE FROM rem_edges WHERE tenant = $1 AND source = ANY ($2) AND source_tab = 3";
// The sources are locked, as for whoever writes edges.
const UNLINK: &str = "WITH sources AS (SELECT id FROM rem_rows WHERE tenant = $1 AND id = ANY ($2::bytea[]) AND owner = $3 \
        ORDER BY id FOR NO KEY UPDATE) \
    DELETE FROM rem_edges AS e USING sources AS s \
    WHERE e.tenant = $1 AND e.source = s.id AND e.owner = $3 AND e.source_tab <> 3 AND (e.kind <> $4) = $5";
const TO_EMBED: &str = "SELECT no, id, tab, owner, updated_at FROM rem_rows \
    WHERE tenant = $1 AND id = ANY ($2) AND deleted_at IS NULL ORDER BY id FOR NO KEY UPDATE";
const DROP_NAMES: &str = "DELETE FROM rem_names WHERE row = ANY ($1)";
const SET_SPACE: &str = "UPDATE rem_rows SET embedded = $2 WHERE no = ANY ($1) AND embedded <> $2";

/// A row to be written, with all that belongs to it.
pub(super) struct Put<'w> {
    pub(super) row: &'w RemRow,
    pub(super) vector: Option<&'w RemVector>,
    pub(super) edges: Option<&'w [RemEdge]>,
}

/// A row as it is in the database.
#[derive(Clone, Copy)]
pub(super) struct Stored<'w> {
    pub(super) no: i64,
    pub(super) row: &'w RemRow,
}

/// A vector for a row.
pub(super) struct Placed<'w> {
    no: i64,
    table: RemTable,
    owner: String,
    vector: &'w RemVector,
}

/// Writes that travel together.
enum Run<'w> {
    Puts(Vec<Put<'w>>),
    Links(&'w Owner, Vec<&'w RemEdge>),
    Embeds(Vec<(RemId, UnixMs, &'w RemVector)>),
    Purges(&'w Owner, Vec<RemId>),
    ForgetRequests(Vec<RemId>),
    One(&'w RemWrite),
}

impl<'w> Run<'w> {
    fn of(write: &'w RemWrite) -> Self {
        match write {
            RemWrite::Put { row, vector, edges } => {
                Self::Puts(vec![Put { row, vector: vector.as_ref(), edges: edges.as_deref() }])
            }
            RemWrite::Link { owner, edges } => Self::Links(owner, edges.iter().collect()),
            RemWrite::Embed { id, updated_at, vector } => Self::Embeds(vec![(*id, *updated_at, vector)]),
            RemWrite::Purge { id, owner } => Self::Purges(owner, vec![*id]),
            RemWrite::ForgetRequest { id } => Self::ForgetRequests(vec![*id]),
            other => Self::One(other),
        }
    }

    /// Takes the write in, if the result is the same as if it came after all that is there.
    fn takes(&mut self, write: &'w RemWrite, ids: &mut HashSet<RemId>) -> bool {
        match (self, write) {
            (Self::Puts(puts), RemWrite::Put { row, vector, edges }) if puts.len() < MANY && ids.insert(row.id) => {
                puts.push(Put { row, vector: vector.as_ref(), edges: edges.as_deref() });
            }
            (Self::Links(owner, taken), RemWrite::Link { owner: of, edges }) if *owner == of && taken.len() < MANY => {
                taken.extend(edges);
            }
            (Self::Embeds(embeds), RemWrite::Embed { id, updated_at, vector })
                if embeds.len() < MANY && ids.insert(*id) =>
            {
                embeds.push((*id, *updated_at, vector));
            }
            (Self::Purges(owner, ids), RemWrite::Purge { id, owner: of }) if *owner == of && ids.len() < MANY => {
                ids.push(*id);
            }
            (Self::ForgetRequests(ids), RemWrite::ForgetRequest { id }) if ids.len() < MANY => ids.push(*id),
            _ => return false,
        }
        true
    }
}

fn id_of(write: &RemWrite) -> HashSet<RemId> {
    match write {
        RemWrite::Put { row, .. } => HashSet::from([row.id]),
        RemWrite::Embed { id, .. } => HashSet::from([*id]),
        _ => HashSet::new(),
    }
}

fn vector_of(write: &RemWrite) -> Option<&RemVector> {
    match write {
        RemWrite::Put { vector, .. } => vector.as_ref(),
        RemWrite::Embed { vector, .. } => Some(vector),
        _ => None,
    }
}

fn bytes_of(ids: &[RemId]) -> Vec<[u8; 16]> {
    ids.iter().map(|id| id.to_bytes()).collect()
}

impl PostgresStore {
    pub(super) async fn rem_apply_once(&self, tenant: &TenantId, writes: &[RemWrite]) -> Result<(), StoreError> {
        let mut transaction = self.begin_rem_write().await?;
        let tables = self.rem_tables_for(&mut transaction, writes.iter().filter_map(vector_of)).await?;
        let mut run: Option<(Run<'_>, HashSet<RemId>)> = None;
        for write in writes {
            if run.as_mut().is_some_and(|(run, ids)| run.takes(write, ids)) {
                continue;
            }
            if let Some((run, _)) = run.replace((Run::of(write), id_of(write))) {
                self.rem_run(&mut transaction, tenant, run, &tables).await?;
            }
        }
        if let Some((run, _)) = run {
            self.rem_run(&mut transaction, tenant, run, &tables).await?;
        }
        self.commit(transaction).await
    }

    async fn rem_run(
        &self,
        connection: &mut PgConnection,
        tenant: &TenantId,
        run: Run<'_>,
        tables: &HashMap<Space, i32>,
    ) -> Result<(), StoreError> {
        match run {
            Run::Puts(puts) => self.put_rows(connection, tenant, puts, tables).await,
            Run::Links(owner, edges) => self.link(connection, tenant, owner, edges).await,
            Run::Embeds(embeds) => self.embed(connection, tenant, &embeds, tables).await,
            Run::Purges(owner, ids) => {
                let purge = query(PURGE).bind(tenant.as_str()).bind(bytes_of(&ids)).bind(owner.to_string());
                purge.execute(connection).await.map(drop).map_err(|error| self.fault(error))
            }
            Run::ForgetRequests(ids) => {
                let forget = query(FORGET_REQUESTS).bind(tenant.as_str()).bind(bytes_of(&ids));
                forget.execute(connection).await.map(drop).map_err(|error| self.fault(error))
            }
            Run::One(write) => self.change_one(connection, tenant, write).await,
        }
    }

    /// Writes rows of different ids.
    async fn put_rows(
        &self,
        connection: &mut PgConnection,
        tenant: &TenantId,
        mut puts: Vec<Put<'_>>,
        tables: &HashMap<Space, i32>,
    ) -> Result<(), StoreError> {
        puts.sort_by_key(|put| put.row.id);
        let (written, stale) = self.write_rows(connection, tenant, &puts).await?;
        self.drop_vectors(connection, &stale).await?;
        self.write_names(connection, tenant, &written).await?;
        let numbers: HashMap<RemId, i64> = written.iter().map(|stored| (stored.row.id, stored.no)).collect();
        let (mut placed, mut replaced) = (Vec::new(), Vec::new());
        for put in &puts {
            let Some(no) = numbers.get(&put.row.id).copied() else { continue };
            if let (Some(vector), None) = (put.vector, put.row.deleted_at) {
                placed.push(Placed { no, table: put.row.table, owner: put.row.owner.to_string(), vector });
            }
            if let Some(edges) = put.edges {
                replaced.push((put.row, edges));
            }
        }
        self.put_vectors_of_rows(connection, tenant, &placed, tables).await?;
        self.replace_edges(connection, tenant, &replaced).await
    }

    async fn embed(
        &self,
        connection: &mut PgConnection,
        tenant: &TenantId,
        embeds: &[(RemId, UnixMs, &RemVector)],
        tables: &HashMap<Space, i32>,
    ) -> Result<(), StoreError> {
        let ids: Vec<_> = embeds.iter().map(|(id, ..)| id.to_bytes()).collect();
        let found = query(TO_EMBED).bind(tenant.as_str()).bind(ids).fetch_all(&mut *connection).await;
        let wanted: HashMap<RemId, (UnixMs, &RemVector)> =
            embeds.iter().map(|(id, at, vector)| (*id, (*at, *vector))).collect();
        let mut placed = Vec::new();
        for row in &found.map_err(|error| self.fault(error))? {
            let mut cells = Cells::of("rem_rows", row);
            let (no, id) = (cells.take()?, RemId::from_bytes(cells.id()?));
            let (table, owner) = (super::rows::table(&mut cells)?, cells.take::<&str>()?.to_owned());
            let written: i64 = cells.take()?;
            if let Some((_, vector)) = wanted.get(&id).filter(|(at, _)| stored(*at) == written) {
                placed.push(Placed { no, table, owner, vector });
            }
        }
        self.put_vectors_of_rows(connection, tenant, &placed, tables).await
    }

    async fn put_vectors_of_rows(
        &self,
        connection: &mut PgConnection,
        tenant: &TenantId,
        placed: &[Placed<'_>],
        tables: &HashMap<Space, i32>,
    ) -> Result<(), StoreError> {
        let mut by_table: HashMap<i32, Vec<&Placed<'_>>> = HashMap::new();
        for placed in placed {
            if let Some(table) = space_of(placed.vector).and_then(|space| tables.get(&space)) {
                by_table.entry(*table).or_default().push(placed);
            }
        }
        for (table, placed) in by_table {
            // What is there already is not written again: each version of a vector is in the index until it is cleaned up.
            let statement = format!(
                "INSERT INTO rem_vectors_{table} AS v (row, tenant, tab, owner, embedding) \
                 SELECT n.row, $1, n.tab, n.owner, n.embedding \
                 FROM unnest($2::bigint[], $3::smallint[], $4::text[], $5::vector[]) AS n (row, tab, owner, embedding) \
                 ON CONFLICT (row) DO UPDATE SET tab = EXCLUDED.tab, owner = EXCLUDED.owner, embedding = EXCLUDED.embedding \
                 WHERE (v.tab, v.owner) <> (EXCLUDED.tab, EXCLUDED.owner) OR v.embedding <> EXCLUDED.embedding"
            );
            let put = query(AssertSqlSafe(statement))
                .bind(tenant.as_str())
                .bind(placed.iter().map(|placed| placed.no).collect::<Vec<_>>())
                .bind(placed.iter().map(|placed| placed.table.code()).collect::<Vec<_>>())
                .bind(placed.iter().map(|placed| placed.owner.as_str()).collect::<Vec<_>>())
                .bind(placed.iter().map(|placed| Vector::from(placed.vector.vector.clone())).collect::<Vec<_>>())
                .execute(&mut *connection)
                .await;
            put.map_err(|error| self.fault(error))?;
        }
        let mut by_space: HashMap<&str, Vec<i64>> = HashMap::new();
        for placed in placed.iter().filter(|placed| space_of(placed.vector).is_some()) {
            by_space.entry(&placed.vector.space).or_default().push(placed.no);
        }
        for (space, rows) in by_space {
            self.mark(&mut *connection, &rows, space).await?;
        }
        Ok(())
    }

    /// Notes the space of the vector that these rows got last.
    async fn mark(&self, connection: &mut PgConnection, rows: &[i64], space: &str) -> Result<(), StoreError> {
        let done = query(SET_SPACE).bind(rows).bind(escaped(space)).execute(connection).await;
        done.map(drop).map_err(|error| self.fault(error))
    }

    /// Deletes the vectors of these rows in all spaces.
    async fn drop_vectors(&self, connection: &mut PgConnection, rows: &[i64]) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        for table in self.rem_tables(&mut *connection, None).await? {
            let number = table.number;
            let delete = format!("DELETE FROM rem_vectors_{number} WHERE row = ANY ($1)");
            let done = query(AssertSqlSafe(delete)).bind(rows).execute(&mut *connection).await;
            done.map_err(|error| self.fault(error))?;
        }
        self.mark(connection, rows, "").await
    }

    async fn change_one(
        &self,
        connection: &mut PgConnection,
        tenant: &TenantId,
        write: &RemWrite,
    ) -> Result<(), StoreError> {
        match write {
            RemWrite::Hide { id, owner, at } => {
                let hidden = query(HIDE)
                    .bind(tenant.as_str())
                    .bind(id.to_bytes())
                    .bind(owner.to_string())
                    .bind(stored(*at))
                    .fetch_all(&mut *connection)
                    .await
                    .map_err(|error| self.fault(error))?;
                let rows: Vec<i64> =
                    hidden.iter().map(|row| Cells::of("rem_rows", row).take()).collect::<Result<_, _>>()?;
                query(DROP_NAMES).bind(&rows).execute(&mut *connection).await.map_err(|error| self.fault(error))?;
                self.drop_vectors(connection, &rows).await
            }
            RemWrite::Unlink { owner, sources, kind, others } => {
                let unlink = query(UNLINK)
                    .bind(tenant.as_str())
                    .bind(sources.iter().map(|id| id.to_bytes()).collect::<Vec<_>>())
                    .bind(owner.to_string())
                    .bind(escaped(kind))
                    .bind(*others);
                unlink.execute(connection).await.map(drop).map_err(|error| self.fault(error))
            }
            // These travel in runs.
            RemWrite::Put { .. }
            | RemWrite::Link { .. }
            | RemWrite::Embed { .. }
            | RemWrite::Purge { .. }
            | RemWrite::ForgetRequest { .. } => Ok(()),
        }
    }
}
