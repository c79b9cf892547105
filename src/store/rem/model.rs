//! What REM data is: rows with names, edges between them, and vectors by which they are found.

use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};

use crate::clock::UnixMs;
use crate::ids::{EntryId, KeyId, RemId, TenantId};

/// Where a row belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RemTable {
    /// Documents and answers.
    Resources,
    /// Named things.
    Entities,
    /// Spans of time.
    Moments,
    /// Ledger rows: found by TRAVERSE and SQL only, and never written through [`super::RemStore`].
    Requests,
}

impl RemTable {
    /// Those that rows are written to, in the order in which answers show them.
    pub const WRITTEN: [Self; 3] = [Self::Resources, Self::Entities, Self::Moments];

    /// Name in queries, answers and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Resources => "resources",
            Self::Entities => "entities",
            Self::Moments => "moments",
            Self::Requests => "requests",
        }
    }

    /// Number in the database.
    pub fn code(self) -> i16 {
        match self {
            Self::Resources => 0,
            Self::Entities => 1,
            Self::Moments => 2,
            Self::Requests => 3,
        }
    }

    /// The inverse of [`RemTable::code`].
    pub fn of_code(code: i64) -> Option<Self> {
        [Self::Resources, Self::Entities, Self::Moments, Self::Requests]
            .into_iter()
            .find(|table| i64::from(table.code()) == code)
    }

    /// Name of the column whose text is embedded and searched.
    pub fn embedded_field(self) -> Option<&'static str> {
        match self {
            Self::Resources => Some("content"),
            Self::Entities => Some("description"),
            Self::Moments => Some("summary"),
            Self::Requests => None,
        }
    }

    /// Name of the column that [`RemRow::label`] is shown as.
    pub fn label_field(self) -> &'static str {
        if self == Self::Resources { "category" } else { "kind" }
    }
}

/// Whose a row is, inside its tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// Everybody of the tenant.
    Public,
    /// One key, whatever its secret is at present.
    Key(KeyId),
}

impl Owner {
    /// The key, if it is one.
    pub fn key(&self) -> Option<&KeyId> {
        match self {
            Self::Public => None,
            Self::Key(key) => Some(key),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Public => f.write_str("public"),
            Self::Key(key) => write!(f, "key:{key}"),
        }
    }
}

impl FromStr for Owner {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text.strip_prefix("key:") {
            Some(key) => Ok(Self::Key(KeyId::new(key))),
            None if text == "public" => Ok(Self::Public),
            None => Err(()),
        }
    }
}

/// Who asks, and so what may be seen: the tenant's public rows and those of the caller's key. It is made from
/// authentication alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The caller's tenant.
    pub tenant: TenantId,
    /// The caller's key.
    pub key: KeyId,
}

impl Scope {
    /// The owner of what the caller writes, unless he says `public`.
    pub fn owner(&self) -> Owner {
        Owner::Key(self.key.clone())
    }

    /// Whether rows of this owner, in this tenant, may be seen.
    pub fn sees(&self, owner: &Owner) -> bool {
        match owner {
            Owner::Public => true,
            Owner::Key(key) => *key == self.key,
        }
    }
}

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub struct RemRow {
    /// Identity inside the tenant.
    pub id: RemId,
    /// Where it belongs.
    pub table: RemTable,
    /// Whose it is.
    pub owner: Owner,
    /// What it is called. Never empty.
    pub name: String,
    /// `content`, `description` or `summary`; may be empty.
    pub text: String,
    /// `category` of resources, else `kind`; may be empty.
    pub label: String,
    /// Where a resource came from.
    pub uri: Option<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// `metadata`, or the `attributes` of an entity.
    pub data: Map<String, Value>,
    /// Other names, of any row; users give them to entities.
    pub aliases: Vec<String>,
    /// Begin of a moment.
    pub starts_at: Option<UnixMs>,
    /// End of a moment.
    pub ends_at: Option<UnixMs>,
    /// Name of the moment before it.
    pub previous: Option<String>,
    /// First part of the document that this is a part of, and its number from 0.
    pub part_of: Option<(RemId, u32)>,
    /// The cache entry that this is the answer of: it goes with it.
    pub entry: Option<EntryId>,
    /// The program made it from traffic; a user did not write it.
    pub made: bool,
    /// The key that wrote it; `None` if the program did. Of public rows it says who may change them.
    pub writer: Option<KeyId>,
    /// When it was first written.
    pub created_at: UnixMs,
    /// When it was last written.
    pub updated_at: UnixMs,
    /// Since when it is hidden.
    pub deleted_at: Option<UnixMs>,
}

/// Type of the edges from one part of a document to the next.
pub const NEXT_PART: &str = "next_part";
/// Type of the edges between resources whose texts are near each other.
pub const SIMILAR_TO: &str = "similar_to";

/// A directed, typed, weighted edge from a row to a name.
#[derive(Clone, Debug, PartialEq)]
pub struct RemEdge {
    /// The row it leaves.
    pub source: RemId,
    /// Where that row belongs.
    pub source_table: RemTable,
    /// Type, as in `authored_by`.
    pub kind: String,
    /// Name it leads to; there may be nothing of that name.
    pub target: String,
    /// 0 to 1.
    pub weight: f64,
    /// Anything else.
    pub properties: Map<String, Value>,
    /// When it was written.
    pub created_at: UnixMs,
}

/// A vector of a row's embedded field.
#[derive(Clone, Debug, PartialEq)]
pub struct RemVector {
    /// Name of its embedding space, as `embed::Space` writes it.
    pub space: String,
    /// Finite, of length 1.
    pub vector: Vec<f32>,
}

/// One change. Each is applied as a whole: names, edges, words and trigrams are always those of the row.
#[derive(Clone, Debug, PartialEq)]
pub enum RemWrite {
    /// Writes a row with all that belongs to it, in the place of one of the same id and owner. A row of that id that another
    /// owner has stays as it is. `created_at` of an older row is kept. A row whose `entry` is not stored is not written.
    Put {
        /// The row; `deleted_at` hides it.
        row: Box<RemRow>,
        /// Its vector. Without one the row is found by names and words only, until [`RemWrite::Embed`].
        vector: Option<RemVector>,
        /// All its edges; `None` leaves those that there are.
        edges: Option<Vec<RemEdge>>,
    },
    /// Adds edges of one owner, or brings those with the same source, type and target up to date. The source is a row of that
    /// owner, or a request of that key; edges of other sources are left out.
    Link {
        /// Owner of the sources.
        owner: Owner,
        /// The edges.
        edges: Vec<RemEdge>,
    },
    /// Deletes the edges of one type that leave these rows of one owner, or (`others`) those of all other types. Edges of other owners
    /// and of requests stay.
    Unlink {
        /// Owner of the edges.
        owner: Owner,
        /// The rows that they leave.
        sources: Vec<RemId>,
        /// The type.
        kind: String,
        /// All but that type.
        others: bool,
    },
    /// Gives a row its vector, if its text still is the one that it was made of.
    Embed {
        /// The row.
        id: RemId,
        /// When that text was written: [`RemRow::updated_at`].
        updated_at: UnixMs,
        /// The vector.
        vector: RemVector,
    },
    /// Hides a row at once: nothing finds it and nothing leads there. Nothing happens if this owner has none of that id.
    Hide {
        /// The row.
        id: RemId,
        /// Its owner.
        owner: Owner,
        /// When.
        at: UnixMs,
    },
    /// Deletes a row, hidden or not, with its names, edges and vector. Nothing happens if this owner has none of that id.
    Purge {
        /// The row.
        id: RemId,
        /// Its owner.
        owner: Owner,
    },
    /// Deletes the edges that leave a request; the request itself stays in the ledger.
    ForgetRequest {
        /// The request.
        id: RemId,
    },
}

/// A row with all that belongs to it, as it is copied to another store.
#[derive(Clone, Debug, PartialEq)]
pub struct RemExported {
    /// Whose.
    pub tenant: TenantId,
    /// The row, hidden ones included; `None` for the edges of a request.
    pub row: Option<RemRow>,
    /// Its vectors.
    pub vectors: Vec<RemVector>,
    /// The edges that leave it, by type and target, with the owner that they have.
    pub edges: Vec<(Owner, RemEdge)>,
}
