CREATE INDEX entries_by_expiry ON entries (expires_at, tenant, id);

CREATE INDEX entries_by_age ON entries (id, tenant);

CREATE INDEX points_by_fingerprint ON points (tenant, fingerprint);

CREATE INDEX points_by_partition ON points (tenant, partition, entry);

CREATE INDEX requests_by_tenant ON requests (tenant, id);

CREATE INDEX requests_by_entry ON requests (entry, id) WHERE entry IS NOT NULL;

CREATE INDEX decisions_by_tenant ON decisions (tenant, request);

CREATE INDEX decisions_by_time ON decisions (at);

-- Vectors of the spaces met so far; those met later come with theirs (spaces.rs).
DO $$
DECLARE
    space record;
BEGIN
    FOR space IN SELECT number, dimensions FROM spaces ORDER BY number LOOP
        EXECUTE format('CREATE INDEX IF NOT EXISTS vectors_%s_by_partition ON vectors_%s (tenant, partition)',
            space.number, space.number);
        IF space.dimensions <= 4000 THEN
            EXECUTE format('CREATE INDEX IF NOT EXISTS vectors_%s_nearest ON vectors_%s
                USING hnsw ((embedding::halfvec(%s)) halfvec_cosine_ops)',
                space.number, space.number, space.dimensions);
        END IF;
    END LOOP;
END
$$;
