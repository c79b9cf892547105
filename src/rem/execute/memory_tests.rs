//! A small store in memory, for tests of what is done above a store; it counts how often it is asked.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::clock::UnixMs;
use crate::ids::{EntryId, KeyId, RemId, TenantId};
use crate::store::rem::*;
use crate::store::{BoxFuture, Cursor, Exported, StoreError};

#[derive(Default)]
pub(in crate::rem) struct Memory {
    pub(in crate::rem) rows: Vec<(TenantId, RemRow, Option<Vec<f32>>)>,
    pub(super) edges: Vec<(TenantId, Owner, RemEdge)>,
    pub(super) calls: AtomicUsize,
    pub(super) fails: bool,
}

impl Memory {
    fn seen(&self, scope: &Scope) -> impl Iterator<Item = &(TenantId, RemRow, Option<Vec<f32>>)> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.rows.iter().filter(move |(tenant, row, _)| {
            *tenant == scope.tenant && scope.sees(&row.owner) && row.deleted_at.is_none()
        })
    }

    fn wanted(&self, scope: &Scope, wanted: RemEdges<'_>, with: impl Fn(&RemEdge) -> bool) -> Vec<RemEdge> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let fits = |edge: &RemEdge| {
            (wanted.kinds.is_empty() || wanted.kinds.contains(&edge.kind)) && edge.weight >= wanted.min_weight
        };
        let seen = self.edges.iter().filter(|(tenant, owner, _)| *tenant == scope.tenant && scope.sees(owner));
        let mut edges: Vec<RemEdge> =
            seen.map(|(_, _, edge)| edge).filter(|edge| fits(edge) && with(edge)).cloned().collect();
        edges.sort_by(|a, b| {
            b.weight
                .total_cmp(&a.weight)
                .then_with(|| (&a.kind, &a.target, a.source).cmp(&(&b.kind, &b.target, b.source)))
        });
        edges.truncate(usize::try_from(wanted.limit).unwrap());
        edges
    }

    fn now<'a, T: Send + 'a>(&self, value: T) -> BoxFuture<'a, T> {
        let fails = self.fails;
        Box::pin(async move { if fails { Err(StoreError::Closed) } else { Ok(value) } })
    }
}

fn names(row: &RemRow) -> impl Iterator<Item = (bool, &String)> {
    std::iter::once((false, &row.name)).chain(row.aliases.iter().map(|alias| (true, alias)))
}

fn fits(row: &RemRow, question: &RemQuestion<'_>) -> bool {
    row.table == question.table && question.label.is_none_or(|label| row.label == label)
}

impl RemStore for Memory {
    fn rem_apply<'a>(&'a self, _: &'a TenantId, _: &'a [RemWrite]) -> BoxFuture<'a, ()> {
        self.now(())
    }

    fn rem_statements(&self, _: &Scope, read: RemRead<'_>) -> Vec<String> {
        let told = format!("{read:?}");
        vec![told.split('(').next().unwrap().to_owned()]
    }

    fn rem_named<'a>(
        &'a self,
        scope: &'a Scope,
        keys: &'a [String],
        tables: &'a [RemTable],
        limit: u32,
    ) -> BoxFuture<'a, Vec<RemNamed>> {
        // Maps and sets, because some tests have thousands of rows and ask for hundreds of keys.
        let mut places = HashMap::new();
        for (place, key) in keys.iter().enumerate() {
            places.entry(key.as_str()).or_insert(place);
        }
        let mut found = Vec::new();
        for (_, row, _) in self.seen(scope).filter(|(_, row, _)| tables.is_empty() || tables.contains(&row.table)) {
            for (alias, name) in names(row) {
                if let Some(asked) = places.get(normalise(name).as_str()).copied() {
                    found.push(RemNamed { asked, alias, name: name.clone(), row: row.clone() });
                }
            }
        }
        found.sort_by(|a, b| (a.asked, a.row.table, &a.name, a.row.id).cmp(&(b.asked, b.row.table, &b.name, b.row.id)));
        found.truncate(limit as usize);
        self.now(found)
    }

    fn rem_similar<'a>(
        &'a self,
        scope: &'a Scope,
        text: &'a str,
        tables: &'a [RemTable],
        least: f64,
        limit: u32,
    ) -> BoxFuture<'a, Vec<RemSimilar>> {
        let grams = Grams::of(text);
        let mut found = Vec::new();
        for (_, row, _) in self.seen(scope).filter(|(_, row, _)| tables.is_empty() || tables.contains(&row.table)) {
            for (_, name) in names(row) {
                let score = grams.similarity(&Grams::of(name));
                if score >= least && score > 0.0 {
                    found.push((score, RemSimilar { id: row.id, table: row.table, name: name.clone() }));
                }
            }
        }
        found.sort_by(|(a, left), (b, right)| {
            b.total_cmp(a).then_with(|| (&left.name, left.id).cmp(&(&right.name, right.id)))
        });
        self.now(found.into_iter().take(usize::try_from(limit).unwrap()).map(|(_, similar)| similar).collect())
    }

    fn rem_nearest<'a>(
        &'a self,
        scope: &'a Scope,
        vector: &'a RemVector,
        least: f64,
        question: &'a RemQuestion<'a>,
    ) -> BoxFuture<'a, Vec<RemNear>> {
        let near = |(_, row, own): &(TenantId, RemRow, Option<Vec<f32>>)| {
            let cosine = cosine(own.as_ref()?, &vector.vector);
            (fits(row, question) && cosine >= least).then(|| RemNear { row: row.clone(), cosine })
        };
        let mut found: Vec<RemNear> = self.seen(scope).filter_map(near).collect();
        found.sort_by(|a, b| {
            b.cosine.total_cmp(&a.cosine).then_with(|| (&a.row.name, a.row.id).cmp(&(&b.row.name, b.row.id)))
        });
        found.truncate(usize::try_from(question.limit).unwrap());
        self.now(found)
    }

    fn rem_worded<'a>(
        &'a self,
        scope: &'a Scope,
        words: &'a [String],
        question: &'a RemQuestion<'a>,
    ) -> BoxFuture<'a, Vec<RemRow>> {
        let has = |row: &RemRow| {
            let text = tokens(&format!("{} {}", row.name, row.text));
            words.iter().filter(|word| text.contains(word)).count()
        };
        let mut found: Vec<RemRow> = self
            .seen(scope)
            .map(|(_, row, _)| row)
            .filter(|row| fits(row, question) && has(row) > 0)
            .cloned()
            .collect();
        found.sort_by_key(|row| (has(row) < words.len(), std::cmp::Reverse(row.created_at), row.id));
        found.truncate(usize::try_from(question.limit).unwrap());
        self.now(found)
    }

    fn rem_cosines<'a>(
        &'a self,
        scope: &'a Scope,
        vector: &'a RemVector,
        ids: &'a [RemId],
    ) -> BoxFuture<'a, Vec<(RemId, f64)>> {
        let of = |(_, row, own): &(TenantId, RemRow, Option<Vec<f32>>)| {
            ids.contains(&row.id).then_some((row.id, cosine(own.as_ref()?, &vector.vector)))
        };
        let found = self.seen(scope).filter_map(of).collect();
        self.now(found)
    }

    fn rem_rows<'a>(&'a self, scope: &'a Scope, ids: &'a [RemId]) -> BoxFuture<'a, Vec<RemRow>> {
        let ids: HashSet<&RemId> = ids.iter().collect();
        let found = self.seen(scope).map(|(_, row, _)| row).filter(|row| ids.contains(&row.id)).cloned().collect();
        self.now(found)
    }

    fn rem_list<'a>(
        &'a self,
        scope: &'a Scope,
        table: RemTable,
        after: Option<RemId>,
        limit: u32,
    ) -> BoxFuture<'a, Vec<RemRow>> {
        let follows = |row: &&RemRow| row.table == table && after.is_none_or(|after| row.id > after);
        let mut found: Vec<RemRow> = self.seen(scope).map(|(_, row, _)| row).filter(follows).cloned().collect();
        found.sort_by_key(|row| row.id);
        found.truncate(limit as usize);
        self.now(found)
    }

    fn rem_edges_from<'a>(
        &'a self,
        scope: &'a Scope,
        sources: &'a [RemId],
        wanted: RemEdges<'a>,
    ) -> BoxFuture<'a, Vec<RemEdge>> {
        let sources: HashSet<&RemId> = sources.iter().collect();
        self.now(self.wanted(scope, wanted, |edge| sources.contains(&edge.source)))
    }

    fn rem_edges_to<'a>(
        &'a self,
        scope: &'a Scope,
        keys: &'a [String],
        wanted: RemEdges<'a>,
    ) -> BoxFuture<'a, Vec<RemEdge>> {
        let keys: HashSet<&str> = keys.iter().map(String::as_str).collect();
        self.now(self.wanted(scope, wanted, |edge| keys.contains(normalise(&edge.target).as_str())))
    }

    fn rem_unembedded<'a>(&'a self, _: &'a str, _: u32) -> BoxFuture<'a, Vec<(TenantId, RemRow)>> {
        self.now(Vec::new())
    }

    fn rem_stored<'a>(&'a self, _: &'a Scope, _: &'a [RemId]) -> BoxFuture<'a, Vec<RemRow>> {
        self.now(Vec::new())
    }

    fn rem_forget(&self, _: UnixMs, _: u32) -> BoxFuture<'_, u64> {
        self.now(0)
    }

    fn rem_forget_tenant<'a>(&'a self, _: &'a TenantId, _: Option<&'a Owner>, _: u32) -> BoxFuture<'a, u64> {
        self.now(0)
    }

    fn rem_export<'a>(&'a self, _: Option<&'a (TenantId, RemId)>, _: u32) -> BoxFuture<'a, Vec<RemExported>> {
        self.now(Vec::new())
    }

    fn rem_entries_without_row<'a>(
        &'a self,
        _: UnixMs,
        _: Option<EntryId>,
        _: Option<&'a Cursor>,
        _: u32,
    ) -> BoxFuture<'a, Vec<Exported>> {
        self.now(Vec::new())
    }
}

/// Answers every statement with what it was made of.
pub(super) struct Statements(pub(super) Result<SqlAnswer, SqlFault>);

impl SqlGuarded for Statements {
    fn select<'a>(
        &'a self,
        _: &'a Scope,
        _: &'a str,
        _: SqlCaps,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<SqlAnswer, SqlFault>> + Send + 'a>> {
        Box::pin(async { self.0.clone() })
    }

    fn plan<'a>(
        &'a self,
        _: &'a Scope,
        _: &'a str,
        _: SqlCaps,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Vec<String>, SqlFault>> + Send + 'a>> {
        Box::pin(async { Ok(vec!["SCAN resources".to_owned()]) })
    }

    fn forget<'a>(&'a self, _: &'a TenantId, _: Option<&'a KeyId>) -> BoxFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}
