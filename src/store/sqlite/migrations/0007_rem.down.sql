-- All data is kept. Tables stay, and so does what binds rows to cache entries: an older program that deletes an entry takes its row
-- along without knowing it.
DROP INDEX rem_rows_by_age;
DROP INDEX rem_rows_hidden;
DROP INDEX rem_rows_by_space;
