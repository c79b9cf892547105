CREATE TABLE meta (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE tenants (
    tenant     TEXT    NOT NULL PRIMARY KEY,
    declared   INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE entries (
    tenant            TEXT    NOT NULL,
    id                BLOB    NOT NULL,
    partition         BLOB    NOT NULL,
    namespace         TEXT    NOT NULL,
    dialect           TEXT    NOT NULL,
    model             TEXT    NOT NULL,
    finish            TEXT    NOT NULL,
    completion_tokens INTEGER,
    token_limit       INTEGER,
    writer            TEXT    NOT NULL,
    tags              TEXT    NOT NULL,
    created_at        INTEGER NOT NULL,
    expires_at        INTEGER NOT NULL,
    body_len          INTEGER NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;

-- Apart from `entries`, so that start-up and listings read the small rows only.
CREATE TABLE bodies (
    tenant TEXT NOT NULL,
    entry  BLOB NOT NULL,
    body   BLOB NOT NULL,
    PRIMARY KEY (tenant, entry),
    FOREIGN KEY (tenant, entry) REFERENCES entries (tenant, id) ON DELETE CASCADE
) STRICT;

CREATE TABLE points (
    tenant      TEXT    NOT NULL,
    entry       BLOB    NOT NULL,
    id          BLOB    NOT NULL,
    partition   BLOB    NOT NULL,
    fingerprint BLOB    NOT NULL,
    normalised  BLOB,
    space       TEXT,
    writer      TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    vector      BLOB,
    prompt      TEXT,
    PRIMARY KEY (tenant, entry, id),
    FOREIGN KEY (tenant, entry) REFERENCES entries (tenant, id) ON DELETE CASCADE
) STRICT;

-- The one key without a tenant: a request id is made by this program, and exactly one row per request must hold even
-- for callers that are not known.
CREATE TABLE requests (
    id               BLOB    NOT NULL PRIMARY KEY,
    started_at       INTEGER NOT NULL,
    tenant           TEXT,
    key              TEXT,
    user             TEXT,
    tags             TEXT    NOT NULL,
    route            TEXT    NOT NULL,
    dialect          TEXT    NOT NULL,
    model_asked      TEXT,
    model_answered   TEXT,
    stream           INTEGER NOT NULL,
    outcome          TEXT    NOT NULL,
    tier             TEXT,
    reason           TEXT,
    similarity       REAL,
    entry            BLOB,
    status           INTEGER NOT NULL,
    upstream         TEXT,
    upstream_status  INTEGER,
    tokens_input       INTEGER NOT NULL,
    tokens_cache_read  INTEGER NOT NULL,
    tokens_cache_write INTEGER NOT NULL,
    tokens_output      INTEGER NOT NULL,
    tokens_reasoning   INTEGER NOT NULL,
    tokens_source    TEXT,
    latency_us       INTEGER NOT NULL,
    ttft_us          INTEGER,
    overhead_us      INTEGER NOT NULL,
    cost_nano_usd    INTEGER,
    saved_nano_usd   INTEGER,
    price_version    TEXT
) STRICT, WITHOUT ROWID;
