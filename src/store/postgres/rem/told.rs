//! What is asked of this database when something is found in it, as text.

use super::super::super::rem::RemRead;
use super::super::PostgresStore;
use super::super::ledger::OF_KEY;
use super::filter::Filter;
use super::{edges, found, near, similar};

/// In the place of the number of a table of vectors, which is that of its space, and of the dimensions of the space.
const SPACE: (&str, &str) = ("N", "D");

impl PostgresStore {
    /// Of some, the first that finds enough is the last: which it is depends on how many rows there are.
    pub(super) fn statements(read: RemRead<'_>) -> Vec<String> {
        let plain = |texts: &[&str]| -> Vec<String> { texts.iter().map(|text| (*text).to_owned()).collect() };
        match read {
            RemRead::Named => plain(&[similar::NAMED]),
            RemRead::Similar => plain(&[similar::SIMILAR, similar::SIMILAR_NAMES]),
            RemRead::Nearest(question) => {
                let filter = Filter::of(question);
                vec![near::fast_sql(&filter, SPACE.0, SPACE.1), near::exact_sql(&filter, SPACE.0)]
            }
            RemRead::Worded(question) => {
                let filter = Filter::of(question).sql(7);
                [found::ALL_WORDS, found::OTHERS].map(|words| found::worded_sql(words, &filter)).into()
            }
            RemRead::Cosines => vec![near::cosines_sql(SPACE.0)],
            RemRead::Rows => plain(&[found::OF_IDS, OF_KEY]),
            RemRead::EdgesFrom => plain(&[edges::FROM]),
            RemRead::EdgesTo => plain(&[edges::TO]),
        }
    }
}
