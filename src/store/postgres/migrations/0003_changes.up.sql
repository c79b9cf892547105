-- Each transaction that changes entries takes its numbers from the one row of `change_head` at its end and holds the row
-- until it commits, so numbers have no gaps and are in the order of the commits.
CREATE TABLE IF NOT EXISTS change_head (
    one                 boolean NOT NULL PRIMARY KEY DEFAULT true CHECK (one),
    seq                 bigint  NOT NULL,
    last_invalidation   bigint  NOT NULL,
    -- What `last_invalidation` was before the latest transaction.
    before_invalidation bigint  NOT NULL
);

-- An older program makes changes without numbers. A number that nobody gets makes every reader load anew.
INSERT INTO change_head (seq, last_invalidation, before_invalidation) VALUES (0, 0, 0)
ON CONFLICT (one) DO UPDATE SET seq = change_head.seq + 1;

CREATE TABLE changes (
    seq    bigint NOT NULL PRIMARY KEY,
    at     bigint NOT NULL,
    -- The replica that made it and knows it; NULL if none may skip it.
    origin bytea,
    -- 'entry' or 'invalidated'.
    kind   text   NOT NULL,
    tenant text COLLATE "C",
    entry  bytea,
    filter text
);
