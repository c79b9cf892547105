-- All data is kept. Tables stay: an older program does not look at them. It asks nobody about corrected costs, and its rows are
-- noted by the trigger, so that the way up sums them too and no other.
DROP INDEX corrections_by_time;

DROP TRIGGER corrections_keep_their_rows;

DROP TRIGGER corrections_keep_what_they_say;

DROP TRIGGER attempts_keep_their_rows;

DROP TRIGGER attempts_keep_what_they_say;

DROP TRIGGER requests_of_an_older_program;

-- The columns go, since a column cannot be added on the way up if it is there. What they say waits in a table of its own.
CREATE TABLE requests_money (
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

INSERT INTO requests_money SELECT id, tokens_cache_write_1h, tokens_audio_input, tokens_audio_output, tokens_image_input, tokens_image_output,
    service, embedding_nano_usd, saved_gross_nano_usd FROM requests WHERE tokens_cache_write_1h IS NOT NULL;

ALTER TABLE requests DROP COLUMN saved_gross_nano_usd;

ALTER TABLE requests DROP COLUMN embedding_nano_usd;

ALTER TABLE requests DROP COLUMN service;

ALTER TABLE requests DROP COLUMN tokens_image_output;

ALTER TABLE requests DROP COLUMN tokens_image_input;

ALTER TABLE requests DROP COLUMN tokens_audio_output;

ALTER TABLE requests DROP COLUMN tokens_audio_input;

ALTER TABLE requests DROP COLUMN tokens_cache_write_1h;

CREATE TRIGGER requests_of_an_older_program AFTER INSERT ON requests
BEGIN
    INSERT INTO usage_missed (request) VALUES (NEW.id);
END;
