-- Guards that objected to a point although its entry's answer was right: bit n is guard n.
ALTER TABLE points ADD COLUMN contradicts INTEGER NOT NULL DEFAULT 0;

-- Where the way down has put what was in the column; empty the first time.
CREATE TABLE IF NOT EXISTS points_contradicts (
    tenant      TEXT    NOT NULL,
    entry       BLOB    NOT NULL,
    point       BLOB    NOT NULL,
    contradicts INTEGER NOT NULL,
    PRIMARY KEY (tenant, entry, point)
) STRICT, WITHOUT ROWID;

UPDATE points SET contradicts = kept.contradicts FROM points_contradicts AS kept
WHERE kept.tenant = points.tenant AND kept.entry = points.entry AND kept.point = points.id;

DROP TABLE points_contradicts;

-- Going down leaves the two tables, so that no row is lost.
CREATE TABLE IF NOT EXISTS decisions (
    request     BLOB    NOT NULL PRIMARY KEY,
    at          INTEGER NOT NULL,
    tenant      TEXT    NOT NULL,
    key         TEXT    NOT NULL,
    model       TEXT    NOT NULL,
    partition   BLOB    NOT NULL,
    mode        TEXT    NOT NULL,
    verdict     TEXT    NOT NULL,
    would_serve INTEGER NOT NULL,
    entry       BLOB,
    point       BLOB,
    cosine      REAL,
    probability REAL,
    theta       REAL,
    inputs      BLOB    NOT NULL,
    "right"     INTEGER,
    label       TEXT,
    tokens      INTEGER,
    prompt      TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS learned (
    tenant     TEXT    NOT NULL,
    model      TEXT    NOT NULL,
    state      TEXT    NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, model)
) STRICT, WITHOUT ROWID;

CREATE INDEX decisions_by_tenant ON decisions (tenant, request);

CREATE INDEX decisions_by_time ON decisions (at);

CREATE INDEX requests_by_entry ON requests (entry, id) WHERE entry IS NOT NULL;
