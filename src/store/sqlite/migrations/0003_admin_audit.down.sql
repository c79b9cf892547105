-- The table stays: an older program does not look at it, and an audit is not deleted by going back.
DROP TRIGGER admin_audit_keeps_its_rows;

DROP TRIGGER admin_audit_keeps_what_it_says;
