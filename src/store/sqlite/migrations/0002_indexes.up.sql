CREATE INDEX entries_by_expiry ON entries (expires_at, tenant, id);

CREATE INDEX requests_by_tenant ON requests (tenant, id);
