-- Going down leaves these tables, so that no key and no row of the audit is lost.
CREATE TABLE IF NOT EXISTS tenant_specs (
    tenant     text COLLATE "C" NOT NULL PRIMARY KEY,
    declared   boolean NOT NULL,
    spec       text    NOT NULL,
    credential bytea,
    created_at bigint  NOT NULL,
    updated_at bigint  NOT NULL
);

CREATE TABLE IF NOT EXISTS virtual_keys (
    id          text COLLATE "C" NOT NULL PRIMARY KEY,
    tenant      text COLLATE "C" NOT NULL,
    name        text   NOT NULL,
    hash        bytea  NOT NULL,
    spec        text   NOT NULL,
    expires_at  bigint,
    replaced_by text,
    created_at  bigint NOT NULL,
    updated_at  bigint NOT NULL,
    used_at     bigint
);

CREATE TABLE IF NOT EXISTS admin_tokens (
    id         text COLLATE "C" NOT NULL PRIMARY KEY,
    name       text   NOT NULL,
    hash       bytea  NOT NULL,
    role       text   NOT NULL,
    tenant     text COLLATE "C",
    expires_at bigint,
    created_at bigint NOT NULL,
    used_at    bigint
);

-- One row: the number of the last change to the three tables above. Whoever changes them locks it first.
CREATE TABLE IF NOT EXISTS directory_head (
    one     boolean NOT NULL PRIMARY KEY DEFAULT true CHECK (one),
    version bigint  NOT NULL
);

INSERT INTO directory_head (version) VALUES (0) ON CONFLICT DO NOTHING;

CREATE TABLE IF NOT EXISTS alerts (
    id      text COLLATE "C" NOT NULL PRIMARY KEY,
    at      bigint NOT NULL,
    tenant  text COLLATE "C",
    kind    text   NOT NULL,
    title   text   NOT NULL,
    payload text   NOT NULL
);

CREATE TABLE IF NOT EXISTS alert_deliveries (
    alert    text COLLATE "C" NOT NULL REFERENCES alerts (id) ON DELETE CASCADE,
    channel  text COLLATE "C" NOT NULL,
    state    text    NOT NULL,
    attempts bigint  NOT NULL,
    next_at  bigint  NOT NULL,
    error    text,
    sent_at  bigint,
    PRIMARY KEY (alert, channel)
);

-- The place of each row of `admin_audit` in the chain. Beside that table and not in it, because its rows never change.
CREATE TABLE IF NOT EXISTS audit_chain (
    seq  bigint NOT NULL PRIMARY KEY,
    id   bytea  NOT NULL UNIQUE,
    hash bytea  NOT NULL
);

-- One row: where the chain ends, zero at the beginning. Whoever adds to the audit locks it first.
CREATE TABLE IF NOT EXISTS audit_head (
    one  boolean NOT NULL PRIMARY KEY DEFAULT true CHECK (one),
    seq  bigint  NOT NULL,
    hash bytea   NOT NULL
);

INSERT INTO audit_head (seq, hash) VALUES (0, decode(repeat('00', 32), 'hex')) ON CONFLICT DO NOTHING;

CREATE TRIGGER keeps_its_rows BEFORE UPDATE OR DELETE ON audit_chain
    FOR EACH ROW EXECUTE FUNCTION remora_append_only();

CREATE TRIGGER is_not_emptied BEFORE TRUNCATE ON audit_chain
    FOR EACH STATEMENT EXECUTE FUNCTION remora_append_only();

-- What was spent of each budget, by the start of a part of its period. A part that is not seeded lacks what was spent
-- before its counter was made.
CREATE TABLE budget_slots (
    key    text COLLATE "C" NOT NULL,
    slot   bigint  NOT NULL,
    spent  bigint  NOT NULL,
    seeded boolean NOT NULL,
    PRIMARY KEY (key, slot)
);

-- Money kept for requests under way.
CREATE TABLE budget_holds (
    request    bytea  NOT NULL,
    key        text COLLATE "C" NOT NULL,
    amount     bigint NOT NULL,
    expires_at bigint NOT NULL,
    PRIMARY KEY (request, key)
);

-- Requests that were counted, so that none is counted twice.
CREATE TABLE budget_settled (
    request bytea  NOT NULL PRIMARY KEY,
    at      bigint NOT NULL
);

CREATE INDEX virtual_keys_by_tenant ON virtual_keys (tenant);

CREATE INDEX alerts_by_time ON alerts (at, id);

CREATE INDEX alert_deliveries_due ON alert_deliveries (next_at) WHERE state = 'pending';

CREATE INDEX budget_holds_by_key ON budget_holds (key);

CREATE INDEX budget_holds_by_expiry ON budget_holds (expires_at);

CREATE INDEX budget_settled_by_time ON budget_settled (at);

CREATE INDEX requests_by_time ON requests (tenant, started_at);
