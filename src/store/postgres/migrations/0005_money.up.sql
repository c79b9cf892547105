-- Rows of an older program, which does not tell these kinds of tokens apart, have NULL there. So it shows who has added a
-- row, and whether that is in the roll-ups.
ALTER TABLE requests
    ADD COLUMN IF NOT EXISTS tokens_cache_write_1h bigint,
    ADD COLUMN IF NOT EXISTS tokens_audio_input bigint,
    ADD COLUMN IF NOT EXISTS tokens_audio_output bigint,
    ADD COLUMN IF NOT EXISTS tokens_image_input bigint,
    ADD COLUMN IF NOT EXISTS tokens_image_output bigint,
    ADD COLUMN IF NOT EXISTS service text,
    ADD COLUMN IF NOT EXISTS embedding_nano_usd bigint,
    ADD COLUMN IF NOT EXISTS saved_gross_nano_usd bigint;

-- Going down leaves all these tables, so that nothing is lost and nothing is summed twice. Attempts are in months as their
-- requests are, whose time is `asked_at`.
CREATE TABLE IF NOT EXISTS attempts (
    request       bytea    NOT NULL,
    asked_at      bigint   NOT NULL,
    number        integer  NOT NULL,
    kind          text     NOT NULL,
    started_at    bigint   NOT NULL,
    upstream      text     NOT NULL,
    model         text,
    status        integer,
    latency_us    bigint   NOT NULL,
    tokens_input           bigint NOT NULL,
    tokens_cache_read      bigint NOT NULL,
    tokens_cache_write     bigint NOT NULL,
    tokens_cache_write_1h  bigint NOT NULL,
    tokens_output          bigint NOT NULL,
    tokens_reasoning       bigint NOT NULL,
    tokens_audio_input     bigint NOT NULL,
    tokens_audio_output    bigint NOT NULL,
    tokens_image_input     bigint NOT NULL,
    tokens_image_output    bigint NOT NULL,
    tokens_source text,
    service       text,
    cost_nano_usd bigint,
    price_version text,
    PRIMARY KEY (request, number, asked_at)
) PARTITION BY RANGE (asked_at);

CREATE TABLE IF NOT EXISTS attempts_default PARTITION OF attempts DEFAULT;

-- What the ledger said of a request's money, and what it says since.
CREATE TABLE IF NOT EXISTS corrections (
    request    bytea  NOT NULL,
    at         bigint NOT NULL,
    started_at bigint NOT NULL,
    before_cost bigint,
    before_embedding bigint,
    before_saved_gross bigint,
    before_saved_net bigint,
    before_price_version text,
    after_cost bigint,
    after_embedding bigint,
    after_saved_gross bigint,
    after_saved_net bigint,
    after_price_version text,
    PRIMARY KEY (request, at)
);

-- Sums of ledger rows by a slot of time and what they have in common; '' where they have nothing. Kinds: 1 is an hour and
-- 2 a day with the route as label, 3 a day with the user, 4 a day with name and value of a tag; 5, 6, 7
-- and 8 are the same without keys, models and routes. Most sums are 0, which is
-- NULL here: it takes no room and no time.
CREATE TABLE IF NOT EXISTS usage_sums (
    kind   smallint NOT NULL,
    slot   bigint   NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    key    text COLLATE "C" NOT NULL,
    model  text COLLATE "C" NOT NULL,
    label  text COLLATE "C" NOT NULL,
    value  text COLLATE "C" NOT NULL,
    requests               bigint,
    hits_exact             bigint,
    hits_semantic          bigint,
    coalesced              bigint,
    refused                bigint,
    failed                 bigint,
    checks                 bigint,
    unpriced               bigint,
    estimated              bigint,
    billed_input           bigint,
    billed_cache_read      bigint,
    billed_cache_write     bigint,
    billed_cache_write_1h  bigint,
    billed_output          bigint,
    billed_reasoning       bigint,
    billed_audio_input     bigint,
    billed_audio_output    bigint,
    billed_image_input     bigint,
    billed_image_output    bigint,
    replayed_input         bigint,
    replayed_cache_read    bigint,
    replayed_cache_write   bigint,
    replayed_cache_write_1h bigint,
    replayed_output        bigint,
    replayed_reasoning     bigint,
    replayed_audio_input   bigint,
    replayed_audio_output  bigint,
    replayed_image_input   bigint,
    replayed_image_output  bigint,
    cost                   bigint,
    check_cost             bigint,
    embedding              bigint,
    saved_gross            bigint,
    saved_net              bigint,
    PRIMARY KEY (kind, slot, tenant, key, model, label, value)
);

-- What has not been added to the sums yet. Appending waits for nobody: replicas would meet on the same sums all the time.
CREATE TABLE IF NOT EXISTS usage_deltas (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    LIKE usage_sums
);

-- Rows that are in neither: those from before there were any sums, and those of an older program.
CREATE TABLE IF NOT EXISTS usage_missed (
    request    bytea  NOT NULL PRIMARY KEY,
    started_at bigint NOT NULL
);

INSERT INTO usage_missed (request, started_at) SELECT id, started_at FROM requests
WHERE NOT EXISTS (SELECT 1 FROM meta WHERE key = 'roll-ups') ON CONFLICT DO NOTHING;

INSERT INTO meta (key, value) VALUES ('roll-ups', 'begun') ON CONFLICT DO NOTHING;

CREATE OR REPLACE FUNCTION remora_note_missed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO usage_missed (request, started_at) VALUES (NEW.id, NEW.started_at) ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;

DROP TRIGGER IF EXISTS is_not_summed ON requests;

CREATE TRIGGER is_not_summed AFTER INSERT ON requests
    FOR EACH ROW WHEN (NEW.tokens_cache_write_1h IS NULL) EXECUTE FUNCTION remora_note_missed();

CREATE TRIGGER keeps_its_rows BEFORE UPDATE OR DELETE ON attempts
    FOR EACH ROW EXECUTE FUNCTION remora_append_only();

CREATE TRIGGER is_not_emptied BEFORE TRUNCATE ON attempts
    FOR EACH STATEMENT EXECUTE FUNCTION remora_append_only();

CREATE TRIGGER keeps_its_rows BEFORE UPDATE OR DELETE ON corrections
    FOR EACH ROW EXECUTE FUNCTION remora_append_only();

CREATE TRIGGER is_not_emptied BEFORE TRUNCATE ON corrections
    FOR EACH STATEMENT EXECUTE FUNCTION remora_append_only();

CREATE INDEX corrections_by_time ON corrections (started_at);
