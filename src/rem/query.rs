//! A query as a tree: what every form of a query becomes, and the only thing that is executed.
//!
//! `Display` prints the normal form; reading it again gives an equal tree.

use std::fmt;

use super::grammar::quote;
use crate::store::rem::{Cond, Direction, RemTable};

/// Least, most and default of each number.
pub mod range {
    /// Rows of an answer.
    pub const LIMIT: (u32, u32, u32) = (1, 1_000, 10);
    /// Keys of one LOOKUP.
    pub const KEYS: usize = 100;
    /// Steps of TRAVERSE.
    pub const DEPTH: (u8, u8, u8) = (0, 10, 1);
    /// Default of FUZZY's threshold.
    pub const THRESHOLD: f64 = 0.3;
    /// Default of SEARCH's least similarity.
    pub const SIMILARITY: f64 = 0.3;
    /// Bytes of a query.
    pub const QUERY_BYTES: usize = 64 << 10;
    /// Stages of a batch.
    pub const STAGES: usize = 20;
}

/// A checked query.
#[derive(Clone, Debug, PartialEq)]
pub enum Query {
    /// By name.
    Lookup(Lookup),
    /// By a name that may be misspelt.
    Fuzzy(Fuzzy),
    /// By meaning and words.
    Search(Search),
    /// Along edges.
    Traverse(Traverse),
    /// By SQL.
    Sql(Sql),
}

impl Query {
    /// `lookup`, `fuzzy`, `search`, `traverse`, `sql`: in answers and metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Lookup(_) => "lookup",
            Self::Fuzzy(_) => "fuzzy",
            Self::Search(_) => "search",
            Self::Traverse(_) => "traverse",
            Self::Sql(_) => "sql",
        }
    }
}

/// `LOOKUP`
#[derive(Clone, Debug, PartialEq)]
pub struct Lookup {
    /// Names, 1 to [`range::KEYS`], in order; none is blank.
    pub keys: Vec<String>,
    /// Where to look; empty is everywhere.
    pub tables: Vec<RemTable>,
    /// Most rows; `None` is all matches.
    pub limit: Option<u32>,
}

/// `FUZZY`
#[derive(Clone, Debug, PartialEq)]
pub struct Fuzzy {
    /// The name as somebody remembers it.
    pub text: String,
    /// Where to look; empty is everywhere.
    pub tables: Vec<RemTable>,
    /// Least similarity, 0 to 1.
    pub threshold: f64,
    /// Most rows.
    pub limit: u32,
    /// Where an answer ended that this goes on.
    pub after: Option<String>,
}

/// How SEARCH finds rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By vector.
    Vector,
    /// By words.
    Text,
    /// Both, fused by rank.
    Hybrid,
}

impl Mode {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vector => "vector",
            Self::Text => "text",
            Self::Hybrid => "hybrid",
        }
    }
}

/// A condition as it was written, and what it means.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// The condition in its normal form; printing and checking it again gives the same.
    pub text: String,
    /// What it means, for each table that is searched.
    pub cond: Vec<(RemTable, Cond)>,
}

/// `SEARCH`
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    /// What to look for.
    pub text: String,
    /// Where to look; never empty.
    pub tables: Vec<RemTable>,
    /// The embedded field, if it was said: it is that of the table.
    pub field: Option<String>,
    /// What rows must fulfil.
    pub filter: Option<Written>,
    /// Exact category, or kind.
    pub category: Option<String>,
    /// Least cosine, 0 to 1, if it was said.
    pub min_similarity: Option<f64>,
    /// How; `None` is hybrid.
    pub mode: Option<Mode>,
    /// Most rows.
    pub limit: u32,
    /// Where an answer ended that this goes on.
    pub after: Option<String>,
}

/// Where TRAVERSE starts.
#[derive(Clone, Debug, PartialEq)]
pub enum Start {
    /// At what has this name, or at the request of this id.
    Key(String),
    /// At what a LOOKUP, FUZZY or SEARCH finds.
    Query(Box<Query>),
    /// At what an earlier stage of a batch has found: its name, without the `$`.
    Stage(String),
}

/// What is told of nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Load {
    /// All of it.
    #[default]
    Load,
    /// All but the long text.
    Lazy,
    /// Keys only.
    Keys,
}

/// What nodes are ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderBy {
    /// Steps from the start.
    Depth,
    /// Weight of the edge by which it was reached.
    Weight,
    /// Name.
    Name,
    /// When it was first written.
    CreatedAt,
}

impl OrderBy {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Depth => "depth",
            Self::Weight => "weight",
            Self::Name => "name",
            Self::CreatedAt => "created_at",
        }
    }
}

/// `TRAVERSE`
#[derive(Clone, Debug, PartialEq)]
pub struct Traverse {
    /// Where it starts.
    pub start: Start,
    /// Types of edges; empty is any.
    pub types: Vec<String>,
    /// Which way.
    pub direction: Direction,
    /// How many steps; 0 walks nothing and tells what there is to walk.
    pub depth: u8,
    /// Least weight of an edge, 0 to 1.
    pub min_weight: f64,
    /// What is told of nodes.
    pub load: Load,
    /// Another order than depth, weight, key; true is descending.
    pub order: Option<(OrderBy, bool)>,
    /// Most nodes; `None` is all, up to the cap.
    pub limit: Option<u32>,
    /// Told again in the answer.
    pub memo: Option<String>,
}

/// `SQL`
#[derive(Clone, Debug, PartialEq)]
pub struct Sql {
    /// One SELECT as the guard has printed it.
    pub text: String,
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lookup(lookup) => lookup.fmt(f),
            Self::Fuzzy(fuzzy) => fuzzy.fmt(f),
            Self::Search(search) => search.fmt(f),
            Self::Traverse(traverse) => traverse.fmt(f),
            Self::Sql(sql) => f.write_str(&sql.text),
        }
    }
}

impl fmt::Display for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LOOKUP {}", quoted(&self.keys))?;
        tables(f, &self.tables)?;
        clause(f, "LIMIT", self.limit)
    }
}

impl fmt::Display for Fuzzy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FUZZY {}", quote(&self.text))?;
        tables(f, &self.tables)?;
        write!(f, " THRESHOLD {} LIMIT {}", self.threshold, self.limit)?;
        clause(f, "AFTER", self.after.as_deref().map(quote))
    }
}

impl fmt::Display for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SEARCH {}", quote(&self.text))?;
        tables(f, &self.tables)?;
        clause(f, "FIELD", self.field.as_deref())?;
        clause(f, "WHERE", self.filter.as_ref().map(|filter| quote(&filter.text)))?;
        clause(f, "CATEGORY", self.category.as_deref().map(quote))?;
        clause(f, "MIN_SIMILARITY", self.min_similarity)?;
        clause(f, "MODE", self.mode.map(Mode::as_str))?;
        write!(f, " LIMIT {}", self.limit)?;
        clause(f, "AFTER", self.after.as_deref().map(quote))
    }
}

impl fmt::Display for Traverse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.start {
            Start::Key(key) => write!(f, "TRAVERSE {}", quote(key))?,
            Start::Query(query) => write!(f, "TRAVERSE WITH {query}")?,
            Start::Stage(stage) => write!(f, "TRAVERSE WITH ${stage}")?,
        }
        let types = (!self.types.is_empty()).then(|| quoted(&self.types));
        clause(f, "TYPE", types)?;
        match self.direction {
            Direction::Outbound => {}
            Direction::Inbound => f.write_str(" INBOUND")?,
            Direction::Both => f.write_str(" BOTH")?,
        }
        // Always there: it ends a query after WITH, so that a LIMIT behind it is the walk's.
        write!(f, " DEPTH {}", self.depth)?;
        clause(f, "MIN_WEIGHT", (self.min_weight > 0.0).then_some(self.min_weight))?;
        match self.load {
            Load::Load => {}
            Load::Lazy => f.write_str(" LAZY")?,
            Load::Keys => f.write_str(" KEYS")?,
        }
        if let Some((order, descending)) = self.order {
            write!(f, " ORDER BY {} {}", order.as_str(), if descending { "DESC" } else { "ASC" })?;
        }
        clause(f, "LIMIT", self.limit)?;
        clause(f, "MEMO", self.memo.as_deref().map(quote))
    }
}

fn quoted(texts: &[String]) -> String {
    texts.iter().map(|text| quote(text)).collect::<Vec<_>>().join(", ")
}

fn tables(f: &mut fmt::Formatter<'_>, tables: &[RemTable]) -> fmt::Result {
    let names: Vec<&str> = tables.iter().map(|table| table.as_str()).collect();
    clause(f, "IN", (!names.is_empty()).then(|| names.join(", ")))
}

fn clause(f: &mut fmt::Formatter<'_>, word: &str, value: Option<impl fmt::Display>) -> fmt::Result {
    value.map_or(Ok(()), |value| write!(f, " {word} {value}"))
}
