//! Answers as resources: the prompt is the name, what was answered is the content.

use std::collections::HashMap;

use super::super::ingest::derived;
use super::{ENTRIES, Filler, ROUND_MS, made, put, shortened};
use crate::clock::UnixMs;
use crate::dialect::{Dialect, answer_text};
use crate::ids::{EntryId, RemId, TenantId};
use crate::store::rem::{Owner, RemTable, RemWrite, normalise};
use crate::store::{Cursor, Exported, StoreError};

/// Characters of an answer that are kept; more are not searched for anyway.
const CONTENT: usize = 100_000;

/// Entries that began less than this ago are looked for in each step, all others once in [`ROUND_MS`]: most have a row, and to find those
/// that have none means to read all.
const NEW_MS: u64 = 2 * ROUND_MS;

/// A pass over entries.
#[derive(Default)]
pub(super) struct Pass {
    /// Where it stands; `None` before it begins.
    after: Option<Cursor>,
    /// The first identity that it looks at; `None` if it looks at all.
    since: Option<EntryId>,
    /// When one over all came to its end.
    whole: UnixMs,
}

impl Pass {
    fn end(&mut self, now: UnixMs) {
        self.after = None;
        if self.since.is_none() {
            self.whole = now;
        }
    }
}

/// No entry of this time has a lower identity.
fn first_id(at: UnixMs) -> EntryId {
    EntryId::from_bytes((u128::from(at) << 80).to_be_bytes())
}

impl Filler {
    /// Gives some of the entries without a row one; whether there may be more.
    pub(super) async fn entries(&mut self, now: UnixMs) -> Result<bool, StoreError> {
        if self.pass.after.is_none() {
            let whole = now.saturating_sub(self.pass.whole) >= ROUND_MS;
            self.pass.since = (!whole).then(|| first_id(now.saturating_sub(NEW_MS)));
        }
        let Pass { after, since, .. } = &self.pass;
        let page = self.rem.rem_entries_without_row(now, *since, after.as_ref(), ENTRIES).await?;
        let Some(last) = page.last() else {
            self.pass.end(now);
            return Ok(false);
        };
        let after = Cursor { tenant: last.entry.tenant.clone(), entry: last.entry.id };
        let full = u32::try_from(page.len()).is_ok_and(|len| len >= ENTRIES);
        let mut by_tenant: HashMap<TenantId, Vec<RemWrite>> = HashMap::new();
        for exported in page {
            let tenant = exported.entry.tenant.clone();
            if self.rem.rem_keeps_texts(&tenant)
                && let Some(write) = Self::resource(exported)
            {
                by_tenant.entry(tenant).or_default().push(write);
            }
        }
        for (tenant, writes) in by_tenant {
            self.rem.rem_apply(&tenant, &writes).await?;
        }
        if full {
            self.pass.after = Some(after);
        } else {
            self.pass.end(now);
        }
        self.bound();
        Ok(full)
    }

    /// The row of an entry; embeddings have none.
    fn resource(exported: Exported) -> Option<RemWrite> {
        let Exported { entry, points } = exported;
        let dialect = Dialect::from_name(&entry.dialect);
        if dialect == Dialect::Embeddings {
            return None;
        }
        let prompt = points.iter().find_map(|point| point.prompt.as_deref()).map(|prompt| shortened(prompt, 200));
        // Edges lead to this one: a prompt may be that of many entries, and must be nowhere but in what goes with its entry.
        let alias = name_of(entry.id);
        let name = prompt.filter(|name| !normalise(name).is_empty()).unwrap_or_else(|| alias.clone());
        // Answers that are no single text, as calls of tools are, have a name and edges only.
        let text = answer_text(dialect, &entry.body).unwrap_or_default();
        // That of the key that asked, also where all keys of the tenant are served it: whom an answer is shared with can change while
        // it is stored, and an entry does not say whom it was shared with.
        let owner = Owner::Key(entry.writer.clone());
        let id = RemId::from_bytes(entry.id.to_bytes());
        let mut row = made(id, RemTable::Resources, owner, &name, &shortened(&entry.model, 200), entry.created_at);
        row.text = text.chars().filter(|c| *c != '\0').take(CONTENT).collect();
        row.tags = entry.tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
        row.uri = Some(format!("remora:entry/{}", entry.id));
        row.entry = Some(entry.id);
        row.aliases.extend((row.name != alias).then_some(alias));
        Some(put(row))
    }
}

/// What the row of an entry is called in edges: its name, or an alias of it.
pub(super) fn name_of(entry: EntryId) -> String {
    format!("entry-{entry}")
}

/// The identity of what traffic has shown: of this kind and name, seen by this owner.
pub(super) fn identity(tenant: &TenantId, owner: &Owner, kind: &str, name: &str) -> RemId {
    let owner = owner.to_string();
    derived("made", &[tenant.as_str().as_bytes(), owner.as_bytes(), kind.as_bytes(), name.as_bytes()])
}
