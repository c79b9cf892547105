DROP INDEX entries_by_expiry, entries_by_age, points_by_fingerprint, points_by_partition, requests_by_tenant,
    requests_by_entry, decisions_by_tenant, decisions_by_time;

DO $$
DECLARE
    space record;
BEGIN
    FOR space IN SELECT number FROM spaces ORDER BY number LOOP
        EXECUTE format('DROP INDEX IF EXISTS vectors_%s_by_partition, vectors_%s_nearest', space.number, space.number);
    END LOOP;
END
$$;
