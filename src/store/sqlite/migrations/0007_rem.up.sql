-- Resources, entities and moments are one table: they differ in what a few columns are called. `no` is what indexes refer to.
-- A row that is the answer of a cache entry goes with it, however the entry is deleted.
CREATE TABLE IF NOT EXISTS rem_rows (
    no         INTEGER PRIMARY KEY,
    tenant     TEXT    NOT NULL,
    id         BLOB    NOT NULL,
    tab        INTEGER NOT NULL,
    owner      TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    text       TEXT    NOT NULL,
    label      TEXT    NOT NULL,
    uri        TEXT,
    tags       TEXT    NOT NULL,
    data       TEXT    NOT NULL,
    aliases    TEXT    NOT NULL,
    starts_at  INTEGER,
    ends_at    INTEGER,
    previous   TEXT,
    part_of    BLOB,
    part       INTEGER,
    entry      BLOB,
    made       INTEGER NOT NULL,
    -- The key that wrote it; of what the program made there is none.
    writer     TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deleted_at INTEGER,
    -- Space of the vector that it got last; empty if there is none.
    embedded   TEXT    NOT NULL DEFAULT '',
    UNIQUE (tenant, id),
    FOREIGN KEY (tenant, entry) REFERENCES entries (tenant, id) ON DELETE CASCADE
) STRICT;

CREATE INDEX IF NOT EXISTS rem_rows_by_entry ON rem_rows (tenant, entry) WHERE entry IS NOT NULL;
CREATE INDEX IF NOT EXISTS rem_rows_by_owner ON rem_rows (tenant, owner, tab, id);
CREATE INDEX IF NOT EXISTS rem_rows_by_age ON rem_rows (updated_at) WHERE made = 1 AND tab <> 0;
CREATE INDEX IF NOT EXISTS rem_rows_hidden ON rem_rows (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS rem_rows_by_writer ON rem_rows (tenant, writer) WHERE writer IS NOT NULL AND owner = 'public';
CREATE INDEX IF NOT EXISTS rem_rows_by_space ON rem_rows (embedded, updated_at) WHERE deleted_at IS NULL AND text <> '';

-- Names and aliases of rows that are not hidden. `key` is a digest of the normal form, because names may be of any length.
-- Numbers are never given twice, so whoever has read all up to one of them reads on behind it.
CREATE TABLE IF NOT EXISTS rem_names (
    no     INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT    NOT NULL,
    key    BLOB    NOT NULL,
    owner  TEXT    NOT NULL,
    row    INTEGER NOT NULL REFERENCES rem_rows (no) ON DELETE CASCADE,
    tab    INTEGER NOT NULL,
    alias  INTEGER NOT NULL,
    name   TEXT    NOT NULL,
    normal TEXT    NOT NULL
) STRICT;

CREATE INDEX IF NOT EXISTS rem_names_by_key ON rem_names (tenant, key, owner);
CREATE INDEX IF NOT EXISTS rem_names_by_row ON rem_names (row);
CREATE INDEX IF NOT EXISTS rem_names_by_owner ON rem_names (tenant, owner);

-- Trigrams of names, with how many the name has: a name that is much shorter or longer than what is looked for is not read.
-- `scope` is a digest of tenant and owner, so nobody's search passes names that he may not see.
CREATE TABLE IF NOT EXISTS rem_grams (
    scope INTEGER NOT NULL,
    gram  INTEGER NOT NULL,
    size  INTEGER NOT NULL,
    name  INTEGER NOT NULL REFERENCES rem_names (no) ON DELETE CASCADE,
    PRIMARY KEY (scope, gram, size, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS rem_grams_by_name ON rem_grams (name);

-- Words of name and text of rows that are not hidden, by their `no`, each behind a digest of tenant, owner and table. The texts
-- themselves are in `rem_rows` only.
CREATE VIRTUAL TABLE IF NOT EXISTS rem_words USING fts5 (words, content = '', contentless_delete = 1, detail = none, tokenize = 'ascii');

-- Vectors of rows that are not hidden. `part` is a digest of tenant, owner, table and space. Numbers are never given twice, so
-- whoever has read all up to one of them reads on behind it, and a vector that is replaced has another number.
CREATE TABLE IF NOT EXISTS rem_vectors (
    seq    INTEGER PRIMARY KEY AUTOINCREMENT,
    row    INTEGER NOT NULL REFERENCES rem_rows (no) ON DELETE CASCADE,
    space  TEXT    NOT NULL,
    part   INTEGER NOT NULL,
    vector BLOB    NOT NULL,
    UNIQUE (row, space)
) STRICT;

CREATE INDEX IF NOT EXISTS rem_vectors_by_part ON rem_vectors (part);

-- Edges, from a row or from a request of the ledger. `target_key` is a digest like that of names.
CREATE TABLE IF NOT EXISTS rem_edges (
    tenant     TEXT    NOT NULL,
    source     BLOB    NOT NULL,
    source_tab INTEGER NOT NULL,
    owner      TEXT    NOT NULL,
    kind       TEXT    NOT NULL,
    target     TEXT    NOT NULL,
    target_key BLOB    NOT NULL,
    weight     REAL    NOT NULL,
    properties TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, source, kind, target_key)
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS rem_edges_by_target ON rem_edges (tenant, target_key, owner, weight);
CREATE INDEX IF NOT EXISTS rem_edges_of_requests ON rem_edges (created_at) WHERE source_tab = 3;

CREATE TRIGGER IF NOT EXISTS rem_rows_take_along AFTER DELETE ON rem_rows
BEGIN
    DELETE FROM rem_words WHERE rowid = OLD.no;
    DELETE FROM rem_edges WHERE tenant = OLD.tenant AND source = OLD.id;
END;
