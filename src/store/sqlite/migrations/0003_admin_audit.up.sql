-- Going down leaves the table, so that no row is lost.
CREATE TABLE IF NOT EXISTS admin_audit (
    id     BLOB    NOT NULL PRIMARY KEY,
    at     INTEGER NOT NULL,
    actor  TEXT    NOT NULL,
    action TEXT    NOT NULL,
    reason TEXT,
    what   TEXT    NOT NULL,
    result TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER admin_audit_keeps_what_it_says BEFORE UPDATE ON admin_audit
BEGIN
    SELECT raise(ABORT, 'admin_audit is append-only');
END;

CREATE TRIGGER admin_audit_keeps_its_rows BEFORE DELETE ON admin_audit
BEGIN
    SELECT raise(ABORT, 'admin_audit is append-only');
END;
