//! Any bytes as a query, as a condition and as JSON: nothing panics, every fault has its place inside of the text, and what is
//! read is read again from its normal form.

#![no_main]

use libfuzzer_sys::fuzz_target;
use remora::rem::{Query, batch_from_json, condition, from_json, parse, parse_stage};
use remora::store::rem::RemTable;

fn check(query: &Query) {
    let printed = query.to_string();
    let again = parse_stage(&printed).expect("a normal form can be read");
    assert_eq!(&again, query, "{printed}");
    assert_eq!(again.to_string(), printed);
}

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    match parse(&text) {
        Ok(query) => check(&query),
        Err(fault) => assert!(fault.position.is_none_or(|at| at <= text.chars().count()), "{fault:?}"),
    }
    if let Ok(query) = parse_stage(&text) {
        check(&query);
    }
    for tables in [&[RemTable::Resources][..], &RemTable::WRITTEN] {
        if let Ok(written) = condition(&text, tables) {
            let again = condition(&written.text, tables).expect("a normal form can be read");
            assert_eq!(again, written);
        }
    }
    if let Ok(value) = serde_json::from_slice(bytes) {
        if let Ok(query) = from_json(&value) {
            check(&query);
        }
        for stage in batch_from_json(&value).unwrap_or_default() {
            check(&stage.query);
        }
    }
});
