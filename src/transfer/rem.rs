//! REM data as a table: rows with their vectors and edges, and requests with the edges that leave them.
//!
//! A row that belongs to an entry is stored only where that entry is, and the edges of a request only where its ledger row is, so both
//! are carried before.

use serde_json::{Map, Value};

use super::codec::{BadBytes, Reader, Writer};
use super::table::{Rows, Table};
use crate::ids::{EntryId, KeyId, RemId, TenantId};
use crate::store::rem::{Owner, RemEdge, RemExported, RemRow, RemTable, RemVector, RemWrite};
use crate::store::{BoxFuture, StoreError, Stores};

pub(super) enum Rem {}

impl Rows for Rem {
    type Row = RemExported;
    type Key = (TenantId, RemId);
    const TABLE: Table = Table::Rem;
    const PAGE: u32 = 256;
    const FOLLOWS_DELETES: bool = true;

    fn key(row: &RemExported) -> (TenantId, RemId) {
        let edge = || row.edges.first().map(|(_, edge)| edge.source);
        let id = row.row.as_ref().map(|row| row.id).or_else(edge);
        (row.tenant.clone(), id.unwrap_or_else(|| RemId::from_bytes([0; 16])))
    }

    fn show((tenant, id): &(TenantId, RemId)) -> String {
        format!("{id}/{tenant}")
    }

    fn parse(text: &str) -> Option<(TenantId, RemId)> {
        let (id, tenant) = text.split_once('/')?;
        Some((TenantId::new(tenant), id.parse().ok()?))
    }

    fn encode(out: &mut Writer, exported: &RemExported) {
        let RemExported { tenant, row, vectors, edges } = exported;
        out.text(tenant.as_str());
        out.maybe(row.as_ref(), put_row);
        out.number(vectors.len() as u64);
        for RemVector { space, vector } in vectors {
            out.text(space);
            out.reals(vector);
        }
        out.number(edges.len() as u64);
        for (owner, edge) in edges {
            out.text(&owner.to_string());
            put_edge(out, edge);
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<RemExported, BadBytes> {
        Ok(RemExported {
            tenant: TenantId::new(reader.text()?),
            row: reader.maybe(row)?,
            vectors: reader.list(|r| Ok(RemVector { space: r.string()?, vector: r.reals()? }))?,
            edges: reader.list(|r| Ok((owner(r)?, edge(r)?)))?,
        })
    }

    /// Databases may give edges and vectors in orders of their own.
    fn compared(out: &mut Writer, row: &RemExported) {
        let mut row = row.clone();
        row.vectors.sort_by(|a, b| a.space.cmp(&b.space));
        row.edges.sort_by(|(_, a), (_, b)| (&a.kind, &a.target).cmp(&(&b.kind, &b.target)));
        Self::encode(out, &row);
    }

    fn page<'a>(
        stores: &'a Stores,
        after: Option<&'a (TenantId, RemId)>,
        limit: u32,
    ) -> BoxFuture<'a, Vec<RemExported>> {
        match &stores.rem {
            Some(rem) => rem.rem_export(after, limit),
            None => Box::pin(async { Ok(Vec::new()) }),
        }
    }

    fn one<'a>(stores: &'a Stores, key: &'a (TenantId, RemId)) -> BoxFuture<'a, Option<RemExported>> {
        Box::pin(async move {
            let before = u128::from_be_bytes(key.1.to_bytes()).saturating_sub(1);
            let before = (key.0.clone(), RemId::from_bytes(before.to_be_bytes()));
            Ok(Self::page(stores, Some(&before), 1).await?.into_iter().find(|row| Self::key(row) == *key))
        })
    }

    /// Not what a shadow has brought up to date meanwhile.
    fn mends(source: &RemExported, destination: &RemExported) -> bool {
        let at = |row: &RemExported| row.row.as_ref().map_or(0, |row| row.updated_at);
        at(source) >= at(destination)
    }

    /// Rows are written anew, so that nothing of an older form is left.
    fn write<'a>(stores: &'a Stores, rows: &'a [RemExported]) -> BoxFuture<'a, ()> {
        // First all of the one and then all of the other, because stores put neighbours of one kind together.
        Box::pin(apply(stores, rows, &[forget, put]))
    }

    fn remove<'a>(stores: &'a Stores, rows: &'a [RemExported]) -> BoxFuture<'a, ()> {
        Box::pin(apply(stores, rows, &[forget]))
    }

    fn weight(row: &RemExported) -> usize {
        let vectors = row.vectors.iter().map(|vector| 64 + 4 * vector.vector.len()).sum::<usize>();
        let texts = row.row.as_ref().map_or(0, |row| 512 + row.text.len() + row.name.len());
        256 + vectors + texts + 256 * row.edges.len()
    }
}

/// Writes rows, one transaction for each run of rows of one tenant.
async fn apply(
    stores: &Stores,
    rows: &[RemExported],
    steps: &[fn(&RemExported, &mut Vec<RemWrite>)],
) -> Result<(), StoreError> {
    let Some(rem) = &stores.rem else { return Ok(()) };
    for run in rows.chunk_by(|a, b| a.tenant == b.tenant) {
        let Some(first) = run.first() else { continue };
        let mut writes = Vec::new();
        for step in steps {
            run.iter().for_each(|row| step(row, &mut writes));
        }
        rem.rem_apply(&first.tenant, &writes).await?;
    }
    Ok(())
}

fn put(exported: &RemExported, writes: &mut Vec<RemWrite>) {
    let Some(row) = &exported.row else {
        for run in exported.edges.chunk_by(|(a, _), (b, _)| a == b) {
            let Some((owner, _)) = run.first() else { continue };
            writes.push(RemWrite::Link {
                owner: owner.clone(),
                edges: run.iter().map(|(_, edge)| edge.clone()).collect(),
            });
        }
        return;
    };
    let mut vectors = exported.vectors.iter().cloned();
    writes.push(RemWrite::Put {
        row: Box::new(row.clone()),
        vector: vectors.next(),
        edges: Some(exported.edges.iter().map(|(_, edge)| edge.clone()).collect()),
    });
    writes.extend(vectors.map(|vector| RemWrite::Embed { id: row.id, updated_at: row.updated_at, vector }));
}

fn forget(exported: &RemExported, writes: &mut Vec<RemWrite>) {
    writes.push(match &exported.row {
        Some(row) => RemWrite::Purge { id: row.id, owner: row.owner.clone() },
        None => RemWrite::ForgetRequest { id: Rem::key(exported).1 },
    });
}

fn put_row(out: &mut Writer, row: &RemRow) {
    let RemRow {
        id,
        table,
        owner,
        name,
        text,
        label,
        uri,
        tags,
        data,
        aliases,
        starts_at,
        ends_at,
        previous,
        part_of,
        entry,
        made,
        writer,
        created_at,
        updated_at,
        deleted_at,
    } = row;
    out.raw(&id.to_bytes());
    out.small(table.code().unsigned_abs());
    out.text(&owner.to_string());
    out.text(name);
    out.text(text);
    out.text(label);
    out.maybe(uri.as_deref(), Writer::text);
    put_texts(out, tags);
    put_data(out, data);
    put_texts(out, aliases);
    out.maybe(*starts_at, Writer::number);
    out.maybe(*ends_at, Writer::number);
    out.maybe(previous.as_deref(), Writer::text);
    out.maybe(*part_of, |out, (first, number)| {
        out.raw(&first.to_bytes());
        out.number(u64::from(number));
    });
    out.maybe(*entry, |out, entry| out.raw(&entry.to_bytes()));
    out.flag(*made);
    out.maybe(writer.as_ref(), |out, writer| out.text(writer.as_str()));
    out.number(*created_at);
    out.number(*updated_at);
    out.maybe(*deleted_at, Writer::number);
}

fn row(reader: &mut Reader<'_>) -> Result<RemRow, BadBytes> {
    Ok(RemRow {
        id: RemId::from_bytes(reader.array()?),
        table: table(reader)?,
        owner: owner(reader)?,
        name: reader.string()?,
        text: reader.string()?,
        label: reader.string()?,
        uri: reader.maybe(Reader::string)?,
        tags: reader.list(Reader::string)?,
        data: data(reader)?,
        aliases: reader.list(Reader::string)?,
        starts_at: reader.maybe(Reader::number)?,
        ends_at: reader.maybe(Reader::number)?,
        previous: reader.maybe(Reader::string)?,
        part_of: reader.maybe(|r| {
            let first = RemId::from_bytes(r.array()?);
            let number = u32::try_from(r.number()?).map_err(|_| BadBytes("a part with too large a number"))?;
            Ok((first, number))
        })?,
        entry: reader.maybe(|r| Ok(EntryId::from_bytes(r.array()?)))?,
        made: reader.flag()?,
        writer: reader.maybe(|r| Ok(KeyId::new(r.text()?)))?,
        created_at: reader.number()?,
        updated_at: reader.number()?,
        deleted_at: reader.maybe(Reader::number)?,
    })
}

fn put_edge(out: &mut Writer, edge: &RemEdge) {
    let RemEdge { source, source_table, kind, target, weight, properties, created_at } = edge;
    out.raw(&source.to_bytes());
    out.small(source_table.code().unsigned_abs());
    out.text(kind);
    out.text(target);
    out.number(weight.to_bits());
    put_data(out, properties);
    out.number(*created_at);
}

fn edge(reader: &mut Reader<'_>) -> Result<RemEdge, BadBytes> {
    Ok(RemEdge {
        source: RemId::from_bytes(reader.array()?),
        source_table: table(reader)?,
        kind: reader.string()?,
        target: reader.string()?,
        weight: f64::from_bits(reader.number()?),
        properties: data(reader)?,
        created_at: reader.number()?,
    })
}

fn table(reader: &mut Reader<'_>) -> Result<RemTable, BadBytes> {
    RemTable::of_code(i64::from(reader.small()?)).ok_or(BadBytes("a row of no table"))
}

fn owner(reader: &mut Reader<'_>) -> Result<Owner, BadBytes> {
    reader.text()?.parse().map_err(|()| BadBytes("a row of no owner"))
}

fn put_texts(out: &mut Writer, texts: &[String]) {
    out.number(texts.len() as u64);
    texts.iter().for_each(|text| out.text(text));
}

fn put_data(out: &mut Writer, data: &Map<String, Value>) {
    // An object of JSON values always has a text.
    out.text(&serde_json::to_string(data).unwrap_or_default());
}

fn data(reader: &mut Reader<'_>) -> Result<Map<String, Value>, BadBytes> {
    serde_json::from_str(reader.text()?).map_err(|_| BadBytes("an object that is none"))
}
