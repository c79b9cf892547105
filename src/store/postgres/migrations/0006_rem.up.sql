-- Resources, entities and moments are one table: they differ in what a few columns are called. A row that is the answer of a
-- cache entry goes with it, however the entry is deleted. `words` is filled from `words.rs`, not from `text`; each stands behind a
-- digest of tenant, owner and table, so nobody's search passes rows that he may not see.
CREATE TABLE IF NOT EXISTS rem_rows (
    no         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant     text COLLATE "C" NOT NULL,
    id         bytea    NOT NULL,
    tab        smallint NOT NULL,
    owner      text COLLATE "C" NOT NULL,
    name       text COLLATE "C" NOT NULL,
    text       text COLLATE "C" NOT NULL,
    label      text COLLATE "C" NOT NULL,
    uri        text COLLATE "C",
    tags       text     NOT NULL,
    data       text     NOT NULL,
    aliases    text     NOT NULL,
    starts_at  bigint,
    ends_at    bigint,
    previous   text COLLATE "C",
    part_of    bytea,
    part       bigint,
    entry      bytea,
    made       boolean  NOT NULL,
    -- The key that wrote it; of what the program made there is none.
    writer     text COLLATE "C",
    created_at bigint   NOT NULL,
    updated_at bigint   NOT NULL,
    deleted_at bigint,
    words      tsvector,
    -- Space of the vector that it got last; empty if there is none.
    embedded   text COLLATE "C" NOT NULL DEFAULT '',
    UNIQUE (tenant, id),
    FOREIGN KEY (tenant, entry) REFERENCES entries (tenant, id) ON DELETE CASCADE
);

CREATE INDEX IF NOT EXISTS rem_rows_by_entry ON rem_rows (tenant, entry) WHERE entry IS NOT NULL;
-- The beginning only: a label may be longer than a B-tree takes.
CREATE INDEX IF NOT EXISTS rem_rows_by_label ON rem_rows (tenant, tab, left(label, 100), owner);
-- Both are asked for at once; without this the planner takes them for independent and expects far too few rows.
CREATE STATISTICS IF NOT EXISTS rem_rows_labels (dependencies) ON (left(label, 100)), label FROM rem_rows;
CREATE INDEX IF NOT EXISTS rem_rows_by_owner ON rem_rows (tenant, owner, tab, id);
CREATE INDEX IF NOT EXISTS rem_rows_by_change ON rem_rows (updated_at, no) WHERE made AND tab IN (1, 2);
CREATE INDEX IF NOT EXISTS rem_rows_hidden ON rem_rows (deleted_at, no) WHERE deleted_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS rem_rows_by_writer ON rem_rows (tenant, writer) WHERE writer IS NOT NULL AND owner = 'public';
CREATE INDEX IF NOT EXISTS rem_rows_by_space ON rem_rows (embedded, updated_at, no) WHERE deleted_at IS NULL AND text <> '';
CREATE INDEX IF NOT EXISTS rem_rows_by_words ON rem_rows USING gin (words);

-- Names and aliases of rows that are not hidden. `key` is a digest of the normal form, because names may be of any length. `scope`
-- is a digest of tenant and owner, `size` the number of trigrams, `grams` has a bit set for each of them (rem/similar.rs): so
-- names that may be similar are found in an index alone, and only among those that the caller may see.
CREATE TABLE IF NOT EXISTS rem_names (
    no     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL,
    key    bytea    NOT NULL,
    owner  text COLLATE "C" NOT NULL,
    row    bigint   NOT NULL REFERENCES rem_rows (no) ON DELETE CASCADE,
    tab    smallint NOT NULL,
    alias  boolean  NOT NULL,
    name   text COLLATE "C" NOT NULL,
    normal text COLLATE "C" NOT NULL,
    scope  bigint   NOT NULL,
    size   integer  NOT NULL,
    -- Plain: a search compares all of a scope, and would unpack each.
    grams  bit(512) STORAGE PLAIN NOT NULL
);

CREATE INDEX IF NOT EXISTS rem_names_by_key ON rem_names (tenant, key, owner);
CREATE INDEX IF NOT EXISTS rem_names_by_row ON rem_names (row);
CREATE INDEX IF NOT EXISTS rem_names_by_grams ON rem_names (scope, size) INCLUDE (grams, tab, no);

-- Edges, from a row or from a request of the ledger. `target_key` is a digest like that of names.
CREATE TABLE IF NOT EXISTS rem_edges (
    tenant     text COLLATE "C" NOT NULL,
    source     bytea    NOT NULL,
    source_tab smallint NOT NULL,
    owner      text COLLATE "C" NOT NULL,
    kind       text COLLATE "C" NOT NULL,
    target     text COLLATE "C" NOT NULL,
    target_key bytea    NOT NULL,
    weight     double precision NOT NULL,
    properties text     NOT NULL,
    created_at bigint   NOT NULL,
    PRIMARY KEY (tenant, source, kind, target_key)
);

-- What leads to a name from rows of others is not read.
CREATE INDEX IF NOT EXISTS rem_edges_by_target ON rem_edges (tenant, target_key, owner, weight);
CREATE INDEX IF NOT EXISTS rem_edges_of_requests ON rem_edges (created_at) WHERE source_tab = 3;
CREATE INDEX IF NOT EXISTS rem_edges_by_request ON rem_edges (tenant, source) WHERE source_tab = 3;

CREATE OR REPLACE FUNCTION rem_rows_take_along() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM rem_edges WHERE tenant = OLD.tenant AND source = OLD.id;
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER rem_rows_take_along AFTER DELETE ON rem_rows FOR EACH ROW EXECUTE FUNCTION rem_rows_take_along();

-- Edges tell where their row belongs, so that a walk need not look.
CREATE OR REPLACE FUNCTION rem_rows_move_along() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE rem_edges SET source_tab = NEW.tab WHERE tenant = NEW.tenant AND source = NEW.id AND source_tab = OLD.tab;
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER rem_rows_move_along AFTER UPDATE OF tab ON rem_rows FOR EACH ROW WHEN (OLD.tab <> NEW.tab)
    EXECUTE FUNCTION rem_rows_move_along();

-- Vectors are in tables of their own, one for each embedding space: rem_vectors_N, where N is the number in `spaces`. New ones come
-- with their indexes (rem/vectors.rs); those that are here from before lost theirs on the way down.
DO $$
DECLARE
    space record;
BEGIN
    FOR space IN SELECT number, dimensions FROM spaces
        WHERE dimensions <= 4000 AND to_regclass('rem_vectors_' || number) IS NOT NULL ORDER BY number LOOP
        EXECUTE format('CREATE INDEX IF NOT EXISTS rem_vectors_%s_nearest ON rem_vectors_%s
            USING hnsw ((embedding::halfvec(%s)) halfvec_cosine_ops)', space.number, space.number, space.dimensions);
    END LOOP;
END
$$;

-- Who asks by SQL: a login role for each caller, made when it is first needed. It may read the views of the schema `rem`, which
-- show the rows of the caller that this table names beside it, and nothing else.
CREATE TABLE IF NOT EXISTS rem_callers (
    role   text COLLATE "C" NOT NULL PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL,
    key    text COLLATE "C" NOT NULL
);

-- Names and passwords of those roles are made from this.
CREATE TABLE IF NOT EXISTS rem_sql_secret (
    one    boolean NOT NULL PRIMARY KEY CHECK (one),
    secret bytea   NOT NULL
);

-- The views that SQL of callers may read. Everybody may, and sees the rows of the caller that `rem_callers` names beside his role:
-- no role, no rows. A barrier: no condition of a statement is computed on a row that is not shown. Texts compare by their bytes.
-- Who may not make a schema here has everything but SQL.
DO $rem$
BEGIN
    CREATE SCHEMA IF NOT EXISTS rem;

    -- 16 bytes as 26 letters of Crockford's base 32.
    CREATE OR REPLACE FUNCTION rem.ulid(id bytea) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN (
        SELECT string_agg(substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', 1 + substring(bits FROM 5 * i + 1 FOR 5)::bit(5)::integer, 1), '' ORDER BY i)
        FROM (SELECT B'00' || ('x' || encode(id, 'hex'))::bit(128) AS bits) AS b, generate_series(0, 25) AS i
    );

    CREATE OR REPLACE FUNCTION rem.at(ms bigint) RETURNS text LANGUAGE sql STABLE STRICT PARALLEL SAFE
    RETURN to_char(to_timestamp(ms / 1000.0) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');

    CREATE OR REPLACE FUNCTION rem.tab(tab smallint) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN CASE tab WHEN 0 THEN 'resources' WHEN 1 THEN 'entities' WHEN 2 THEN 'moments' ELSE 'requests' END;

    CREATE OR REPLACE VIEW rem.resources (id, name, uri, content, category, tags, metadata, part, owner, created_at, updated_at)
    WITH (security_barrier) AS
    SELECT rem.ulid(r.id) COLLATE "C", r.name, r.uri, r.text, r.label, r.tags COLLATE "C", r.data COLLATE "C", r.part, r.owner,
           rem.at(r.created_at) COLLATE "C", rem.at(r.updated_at) COLLATE "C"
    FROM rem_callers c JOIN rem_rows r ON r.tenant = c.tenant AND r.owner IN ('public', 'key:' || c.key)
    WHERE c.role = current_user::text AND r.tab = 0 AND r.deleted_at IS NULL;

    CREATE OR REPLACE VIEW rem.entities (id, name, kind, description, attributes, aliases, tags, owner, created_at, updated_at)
    WITH (security_barrier) AS
    SELECT rem.ulid(r.id) COLLATE "C", r.name, r.label, r.text, r.data COLLATE "C", r.aliases COLLATE "C", r.tags COLLATE "C", r.owner,
           rem.at(r.created_at) COLLATE "C", rem.at(r.updated_at) COLLATE "C"
    FROM rem_callers c JOIN rem_rows r ON r.tenant = c.tenant AND r.owner IN ('public', 'key:' || c.key)
    WHERE c.role = current_user::text AND r.tab = 1 AND r.deleted_at IS NULL;

    CREATE OR REPLACE VIEW rem.moments
        (id, name, kind, starts_at, ends_at, summary, previous, tags, metadata, owner, created_at, updated_at)
    WITH (security_barrier) AS
    SELECT rem.ulid(r.id) COLLATE "C", r.name, r.label, rem.at(r.starts_at) COLLATE "C", rem.at(r.ends_at) COLLATE "C", r.text,
           r.previous, r.tags COLLATE "C", r.data COLLATE "C", r.owner, rem.at(r.created_at) COLLATE "C", rem.at(r.updated_at) COLLATE "C"
    FROM rem_callers c JOIN rem_rows r ON r.tenant = c.tenant AND r.owner IN ('public', 'key:' || c.key)
    WHERE c.role = current_user::text AND r.tab = 2 AND r.deleted_at IS NULL;

    CREATE OR REPLACE VIEW rem.edges (source_table, source_id, source, type, target, weight, properties, owner, created_at)
    WITH (security_barrier) AS
    SELECT rem.tab(e.source_tab) COLLATE "C", rem.ulid(e.source) COLLATE "C", coalesce(r.name, rem.ulid(e.source)) COLLATE "C", e.kind,
           e.target, e.weight, e.properties COLLATE "C", e.owner, rem.at(e.created_at) COLLATE "C"
    FROM rem_callers c JOIN rem_edges e ON e.tenant = c.tenant AND e.owner IN ('public', 'key:' || c.key)
    LEFT JOIN rem_rows r ON r.tenant = e.tenant AND r.id = e.source AND e.source_tab < 3
    WHERE c.role = current_user::text AND (e.source_tab = 3 OR (r.deleted_at IS NULL AND r.owner = e.owner));

    CREATE OR REPLACE VIEW rem.names (name, key, table_name, id, alias, owner)
    WITH (security_barrier) AS
    SELECT n.name, n.normal, rem.tab(n.tab) COLLATE "C", rem.ulid(r.id) COLLATE "C", n.alias::integer::bigint, n.owner
    FROM rem_callers c JOIN rem_names n ON n.tenant = c.tenant AND n.owner IN ('public', 'key:' || c.key)
    JOIN rem_rows r ON r.no = n.row AND r.tenant = c.tenant AND r.owner IN ('public', 'key:' || c.key)
    WHERE c.role = current_user::text AND r.deleted_at IS NULL;

    -- Money is what the latest correction says.
    CREATE OR REPLACE VIEW rem.requests
        (id, started_at, user_name, model, answered_by, route, dialect, outcome, tier, reason, similarity, entry, status, upstream,
         input_tokens, output_tokens, cost_usd, saved_usd, latency_ms)
    WITH (security_barrier) AS
    SELECT rem.ulid(q.id) COLLATE "C", rem.at(q.started_at) COLLATE "C", q."user" COLLATE "C", q.model_asked COLLATE "C",
           q.model_answered COLLATE "C", q.route COLLATE "C", q.dialect COLLATE "C", q.outcome COLLATE "C", q.tier COLLATE "C",
           q.reason COLLATE "C", round(q.similarity::numeric, 6)::double precision, rem.ulid(q.entry) COLLATE "C", q.status::bigint, q.upstream COLLATE "C",
           q.tokens_input + q.tokens_cache_read + q.tokens_cache_write + coalesce(q.tokens_cache_write_1h, 0)
               + coalesce(q.tokens_audio_input, 0) + coalesce(q.tokens_image_input, 0),
           q.tokens_output + q.tokens_reasoning + coalesce(q.tokens_audio_output, 0) + coalesce(q.tokens_image_output, 0),
           (CASE WHEN l.request IS NULL THEN q.cost_nano_usd ELSE l.after_cost END)::double precision / 1e9,
           (CASE WHEN l.request IS NULL THEN q.saved_nano_usd ELSE l.after_saved_net END)::double precision / 1e9,
           q.latency_us::double precision / 1e3
    FROM rem_callers c JOIN requests q ON q.tenant = c.tenant AND q.key = c.key
    LEFT JOIN corrections l ON l.request = q.id AND l.at = (SELECT max(o.at) FROM corrections o WHERE o.request = q.id)
    WHERE c.role = current_user::text;

    -- Whether who asks is known. One who is not would get answers without rows.
    CREATE OR REPLACE VIEW rem.me WITH (security_barrier) AS
    SELECT 1 AS known FROM rem_callers c WHERE c.role = current_user::text;

    GRANT USAGE ON SCHEMA rem TO PUBLIC;
    GRANT SELECT ON rem.me, rem.resources, rem.entities, rem.moments, rem.edges, rem.names, rem.requests TO PUBLIC;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'no schema rem: SQL of callers is not available';
END
$rem$;
