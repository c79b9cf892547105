//! `[limits]`: how rate limits and budgets are kept. What they are is said by each tenant and key.

use std::time::Duration;

use super::money::NanoUsd;
use super::reader::Reader;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// `[limits]`
#[derive(Clone, Debug, PartialEq)]
pub struct RateSettings {
    /// How long what a request holds outlives the process that holds it.
    pub hold: Duration,
    /// Between two comparisons of counters with the ledger.
    pub reconcile: Duration,
    /// Longest wait for an answer of the counters in PostgreSQL.
    pub deadline: Duration,
    /// Share of a hard budget that each key may spend while no counter can be reached.
    pub offline_share: f64,
    /// The most that it may be.
    pub offline_usd: NanoUsd,
    /// Settlements that may wait for counters that cannot be reached.
    pub queue: usize,
}

pub(super) fn read(reader: &mut Reader<'_>) -> RateSettings {
    let money = |text: &str| {
        text.parse().map_err(|error: super::BadMoney| {
            (error.to_string(), "write dollars in quotes, as in \"1.00\"; \"0\" is nothing".to_owned())
        })
    };
    RateSettings {
        hold: reader.duration("hold", 2 * SECOND, HOUR),
        reconcile: reader.duration("reconcile", SECOND, HOUR),
        deadline: reader.duration("deadline", Duration::from_millis(10), 5 * SECOND),
        offline_share: reader.number("offline_share", 0.0, 1.0),
        offline_usd: reader.checked("offline_usd", money).unwrap_or_default(),
        queue: usize::try_from(reader.count("queue", 100, 10_000_000)).unwrap_or(usize::MAX),
    }
}
