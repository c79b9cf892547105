//! Usage, money, the ledger row of a request.
