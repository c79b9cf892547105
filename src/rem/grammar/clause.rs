//! The words of the grammar: which clauses each type of query has, how they are called, and what follows them.

/// Type of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Lookup,
    Fuzzy,
    Search,
    Traverse,
    /// SQL's short form, `SQL table WHERE …`.
    Sql,
}

/// Names of the types, as hints give them.
pub(super) const TYPES: &str = "a query begins with LOOKUP, FUZZY, SEARCH, TRAVERSE or SQL (or SELECT)";

impl Kind {
    pub(super) const ALL: [Self; 5] = [Self::Lookup, Self::Fuzzy, Self::Search, Self::Traverse, Self::Sql];

    /// By the first word of a query, or by `type`.
    pub(super) fn of(word: &str) -> Option<Self> {
        match word.to_ascii_lowercase().as_str() {
            "lookup" | "get" => Some(Self::Lookup),
            "fuzzy" => Some(Self::Fuzzy),
            "search" => Some(Self::Search),
            "traverse" => Some(Self::Traverse),
            "sql" => Some(Self::Sql),
            _ => None,
        }
    }

    /// As it is written.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Lookup => "LOOKUP",
            Self::Fuzzy => "FUZZY",
            Self::Search => "SEARCH",
            Self::Traverse => "TRAVERSE",
            Self::Sql => "SQL",
        }
    }

    /// The clauses that it has.
    fn clauses(self) -> &'static [What] {
        use What::{
            After, Category, Depth, Direction, Field, Least, Limit, Load, Memo, MinWeight, Mode, Names, Order, Tables,
            Types, Where, With,
        };
        match self {
            Self::Lookup => &[Names, Tables, Limit],
            Self::Fuzzy => &[Names, Tables, Least, Limit, After],
            Self::Search => &[Names, Tables, Field, Where, Category, Least, Mode, Limit, After],
            Self::Traverse => &[Names, With, Types, Direction, Depth, MinWeight, Load, Order, Limit, Memo],
            Self::Sql => &[Tables, Where, Order, Limit],
        }
    }

    fn has(self, what: What) -> bool {
        self.clauses().contains(&what)
    }

    /// The clause that this word begins, and the word it stands for if it is a clause by itself.
    pub(super) fn keyword(self, word: &str) -> Option<(What, Option<&'static str>)> {
        let what = match word.to_ascii_lowercase().as_str() {
            "from" if self == Self::Traverse => (What::Names, None),
            "in" | "from" | "table" if self != Self::Sql => (What::Tables, None),
            "limit" => (What::Limit, None),
            "threshold" | "min_similarity" => (What::Least, None),
            "after" => (What::After, None),
            "field" => (What::Field, None),
            "where" => (What::Where, None),
            "category" => (What::Category, None),
            "mode" => (What::Mode, None),
            "with" => (What::With, None),
            "type" | "rel_type" | "rel_types" | "edge_type" | "edge_types" => (What::Types, None),
            "outbound" => (What::Direction, Some("outbound")),
            "inbound" => (What::Direction, Some("inbound")),
            "both" => (What::Direction, Some("both")),
            "depth" | "max_depth" => (What::Depth, None),
            "plan" => (What::Depth, Some("0")),
            "min_weight" => (What::MinWeight, None),
            "load" => (What::Load, Some("load")),
            "lazy" => (What::Load, Some("lazy")),
            "keys" => (What::Load, Some("keys")),
            // Only before BY; whoever reads words looks for it.
            "order" => (What::Order, None),
            "memo" => (What::Memo, None),
            _ => return None,
        };
        self.has(what.0).then_some(what)
    }

    /// The clause of this name in `name=value` and in JSON.
    pub(super) fn argument(self, name: &str) -> Option<What> {
        let what = match name.to_ascii_lowercase().as_str() {
            "key" | "keys" if matches!(self, Self::Lookup) => What::Names,
            "key" | "from" | "start" if self == Self::Traverse => What::Names,
            "text" if matches!(self, Self::Fuzzy | Self::Search) => What::Names,
            "table" | "tables" | "in" | "from" => What::Tables,
            "limit" => What::Limit,
            "threshold" | "min_similarity" => What::Least,
            "after" | "cursor" => What::After,
            "field" => What::Field,
            "where" | "filter" => What::Where,
            "category" => What::Category,
            "mode" => What::Mode,
            "with" => What::With,
            "type" | "types" | "rel_type" | "rel_types" | "edge_type" | "edge_types" => What::Types,
            "direction" => What::Direction,
            "depth" | "max_depth" => What::Depth,
            "min_weight" => What::MinWeight,
            "load" => What::Load,
            "order" | "order_by" => What::Order,
            "memo" => What::Memo,
            _ => return None,
        };
        self.has(what).then_some(what)
    }

    /// The clauses in words, for hints.
    pub(super) fn clause_names(self) -> String {
        let names: Vec<&str> = self.clauses().iter().flat_map(|what| what.words(self)).copied().collect();
        names.join(", ")
    }

    /// The name of a clause that is close to this one.
    pub(super) fn close_to(self, word: &str) -> Option<&'static str> {
        let words = self.clauses().iter().flat_map(|what| what.words(self)).copied();
        nearest(&word.to_ascii_uppercase(), words)
    }

    /// Whether this word in capitals would begin a clause of some other type, so that a text with it in its midst most
    /// likely is a clause at the wrong place.
    pub(super) fn foreign(self, word: &str) -> Option<Self> {
        let capitals = word.len() > 3 && word.chars().all(|letter| letter.is_ascii_uppercase() || letter == '_');
        // A word that is a clause by itself, as PLAN, says too little.
        let clause = |kind: &Self| kind.keyword(word).is_some_and(|(_, flag)| flag.is_none());
        if !capitals || word == "ORDER" { None } else { Self::ALL.into_iter().find(clause) }
    }
}

/// A clause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Keys, or the text.
    Names,
    Tables,
    /// Threshold of FUZZY, least similarity of SEARCH.
    Least,
    Limit,
    After,
    Field,
    Where,
    Category,
    Mode,
    /// The query that TRAVERSE starts from.
    With,
    Types,
    Direction,
    Depth,
    MinWeight,
    Load,
    Order,
    Memo,
}

/// What follows a keyword.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// One text: quoted, or bare words.
    Text,
    /// One word, or a quoted text.
    Word,
    /// Words or quoted texts with commas between them.
    Words,
    /// A condition.
    Condition,
    /// `BY` and what follows it.
    Order,
    /// A query, or the name of a stage.
    Query,
}

impl What {
    pub(super) fn shape(self) -> Shape {
        match self {
            Self::Names | Self::Category | Self::Memo => Shape::Text,
            Self::Tables | Self::Types => Shape::Words,
            Self::Where => Shape::Condition,
            Self::Order => Shape::Order,
            Self::With => Shape::Query,
            Self::Least | Self::Limit | Self::After | Self::Field | Self::Mode | Self::Direction | Self::Depth => {
                Shape::Word
            }
            Self::MinWeight | Self::Load => Shape::Word,
        }
    }

    /// How it is written.
    fn words(self, kind: Kind) -> &'static [&'static str] {
        match self {
            Self::Names if kind == Kind::Traverse => &["FROM"],
            Self::Names => &[],
            Self::Tables if kind == Kind::Sql => &[],
            Self::Tables => &["IN", "FROM", "TABLE"],
            Self::Least if kind == Kind::Search => &["MIN_SIMILARITY"],
            Self::Least => &["THRESHOLD"],
            Self::Limit => &["LIMIT"],
            Self::After => &["AFTER"],
            Self::Field => &["FIELD"],
            Self::Where => &["WHERE"],
            Self::Category => &["CATEGORY"],
            Self::Mode => &["MODE"],
            Self::With => &["WITH"],
            Self::Types => &["TYPE"],
            Self::Direction => &["OUTBOUND", "INBOUND", "BOTH"],
            Self::Depth => &["DEPTH", "PLAN"],
            Self::MinWeight => &["MIN_WEIGHT"],
            Self::Load => &["LOAD", "LAZY", "KEYS"],
            Self::Order => &["ORDER BY"],
            Self::Memo => &["MEMO"],
        }
    }

    /// Name of the parameter in faults and in JSON.
    pub(super) fn parameter(self, kind: Kind) -> &'static str {
        match self {
            Self::Names => match kind {
                Kind::Lookup => "keys",
                Kind::Traverse => "key",
                _ => "text",
            },
            Self::Tables if kind == Kind::Sql => "table",
            Self::Tables => "tables",
            Self::Least if kind == Kind::Search => "min_similarity",
            Self::Least => "threshold",
            Self::Limit => "limit",
            Self::After => "after",
            Self::Field => "field",
            Self::Where => "where",
            Self::Category => "category",
            Self::Mode => "mode",
            Self::With => "with",
            Self::Types => "types",
            Self::Direction => "direction",
            Self::Depth => "depth",
            Self::MinWeight => "min_weight",
            Self::Load => "load",
            Self::Order => "order_by",
            Self::Memo => "memo",
        }
    }

    /// The clauses of a type that JSON may name, in order.
    pub(super) fn members(kind: Kind) -> Vec<&'static str> {
        kind.clauses().iter().map(|what| what.parameter(kind)).collect()
    }
}

/// The one of these words that this one most likely was meant to be.
pub(super) fn nearest<'a>(word: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let short = word.chars().count() < 4;
    let close = |other: &&str| {
        let edits = strsim::damerau_levenshtein(word, other);
        edits <= if short { 1 } else { 2 } && edits < other.chars().count()
    };
    words.into_iter().filter(close).min_by_key(|other| strsim::damerau_levenshtein(word, other))
}
