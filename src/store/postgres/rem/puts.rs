//! The statements that write rows, their names and their edges.

use std::collections::{HashMap, HashSet};

use sqlx::postgres::PgConnection;
use sqlx::query;

use super::super::super::StoreError;
use super::super::super::rem::{
    Grams, Owner, RemEdge, RemRow, RemTable, key_digest, names_of, normalise, object_text, rounded, texts_text,
    words_of,
};
use super::super::PostgresStore;
use super::super::cells::{Cells, escaped, escaped_or_null, stored, stored_or_null};
use super::rows::{scope_number, tags_text, word_prefix};
use super::similar::Signed;
use super::writes::{Put, Stored};
use crate::ids::{EntryId, KeyId, RemId, TenantId};

/// Bytes of different words of one row: a `tsvector` holds less than a megabyte.
const MOST_WORDS: usize = 900_000;
/// How far the time in a request's id may be from when it began, milliseconds.
pub(super) const NEAR_MS: u64 = 86_400_000;

const THERE: &str = "SELECT r.id, r.text = n.text AND r.tab = n.tab FROM rem_rows AS r \
    JOIN unnest($2::bytea[], $3::text[], $4::smallint[]) AS n (id, text, tab) ON n.id = r.id \
    WHERE r.tenant = $1 ORDER BY r.id FOR UPDATE OF r";
// A row whose entry was deleted meanwhile must not fail the batch it is in. What another owner has stays.
const PUT: &str = "INSERT INTO rem_rows AS r (tenant, id, tab, owner, name, text, label, uri, tags, data, aliases, starts_at, \
        ends_at, previous, part_of, part, entry, made, created_at, updated_at, deleted_at, words, writer) \
    SELECT $1, n.id, n.tab, n.owner, n.name, n.text, n.label, n.uri, n.tags, n.data, n.aliases, n.starts_at, n.ends_at, \
        n.previous, n.part_of, n.part, n.entry, n.made, n.created_at, n.updated_at, n.deleted_at, \
        array_to_tsvector(string_to_array(n.words, ' ')), n.writer \
    FROM unnest($2::bytea[], $3::smallint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], \
        $10::text[], $11::text[], $12::bigint[], $13::bigint[], $14::text[], $15::bytea[], $16::bigint[], $17::bytea[], \
        $18::boolean[], $19::bigint[], $20::bigint[], $21::bigint[], $22::text[], $23::text[]) \
        AS n (id, tab, owner, name, text, label, uri, tags, data, aliases, starts_at, ends_at, previous, part_of, part, \
            entry, made, created_at, updated_at, deleted_at, words, writer) \
    WHERE n.entry IS NULL OR EXISTS (SELECT 1 FROM entries AS e WHERE e.tenant = $1 AND e.id = n.entry) \
    ORDER BY n.id \
    ON CONFLICT (tenant, id) DO UPDATE SET tab = EXCLUDED.tab, name = EXCLUDED.name, text = EXCLUDED.text, \
        label = EXCLUDED.label, uri = EXCLUDED.uri, tags = EXCLUDED.tags, data = EXCLUDED.data, aliases = EXCLUDED.aliases, \
        starts_at = EXCLUDED.starts_at, ends_at = EXCLUDED.ends_at, previous = EXCLUDED.previous, \
        part_of = EXCLUDED.part_of, part = EXCLUDED.part, entry = EXCLUDED.entry, made = EXCLUDED.made, \
        updated_at = EXCLUDED.updated_at, deleted_at = EXCLUDED.deleted_at, words = EXCLUDED.words, writer = EXCLUDED.writer \
    WHERE r.owner = EXCLUDED.owner RETURNING no, id, xmax::text = '0'";
const DROP_NAMES: &str = "DELETE FROM rem_names AS m WHERE m.row = ANY ($1) AND NOT EXISTS ( \
    SELECT 1 FROM unnest($2::bigint[], $3::smallint[], $4::boolean[], $5::text[]) AS n (row, tab, alias, name) \
    WHERE n.row = m.row AND n.tab = m.tab AND n.alias = m.alias AND n.name = m.name)";
const PUT_NAMES: &str = "INSERT INTO rem_names (tenant, key, owner, row, tab, alias, name, normal, scope, size, grams) \
    SELECT $1, n.key, n.owner, n.row, n.tab, n.alias, n.name, n.normal, n.scope, n.size, ('x' || n.grams)::bit(512) \
    FROM unnest($2::bytea[], $3::text[], $4::bigint[], $5::smallint[], $6::boolean[], $7::text[], $8::text[], $9::bigint[], \
        $10::integer[], $11::text[]) AS n (key, owner, row, tab, alias, name, normal, scope, size, grams) \
    WHERE NOT EXISTS (SELECT 1 FROM rem_names AS m \
        WHERE m.row = n.row AND m.tab = n.tab AND m.alias = n.alias AND m.name = n.name)";
const DROP_EDGES: &str = "DELETE FROM rem_edges AS e WHERE e.tenant = $1 AND e.source = ANY ($2) AND NOT EXISTS ( \
    SELECT 1 FROM unnest($3::bytea[], $4::text[], $5::bytea[]) AS n (source, kind, key) \
    WHERE n.source = e.source AND n.kind = e.kind AND n.key = e.target_key)";
// The source is locked, so that no edge is left behind by one that goes in this moment.
const PUT_EDGES: &str = "INSERT INTO rem_edges AS e (tenant, source, source_tab, owner, kind, target, target_key, weight, \
        properties, created_at) \
    SELECT $1, n.source, r.tab, r.owner, n.kind, n.target, n.key, n.weight, n.properties, n.created_at \
    FROM unnest($3::bytea[], $4::text[], $5::text[], $6::bytea[], $7::double precision[], $8::text[], $9::bigint[]) \
        AS n (source, kind, target, key, weight, properties, created_at) \
    JOIN rem_rows AS r ON r.tenant = $1 AND r.id = n.source AND r.owner = $2 \
    ORDER BY n.source, n.kind, n.key FOR KEY SHARE OF r \
    ON CONFLICT (tenant, source, kind, target_key) DO UPDATE SET source_tab = EXCLUDED.source_tab, \
        target = EXCLUDED.target, weight = EXCLUDED.weight, \
        properties = EXCLUDED.properties, created_at = EXCLUDED.created_at WHERE e.owner = EXCLUDED.owner";
const PUT_EDGES_OF_REQUESTS: &str = "INSERT INTO rem_edges AS e (tenant, source, source_tab, owner, kind, target, \
        target_key, weight, properties, created_at) \
    SELECT $1, n.source, 3, $2, n.kind, n.target, n.key, n.weight, n.properties, n.created_at \
    FROM unnest($3::bytea[], $4::text[], $5::text[], $6::bytea[], $7::double precision[], $8::text[], $9::bigint[]) \
        AS n (source, kind, target, key, weight, properties, created_at) \
    ORDER BY n.source, n.kind, n.key \
    ON CONFLICT (tenant, source, kind, target_key) DO UPDATE SET source_tab = EXCLUDED.source_tab, \
        target = EXCLUDED.target, weight = EXCLUDED.weight, \
        properties = EXCLUDED.properties, created_at = EXCLUDED.created_at WHERE e.owner = EXCLUDED.owner";
// With the time only its month is looked at.
const REQUESTS: &str = "SELECT k.id FROM unnest($1::bytea[], $2::bigint[], $3::bigint[]) AS k (id, since, until) \
    WHERE EXISTS (SELECT 1 FROM requests AS r WHERE r.id = k.id AND r.started_at BETWEEN k.since AND k.until \
        AND r.tenant = $4 AND r.key = $5)";

/// A name or alias of a row.
struct Name<'w> {
    stored: Stored<'w>,
    alias: bool,
    name: &'w str,
    normal: String,
    grams: Signed,
}

impl PostgresStore {
    /// Writes rows of different ids, which are in order. Returns those that are written, and the numbers of those whose vectors
    /// are of another text or of a row that is hidden now.
    pub(super) async fn write_rows<'w>(
        &self,
        connection: &mut PgConnection,
        tenant: &TenantId,
        puts: &[Put<'w>],
    ) -> Result<(Vec<Stored<'w>>, Vec<i64>), StoreError> {
        let there = query(THERE)
            .bind(tenant.as_str())
            .bind(column(puts, |put| put.row.id.to_bytes()))
            .bind(column(puts, |put| escaped(&put.row.text)))
            .bind(column(puts, |put| put.row.table.code()))
            .fetch_all(&mut *connection)
            .await
            .map_err(|error| self.fault(error))?;
        let mut same = HashSet::new();
        for row in &there {
            let mut cells = Cells::of("rem_rows", row);
            let id = RemId::from_bytes(cells.id()?);
            if cells.take()? {
                same.insert(id);
            }
        }
        let json = |cell: &dyn Fn(&RemRow) -> Result<String, StoreError>| {
            puts.iter().map(|put| cell(put.row)).collect::<Result<Vec<_>, _>>()
        };
        let done = query(PUT)
            .bind(tenant.as_str())
            .bind(column(puts, |put| put.row.id.to_bytes()))
            .bind(column(puts, |put| put.row.table.code()))
            .bind(column(puts, |put| put.row.owner.to_string()))
            .bind(column(puts, |put| escaped(&put.row.name)))
            .bind(column(puts, |put| escaped(&put.row.text)))
            .bind(column(puts, |put| escaped(&put.row.label)))
            .bind(column(puts, |put| escaped_or_null(put.row.uri.as_deref())))
            .bind(json(&|row| tags_text(&row.tags))?)
            .bind(json(&|row| object_text(&row.data))?)
            .bind(json(&|row| texts_text(&row.aliases))?)
            .bind(column(puts, |put| stored_or_null(put.row.starts_at)))
            .bind(column(puts, |put| stored_or_null(put.row.ends_at)))
            .bind(column(puts, |put| escaped_or_null(put.row.previous.as_deref())))
            .bind(column(puts, |put| put.row.part_of.map(|(of, _)| of.to_bytes())))
            .bind(column(puts, |put| put.row.part_of.map(|(_, part)| i64::from(part))))
            .bind(column(puts, |put| put.row.entry.map(EntryId::to_bytes)))
            .bind(column(puts, |put| put.row.made))
            .bind(column(puts, |put| stored(put.row.created_at)))
            .bind(column(puts, |put| stored(put.row.updated_at)))
            .bind(column(puts, |put| stored_or_null(put.row.deleted_at)))
            .bind(column(puts, |put| words_text(tenant, put.row)))
            .bind(column(puts, |put| escaped_or_null(put.row.writer.as_ref().map(KeyId::as_str))))
            .fetch_all(connection)
            .await
            .map_err(|error| self.fault(error))?;
        let rows: HashMap<RemId, &'w RemRow> = puts.iter().map(|put| (put.row.id, put.row)).collect();
        let (mut written, mut stale) = (Vec::with_capacity(done.len()), Vec::new());
        for done in &done {
            let mut cells = Cells::of("rem_rows", done);
            let (no, id) = (cells.take()?, RemId::from_bytes(cells.id()?));
            let new: bool = cells.take()?;
            let Some(row) = rows.get(&id).copied() else { continue };
            // One that somebody else wrote in this moment is taken for another text.
            if !new && (row.deleted_at.is_some() || !same.contains(&id)) {
                stale.push(no);
            }
            written.push(Stored { no, row });
        }
        Ok((written, stale))
    }

    /// The names of these rows become those that they have now. Names that stay are not written again.
    pub(super) async fn write_names(
        &self,
        connection: &mut PgConnection,
        tenant: &TenantId,
        rows: &[Stored<'_>],
    ) -> Result<(), StoreError> {
        let names: Vec<Name<'_>> = rows
            .iter()
            .filter(|stored| stored.row.deleted_at.is_none())
            .flat_map(|stored| {
                let named = |(name, normal, alias)| Name {
                    stored: *stored,
                    alias,
                    name,
                    normal,
                    grams: Signed::of(&Grams::of(name)),
                };
                names_of(stored.row).into_iter().map(named)
            })
            .collect();
        query(DROP_NAMES)
            .bind(rows.iter().map(|stored| stored.no).collect::<Vec<_>>())
            .bind(column(&names, |name| name.stored.no))
            .bind(column(&names, |name| name.stored.row.table.code()))
            .bind(column(&names, |name| name.alias))
            .bind(column(&names, |name| escaped(name.name)))
            .execute(&mut *connection)
            .await
            .map_err(|error| self.fault(error))?;
        query(PUT_NAMES)
            .bind(tenant.as_str())
            .bind(column(&names, |name| key_digest(&name.normal)))
            .bind(column(&names, |name| name.stored.row.owner.to_string()))
            .bind(column(&names, |name| name.stored.no))
            .bind(column(&names, |name| name.stored.row.table.code()))
            .bind(column(&names, |name| name.alias))
            .bind(column(&names, |name| escaped(name.name)))
            .bind(column(&names, |name| escaped(&name.normal)))
            .bind(column(&names, |name| scope_number(tenant, &name.stored.row.owner)))
            .bind(column(&names, |name| name.grams.size))
            .bind(column(&names, |name| name.grams.signature.as_str()))
            .execute(connection)
            .await
            .map(drop)
            .map_err(|error| self.fault(error))
    }

    /// The edges of these rows become these.
    pub(super) async fn replace_edges(
        &self,
        connection: &mut PgConnection,
        tenant: &TenantId,
        rows: &[(&RemRow, &[RemEdge])],
    ) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut by_owner: HashMap<&Owner, Vec<Edge<'_>>> = HashMap::new();
        for (row, edges) in rows {
            by_owner.entry(&row.owner).or_default().extend(edges.iter().map(|edge| Edge::of(row.id, edge)));
        }
        let all: Vec<&Edge<'_>> = by_owner.values().flatten().collect();
        query(DROP_EDGES)
            .bind(tenant.as_str())
            .bind(column(rows, |(row, _)| row.id.to_bytes()))
            .bind(column(&all, |edge| edge.source.to_bytes()))
            .bind(column(&all, |edge| escaped(&edge.edge.kind)))
            .bind(column(&all, |edge| edge.key))
            .execute(&mut *connection)
            .await
            .map_err(|error| self.fault(error))?;
        for (owner, edges) in by_owner {
            self.write_edges(connection, PUT_EDGES, (tenant, owner), edges).await?;
        }
        Ok(())
    }

    pub(super) async fn link(
        &self,
        connection: &mut PgConnection,
        tenant: &TenantId,
        owner: &Owner,
        edges: Vec<&RemEdge>,
    ) -> Result<(), StoreError> {
        let edges = edges.into_iter().map(|edge| Edge::of(edge.source, edge));
        let (mut of_requests, of_rows): (Vec<_>, Vec<_>) =
            edges.partition(|edge| edge.edge.source_table == RemTable::Requests);
        self.write_edges(connection, PUT_EDGES, (tenant, owner), of_rows).await?;
        let Owner::Key(key) = owner else { return Ok(()) };
        if of_requests.is_empty() {
            return Ok(());
        }
        let ids: HashSet<RemId> = of_requests.iter().map(|edge| edge.source).collect();
        let ids: Vec<RemId> = ids.into_iter().collect();
        let found = query(REQUESTS)
            .bind(column(&ids, |id| id.to_bytes()))
            .bind(column(&ids, |id| began(*id).0))
            .bind(column(&ids, |id| began(*id).1))
            .bind(tenant.as_str())
            .bind(key.as_str())
            .fetch_all(&mut *connection)
            .await
            .map_err(|error| self.fault(error))?;
        let own: HashSet<RemId> =
            found.iter().map(|row| Cells::of("requests", row).id().map(RemId::from_bytes)).collect::<Result<_, _>>()?;
        of_requests.retain(|edge| own.contains(&edge.source));
        self.write_edges(connection, PUT_EDGES_OF_REQUESTS, (tenant, owner), of_requests).await
    }

    async fn write_edges(
        &self,
        connection: &mut PgConnection,
        statement: &'static str,
        (tenant, owner): (&TenantId, &Owner),
        edges: Vec<Edge<'_>>,
    ) -> Result<(), StoreError> {
        // Of equal ones the last stays, as if they came one after another.
        let mut seen = HashSet::with_capacity(edges.len());
        let mut edges: Vec<Edge<'_>> =
            edges.into_iter().rev().filter(|edge| seen.insert((edge.source, &edge.edge.kind, edge.key))).collect();
        edges.sort_by(|a, b| (a.source, &a.edge.kind, a.key).cmp(&(b.source, &b.edge.kind, b.key)));
        if edges.is_empty() {
            return Ok(());
        }
        let properties = edges.iter().map(|edge| object_text(&edge.edge.properties)).collect::<Result<Vec<_>, _>>()?;
        query(statement)
            .bind(tenant.as_str())
            .bind(owner.to_string())
            .bind(column(&edges, |edge| edge.source.to_bytes()))
            .bind(column(&edges, |edge| escaped(&edge.edge.kind)))
            .bind(column(&edges, |edge| escaped(&edge.edge.target)))
            .bind(column(&edges, |edge| edge.key))
            .bind(column(&edges, |edge| rounded(edge.edge.weight)))
            .bind(properties)
            .bind(column(&edges, |edge| stored(edge.edge.created_at)))
            .execute(connection)
            .await
            .map(drop)
            .map_err(|error| self.fault(error))
    }
}

/// An edge of a source, with the digest of its target.
struct Edge<'w> {
    source: RemId,
    edge: &'w RemEdge,
    key: [u8; 32],
}

impl<'w> Edge<'w> {
    fn of(source: RemId, edge: &'w RemEdge) -> Self {
        Self { source, edge, key: key_digest(&normalise(&edge.target)) }
    }
}

/// From when to when a request of this id may have begun.
pub(super) fn began(id: RemId) -> (i64, i64) {
    let [a, b, c, d, e, f, ..] = id.to_bytes();
    let at = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
    (stored(at.saturating_sub(NEAR_MS)), stored(at.saturating_add(NEAR_MS)))
}

/// The words of a row with blanks between them, each behind whose it is; `None` for a hidden row.
fn words_text(tenant: &TenantId, row: &RemRow) -> Option<String> {
    if row.deleted_at.is_some() {
        return None;
    }
    let prefix = word_prefix(tenant, &row.owner, row.table);
    let mut text = String::new();
    for word in words_of(row) {
        if word.is_empty() || text.len() + prefix.len() + word.len() > MOST_WORDS {
            continue;
        }
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&prefix);
        text.push_str(&word);
    }
    Some(text)
}

/// One column of many rows.
fn column<'r, R, T>(rows: &'r [R], cell: impl Fn(&'r R) -> T) -> Vec<T> {
    rows.iter().map(cell).collect()
}
