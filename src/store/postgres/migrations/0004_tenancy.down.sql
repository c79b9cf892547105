-- Tables that last stay: an older program does not look at them, and the way up takes them over. It does not know the keys
-- and tokens in them either, and refuses them. What it adds to the audit is taken into the chain after the way up. The
-- counters of budgets go: an older program spends without counting, and they are made anew from the ledger.
DROP INDEX requests_by_time, alert_deliveries_due, alerts_by_time, virtual_keys_by_tenant;

DROP TABLE budget_slots, budget_holds, budget_settled;

DROP TRIGGER is_not_emptied ON audit_chain;

DROP TRIGGER keeps_its_rows ON audit_chain;
