-- Texts compare by their bytes everywhere, as in the program. Ids and digests are bytes. NUL, which a PostgreSQL text
-- cannot hold, is written as two other characters (cells.rs).
CREATE TABLE meta (
    key   text COLLATE "C" NOT NULL PRIMARY KEY,
    value text NOT NULL
);

CREATE TABLE tenants (
    tenant     text COLLATE "C" NOT NULL PRIMARY KEY,
    declared   boolean NOT NULL,
    created_at bigint  NOT NULL,
    updated_at bigint  NOT NULL
);

CREATE TABLE entries (
    tenant            text COLLATE "C" NOT NULL,
    id                bytea  NOT NULL,
    partition         bytea  NOT NULL,
    namespace         text   NOT NULL,
    dialect           text   NOT NULL,
    model             text   NOT NULL,
    finish            text   NOT NULL,
    completion_tokens bigint,
    token_limit       bigint,
    writer            text   NOT NULL,
    tags              text   NOT NULL,
    created_at        bigint NOT NULL,
    expires_at        bigint NOT NULL,
    body_len          bigint NOT NULL,
    PRIMARY KEY (tenant, id)
);

-- Apart from `entries`, so that start-up and listings read the small rows only.
CREATE TABLE bodies (
    tenant text COLLATE "C" NOT NULL,
    entry  bytea NOT NULL,
    body   bytea NOT NULL,
    PRIMARY KEY (tenant, entry),
    FOREIGN KEY (tenant, entry) REFERENCES entries (tenant, id) ON DELETE CASCADE
);

-- Each embedding space has a table of its own, vectors_N, made when the space is first met.
CREATE TABLE spaces (
    number     integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text COLLATE "C" NOT NULL,
    dimensions integer NOT NULL,
    UNIQUE (name, dimensions)
);

-- `vectors` is the number of the table with the point's vector; `vector` holds one that pgvector cannot.
CREATE TABLE points (
    tenant      text COLLATE "C" NOT NULL,
    entry       bytea   NOT NULL,
    id          bytea   NOT NULL,
    partition   bytea   NOT NULL,
    fingerprint bytea   NOT NULL,
    normalised  bytea,
    space       text,
    writer      text    NOT NULL,
    created_at  bigint  NOT NULL,
    vectors     integer,
    vector      bytea,
    prompt      text,
    contradicts integer NOT NULL,
    PRIMARY KEY (tenant, entry, id),
    FOREIGN KEY (tenant, entry) REFERENCES entries (tenant, id) ON DELETE CASCADE
);

-- A partition for each month, made before it is needed. What fits in none goes to the default one: no row is refused.
CREATE TABLE requests (
    id               bytea   NOT NULL,
    started_at       bigint  NOT NULL,
    tenant           text COLLATE "C",
    key              text,
    "user"           text,
    tags             text    NOT NULL,
    route            text    NOT NULL,
    dialect          text    NOT NULL,
    model_asked      text,
    model_answered   text,
    stream           boolean NOT NULL,
    outcome          text    NOT NULL,
    tier             text,
    reason           text,
    similarity       real,
    entry            bytea,
    status           integer NOT NULL,
    upstream         text,
    upstream_status  integer,
    tokens_input       bigint NOT NULL,
    tokens_cache_read  bigint NOT NULL,
    tokens_cache_write bigint NOT NULL,
    tokens_output      bigint NOT NULL,
    tokens_reasoning   bigint NOT NULL,
    tokens_source    text,
    latency_us       bigint  NOT NULL,
    ttft_us          bigint,
    overhead_us      bigint  NOT NULL,
    cost_nano_usd    bigint,
    saved_nano_usd   bigint,
    price_version    text,
    PRIMARY KEY (id, started_at)
) PARTITION BY RANGE (started_at);

CREATE TABLE requests_default PARTITION OF requests DEFAULT;

CREATE TABLE admin_audit (
    id     bytea  NOT NULL PRIMARY KEY,
    at     bigint NOT NULL,
    actor  text   NOT NULL,
    action text   NOT NULL,
    reason text,
    what   text   NOT NULL,
    result text   NOT NULL
);

CREATE TABLE decisions (
    request     bytea   NOT NULL PRIMARY KEY,
    at          bigint  NOT NULL,
    tenant      text COLLATE "C" NOT NULL,
    key         text    NOT NULL,
    model       text    NOT NULL,
    partition   bytea   NOT NULL,
    mode        text    NOT NULL,
    verdict     text    NOT NULL,
    would_serve boolean NOT NULL,
    entry       bytea,
    point       bytea,
    cosine      real,
    probability real,
    theta       real,
    inputs      bytea   NOT NULL,
    "right"     boolean,
    label       text,
    tokens      bigint,
    prompt      text
);

CREATE TABLE learned (
    tenant     text COLLATE "C" NOT NULL,
    model      text COLLATE "C" NOT NULL,
    state      text   NOT NULL,
    updated_at bigint NOT NULL,
    PRIMARY KEY (tenant, model)
);

-- Old months of the ledger may be detached or dropped as a whole; single rows may not be changed.
CREATE FUNCTION remora_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END
$$;

CREATE TRIGGER keeps_its_rows BEFORE UPDATE OR DELETE ON requests
    FOR EACH ROW EXECUTE FUNCTION remora_append_only();

CREATE TRIGGER is_not_emptied BEFORE TRUNCATE ON requests
    FOR EACH STATEMENT EXECUTE FUNCTION remora_append_only();

CREATE TRIGGER keeps_its_rows BEFORE UPDATE OR DELETE ON admin_audit
    FOR EACH ROW EXECUTE FUNCTION remora_append_only();

CREATE TRIGGER is_not_emptied BEFORE TRUNCATE ON admin_audit
    FOR EACH STATEMENT EXECUTE FUNCTION remora_append_only();
