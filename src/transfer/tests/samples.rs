//! Databases full of chance, from a seed.

use std::borrow::Cow;

use bytes::Bytes;

use crate::ids::{AuditId, EntryId, KeyId, PointId, RemId, RequestId, TenantId};
use crate::store::rem::{Owner, RemEdge, RemRow, RemTable, RemVector, RemWrite};
use crate::store::sample::{LATER, bare_decision, bare_row, decision, key_row, row, tenant_record, token_row};
use crate::store::{
    AuditRow, Correction, DecisionRow, DecisionWrite, DirectoryWrite, Entry, EntryWrite, KeyRow, LearnedRow, LedgerRow,
    Point, Rated, Stores, TenantRecord, TenantRow, TokenRow, Tokens,
};

pub(super) struct Chance(fastrand::Rng);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    fn text(&mut self) -> String {
        let letters = ['a', 'ß', '☃', '"', '\'', '\\', '%', '\n', '🦀', ' '];
        (0..self.0.usize(0..12)).map(|_| letters[self.0.usize(..letters.len())]).collect()
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.0.bool().then(|| make(self))
    }

    fn digest(&mut self) -> [u8; 32] {
        std::array::from_fn(|_| self.0.u8(..))
    }

    fn tenant(&mut self) -> TenantId {
        TenantId::new(["acme", "blue", "Zürich", "z"][self.0.usize(..4)])
    }

    fn id(&mut self) -> [u8; 16] {
        // Few times, so that many ids share one.
        let at = u128::from(1_700_000_000_000 + self.0.u64(..50));
        ((at << 80) | u128::from(self.0.u64(..))).to_be_bytes()
    }

    fn tags(&mut self) -> Vec<(String, String)> {
        (0..self.0.usize(0..3)).map(|_| (self.text(), self.text())).collect()
    }

    fn real(&mut self) -> f32 {
        [0.0, -0.0, f32::MIN_POSITIVE, -1.0, self.0.f32()][self.0.usize(..5)]
    }

    pub(super) fn entry(&mut self) -> EntryWrite {
        let body = if self.0.u8(..10) == 0 { vec![b'x'; self.0.usize(..40_000)] } else { self.text().into_bytes() };
        let entry = Entry {
            id: EntryId::from_bytes(self.id()),
            tenant: self.tenant(),
            partition: self.digest(),
            namespace: self.text(),
            dialect: Cow::Borrowed(["chat", "embeddings"][self.0.usize(..2)]),
            model: self.text(),
            body: Bytes::from(body),
            finish: Cow::Borrowed(["stop", ""][self.0.usize(..2)]),
            completion_tokens: self.maybe(|c| c.0.u64(..1 << 40)),
            token_limit: self.maybe(|c| c.0.u64(..1 << 40)),
            writer: KeyId::new(self.text()),
            tags: self.tags(),
            created_at: self.0.u64(..LATER),
            expires_at: 1 + self.0.u64(..LATER),
        };
        let points = (0..self.0.usize(0..4)).map(|_| self.point(&entry)).collect();
        EntryWrite::Put { entry: entry.into(), points }
    }

    fn point(&mut self, entry: &Entry) -> Point {
        let semantic = self.0.bool();
        Point {
            id: PointId::from_bytes(self.id()),
            entry: entry.id,
            tenant: entry.tenant.clone(),
            partition: entry.partition,
            fingerprint: self.digest(),
            normalised: semantic.then(|| self.digest()),
            prompt: semantic.then(|| self.text()),
            space: semantic.then(|| "minilm@1/4".into()),
            vector: semantic.then(|| vec![1.0, self.real(), self.real(), self.real()]),
            contradicts: self.0.u16(..8),
            writer: entry.writer.clone(),
            created_at: self.0.u64(..LATER),
        }
    }

    pub(super) fn request(&mut self) -> LedgerRow {
        let base = if self.0.bool() { row("acme", 1) } else { bare_row(1) };
        LedgerRow {
            request: RequestId::from_bytes(self.id()),
            started_at: 1_700_000_000_000 + self.0.u64(..50),
            tags: self.tags(),
            similarity: self.maybe(Self::real),
            status: self.0.u16(100..600),
            tokens: Tokens { input: self.0.u64(..1 << 40), ..base.tokens },
            cost_nano_usd: self.maybe(|c| c.0.i64(..)),
            ..base
        }
    }

    /// Two corrections of a row, the second of the first.
    fn corrections(&mut self, row: &LedgerRow) -> [Correction; 2] {
        let mut rated = Rated::of(row);
        [1, 2].map(|at| {
            let version = self.maybe(Self::text);
            let after = Rated { cost: self.maybe(|c| c.0.i64(..1 << 50)), price_version: version, ..rated.clone() };
            let before = std::mem::replace(&mut rated, after.clone());
            Correction { request: row.request, started_at: row.started_at, at, before, after }
        })
    }

    fn decision(&mut self) -> DecisionRow {
        let base = if self.0.bool() { decision("acme", 1) } else { bare_decision("acme", 1) };
        let right = self.maybe(|c| c.0.bool());
        DecisionRow {
            request: RequestId::from_bytes(self.id()),
            tenant: self.tenant(),
            inputs: (0..self.0.usize(..5)).map(|_| self.real()).collect(),
            right,
            label: right.map(|_| Cow::Borrowed("audit")),
            ..base
        }
    }

    fn audit(&mut self) -> AuditRow {
        AuditRow {
            id: AuditId::from_bytes(self.id()),
            at: self.0.u64(..LATER),
            actor: self.text(),
            action: Cow::Borrowed("cache.invalidate"),
            reason: self.maybe(Self::text),
            what: "{}".into(),
            result: r#"{"removed":3}"#.into(),
        }
    }

    fn directory(&mut self) -> Vec<DirectoryWrite> {
        (0..self.0.usize(..12))
            .map(|_| match self.0.u8(..4) {
                0 => DirectoryWrite::PutTenant(TenantRecord {
                    tenant: self.tenant(),
                    spec: self.text(),
                    credential: self.maybe(|c| Bytes::from(c.text())),
                    ..tenant_record("")
                }),
                1 => DirectoryWrite::PutToken(TokenRow {
                    tenant: self.maybe(Self::tenant),
                    used_at: self.maybe(|c| c.0.u64(..LATER)),
                    ..token_row(self.0.u64(..9))
                }),
                _ => DirectoryWrite::PutKey(KeyRow {
                    tenant: self.tenant(),
                    name: self.text(),
                    expires_at: self.maybe(|c| c.0.u64(..LATER)),
                    replaced_by: self.maybe(Self::text),
                    used_at: self.maybe(|c| c.0.u64(..LATER)),
                    ..key_row("", self.0.u64(..9))
                }),
            })
            .collect()
    }

    /// REM data: rows with and without entries, hidden ones, vectors of two spaces, and edges of rows and requests.
    async fn rem(&mut self, stores: &Stores, entries: &[EntryWrite], requests: &[LedgerRow], most: usize) {
        let rem = stores.rem.as_ref().unwrap();
        for number in 0..most {
            let entry = entries.get(number).filter(|_| self.0.bool()).and_then(|write| match write {
                EntryWrite::Put { entry, .. } => Some((entry.tenant.clone(), entry.id)),
                _ => None,
            });
            let tenant = entry.as_ref().map_or_else(|| self.tenant(), |(tenant, _)| tenant.clone());
            let owner = if self.0.bool() { Owner::Public } else { Owner::Key(KeyId::new(format!("{tenant}/a"))) };
            let id = RemId::from_bytes(self.id());
            let row = RemRow {
                id,
                table: RemTable::WRITTEN[self.0.usize(..3)],
                owner: owner.clone(),
                name: format!("name {}", self.text()),
                text: self.text(),
                label: self.text(),
                uri: self.maybe(Self::text),
                tags: vec![self.text(), self.text()],
                data: self.data(),
                aliases: (0..self.0.usize(..3)).map(|n| format!("alias {n} {}", self.text())).collect(),
                starts_at: self.maybe(|c| c.0.u64(..LATER)),
                ends_at: self.maybe(|c| c.0.u64(..LATER)),
                previous: self.maybe(Self::text),
                part_of: self.maybe(|c| (RemId::from_bytes(c.id()), c.0.u32(..9))),
                entry: entry.map(|(_, entry)| entry),
                made: self.0.bool(),
                writer: self.maybe(|c| KeyId::new(c.text())),
                created_at: self.0.u64(..LATER),
                updated_at: self.0.u64(..LATER),
                deleted_at: if self.0.u8(..4) == 0 { Some(self.0.u64(..LATER)) } else { None },
            };
            let at = row.updated_at;
            let mut edges: Vec<RemEdge> = (0..self.0.usize(..4)).map(|n| self.rem_edge(id, row.table, n)).collect();
            edges.dedup_by(|a, b| a.target == b.target);
            let vector = |c: &mut Self, space: &str| RemVector {
                space: space.to_owned(),
                vector: vec![c.0.f32() + 0.5, f32::MIN_POSITIVE, -0.0],
            };
            let first = self.maybe(|c| vector(c, "one@1/3"));
            let mut writes = vec![RemWrite::Put { row: Box::new(row), vector: first, edges: Some(edges) }];
            if self.0.bool() {
                writes.push(RemWrite::Embed { id, updated_at: at, vector: vector(self, "two@1/3") });
            }
            rem.rem_apply(&tenant, &writes).await.unwrap();
        }
        for row in requests.iter().step_by(4) {
            let (Some(tenant), Some(key)) = (&row.tenant, &row.key) else { continue };
            let id = RemId::from_bytes(row.request.to_bytes());
            let edges = (0..3).map(|n| self.rem_edge(id, RemTable::Requests, n)).collect();
            rem.rem_apply(tenant, &[RemWrite::Link { owner: Owner::Key(key.clone()), edges }]).await.unwrap();
        }
    }

    fn data(&mut self) -> serde_json::Map<String, serde_json::Value> {
        let mut data = serde_json::Map::new();
        for name in ["z", "a", "m"].into_iter().take(self.0.usize(..4)) {
            data.insert(name.to_owned(), serde_json::json!([self.text(), self.0.f64(), {"b": 1, "a": 1.50}]));
        }
        data
    }

    fn rem_edge(&mut self, source: RemId, source_table: RemTable, number: usize) -> RemEdge {
        RemEdge {
            source,
            source_table,
            kind: format!("kind {}", self.0.u8(..3)),
            target: format!("target {number} {}", self.text()),
            weight: [0.0, 1.0, self.0.f64()][self.0.usize(..3)],
            properties: self.data(),
            created_at: self.0.u64(..LATER),
        }
    }

    /// Up to `most` rows of each kind.
    pub(super) async fn fill(&mut self, stores: &Stores, most: usize) {
        let n = |c: &mut Self| c.0.usize(0..=most);
        let tenants: Vec<TenantRow> = ["acme", "blue"][..self.0.usize(..3)]
            .iter()
            .map(|name| TenantRow {
                tenant: TenantId::new(*name),
                declared: self.0.bool(),
                created_at: 1,
                updated_at: 2,
            })
            .collect();
        stores.tenants.upsert(&tenants).await.unwrap();
        let entries: Vec<EntryWrite> = (0..n(self)).map(|_| self.entry()).collect();
        stores.entries.apply(&entries).await.unwrap();
        let requests: Vec<LedgerRow> = (0..n(self)).map(|_| self.request()).collect();
        stores.ledger.append(&requests).await.unwrap();
        let corrections: Vec<Correction> = requests.iter().step_by(3).flat_map(|row| self.corrections(row)).collect();
        assert_eq!(stores.usage.correct(&corrections).await.unwrap(), corrections.len() as u64);
        let decisions: Vec<DecisionWrite> =
            (0..n(self)).map(|_| DecisionWrite::New(Box::new(self.decision()))).collect();
        stores.decisions.write(&decisions).await.unwrap();
        let learned: Vec<LearnedRow> = (0..n(self).min(5))
            .map(|i| LearnedRow { tenant: self.tenant(), model: i.to_string(), state: self.text(), updated_at: 1 })
            .collect();
        stores.decisions.save_learned(&learned).await.unwrap();
        for _ in 0..n(self).min(5) {
            stores.audit.record(&self.audit(), &[]).await.unwrap();
        }
        let seen = stores.directory.directory_version().await.unwrap();
        stores.directory.change_directory(seen, &self.directory(), &[]).await.unwrap();
        let rows = n(self).min(60);
        self.rem(stores, &entries, &requests, rows).await;
    }
}
