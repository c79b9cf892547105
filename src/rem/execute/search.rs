//! SEARCH: by meaning, by words, or by both.
//!
//! Two ordered lists, of vectors and of words, are fused by reciprocal rank (Cormack, Clarke and Büttcher 2009, k = 60). The lists are
//! read in windows of a fixed length and fused window by window, so the order of the whole does not depend on the page that is
//! asked for, and a cursor neither repeats nor leaves out a row.

use std::collections::{HashMap, HashSet};

use super::super::{Code, Fault, Mode, Query, Search, range};
use super::ask::{Ask, Hit, Hits, written};
use super::cursor::Page;
use crate::ids::RemId;
use crate::store::rem::{RemNear, RemQuestion, RemRow, RemTable, RemVector, relevance, tokens};

/// `k` of the fusion.
const RANK: f64 = 60.0;

/// Length of the first window and of those that follow. Few searches read on.
const WINDOWS: (usize, usize) = (100, 400);

/// Rows of the longest list that is read.
const LONGEST: usize = super::cursor::SEARCHED + 1_500;

/// Words of a search that are looked for.
const WORDS: usize = 64;

/// Words that nearly every English text has. They are looked for only if there are no others: a window full of texts that
/// have nothing but these would leave no room for the one that is meant.
const EVERYWHERE: [&str; 38] = [
    "a", "about", "an", "and", "are", "as", "at", "be", "by", "did", "do", "does", "for", "from", "has", "have", "how",
    "i", "in", "is", "it", "of", "on", "or", "that", "the", "this", "to", "was", "were", "what", "when", "where",
    "which", "who", "why", "will", "with",
];

/// A page of the rows that are like a text.
pub(super) async fn search(ask: &Ask<'_>, query: &Search) -> Result<Hits, Fault> {
    check(query)?;
    let page = Page::of(&Query::Search(query.clone()), query.limit, query.after.as_deref())?;
    let mode = query.mode.unwrap_or(Mode::Hybrid);
    let mut degraded = false;
    // Words alone need no vector, unless a least similarity was stated.
    let vector = if mode == Mode::Text && query.min_similarity.is_none() {
        None
    } else {
        match ask.vector(&query.text).await {
            Ok(vector) => Some(vector),
            // Whoever asked for both by name takes half of it, and so does whoever said nothing where there never is more. A
            // similarity that was stated cannot be kept without a vector.
            Err(fault)
                if mode == Mode::Hybrid
                    && (query.mode.is_some() || ask.parts.embedder.is_none())
                    && query.min_similarity.is_none()
                    && fault.code == Code::EmbeddingUnavailable =>
            {
                degraded = true;
                None
            }
            Err(fault) => return Err(fault),
        }
    };
    let rows = match (&vector, mode) {
        (Some(vector), Mode::Vector) => nearest(ask, query, vector, page.need()).await?,
        (vector, _) => fused(ask, query, vector.as_ref(), mode, page.need()).await?,
    };
    let (rows, next, truncated) = page.cut(rows);
    Ok(Hits { rows, next, truncated, degraded, ..Hits::default() })
}

fn check(query: &Search) -> Result<(), Fault> {
    for table in written(&query.tables)? {
        let embedded = table.embedded_field();
        if let (Some(field), Some(embedded)) = (query.field.as_deref(), embedded)
            && !field.eq_ignore_ascii_case(embedded)
        {
            let detail = format!("`{field}` of `{}` is not searched", table.as_str());
            let hint = format!("use {embedded}, or leave FIELD out");
            return Err(Fault::new(Code::InvalidArgument, detail).of("field").hint(hint));
        }
    }
    Ok(())
}

pub(super) fn question<'a>(query: &'a Search, table: RemTable, limit: usize) -> RemQuestion<'a> {
    let cond = query.filter.as_ref().and_then(|filter| filter.cond.iter().find(|(of, _)| *of == table));
    RemQuestion {
        table,
        cond: cond.map(|(_, cond)| cond),
        label: query.category.as_deref(),
        limit: u32::try_from(limit).unwrap_or(u32::MAX),
    }
}

/// The nearest rows of all tables, best first.
async fn nearest(ask: &Ask<'_>, query: &Search, vector: &RemVector, limit: usize) -> Result<Vec<Hit>, Fault> {
    let least = query.min_similarity.unwrap_or(range::SIMILARITY);
    let mut all: Vec<RemNear> = Vec::new();
    for table in &query.tables {
        let question = question(query, *table, limit);
        all.extend(ask.store(ask.parts.store.rem_nearest(ask.scope, vector, least, &question)).await?);
    }
    // A number that is none must not get into an order, and less than asked for is not asked for.
    all.retain(|near| near.cosine >= least);
    all.sort_by(|a, b| b.cosine.total_cmp(&a.cosine).then_with(|| by_name(&a.row, &b.row)));
    all.truncate(limit);
    Ok(all.into_iter().map(|near| Hit { row: near.row, score: Some(near.cosine) }).collect())
}

fn by_name(a: &RemRow, b: &RemRow) -> std::cmp::Ordering {
    (&a.name, a.id, a.table).cmp(&(&b.name, b.id, b.table))
}

/// A row with its places in the lists.
struct Candidate {
    row: RemRow,
    cosine: Option<f64>,
    by_vector: Option<usize>,
    by_words: Option<usize>,
}

impl Candidate {
    fn fused(&self) -> f64 {
        let part = |rank: usize| 1.0 / (RANK + 1.0 + f64::from(u32::try_from(rank).unwrap_or(u32::MAX)));
        self.by_vector.map_or(0.0, part) + self.by_words.map_or(0.0, part)
    }
}

/// At least the first `need` rows of both lists together, if there are as many.
async fn fused(
    ask: &Ask<'_>,
    query: &Search,
    vector: Option<&RemVector>,
    mode: Mode,
    need: usize,
) -> Result<Vec<Hit>, Fault> {
    let mut end = WINDOWS.0;
    let mut last = end;
    while last < need {
        last = last.saturating_add(WINDOWS.1);
    }
    let near = match vector {
        Some(vector) if mode == Mode::Hybrid => nearest(ask, query, vector, last).await?,
        _ => Vec::new(),
    };
    let (words, mut near) = (words(&query.text), near.into_iter().enumerate().peekable());
    let (mut done, mut shown, mut worded) = (Vec::new(), HashSet::new(), 0);
    loop {
        let mut window: HashMap<RemId, Candidate> = HashMap::new();
        while let Some((rank, hit)) = near.next_if(|(rank, _)| *rank < end) {
            let candidate = Candidate { row: hit.row, cosine: hit.score, by_vector: Some(rank), by_words: None };
            window.insert(candidate.row.id, candidate);
        }
        let texts = texts(ask, query, &words, end).await?;
        let all_texts = texts.len() < end;
        let fresh: Vec<RemRow> = texts.into_iter().filter(|row| !shown.contains(&row.id)).collect();
        let cosines = match vector {
            Some(vector) => cosines(ask, vector, &fresh, &window).await?,
            None => HashMap::new(),
        };
        for row in fresh {
            let by_words = Some(worded);
            if let Some(candidate) = window.get_mut(&row.id) {
                candidate.by_words = by_words;
            } else {
                let cosine = vector.map(|_| cosines.get(&row.id).copied().unwrap_or(0.0));
                // Words alone do not make up for a similarity that was stated.
                if query.min_similarity.is_some_and(|least| cosine.is_none_or(|cosine| cosine < least)) {
                    continue;
                }
                window.insert(row.id, Candidate { row, cosine, by_vector: None, by_words });
            }
            worded += 1;
        }
        window.retain(|id, _| shown.insert(*id));
        let mut window: Vec<Candidate> = window.into_values().collect();
        window.sort_by(|a, b| {
            let scores = |c: &Candidate| c.cosine.unwrap_or(0.0);
            let ties = || scores(b).total_cmp(&scores(a)).then_with(|| by_name(&a.row, &b.row));
            b.fused().total_cmp(&a.fused()).then_with(ties)
        });
        done.extend(window.into_iter().map(|candidate| Hit { row: candidate.row, score: candidate.cosine }));
        // Windows that words were left out of may hold less than they are long.
        if (end >= last && (done.len() >= need || all_texts)) || end > LONGEST {
            return Ok(done);
        }
        end = end.saturating_add(WINDOWS.1);
    }
}

/// Rows of all tables with one of these words, the most relevant first: up to `limit` of each table.
async fn texts(ask: &Ask<'_>, query: &Search, words: &[String], limit: usize) -> Result<Vec<RemRow>, Fault> {
    if words.is_empty() {
        return Ok(Vec::new());
    }
    let mut all: Vec<(f64, RemRow)> = Vec::new();
    for table in &query.tables {
        let question = question(query, *table, limit);
        for (number, row) in
            ask.store(ask.parts.store.rem_worded(ask.scope, words, &question)).await?.into_iter().enumerate()
        {
            // Texts are long, and the deadline is looked at only where the work pauses.
            if number % 32 == 31 {
                tokio::task::yield_now().await;
            }
            let mut text = tokens(&row.name);
            text.extend(tokens(&row.text));
            all.push((relevance(words, &text), row));
        }
    }
    all.sort_by(|(a, one), (b, other)| b.total_cmp(a).then_with(|| by_name(one, other)));
    Ok(all.into_iter().map(|(_, row)| row).collect())
}

async fn cosines(
    ask: &Ask<'_>,
    vector: &RemVector,
    rows: &[RemRow],
    known: &HashMap<RemId, Candidate>,
) -> Result<HashMap<RemId, f64>, Fault> {
    let ids: Vec<RemId> = rows.iter().map(|row| row.id).filter(|id| !known.contains_key(id)).collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let cosines = ask.store(ask.parts.store.rem_cosines(ask.scope, vector, &ids)).await?;
    Ok(cosines.into_iter().filter(|(_, cosine)| cosine.is_finite()).collect())
}

/// The words of a search, each once.
pub(super) fn words(text: &str) -> Vec<String> {
    let mut seen = HashSet::new();
    let all: Vec<String> = tokens(text).into_iter().filter(|word| seen.insert(word.clone())).take(WORDS).collect();
    let telling: Vec<String> = all.iter().filter(|word| !EVERYWHERE.contains(&word.as_str())).cloned().collect();
    if telling.is_empty() { all } else { telling }
}
