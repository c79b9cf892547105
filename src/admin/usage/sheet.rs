//! A report as CSV (RFC 4180), with the same columns whatever is in it.
//!
//! Names of models, users and tags come from callers, and whoever opens the file opens it in a spreadsheet, which takes a cell that
//! begins with `=` for a formula. So a text that could be one gets an apostrophe in front, which spreadsheets show as text.
//! Numbers are ours and stay as they are, a minus in front included.

use http::StatusCode;

use super::super::Problem;
use super::super::times::shown;
use super::{Question, money};
use crate::store::{Tokens, UsageRow};

/// What a spreadsheet may take for the beginning of a formula; the wide forms are taken for the same.
const RISKY: [char; 11] = ['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'];

/// The columns behind those of the groups, before the money.
const COUNTS: [&str; 9] =
    ["requests", "hits_exact", "hits_semantic", "coalesced", "refused", "failed", "checks", "unpriced", "estimated"];

/// The head and all rows.
pub(super) fn csv(question: &Question, rows: &[UsageRow]) -> Result<Vec<u8>, Problem> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    // It is written into memory: there is nothing that could fail.
    let failed = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the report cannot be written");
    let mut write = |record: Vec<String>| writer.write_record(record).map_err(failed);
    write(head(question))?;
    for row in rows {
        write(cells(question, row))?;
    }
    writer.into_inner().map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the report cannot be written"))
}

fn head(question: &Question) -> Vec<String> {
    let slot = question.ask.slot.map(|_| "slot".to_owned());
    let groups = question.columns.iter().map(|name| guarded(name));
    let tokens = |of: &'static str| Tokens::KINDS.into_iter().map(move |kind| format!("{of}_{kind}"));
    let counts = COUNTS.into_iter().map(str::to_owned);
    let dollars = money(&Default::default()).map(|(name, _)| format!("{name}_usd"));
    slot.into_iter()
        .chain(groups)
        .chain(counts)
        .chain(tokens("tokens"))
        .chain(tokens("replayed"))
        .chain(dollars)
        .collect()
}

fn cells(question: &Question, row: &UsageRow) -> Vec<String> {
    let sums = &row.sums;
    let slot = question.ask.slot.map(|_| row.slot.map(shown).unwrap_or_default());
    let groups = row.group.iter().map(|value| value.as_deref().map(guarded).unwrap_or_default());
    let counts = [
        sums.requests,
        sums.hits_exact,
        sums.hits_semantic,
        sums.coalesced,
        sums.refused,
        sums.failed,
        sums.checks,
        sums.unpriced,
        sums.estimated,
    ];
    let numbers = counts.into_iter().chain(sums.billed.counts()).chain(sums.replayed.counts());
    let dollars = money(sums).map(|(_, amount)| amount.to_string());
    slot.into_iter().chain(groups).chain(numbers.map(|number| number.to_string())).chain(dollars).collect()
}

/// A text that no spreadsheet runs.
fn guarded(text: &str) -> String {
    if text.starts_with(RISKY) { format!("'{text}") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::ask::Params;
    use super::*;
    use crate::store::Sums;

    fn question(query: &str) -> Question {
        let uri = format!("/?{query}").parse().unwrap();
        let params: Params = axum::extract::Query::try_from_uri(&uri).unwrap().0;
        Question::of(&params, 1_795_696_200_000, true).unwrap()
    }

    fn lines(question: &Question, rows: &[UsageRow]) -> Vec<Vec<String>> {
        let bytes = csv(question, rows).unwrap();
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(bytes.as_slice());
        reader.records().map(|record| record.unwrap().iter().map(str::to_owned).collect()).collect()
    }

    #[test]
    fn columns_are_the_same_with_and_without_rows_and_money_is_exact() {
        let question = question("group_by=tenant,tag:team&slot=day");
        let sums = Sums { requests: 3, cost: 1_500_000_001, saved_net: -7, ..Sums::default() };
        let group = vec![Some("acme".to_owned()), None];
        let with = lines(&question, &[UsageRow { slot: Some(1_795_651_200_000), group, sums }]);
        assert_eq!(with[0], lines(&question, &[])[0]);
        assert_eq!(with[0].len(), with[1].len());
        let cell = |name: &str| with[1][with[0].iter().position(|head| head == name).unwrap()].as_str();
        assert_eq!((cell("slot"), cell("tenant"), cell("tag:team")), ("2026-11-26T00:00:00Z", "acme", ""));
        assert_eq!((cell("requests"), cell("cost_usd"), cell("spend_usd")), ("3", "1.500000001", "1.500000001"));
        assert_eq!(cell("saved_net_usd"), "-0.000000007");
        assert!(csv(&question, &[]).unwrap().ends_with(b"\r\n"));
    }

    proptest! {
        #[test]
        fn no_name_becomes_a_formula_and_each_is_read_back(name in "[=+\\-@＝\t\r\n\",;' a-z]{1,12}") {
            let question = question("group_by=user");
            let row = UsageRow { slot: None, group: vec![Some(name.clone())], sums: Sums::default() };
            let read = lines(&question, &[row]);
            let cell = &read[1][0];
            prop_assert!(!cell.starts_with(RISKY));
            let harmless = format!("'{name}");
            prop_assert!(*cell == name || *cell == harmless);
        }
    }
}
