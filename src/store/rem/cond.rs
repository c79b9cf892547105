//! Conditions on rows, checked: what `WHERE` of a SEARCH means. They are made from a query by `rem`, and become SQL with bound
//! parameters in each store.

use super::model::RemTable;
use crate::clock::UnixMs;

/// Type of a column in a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// Text, compared by its bytes.
    Text,
    /// A time; literals are RFC 3339 or a date.
    Time,
    /// A whole number.
    Integer,
    /// A list of texts: `=` means that one of them is equal.
    Tags,
}

/// A column of a table that a condition may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Name in queries.
    pub name: &'static str,
    /// Name in `rem_rows`.
    pub stored: &'static str,
    /// Type.
    pub of: ColumnType,
}

const fn column(name: &'static str, stored: &'static str, of: ColumnType) -> Column {
    Column { name, stored, of }
}

/// The columns that conditions on a table may name.
pub fn columns(table: RemTable) -> &'static [Column] {
    use ColumnType::{Integer, Tags, Text, Time};
    const RESOURCES: [Column; 9] = [
        column("name", "name", Text),
        column("uri", "uri", Text),
        column("content", "text", Text),
        column("category", "label", Text),
        column("tags", "tags", Tags),
        column("part", "part", Integer),
        column("owner", "owner", Text),
        column("created_at", "created_at", Time),
        column("updated_at", "updated_at", Time),
    ];
    const ENTITIES: [Column; 7] = [
        column("name", "name", Text),
        column("kind", "label", Text),
        column("description", "text", Text),
        column("tags", "tags", Tags),
        column("owner", "owner", Text),
        column("created_at", "created_at", Time),
        column("updated_at", "updated_at", Time),
    ];
    const MOMENTS: [Column; 10] = [
        column("name", "name", Text),
        column("kind", "label", Text),
        column("summary", "text", Text),
        column("starts_at", "starts_at", Time),
        column("ends_at", "ends_at", Time),
        column("previous", "previous", Text),
        column("tags", "tags", Tags),
        column("owner", "owner", Text),
        column("created_at", "created_at", Time),
        column("updated_at", "updated_at", Time),
    ];
    match table {
        RemTable::Resources => &RESOURCES,
        RemTable::Entities => &ENTITIES,
        RemTable::Moments => &MOMENTS,
        RemTable::Requests => &[],
    }
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// `=`
    Equal,
    /// `<>`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Compare {
    /// As SQL writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "<>",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

/// A literal of the column's type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Literal {
    /// For [`ColumnType::Text`] and [`ColumnType::Tags`].
    Text(String),
    /// For [`ColumnType::Time`].
    Time(UnixMs),
    /// For [`ColumnType::Integer`].
    Integer(i64),
}

/// A condition. What compares with a missing value is not true, and neither is its opposite, as in SQL.
#[derive(Clone, Debug, PartialEq)]
pub enum Cond {
    /// All of them.
    And(Vec<Cond>),
    /// One of them at least.
    Or(Vec<Cond>),
    /// Not.
    Not(Box<Cond>),
    /// A column beside a literal. Tags know `=` and `<>` only.
    Is(Column, Compare, Literal),
    /// One of a list.
    In(Column, Vec<Literal>),
    /// A text that contains `%` and `_` as wildcards, `\` as escape; upper and lower case are told apart.
    Like(Column, String),
    /// Whether it is missing.
    Missing(Column),
}
