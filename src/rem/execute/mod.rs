//! Runs queries above the two seams of the store: the same code for every database.
//!
//! ```text
//! lookup   keys → one probe → best class of match for each key → rows, missing, suggestions
//! fuzzy    trigrams → candidates → score → page → rows
//! search   text → vector and words → ranks → fused → page
//! traverse entry points → a level at a time: edges, then what they lead to → nodes, summary, stages
//! sql      checked text → the guarded connection
//! ```
//!
//! Invariants:
//! - What is shown comes from reads that were given the caller's scope; there is no other way to a row.
//! - Every order is total, so two databases with the same rows give the same answer.
//! - A query ends at the deadline, and nothing that it met is told in words of the database.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Answer, Code, Fault, Found, Load, Query};
use crate::clock::Clock;
use crate::embed::Embedder;
use crate::store::rem::{RemRow, RemStore, Scope, SqlCaps, SqlGuarded};

mod ask;
mod cursor;
mod explain;
mod fuzzy;
mod lookup;
mod search;
mod show;
mod sql;
mod start;
mod summary;
mod traverse;
mod walk;

#[cfg(test)]
pub(super) mod memory_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vector_tests;

use ask::Ask;
pub use explain::Plan;

/// What queries are answered from.
pub struct RemParts {
    /// Rows.
    pub store: Arc<dyn RemStore>,
    /// Checked SQL.
    pub sql: Arc<dyn SqlGuarded>,
    /// Text to vector; none if that is switched off by configuration.
    pub embedder: Option<Embedder>,
    /// Caps of SQL.
    pub caps: SqlCaps,
    /// Longest time of a query.
    pub deadline: Duration,
    /// Wall-clock time.
    pub clock: Clock,
}

/// A stage of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchStage {
    /// Its name, by which later stages refer to it.
    pub name: String,
    /// The query.
    pub query: Query,
}

/// Answers queries.
pub struct Rem {
    parts: RemParts,
}

impl Rem {
    /// Over these parts.
    pub fn new(parts: RemParts) -> Self {
        Self { parts }
    }

    /// The parts.
    pub fn parts(&self) -> &RemParts {
        &self.parts
    }

    /// Answers one query for a caller.
    ///
    /// # Errors
    /// What of the query, or of the program, keeps it from being answered.
    pub async fn run(&self, scope: &Scope, query: &Query) -> Result<Answer, Fault> {
        self.within(scope, query, &[]).await
    }

    /// Answers stages in order; one may start where an earlier one has ended. The first that fails ends the batch. Each stage has the
    /// whole deadline.
    ///
    /// # Errors
    /// Name of the stage, and what is wrong with it.
    pub async fn batch(&self, scope: &Scope, stages: &[BatchStage]) -> Result<Vec<(String, Answer)>, (String, Fault)> {
        let mut answers = Vec::with_capacity(stages.len());
        for stage in stages {
            let answer = self.within(scope, &stage.query, &answers).await;
            answers.push((stage.name.clone(), answer.map_err(|fault| (stage.name.clone(), fault))?));
        }
        Ok(answers)
    }

    /// Tells how a query is answered, without answering it: what is asked of the database, by which index and in which order.
    ///
    /// # Errors
    /// As [`Self::run`]; the plan of SQL comes from the database.
    pub async fn explain(&self, scope: &Scope, query: &Query) -> Result<Plan, Fault> {
        let ask = Ask::new(&self.parts, scope, &[]);
        self.timed(explain::explain(&ask, query)).await
    }

    async fn within(&self, scope: &Scope, query: &Query, stages: &[(String, Answer)]) -> Result<Answer, Fault> {
        let began = Instant::now();
        let ask = Ask::new(&self.parts, scope, stages);
        let mut answer = self.timed(answered(&ask, query)).await?;
        query.kind().clone_into(&mut answer.kind);
        answer.query = query.to_string();
        answer.count = answer.results.len() as u64;
        answer.timing_ms = ask.timing(began.elapsed());
        Ok(answer)
    }

    async fn timed<T>(&self, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        let deadline = self.parts.deadline;
        tokio::time::timeout(deadline, work).await.unwrap_or_else(|_| {
            let detail = format!("the query took longer than {} ms and was stopped", deadline.as_millis());
            Err(Fault::new(Code::Timeout, detail)
                .hint("ask for less: fewer keys, a smaller DEPTH or LIMIT, a narrower WHERE"))
        })
    }
}

async fn answered(ask: &Ask<'_>, query: &Query) -> Result<Answer, Fault> {
    // There is nothing to find, and what is left of before it was sealed is not shown. SQL has the requests.
    if !matches!(query, Query::Sql(_)) && !ask.parts.store.rem_keeps_texts(&ask.scope.tenant) {
        let text = "the data of this tenant is sealed, and what is to be found by its text cannot be sealed";
        return Err(
            Fault::new(Code::Sealed, text).hint("ask by SQL for its `requests`, or under a tenant that is not sealed")
        );
    }
    match query {
        Query::Lookup(lookup) => show::answer(lookup::lookup(ask, lookup).await?),
        Query::Fuzzy(fuzzy) => show::answer(fuzzy::fuzzy(ask, fuzzy).await?),
        Query::Search(search) => show::answer(search::search(ask, search).await?),
        Query::Traverse(traverse) => traverse::traverse(ask, traverse).await,
        Query::Sql(sql) => sql::select(ask, sql).await,
    }
}

/// A row as answers show it.
pub fn row_found(row: &RemRow) -> Found {
    show::row(row, Load::Load)
}
