DROP INDEX requests_by_tenant;

DROP INDEX entries_by_expiry;
