//! FUZZY: by a name that may be misspelt, best first.

use std::collections::HashMap;

use super::super::{Fault, Fuzzy, Query};
use super::ask::{Ask, Hit, Hits, written};
use super::cursor::Page;
use crate::ids::RemId;
use crate::store::rem::{Grams, RemRow, RemTable};

/// Candidates that are asked for at first, and at most.
const CANDIDATES: (usize, usize) = (64, 32_768);

/// A row whose name, or one of whose aliases, is similar.
pub(super) struct Similar {
    pub(super) id: RemId,
    pub(super) table: RemTable,
    /// The most similar of its names.
    pub(super) name: String,
    pub(super) score: f64,
}

/// A page of the rows with similar names.
pub(super) async fn fuzzy(ask: &Ask<'_>, query: &Fuzzy) -> Result<Hits, Fault> {
    let tables = written(&query.tables)?;
    let page = Page::of(&Query::Fuzzy(query.clone()), query.limit, query.after.as_deref())?;
    let (similar, complete) = similar(ask, &query.text, tables, query.threshold, page.need()).await?;
    let (similar, next, lost) = page.cut(similar);
    if similar.is_empty() {
        return Ok(Hits { truncated: lost || !complete, ..Hits::default() });
    }
    let ids: Vec<RemId> = similar.iter().map(|similar| similar.id).collect();
    let rows = ask.store(ask.parts.store.rem_rows(ask.scope, &ids)).await?;
    let mut rows: HashMap<RemId, RemRow> = rows.into_iter().map(|row| (row.id, row)).collect();
    // A row that went between the two reads is left out.
    let hit = |similar: &Similar| Some(Hit { row: rows.remove(&similar.id)?, score: Some(similar.score) });
    Ok(Hits { rows: similar.iter().filter_map(hit).collect(), next, truncated: lost || !complete, ..Hits::default() })
}

/// The `need` most similar rows, or more, each once, and whether they are those for certain.
///
/// The store gives the most similar names in their order: what stands before the last of them is complete.
pub(super) async fn similar(
    ask: &Ask<'_>,
    text: &str,
    tables: &[RemTable],
    threshold: f64,
    need: usize,
) -> Result<(Vec<Similar>, bool), Fault> {
    let grams = Grams::of(text);
    if grams.is_empty() {
        return Ok((Vec::new(), true));
    }
    let mut want = need.saturating_mul(4).clamp(CANDIDATES.0, CANDIDATES.1);
    loop {
        let limit = u32::try_from(want).unwrap_or(u32::MAX);
        let named = ask.parts.store.rem_similar(ask.scope, text, tables, threshold, limit);
        let named = ask.store(named).await?;
        let all = named.len() < want;
        let last = named.last().map(|last| (grams.similarity(&Grams::of(&last.name)), last.name.clone()));
        let mut best: HashMap<RemId, Similar> = HashMap::with_capacity(named.len());
        for named in named {
            let score = grams.similarity(&Grams::of(&named.name));
            // What has nothing in common is not similar, whatever the threshold.
            if score < threshold || score <= 0.0 {
                continue;
            }
            let better = |than: &Similar| {
                score > than.score || (score >= than.score && (&named.name, named.table) < (&than.name, than.table))
            };
            if best.get(&named.id).is_none_or(better) {
                best.insert(named.id, Similar { id: named.id, table: named.table, name: named.name, score });
            }
        }
        let mut found: Vec<Similar> = best.into_values().collect();
        found.sort_by(|a, b| {
            let ties = || (&a.name, a.table, a.id).cmp(&(&b.name, b.table, b.id));
            b.score.total_cmp(&a.score).then_with(ties)
        });
        let needed = need.checked_sub(1).and_then(|place| found.get(place));
        let before = |needed: &Similar| {
            last.as_ref()
                .is_some_and(|(score, name)| needed.score.total_cmp(score).then_with(|| name.cmp(&needed.name)).is_gt())
        };
        let certain = all || needed.is_some_and(before);
        if certain || want >= CANDIDATES.1 {
            return Ok((found, certain));
        }
        want = want.saturating_mul(8).min(CANDIDATES.1);
    }
}
