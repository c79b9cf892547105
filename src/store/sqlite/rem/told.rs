//! What is asked of this database when something is found in it, as text.

use super::super::super::rem::*;
use super::super::SqliteStore;
use super::super::ledger::OF_KEY;
use super::conditions::Question;
use super::{COSINES, NAMED, ROWS, edges, nearest, similar, worded};

impl SqliteStore {
    /// Some are asked only if the first ones have found too little, or if what is in memory is behind.
    pub(super) fn statements_rem(scope: &Scope, read: RemRead<'_>) -> Vec<String> {
        let plain = |texts: &[&str]| -> Vec<String> { texts.iter().map(|text| (*text).to_owned()).collect() };
        match read {
            RemRead::Named => plain(&[NAMED]),
            RemRead::Similar => {
                plain(&[similar::AHEAD, similar::READ_ON, similar::VERIFY, similar::COMMON, similar::POSTINGS])
            }
            RemRead::Nearest(of) => {
                let question = Question { scope, of, first: 2 };
                let (verify, rows) = (question.sql(nearest::VERIFY).0, question.sql(nearest::ROWS).0);
                vec![nearest::AHEAD.to_owned(), nearest::READ_ON.to_owned(), verify, rows]
            }
            RemRead::Worded(of) => vec![worded::matching_sql(&Question { scope, of, first: 3 }).0],
            RemRead::Cosines => plain(&[COSINES]),
            RemRead::Rows => plain(&[ROWS, OF_KEY]),
            RemRead::EdgesFrom => plain(&[edges::FROM]),
            RemRead::EdgesTo => plain(&[edges::TO]),
        }
    }
}
