-- All data is kept. `decisions` and `learned` stay as they are: an older program does not look at them, and the way up
-- takes them over. Nothing deletes old rows of `decisions`, prompts among them, while an older program runs: whoever
-- goes down for good drops the table by hand.
DROP INDEX requests_by_entry;

DROP INDEX decisions_by_time;

DROP INDEX decisions_by_tenant;

-- The column goes, since a column cannot be added on the way up if it is there. What it says waits in a table of its
-- own, from which a row goes with its point.
CREATE TABLE points_contradicts (
    tenant      TEXT    NOT NULL,
    entry       BLOB    NOT NULL,
    point       BLOB    NOT NULL,
    contradicts INTEGER NOT NULL,
    PRIMARY KEY (tenant, entry, point),
    FOREIGN KEY (tenant, entry, point) REFERENCES points (tenant, entry, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

INSERT INTO points_contradicts (tenant, entry, point, contradicts)
SELECT tenant, entry, id, contradicts FROM points WHERE contradicts <> 0;

ALTER TABLE points DROP COLUMN contradicts;
