-- Rows of an older program, which does not tell these kinds of tokens apart, have NULL there. So it shows who has added a
-- row, and whether that is in the roll-ups.
DROP TRIGGER IF EXISTS requests_of_an_older_program;

ALTER TABLE requests ADD COLUMN tokens_cache_write_1h INTEGER;

ALTER TABLE requests ADD COLUMN tokens_audio_input INTEGER;

ALTER TABLE requests ADD COLUMN tokens_audio_output INTEGER;

ALTER TABLE requests ADD COLUMN tokens_image_input INTEGER;

ALTER TABLE requests ADD COLUMN tokens_image_output INTEGER;

ALTER TABLE requests ADD COLUMN service TEXT;

ALTER TABLE requests ADD COLUMN embedding_nano_usd INTEGER;

ALTER TABLE requests ADD COLUMN saved_gross_nano_usd INTEGER;

-- Where the way down has put what was in the columns; empty the first time.
CREATE TABLE IF NOT EXISTS requests_money (
    id BLOB NOT NULL PRIMARY KEY,
    tokens_cache_write_1h INTEGER,
    tokens_audio_input INTEGER,
    tokens_audio_output INTEGER,
    tokens_image_input INTEGER,
    tokens_image_output INTEGER,
    service TEXT,
    embedding_nano_usd INTEGER,
    saved_gross_nano_usd INTEGER
) STRICT, WITHOUT ROWID;

UPDATE requests SET
    tokens_cache_write_1h = kept.tokens_cache_write_1h,
    tokens_audio_input = kept.tokens_audio_input,
    tokens_audio_output = kept.tokens_audio_output,
    tokens_image_input = kept.tokens_image_input,
    tokens_image_output = kept.tokens_image_output,
    service = kept.service,
    embedding_nano_usd = kept.embedding_nano_usd,
    saved_gross_nano_usd = kept.saved_gross_nano_usd
FROM requests_money AS kept WHERE kept.id = requests.id;

DROP TABLE requests_money;

-- Going down leaves all these tables, so that nothing is lost and nothing is summed twice.
CREATE TABLE IF NOT EXISTS attempts (
    request       BLOB    NOT NULL,
    number        INTEGER NOT NULL,
    kind          TEXT    NOT NULL,
    started_at    INTEGER NOT NULL,
    upstream      TEXT    NOT NULL,
    model         TEXT,
    status        INTEGER,
    latency_us    INTEGER NOT NULL,
    tokens_input           INTEGER NOT NULL,
    tokens_cache_read      INTEGER NOT NULL,
    tokens_cache_write     INTEGER NOT NULL,
    tokens_cache_write_1h  INTEGER NOT NULL,
    tokens_output          INTEGER NOT NULL,
    tokens_reasoning       INTEGER NOT NULL,
    tokens_audio_input     INTEGER NOT NULL,
    tokens_audio_output    INTEGER NOT NULL,
    tokens_image_input     INTEGER NOT NULL,
    tokens_image_output    INTEGER NOT NULL,
    tokens_source TEXT,
    service       TEXT,
    cost_nano_usd INTEGER,
    price_version TEXT,
    PRIMARY KEY (request, number)
) STRICT, WITHOUT ROWID;

-- What the ledger said of a request's money, and what it says since.
CREATE TABLE IF NOT EXISTS corrections (
    request    BLOB    NOT NULL,
    at         INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    before_cost INTEGER,
    before_embedding INTEGER,
    before_saved_gross INTEGER,
    before_saved_net INTEGER,
    before_price_version TEXT,
    after_cost INTEGER,
    after_embedding INTEGER,
    after_saved_gross INTEGER,
    after_saved_net INTEGER,
    after_price_version TEXT,
    PRIMARY KEY (request, at)
) STRICT, WITHOUT ROWID;

-- Sums of ledger rows by a slot of time and what they have in common; '' where they have nothing. Kinds: 1 is an hour and
-- 2 a day with the route as label, 3 a day with the user, 4 a day with name and value of a tag; 5, 6, 7
-- and 8 are the same without keys, models and routes.
CREATE TABLE IF NOT EXISTS usage_sums (
    kind   INTEGER NOT NULL,
    slot   INTEGER NOT NULL,
    tenant TEXT    NOT NULL,
    key    TEXT    NOT NULL,
    model  TEXT    NOT NULL,
    label  TEXT    NOT NULL,
    value  TEXT    NOT NULL,
    requests               INTEGER NOT NULL,
    hits_exact             INTEGER NOT NULL,
    hits_semantic          INTEGER NOT NULL,
    coalesced              INTEGER NOT NULL,
    refused                INTEGER NOT NULL,
    failed                 INTEGER NOT NULL,
    checks                 INTEGER NOT NULL,
    unpriced               INTEGER NOT NULL,
    estimated              INTEGER NOT NULL,
    billed_input           INTEGER NOT NULL,
    billed_cache_read      INTEGER NOT NULL,
    billed_cache_write     INTEGER NOT NULL,
    billed_cache_write_1h  INTEGER NOT NULL,
    billed_output          INTEGER NOT NULL,
    billed_reasoning       INTEGER NOT NULL,
    billed_audio_input     INTEGER NOT NULL,
    billed_audio_output    INTEGER NOT NULL,
    billed_image_input     INTEGER NOT NULL,
    billed_image_output    INTEGER NOT NULL,
    replayed_input         INTEGER NOT NULL,
    replayed_cache_read    INTEGER NOT NULL,
    replayed_cache_write   INTEGER NOT NULL,
    replayed_cache_write_1h INTEGER NOT NULL,
    replayed_output        INTEGER NOT NULL,
    replayed_reasoning     INTEGER NOT NULL,
    replayed_audio_input   INTEGER NOT NULL,
    replayed_audio_output  INTEGER NOT NULL,
    replayed_image_input   INTEGER NOT NULL,
    replayed_image_output  INTEGER NOT NULL,
    cost                   INTEGER NOT NULL,
    check_cost             INTEGER NOT NULL,
    embedding              INTEGER NOT NULL,
    saved_gross            INTEGER NOT NULL,
    saved_net              INTEGER NOT NULL,
    PRIMARY KEY (kind, slot, tenant, key, model, label, value)
) STRICT, WITHOUT ROWID;

-- Rows that are not in the sums yet: those from before there were any, and those of an older program.
CREATE TABLE IF NOT EXISTS usage_missed (
    request BLOB NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;

INSERT INTO usage_missed (request) SELECT id FROM requests
WHERE NOT EXISTS (SELECT 1 FROM meta WHERE key = 'roll-ups');

INSERT INTO meta (key, value) VALUES ('roll-ups', 'begun') ON CONFLICT DO NOTHING;

CREATE TRIGGER requests_of_an_older_program AFTER INSERT ON requests WHEN NEW.tokens_cache_write_1h IS NULL
BEGIN
    INSERT INTO usage_missed (request) VALUES (NEW.id);
END;

CREATE TRIGGER attempts_keep_what_they_say BEFORE UPDATE ON attempts
BEGIN
    SELECT raise(ABORT, 'attempts is append-only');
END;

CREATE TRIGGER attempts_keep_their_rows BEFORE DELETE ON attempts
BEGIN
    SELECT raise(ABORT, 'attempts is append-only');
END;

CREATE TRIGGER corrections_keep_what_they_say BEFORE UPDATE ON corrections
BEGIN
    SELECT raise(ABORT, 'corrections is append-only');
END;

CREATE TRIGGER corrections_keep_their_rows BEFORE DELETE ON corrections
BEGIN
    SELECT raise(ABORT, 'corrections is append-only');
END;

CREATE INDEX corrections_by_time ON corrections (started_at);
