//! How a query is answered: the reads in their order, with the indexes that they go by.
//!
//! Statements are the store's own, with parameters in the place of values. What is shown does not depend on what is in the
//! database, so it has all that may be asked; often the first ones are enough. For SQL the plan is the database's.

use serde::Serialize;

use super::super::{Fault, Fuzzy, Lookup, Mode, Query, Search, Start, Traverse, range};
use super::ask::{Ask, written};
use super::{search, sql};
use crate::store::rem::{Direction, RemRead, RemTable, normalise};

/// How a query is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The query in its normal form.
    pub query: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// What is done, in order.
    #[serde(rename = "plan")]
    pub steps: Vec<String>,
    /// What may be asked of the database, each statement once. In PostgreSQL's, `N` and `D` are the number of an embedding space
    /// and its dimensions.
    pub statements: Vec<String>,
}

/// The plan of a query.
pub(super) async fn explain(ask: &Ask<'_>, query: &Query) -> Result<Plan, Fault> {
    let mut plan =
        Plan { query: query.to_string(), kind: query.kind().to_owned(), steps: Vec::new(), statements: Vec::new() };
    match query {
        Query::Sql(sql) => {
            let lines = ask.parts.sql.plan(ask.scope, &sql.text, ask.parts.caps);
            plan.steps = ask.guarded(lines).await.map_err(|error| sql::fault(&error))?;
            plan.statements.push(sql.text.clone());
        }
        Query::Traverse(traverse) => plan.traverse(ask, traverse)?,
        other => plan.find(ask, other)?,
    }
    Ok(plan)
}

impl Plan {
    fn step(&mut self, text: impl Into<String>) {
        self.steps.push(text.into());
    }

    /// The statements of a read, each once.
    fn read(&mut self, ask: &Ask<'_>, read: RemRead<'_>) {
        for statement in ask.parts.store.rem_statements(ask.scope, read) {
            if !self.statements.contains(&statement) {
                self.statements.push(statement);
            }
        }
    }

    fn find(&mut self, ask: &Ask<'_>, query: &Query) -> Result<(), Fault> {
        match query {
            Query::Lookup(lookup) => self.lookup(ask, lookup),
            Query::Fuzzy(fuzzy) => self.fuzzy(ask, fuzzy),
            Query::Search(search) => self.search(ask, search),
            Query::Traverse(_) | Query::Sql(_) => Ok(()),
        }
    }

    fn lookup(&mut self, ask: &Ask<'_>, query: &Lookup) -> Result<(), Fault> {
        let tables = within(written(&query.tables)?);
        let forms: Vec<String> = query.keys.iter().map(|key| format!("`{}`", normalise(key))).collect();
        self.step(format!("normal forms: {}", forms.join(", ")));
        self.step(format!("{} probe(s) of the B-tree rem_names_by_key (tenant, key, owner) in {tables}", forms.len()));
        self.step("for each key the best class: exact name, then normalised name, then alias; rows in key order");
        self.step(
            "for keys without a row: one more probe with camelCase split, then names above trigram similarity 0.3",
        );
        self.read(ask, RemRead::Named);
        self.read(ask, RemRead::Similar);
        Ok(())
    }

    fn fuzzy(&mut self, ask: &Ask<'_>, query: &Fuzzy) -> Result<(), Fault> {
        let tables = within(written(&query.tables)?);
        self.step(format!(
            "candidates by an index over the names in the caller's scope, in {tables}, those that can share most trigrams first"
        ));
        let (threshold, limit) = (query.threshold, query.limit);
        self.step(format!(
            "similarity computed of each, {threshold} or more kept, best first, ties by name, table, id"
        ));
        self.step(format!(
            "a page of {limit}; the index is asked for more until what it left out cannot be on the page"
        ));
        self.step("the rows of the page by rem_rows (tenant, id)");
        self.read(ask, RemRead::Similar);
        self.read(ask, RemRead::Rows);
        Ok(())
    }

    fn search(&mut self, ask: &Ask<'_>, query: &Search) -> Result<(), Fault> {
        let tables = within(written(&query.tables)?);
        let mode = query.mode.unwrap_or(Mode::Hybrid);
        let mut vector = mode != Mode::Text || query.min_similarity.is_some();
        if vector && ask.parts.embedder.is_none() {
            vector = false;
            self.step(if mode == Mode::Hybrid && query.min_similarity.is_none() {
                "texts are not turned into vectors here, so words alone are searched"
            } else {
                "texts are not turned into vectors here, so this search is refused"
            });
        }
        if mode != Mode::Text && vector {
            let least = query.min_similarity.unwrap_or(range::SIMILARITY);
            self.step("the text is turned into a vector");
            self.step(format!(
                "nearest rows of {tables} with the filter inside the index, cosine {least} or more, best first"
            ));
            for table in &query.tables {
                self.read(ask, RemRead::Nearest(&search::question(query, *table, 1)));
            }
        }
        if mode != Mode::Vector {
            let words = search::words(&query.text).join(" ");
            self.step(format!(
                "rows of {tables} with one of the words `{words}` by the full-text index, the most relevant first"
            ));
            for table in &query.tables {
                self.read(ask, RemRead::Worded(&search::question(query, *table, 1)));
            }
            if vector {
                self.step("the cosines of those that were found by words alone");
                self.read(ask, RemRead::Cosines);
            }
        }
        if mode == Mode::Hybrid && vector {
            self.step("both lists fused by reciprocal rank (k = 60), then by cosine, name, id");
        }
        self.step(format!("a page of {}", query.limit));
        Ok(())
    }

    fn traverse(&mut self, ask: &Ask<'_>, query: &Traverse) -> Result<(), Fault> {
        match &query.start {
            Start::Key(key) => {
                self.lookup(ask, &Lookup { keys: vec![key.clone()], tables: Vec::new(), limit: None })?
            }
            Start::Query(query) => self.find(ask, query)?,
            Start::Stage(stage) => {
                self.step(format!("the rows of stage `{stage}` read again by rem_rows (tenant, id)"));
                self.read(ask, RemRead::Rows);
            }
        }
        if query.direction != Direction::Inbound {
            self.step(
                "edges that leave the nodes of a level by the primary key of rem_edges (tenant, source, kind, target)",
            );
            self.read(ask, RemRead::EdgesFrom);
            self.step("what their targets lead to in the caller's view, each name once, by rem_names_by_key");
            self.read(ask, RemRead::Named);
        }
        if query.direction != Direction::Outbound {
            self.step("edges that lead to the nodes of a level by rem_edges_by_target (tenant, target_key, weight)");
            self.read(ask, RemRead::EdgesTo);
            self.step("what their targets lead to in the caller's view, by rem_names_by_key");
            self.read(ask, RemRead::Named);
            self.step("the rows that they leave by rem_rows (tenant, id)");
            self.read(ask, RemRead::Rows);
        }
        match query.depth {
            0 => self.step("nothing is walked: edges of the entry points are counted by type"),
            depth => self.step(format!(
                "at most {depth} level(s), each node once at its smallest depth; at most 1000 nodes and 10000 edges"
            )),
        }
        Ok(())
    }
}

fn within(tables: &[RemTable]) -> String {
    let tables = if tables.is_empty() { &RemTable::WRITTEN } else { tables };
    let names: Vec<&str> = tables.iter().map(|table| table.as_str()).collect();
    names.join(", ")
}
