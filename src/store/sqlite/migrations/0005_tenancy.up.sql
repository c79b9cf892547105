-- Going down leaves these tables, so that no key and no row of the audit is lost.
CREATE TABLE IF NOT EXISTS tenant_specs (
    tenant     TEXT    NOT NULL PRIMARY KEY,
    declared   INTEGER NOT NULL,
    spec       TEXT    NOT NULL,
    credential BLOB,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS virtual_keys (
    id          TEXT    NOT NULL PRIMARY KEY,
    tenant      TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    hash        BLOB    NOT NULL,
    spec        TEXT    NOT NULL,
    expires_at  INTEGER,
    replaced_by TEXT,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    used_at     INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS admin_tokens (
    id         TEXT    NOT NULL PRIMARY KEY,
    name       TEXT    NOT NULL,
    hash       BLOB    NOT NULL,
    role       TEXT    NOT NULL,
    tenant     TEXT,
    expires_at INTEGER,
    created_at INTEGER NOT NULL,
    used_at    INTEGER
) STRICT, WITHOUT ROWID;

-- One row: the number of the last change to the three tables above.
CREATE TABLE IF NOT EXISTS directory_head (
    one     INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    version INTEGER NOT NULL
) STRICT;

INSERT INTO directory_head (one, version) VALUES (1, 0) ON CONFLICT DO NOTHING;

CREATE TABLE IF NOT EXISTS alerts (
    id      TEXT    NOT NULL PRIMARY KEY,
    at      INTEGER NOT NULL,
    tenant  TEXT,
    kind    TEXT    NOT NULL,
    title   TEXT    NOT NULL,
    payload TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS alert_deliveries (
    alert    TEXT    NOT NULL REFERENCES alerts (id) ON DELETE CASCADE,
    channel  TEXT    NOT NULL,
    state    TEXT    NOT NULL,
    attempts INTEGER NOT NULL,
    next_at  INTEGER NOT NULL,
    error    TEXT,
    sent_at  INTEGER,
    PRIMARY KEY (alert, channel)
) STRICT, WITHOUT ROWID;

-- The place of each row of `admin_audit` in the chain. Beside that table and not in it, because its rows never change.
CREATE TABLE IF NOT EXISTS audit_chain (
    seq  INTEGER NOT NULL PRIMARY KEY,
    id   BLOB    NOT NULL UNIQUE,
    hash BLOB    NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS audit_head (
    one  INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    seq  INTEGER NOT NULL,
    hash BLOB    NOT NULL
) STRICT;

CREATE TRIGGER audit_chain_keeps_what_it_says BEFORE UPDATE ON audit_chain
BEGIN
    SELECT raise(ABORT, 'audit_chain is append-only');
END;

CREATE TRIGGER audit_chain_keeps_its_rows BEFORE DELETE ON audit_chain
BEGIN
    SELECT raise(ABORT, 'audit_chain is append-only');
END;

CREATE INDEX virtual_keys_by_tenant ON virtual_keys (tenant);

CREATE INDEX alerts_by_time ON alerts (at, id);

CREATE INDEX alert_deliveries_due ON alert_deliveries (next_at) WHERE state = 'pending';

CREATE INDEX requests_by_time ON requests (tenant, started_at);
