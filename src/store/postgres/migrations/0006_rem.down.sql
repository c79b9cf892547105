-- All data is kept. Tables stay, and so does what binds rows to cache entries: an older program that deletes an entry takes its row
-- along without knowing it.
DROP INDEX rem_rows_by_change, rem_rows_hidden, rem_rows_by_space, rem_edges_of_requests, rem_edges_by_request;

DO $$
DECLARE
    space record;
BEGIN
    FOR space IN SELECT number FROM spaces ORDER BY number LOOP
        EXECUTE format('DROP INDEX IF EXISTS rem_vectors_%s_nearest', space.number);
    END LOOP;
END
$$;

-- Views hold no data, and would be in the way of an older program that changes what they read.
DROP SCHEMA IF EXISTS rem CASCADE;
