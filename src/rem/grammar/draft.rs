//! A query whose clauses are read but not yet checked. Text and JSON both become a draft, and every check is made here, once.

use super::super::query::range;
use super::super::{Code, Fault, Fuzzy, Load, Lookup, Mode, OrderBy, Query, Search, Start, Traverse, Written, guard};
use super::clause::{Kind, What, nearest};
use super::condition;
use super::scan::Said;
use crate::store::rem::{Direction, RemTable, VIEWS};

/// A clause with what was said in it.
#[derive(Clone, Debug)]
pub(super) struct Clause {
    pub(super) what: What,
    /// What faults call it.
    pub(super) of: String,
    /// Where it begins.
    pub(super) at: Option<usize>,
    /// Its values; one if it has no list.
    pub(super) values: Vec<Said>,
}

impl Clause {
    fn fault(&self, code: Code, detail: impl Into<String>) -> Fault {
        let fault = Fault::new(code, detail).of(&self.of);
        match self.values.first().and_then(|said| said.at).or(self.at) {
            Some(at) => fault.at(at),
            None => fault,
        }
    }

    fn bad(&self, detail: impl Into<String>) -> Fault {
        self.fault(Code::InvalidArgument, detail)
    }

    fn fault_of(&self, said: &Said, code: Code, detail: impl Into<String>) -> Fault {
        let fault = self.fault(code, detail);
        match said.at {
            Some(at) => fault.at(at),
            None => fault,
        }
    }

    fn first(&self) -> &str {
        self.values.first().map(|said| said.text.as_str()).unwrap_or_default()
    }

    fn whole(&self, least: u32, most: u32) -> Result<u32, Fault> {
        let text = self.first();
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.then(|| text.parse::<u32>().ok()).flatten();
        number.filter(|number| (least..=most).contains(number)).ok_or_else(|| {
            self.bad(format!("{} must be a whole number from {least} to {most}, not `{}`", self.of, short(text)))
                .hint(format!("as in {}", most.min(10)))
        })
    }

    fn fraction(&self) -> Result<f64, Fault> {
        let text = self.first();
        let plain = text.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
        let number = if plain { text.parse::<f64>().ok() } else { None };
        // No minus before a zero.
        number.filter(|number| (0.0..=1.0).contains(number)).map(f64::abs).ok_or_else(|| {
            self.bad(format!("{} must be a number from 0 to 1, not `{}`", self.of, short(text))).hint("as in 0.5")
        })
    }

    fn text(&self) -> Result<String, Fault> {
        let text = self.first();
        if text.trim().is_empty() {
            return Err(self.bad(format!("{} is blank", self.of)).hint("say what to look for"));
        }
        Ok(text.to_owned())
    }

    /// One of a few words.
    fn one_of<T: Copy>(&self, said: &str, words: &[(&'static str, T)]) -> Result<T, Fault> {
        let lower = said.to_lowercase();
        if let Some((_, found)) = words.iter().find(|(word, _)| *word == lower) {
            return Ok(*found);
        }
        let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let example = all.first().copied().unwrap_or_default();
        let fault = self.bad(format!("{} must be one of {}, not `{}`", self.of, all.join(", "), short(said)));
        Err(match nearest(&lower, all) {
            Some(word) => fault.hint(format!("did you mean {word}?")),
            None => fault.hint(format!("as in {example}")),
        })
    }

    /// The tables that rows can be found in by name or meaning.
    pub(super) fn tables(&self) -> Result<Vec<RemTable>, Fault> {
        let mut tables = Vec::new();
        for said in &self.values {
            let name = said.text.to_lowercase();
            let table = RemTable::WRITTEN.into_iter().find(|table| table.as_str() == name);
            let table = table.ok_or_else(|| self.no_table(said, &name, &RemTable::WRITTEN.map(RemTable::as_str)))?;
            if !tables.contains(&table) {
                tables.push(table);
            }
        }
        Ok(tables)
    }

    fn no_table(&self, said: &Said, name: &str, known: &[&'static str]) -> Fault {
        let fault = self.fault_of(said, Code::UnknownTable, format!("there is no table `{}` here", short(&said.text)));
        if VIEWS.iter().any(|(view, _)| *view == name) {
            return fault.hint(format!("{name} can be read by SQL: SELECT * FROM {name}"));
        }
        match nearest(name, known.iter().copied()) {
            Some(close) => fault.hint(format!("did you mean {close}?")),
            None => fault.hint(format!("the tables are {}; a text with the word IN must be quoted", known.join(", "))),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Draft {
    kind: Kind,
    clauses: Vec<Clause>,
    /// Where TRAVERSE starts, if not at a key.
    pub(super) start: Option<Start>,
}

impl Draft {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, clauses: Vec::new(), start: None }
    }

    pub(super) fn has(&self, what: What) -> bool {
        self.clauses.iter().any(|clause| clause.what == what)
    }

    /// Adds a clause; each is said once at most.
    pub(super) fn put(&mut self, clause: Clause) -> Result<(), Fault> {
        if !self.has(clause.what) {
            self.clauses.push(clause);
            return Ok(());
        }
        let name = clause.what.parameter(self.kind);
        let fault = Fault::new(Code::ParseError, format!("{name} is said twice")).of(&clause.of);
        let fault = fault.hint("say it once; a text that contains a word of the grammar must be quoted");
        Err(match clause.at {
            Some(at) => fault.at(at),
            None => fault,
        })
    }

    fn get(&self, what: What) -> Option<&Clause> {
        self.clauses.iter().find(|clause| clause.what == what)
    }

    fn read<T>(&self, what: What, read: impl FnOnce(&Clause) -> Result<T, Fault>) -> Result<Option<T>, Fault> {
        self.get(what).map(read).transpose()
    }

    fn names(&self, end: Option<usize>) -> Result<&Clause, Fault> {
        self.get(What::Names).ok_or_else(|| {
            let what = self.kind.as_str();
            let (missing, example) = match self.kind {
                Kind::Lookup => ("a name to look up", "LOOKUP \"sarah chen\""),
                Kind::Traverse => ("a start", "TRAVERSE \"project-plan\" or TRAVERSE WITH LOOKUP \"project-plan\""),
                Kind::Fuzzy => ("a text", "FUZZY \"sara chen\""),
                _ => ("a text", "SEARCH \"api design\""),
            };
            let hint = format!("as in {example}; a name that is a word of the grammar must be quoted");
            let fault = Fault::new(Code::ParseError, format!("{what} needs {missing}")).hint(hint);
            let fault = fault.of(What::Names.parameter(self.kind));
            match end {
                Some(end) => fault.at(end),
                None => fault,
            }
        })
    }

    fn limit(&self) -> Result<Option<u32>, Fault> {
        self.read(What::Limit, |clause| clause.whole(range::LIMIT.0, range::LIMIT.1))
    }

    fn tables(&self) -> Result<Vec<RemTable>, Fault> {
        Ok(self.read(What::Tables, Clause::tables)?.unwrap_or_default())
    }

    /// Checks all of it; `end` is where its text ended.
    pub(super) fn build(mut self, end: Option<usize>) -> Result<Query, Fault> {
        match self.kind {
            Kind::Lookup => self.lookup(end).map(Query::Lookup),
            Kind::Fuzzy => self.fuzzy(end).map(Query::Fuzzy),
            Kind::Search => self.search(end).map(Query::Search),
            Kind::Traverse => {
                let start = self.start.take();
                self.traverse(start, end).map(Query::Traverse)
            }
            Kind::Sql => self.sql(end),
        }
    }

    fn lookup(&self, end: Option<usize>) -> Result<Lookup, Fault> {
        let names = self.names(end)?;
        let keys: Vec<String> = names.values.iter().map(|said| said.text.clone()).collect();
        if let Some(blank) = names.values.iter().find(|said| said.text.trim().is_empty()) {
            return Err(names.fault_of(blank, Code::InvalidArgument, "a key is blank").hint("take it out"));
        }
        if keys.is_empty() || keys.len() > range::KEYS {
            let detail = format!("keys must be 1 to {} names, not {}", range::KEYS, keys.len());
            return Err(names.bad(detail).hint("ask in several queries"));
        }
        Ok(Lookup { keys, tables: self.tables()?, limit: self.limit()? })
    }

    fn fuzzy(&self, end: Option<usize>) -> Result<Fuzzy, Fault> {
        Ok(Fuzzy {
            text: self.names(end)?.text()?,
            tables: self.tables()?,
            threshold: self.read(What::Least, Clause::fraction)?.unwrap_or(range::THRESHOLD),
            limit: self.limit()?.unwrap_or(range::LIMIT.2),
            after: self.read(What::After, Clause::text)?,
        })
    }

    fn search(&self, end: Option<usize>) -> Result<Search, Fault> {
        let text = self.names(end)?.text()?;
        let mut tables = self.tables()?;
        if tables.is_empty() {
            tables.push(RemTable::Resources);
        }
        let modes = [Mode::Vector, Mode::Text, Mode::Hybrid].map(|mode| (mode.as_str(), mode));
        Ok(Search {
            text,
            field: self.read(What::Field, |clause| field(clause, &tables))?,
            filter: self.read(What::Where, |clause| filter(clause, &tables))?,
            category: self.read(What::Category, Clause::text)?,
            min_similarity: self.read(What::Least, Clause::fraction)?,
            mode: self.read(What::Mode, |clause| clause.one_of(clause.first(), &modes))?,
            limit: self.limit()?.unwrap_or(range::LIMIT.2),
            after: self.read(What::After, Clause::text)?,
            tables,
        })
    }

    fn traverse(&self, start: Option<Start>, end: Option<usize>) -> Result<Traverse, Fault> {
        let start = match (start, self.get(What::Names)) {
            (Some(start), None) => start,
            (Some(_), Some(names)) => {
                let detail = "TRAVERSE starts at a key or WITH a query, not both";
                return Err(names.fault(Code::ParseError, detail).hint("leave one of them out"));
            }
            (None, _) => {
                let names = self.names(end)?;
                if names.values.len() > 1 {
                    let detail = "TRAVERSE starts at one key";
                    let hint = "put it in quotes if the comma belongs to it, or start WITH LOOKUP \"a\", \"b\"";
                    return Err(names.fault(Code::ParseError, detail).hint(hint));
                }
                Start::Key(names.text()?)
            }
        };
        let directions =
            [("outbound", Direction::Outbound), ("inbound", Direction::Inbound), ("both", Direction::Both)];
        let loads = [("load", Load::Load), ("lazy", Load::Lazy), ("keys", Load::Keys)];
        let depth = |clause: &Clause| {
            let whole = clause.whole(u32::from(range::DEPTH.0), u32::from(range::DEPTH.1))?;
            Ok(u8::try_from(whole).unwrap_or(range::DEPTH.1))
        };
        Ok(Traverse {
            start,
            types: self.read(What::Types, types)?.unwrap_or_default(),
            direction: self
                .read(What::Direction, |clause| clause.one_of(clause.first(), &directions))?
                .unwrap_or_default(),
            depth: self.read(What::Depth, depth)?.unwrap_or(range::DEPTH.2),
            min_weight: self.read(What::MinWeight, Clause::fraction)?.unwrap_or(0.0),
            load: self.read(What::Load, |clause| clause.one_of(clause.first(), &loads))?.unwrap_or_default(),
            order: self.read(What::Order, order)?,
            limit: self.limit()?,
            memo: self.read(What::Memo, |clause| Ok(clause.first().to_owned()))?,
        })
    }

    /// The short form: it becomes a SELECT, which is checked as any other.
    fn sql(&self, end: Option<usize>) -> Result<Query, Fault> {
        let Some(table) = self.get(What::Tables) else {
            let hint = "as in SQL SELECT name FROM resources, or SQL moments WHERE \"kind = 'meeting'\" LIMIT 10";
            let fault = Fault::new(Code::ParseError, "SQL needs a SELECT or a table").hint(hint);
            return Err(match end {
                Some(end) => fault.at(end),
                None => fault,
            });
        };
        let name = table.first().to_lowercase();
        let known = VIEWS.map(|(view, _)| view);
        if let (true, Some(said)) = (table.values.len() > 1 || !known.contains(&name.as_str()), table.values.first()) {
            return Err(table.no_table(said, &name, &known));
        }
        let mut statement = format!("SELECT * FROM {name}");
        // Where a piece of the query stands in the statement, so that what is wrong there can be shown in the query.
        let mut pieces = Vec::new();
        for (what, word) in [(What::Where, "WHERE"), (What::Order, "ORDER BY")] {
            let Some(clause) = self.get(what) else { continue };
            let piece = clause.text()?;
            statement.push_str(&format!("\n{word} "));
            pieces.push((statement.chars().count(), piece.chars().count(), clause.values.first()));
            statement.push_str(&piece);
        }
        if let Some(limit) = self.limit()? {
            statement.push_str(&format!("\nLIMIT {limit}"));
        }
        let text = guard::check(&statement).map_err(|fault| {
            let inside = |at: usize, from: usize, length: usize| (from..=from + length).contains(&at);
            let found = fault.position.and_then(|at| {
                let piece = pieces.iter().find(|(from, length, _)| inside(at, *from, *length));
                piece.and_then(|(from, _, said)| said.and_then(|said| said.place(at - from)))
            });
            Fault { position: found.or(table.at), ..fault }
        })?;
        Ok(Query::Sql(super::super::Sql { text }))
    }
}

fn field(clause: &Clause, tables: &[RemTable]) -> Result<String, Fault> {
    let said = clause.text()?.to_lowercase();
    for table in tables {
        let field = table.embedded_field().unwrap_or_default();
        if field != said {
            let detail = format!("`{}` is not the searched field of {}", short(&said), table.as_str());
            return Err(clause.bad(detail).hint(format!("it is {field}; FIELD may be left out")));
        }
    }
    Ok(said)
}

fn filter(clause: &Clause, tables: &[RemTable]) -> Result<Written, Fault> {
    let said = clause.values.first();
    condition::read(&clause.text()?, tables, |at| said.and_then(|said| said.place(at)))
        .map_err(|fault| Fault { parameter: Some(clause.of.clone()), ..fault })
}

fn types(clause: &Clause) -> Result<Vec<String>, Fault> {
    if let Some(blank) = clause.values.iter().find(|said| said.text.trim().is_empty()) {
        return Err(clause.fault_of(blank, Code::InvalidArgument, "a type of edges is blank").hint("take it out"));
    }
    if clause.values.len() > range::KEYS {
        let detail = format!("at most {} types of edges, not {}", range::KEYS, clause.values.len());
        return Err(clause.bad(detail).hint("leave TYPE out to follow all of them"));
    }
    Ok(clause.values.iter().map(|said| said.text.clone()).collect())
}

fn order(clause: &Clause) -> Result<(OrderBy, bool), Fault> {
    let orders =
        [OrderBy::Depth, OrderBy::Weight, OrderBy::Name, OrderBy::CreatedAt].map(|order| (order.as_str(), order));
    let mut words = clause.values.iter().map(|said| said.text.as_str());
    let by = clause.one_of(words.next().unwrap_or_default(), &orders)?;
    let descending = match words.next() {
        None => false,
        Some(way) => clause.one_of(way, &[("asc", false), ("desc", true)])?,
    };
    match words.next() {
        None => Ok((by, descending)),
        Some(more) => {
            let detail = format!("ORDER BY takes one column and ASC or DESC, not `{}`", short(more));
            Err(clause.bad(detail).hint("as in ORDER BY weight DESC"))
        }
    }
}

/// What a fault shows of a text.
pub(super) fn short(text: &str) -> String {
    const MOST: usize = 40;
    let shown: String = text.chars().take(MOST).map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    if text.chars().nth(MOST).is_some() { format!("{shown}…") } else { shown }
}
