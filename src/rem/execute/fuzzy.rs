//! FUZZY: by a name that may be misspelt, best first.

use std::collections::HashMap;

use super::super::{Fault, Fuzzy, Query};
use super::ask::{Ask, Hit, Hits, written};
use super::cursor::Page;
use crate::ids::RemId;
use crate::store::rem::{Grams, RemRow, RemTable};

/// Candidates that are asked for at first, and at most.
const CANDIDATES: (usize, usize) = (256, 32_768);

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
/// The store gives candidates by the number of trigrams that they share. A name that it left out shares at most as many as
/// the last one, `c`, so its similarity is at most `c / |A|`: what scores higher is complete.
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
        let mut least_shared = f64::INFINITY;
        let mut best: HashMap<RemId, Similar> = HashMap::with_capacity(named.len());
        for named in named {
            let of_name = Grams::of(&named.name);
            let score = grams.similarity(&of_name);
            least_shared = least_shared.min(shared(score, grams.len() + of_name.len()));
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
        let bound = least_shared / number(grams.len());
        let certain =
            all || need.checked_sub(1).and_then(|last| found.get(last)).is_some_and(|last| last.score > bound);
        if certain || want >= CANDIDATES.1 {
            return Ok((found, certain));
        }
        want = want.saturating_mul(8).min(CANDIDATES.1);
    }
}

/// Common trigrams of two sets of together `sizes`, from their similarity: `s = c / (sizes - c)`.
fn shared(similarity: f64, sizes: usize) -> f64 {
    (similarity * number(sizes) / (1.0 + similarity)).round()
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
