//! The statements that change REM data. Names, trigrams, words and vectors are always those of the row, in one transaction.

use sqlx::sqlite::SqliteConnection;
use sqlx::{Sqlite, query, query_scalar};

use super::super::super::StoreError;
use super::super::super::rem::*;
use super::super::SqliteStore;
use super::super::cells::{Cells, stored, stored_or_null, vector_bytes};
use super::columns::{number_list, owner, part_number, scope_number, table, word_prefix};
use crate::clock::UnixMs;
use crate::ids::{KeyId, RemId, TenantId};

const HAS_ENTRY: &str = "SELECT 1 FROM entries WHERE tenant = ?1 AND id = ?2";
const FIND: &str =
    "SELECT no, tab, owner, name, text, aliases, updated_at, deleted_at FROM rem_rows WHERE tenant = ?1 AND id = ?2";
const INSERT: &str = "INSERT INTO rem_rows (tenant, id, tab, owner, name, text, label, uri, tags, data, aliases, starts_at, \
     ends_at, previous, part_of, part, entry, made, updated_at, deleted_at, writer, created_at, embedded) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, '') RETURNING no";
const UPDATE: &str = "UPDATE rem_rows SET tab = ?3, owner = ?4, name = ?5, text = ?6, label = ?7, uri = ?8, tags = ?9, data = ?10, \
     aliases = ?11, starts_at = ?12, ends_at = ?13, previous = ?14, part_of = ?15, part = ?16, entry = ?17, made = ?18, \
     updated_at = ?19, deleted_at = ?20, writer = ?21 WHERE tenant = ?1 AND id = ?2 RETURNING no";
const HIDE: &str = "UPDATE rem_rows SET deleted_at = ?4 WHERE tenant = ?1 AND id = ?2 AND owner = ?3 AND deleted_at IS NULL \
     RETURNING no";
// Names, trigrams and vectors go with it by foreign key, words and edges by a trigger.
const PURGE: &str = "DELETE FROM rem_rows WHERE tenant = ?1 AND id = ?2 AND owner = ?3";

const ADD_NAME: &str = "INSERT INTO rem_names (tenant, key, owner, row, tab, alias, name, normal) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) RETURNING no";
const ADD_GRAMS: &str = "INSERT INTO rem_grams (scope, gram, size, name) SELECT ?1, value, ?2, ?3 FROM json_each(?4)";
const DROP_NAMES: &str = "DELETE FROM rem_names WHERE row = ?1";
const ADD_WORDS: &str = "INSERT INTO rem_words (rowid, words) VALUES (?1, ?2)";
const DROP_WORDS: &str = "DELETE FROM rem_words WHERE rowid = ?1";
const SAME_VECTOR: &str = "SELECT 1 FROM rem_vectors WHERE row = ?1 AND space = ?2 AND part = ?3 AND vector = ?4";
const DROP_VECTOR: &str = "DELETE FROM rem_vectors WHERE row = ?1 AND space = ?2";
const ADD_VECTOR: &str = "INSERT INTO rem_vectors (row, space, part, vector) VALUES (?1, ?2, ?3, ?4)";
const DROP_VECTORS: &str = "DELETE FROM rem_vectors WHERE row = ?1";
const SET_SPACE: &str = "UPDATE rem_rows SET embedded = ?2 WHERE no = ?1 AND embedded <> ?2";

const DROP_EDGES: &str = "DELETE FROM rem_edges WHERE tenant = ?1 AND source = ?2";
const UNLINK: &str =
    "DELETE FROM rem_edges WHERE tenant = ?1 AND source = ?2 AND owner = ?3 AND source_tab <> 3 AND (kind <> ?4) = ?5";
const MOVE_EDGES: &str = "UPDATE rem_edges SET source_tab = ?3 WHERE tenant = ?1 AND source = ?2 AND source_tab <> ?3";
const PUT_EDGE: &str = "INSERT INTO rem_edges (tenant, source, source_tab, owner, kind, target, target_key, weight, properties, \
     created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) \
     ON CONFLICT (tenant, source, kind, target_key) DO UPDATE SET source_tab = excluded.source_tab, owner = excluded.owner, \
     target = excluded.target, weight = excluded.weight, properties = excluded.properties, created_at = excluded.created_at";
const TABLE_OF: &str = "SELECT tab FROM rem_rows WHERE tenant = ?1 AND id = ?2 AND owner = ?3";
const REQUEST_OF: &str = "SELECT 3 FROM requests WHERE id = ?2 AND tenant = ?1 AND key = ?3";
const FORGET_REQUEST: &str = "DELETE FROM rem_edges WHERE tenant = ?1 AND source = ?2 AND source_tab = 3";

/// What is there of a row before it is written again.
struct Before {
    no: i64,
    table: RemTable,
    owner: Owner,
    name: String,
    text: String,
    aliases: Vec<String>,
    updated_at: UnixMs,
    hidden: bool,
}

impl SqliteStore {
    pub(super) async fn write_rem(
        &self,
        connection: &mut SqliteConnection,
        tenant: &TenantId,
        write: &RemWrite,
    ) -> Result<(), StoreError> {
        match write {
            RemWrite::Put { row, vector, edges } => {
                self.put_rem(connection, tenant, row, vector.as_ref(), edges.as_deref()).await
            }
            RemWrite::Link { owner, edges } => self.link_rem(connection, tenant, owner, edges).await,
            RemWrite::Unlink { owner, sources, kind, others } => {
                for source in sources {
                    let unlink =
                        of_row(UNLINK, tenant, *source).bind(owner.to_string()).bind(kind.as_str()).bind(*others);
                    self.run_rem(connection, unlink).await?;
                }
                Ok(())
            }
            RemWrite::Embed { id, updated_at, vector } => {
                self.embed_rem(connection, tenant, *id, *updated_at, vector).await
            }
            RemWrite::Hide { id, owner, at } => {
                let hide = of_row(HIDE, tenant, *id).bind(owner.to_string()).bind(stored(*at));
                let hidden = hide.fetch_optional(&mut *connection).await.map_err(|error| self.fault(error))?;
                match hidden {
                    Some(row) => {
                        let no = Cells::of("rem_rows", &row).take()?;
                        self.unlist_rem(connection, no).await
                    }
                    None => Ok(()),
                }
            }
            RemWrite::Purge { id, owner } => {
                self.run_rem(connection, of_row(PURGE, tenant, *id).bind(owner.to_string())).await
            }
            RemWrite::ForgetRequest { id } => self.run_rem(connection, of_row(FORGET_REQUEST, tenant, *id)).await,
        }
    }

    async fn put_rem(
        &self,
        connection: &mut SqliteConnection,
        tenant: &TenantId,
        row: &RemRow,
        vector: Option<&RemVector>,
        edges: Option<&[RemEdge]>,
    ) -> Result<(), StoreError> {
        if let Some(entry) = row.entry {
            let entry = query(HAS_ENTRY).bind(tenant.as_str()).bind(entry.to_bytes().to_vec());
            if entry.fetch_optional(&mut *connection).await.map_err(|error| self.fault(error))?.is_none() {
                return Ok(());
            }
        }
        let before = self.before_rem(connection, tenant, row.id).await?;
        if before.as_ref().is_some_and(|before| before.owner != row.owner) {
            return Ok(());
        }
        let no = self.put_columns(connection, tenant, row, before.is_some()).await?;
        let hidden = row.deleted_at.is_some();
        let vector = vector.filter(|vector| is_direction(vector));
        if hidden {
            self.unlist_rem(connection, no).await?;
        } else {
            let shown = before.as_ref().filter(|before| !before.hidden && before.table == row.table);
            if shown.is_none_or(|before| before.name != row.name || before.aliases != row.aliases) {
                self.set_names(connection, tenant, row, no).await?;
            }
            if shown.is_none_or(|before| before.name != row.name || before.text != row.text) {
                self.set_words(connection, tenant, row, no).await?;
            }
            if shown.is_none_or(|before| before.text != row.text) {
                self.drop_vectors(connection, no).await?;
            }
            if let Some(vector) = vector {
                let part = part_number(tenant, &row.owner, row.table, &vector.space);
                self.set_vector(connection, no, part, vector).await?;
            }
        }
        match edges {
            Some(edges) => {
                self.run_rem(connection, of_row(DROP_EDGES, tenant, row.id)).await?;
                for edge in edges {
                    self.put_edge(
                        connection,
                        tenant,
                        &row.owner,
                        row.table,
                        &RemEdge { source: row.id, ..edge.clone() },
                    )
                    .await?;
                }
                Ok(())
            }
            None if before.is_some_and(|before| before.table != row.table) => {
                self.run_rem(connection, of_row(MOVE_EDGES, tenant, row.id).bind(row.table.code())).await
            }
            None => Ok(()),
        }
    }

    async fn put_columns(
        &self,
        connection: &mut SqliteConnection,
        tenant: &TenantId,
        row: &RemRow,
        there: bool,
    ) -> Result<i64, StoreError> {
        let statement = of_row(if there { UPDATE } else { INSERT }, tenant, row.id)
            .bind(row.table.code())
            .bind(row.owner.to_string())
            .bind(row.name.as_str())
            .bind(row.text.as_str())
            .bind(row.label.as_str())
            .bind(row.uri.as_deref())
            .bind(texts_text(&row.tags)?)
            .bind(object_text(&row.data)?)
            .bind(texts_text(&row.aliases)?)
            .bind(stored_or_null(row.starts_at))
            .bind(stored_or_null(row.ends_at))
            .bind(row.previous.as_deref())
            .bind(row.part_of.map(|(of, _)| of.to_bytes().to_vec()))
            .bind(row.part_of.map(|(_, part)| part))
            .bind(row.entry.map(|entry| entry.to_bytes().to_vec()))
            .bind(row.made)
            .bind(stored(row.updated_at))
            .bind(stored_or_null(row.deleted_at))
            .bind(row.writer.as_ref().map(KeyId::as_str));
        let statement = if there { statement } else { statement.bind(stored(row.created_at)) };
        let put = statement.fetch_one(connection).await.map_err(|error| self.fault(error))?;
        Cells::of("rem_rows", &put).take()
    }

    async fn before_rem(
        &self,
        connection: &mut SqliteConnection,
        tenant: &TenantId,
        id: RemId,
    ) -> Result<Option<Before>, StoreError> {
        let found = of_row(FIND, tenant, id).fetch_optional(connection).await.map_err(|error| self.fault(error))?;
        let Some(found) = found else { return Ok(None) };
        let mut cells = Cells::of("rem_rows", &found);
        Ok(Some(Before {
            no: cells.take()?,
            table: table(&mut cells)?,
            owner: owner(&mut cells)?,
            name: cells.take()?,
            text: cells.take()?,
            aliases: {
                let aliases: &str = cells.take()?;
                texts_of(aliases).map_err(|error| cells.bad(&error))?
            },
            updated_at: cells.count()?,
            hidden: cells.count_or_null()?.is_some(),
        }))
    }

    async fn set_names(
        &self,
        connection: &mut SqliteConnection,
        tenant: &TenantId,
        row: &RemRow,
        no: i64,
    ) -> Result<(), StoreError> {
        self.run_rem(connection, query(DROP_NAMES).bind(no)).await?;
        let scope = scope_number(tenant, &row.owner);
        for (name, normal, alias) in names_of(row) {
            let added: i64 = query_scalar(ADD_NAME)
                .bind(tenant.as_str())
                .bind(key_digest(&normal).to_vec())
                .bind(row.owner.to_string())
                .bind(no)
                .bind(row.table.code())
                .bind(alias)
                .bind(name)
                .bind(&normal)
                .fetch_one(&mut *connection)
                .await
                .map_err(|error| self.fault(error))?;
            let grams = Grams::of(name);
            if !grams.is_empty() {
                let codes = number_list(grams.codes().iter().map(|code| stored(*code)));
                let add = query(ADD_GRAMS).bind(scope).bind(stored(grams.len() as u64)).bind(added).bind(codes);
                self.run_rem(connection, add).await?;
            }
        }
        Ok(())
    }

    async fn set_words(
        &self,
        connection: &mut SqliteConnection,
        tenant: &TenantId,
        row: &RemRow,
        no: i64,
    ) -> Result<(), StoreError> {
        self.run_rem(connection, query(DROP_WORDS).bind(no)).await?;
        let prefix = word_prefix(tenant, &row.owner, row.table);
        let words: Vec<String> = words_of(row).iter().map(|word| format!("{prefix}{word}")).collect();
        self.run_rem(connection, query(ADD_WORDS).bind(no).bind(words.join(" "))).await
    }

    async fn set_vector(
        &self,
        connection: &mut SqliteConnection,
        no: i64,
        part: i64,
        vector: &RemVector,
    ) -> Result<(), StoreError> {
        let bytes = vector_bytes(&vector.vector);
        let same = query(SAME_VECTOR).bind(no).bind(&vector.space).bind(part).bind(&bytes);
        if same.fetch_optional(&mut *connection).await.map_err(|error| self.fault(error))?.is_none() {
            self.run_rem(connection, query(DROP_VECTOR).bind(no).bind(&vector.space)).await?;
            let add = query(ADD_VECTOR).bind(no).bind(&vector.space).bind(part).bind(&bytes);
            self.run_rem(connection, add).await?;
        }
        self.run_rem(connection, query(SET_SPACE).bind(no).bind(&vector.space)).await
    }

    async fn embed_rem(
        &self,
        connection: &mut SqliteConnection,
        tenant: &TenantId,
        id: RemId,
        updated_at: UnixMs,
        vector: &RemVector,
    ) -> Result<(), StoreError> {
        let Some(before) = self.before_rem(connection, tenant, id).await? else { return Ok(()) };
        if before.hidden || before.updated_at != updated_at || !is_direction(vector) {
            return Ok(());
        }
        let part = part_number(tenant, &before.owner, before.table, &vector.space);
        self.set_vector(connection, before.no, part, vector).await
    }

    /// Takes a row out of everything by which rows are found.
    async fn unlist_rem(&self, connection: &mut SqliteConnection, no: i64) -> Result<(), StoreError> {
        self.run_rem(connection, query(DROP_NAMES).bind(no)).await?;
        self.run_rem(connection, query(DROP_WORDS).bind(no)).await?;
        self.drop_vectors(connection, no).await
    }

    async fn drop_vectors(&self, connection: &mut SqliteConnection, no: i64) -> Result<(), StoreError> {
        self.run_rem(connection, query(DROP_VECTORS).bind(no)).await?;
        self.run_rem(connection, query(SET_SPACE).bind(no).bind("")).await
    }

    async fn link_rem(
        &self,
        connection: &mut SqliteConnection,
        tenant: &TenantId,
        owner: &Owner,
        edges: &[RemEdge],
    ) -> Result<(), StoreError> {
        let mut known: Option<(RemId, bool, Option<RemTable>)> = None;
        for edge in edges {
            let of_request = edge.source_table == RemTable::Requests;
            let table = match known {
                Some((id, request, table)) if id == edge.source && request == of_request => table,
                _ => self.source_rem(connection, tenant, owner, edge).await?,
            };
            known = Some((edge.source, of_request, table));
            if let Some(table) = table {
                self.put_edge(connection, tenant, owner, table, edge).await?;
            }
        }
        Ok(())
    }

    /// Where the source of an edge is, if it is this owner's.
    async fn source_rem(
        &self,
        connection: &mut SqliteConnection,
        tenant: &TenantId,
        of: &Owner,
        edge: &RemEdge,
    ) -> Result<Option<RemTable>, StoreError> {
        let statement = match (edge.source_table, of) {
            (RemTable::Requests, Owner::Public) => return Ok(None),
            (RemTable::Requests, Owner::Key(key)) => {
                of_row(REQUEST_OF, tenant, edge.source).bind(key.as_str().to_owned())
            }
            _ => of_row(TABLE_OF, tenant, edge.source).bind(of.to_string()),
        };
        let found = statement.fetch_optional(connection).await.map_err(|error| self.fault(error))?;
        found.map(|row| table(&mut Cells::of("rem_rows", &row))).transpose()
    }

    async fn put_edge(
        &self,
        connection: &mut SqliteConnection,
        tenant: &TenantId,
        owner: &Owner,
        table: RemTable,
        edge: &RemEdge,
    ) -> Result<(), StoreError> {
        let put = of_row(PUT_EDGE, tenant, edge.source)
            .bind(table.code())
            .bind(owner.to_string())
            .bind(&edge.kind)
            .bind(&edge.target)
            .bind(key_digest(&normalise(&edge.target)).to_vec())
            .bind(rounded(edge.weight))
            .bind(object_text(&edge.properties)?)
            .bind(stored(edge.created_at));
        self.run_rem(connection, put).await
    }

    pub(super) async fn run_rem(
        &self,
        connection: &mut SqliteConnection,
        statement: RemStatement<'_>,
    ) -> Result<(), StoreError> {
        statement.execute(connection).await.map(|_| ()).map_err(|error| self.fault(error))
    }
}

/// A statement about one row, whose first two parameters are tenant and id.
pub(super) fn of_row<'q>(statement: &'static str, tenant: &'q TenantId, id: RemId) -> RemStatement<'q> {
    query(statement).bind(tenant.as_str()).bind(id.to_bytes().to_vec())
}

pub(super) type RemStatement<'q> = sqlx::query::Query<'q, Sqlite, sqlx::sqlite::SqliteArguments>;
