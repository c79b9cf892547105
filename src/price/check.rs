//! What can be wrong with a price list although it can be read.

use std::collections::HashMap;
use std::path::Path;

use serde::Serialize;

use super::PriceBook;
use super::book::{SHIPPED, SHIPPED_PLACE};
use super::file::{File, PriceError, parse, read};
use crate::clock::UnixMs;
use crate::config::{NanoUsd, glob_matches};

/// A price above this, dollars for a million tokens, is more likely a mistake of the unit.
const ABSURD: i64 = 10_000;
/// The same for a call.
const ABSURD_CALL: i64 = 100;

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Whether the list should not be used like that.
    pub error: bool,
    /// Where, as in `models[3] (gpt-4o)`.
    pub place: String,
    /// What is wrong, and how to mend it.
    pub what: String,
}

impl Finding {
    fn new(error: bool, place: String, what: String) -> Self {
        Self { error, place, what }
    }
}

/// Looks through a file, or through the list that comes with the program. `models` are those that are used and should have a
/// price at `at`.
///
/// # Errors
/// The file cannot be read or is not a price list.
pub fn check(file: Option<&Path>, models: &[String], at: UnixMs) -> Result<Vec<Finding>, PriceError> {
    let list = match file {
        Some(path) => parse(&read(path)?, &path.display().to_string())?,
        None => parse(SHIPPED, SHIPPED_PLACE)?,
    };
    let mut found = of_list(&list);
    let book = PriceBook::load(file)?;
    for model in models {
        let priced = if model.contains('*') {
            // A pattern of models is served if any that fits has a price.
            book.list(None, at).iter().flat_map(|listed| &listed.names).any(|name| glob_matches(model, name))
        } else {
            book.price(model, at).is_some()
        };
        if !priced {
            let what = "is used and has no price, so what it costs is not counted; give it one";
            found.push(Finding::new(false, model.clone(), what.to_owned()));
        }
    }
    Ok(found)
}

fn of_list(list: &File) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut names: HashMap<&str, usize> = HashMap::new();
    for (at, model) in list.models.iter().enumerate() {
        let place = model.place(at);
        for name in &model.names {
            match names.get(name.as_str()) {
                Some(other) => {
                    let other = list.models.get(*other).map_or_else(String::new, |model| model.place(*other));
                    let what = format!("the name {name:?} is in {other} too, which wins; remove one of the two");
                    found.push(Finding::new(true, place.clone(), what));
                }
                None => {
                    names.insert(name, at);
                }
            }
        }
        let rows = model.rows();
        let days: Vec<&str> = rows.iter().map(|row| row.from.as_deref().unwrap_or_default()).collect();
        for (at, (earlier, later)) in days.iter().zip(days.iter().skip(1)).enumerate() {
            let row = format!("{place}: prices[{}]", at + 1);
            if earlier == later {
                let what = format!("there is a price from {later:?} already; remove one of the two");
                found.push(Finding::new(true, row, what));
            } else if earlier > later {
                let what =
                    format!("it is from {later:?}, but stands behind one from {earlier:?}; put the earliest first");
                found.push(Finding::new(false, row, what));
            }
        }
        for row in &rows {
            let absurd = row.amounts().into_iter().filter(|price| *price > NanoUsd::dollars(ABSURD)).max();
            if let Some(price) = absurd {
                let what = format!("{price} dollars for a million tokens is more than {ABSURD}; are the units right?");
                found.push(Finding::new(false, place.clone(), what));
            }
            if row.request.is_some_and(|price| price > NanoUsd::dollars(ABSURD_CALL)) {
                let what =
                    format!("`request` is in dollars for one call, and more than {ABSURD_CALL}; are the units right?");
                found.push(Finding::new(false, place.clone(), what));
            }
            let is_reading = |input: NanoUsd| row.cache_write.is_some_and(|write| write < input);
            if row.cache_read.is_none() && row.input.is_some_and(is_reading) {
                let what = "`cache_write` is below `input` and there is no `cache_read`; is it the price of reading?";
                found.push(Finding::new(false, place.clone(), what.to_owned()));
            }
            let sizes: Vec<u64> = row.above.iter().filter_map(|tier| tier.input_tokens).collect();
            if sizes.iter().zip(sizes.iter().skip(1)).any(|(one, next)| one >= next) {
                let what = "`above` has sizes that do not rise; put the smallest first and each once";
                found.push(Finding::new(true, place.clone(), what.to_owned()));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(models: &str, used: &[&str]) -> Vec<(bool, String)> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("prices.json");
        std::fs::write(&path, format!(r#"{{"version":"v","models":[{models}]}}"#)).unwrap();
        let used: Vec<String> = used.iter().map(|name| (*name).to_owned()).collect();
        let found = check(Some(&path), &used, 1_796_000_000_000).unwrap();
        found.into_iter().map(|Finding { error, place, what }| (error, format!("{place}: {what}"))).collect()
    }

    #[test]
    fn the_shipped_list_has_nothing_wrong() {
        assert_eq!(check(None, &[], 0).unwrap(), []);
    }

    #[test]
    fn what_cannot_be_meant_is_found() {
        let row = |days: &str| format!(r#"{{"names":["m"],"prices":[{days}]}}"#);
        for (models, error, told) in [
            (
                r#"{"names":["a"],"input":"1","output":"1"},{"names":["b","a"],"input":"1","output":"1"}"#.to_owned(),
                true,
                "models[1] (b): the name \"a\" is in models[0] (a) too",
            ),
            (
                row(r#"{"from":"2026-02-01","input":"1","output":"1"},{"from":"2026-01-01","input":"1","output":"1"}"#),
                false,
                "put the earliest first",
            ),
            (
                row(r#"{"from":"2026-02-01","input":"1","output":"1"},{"from":"2026-02-01","input":"2","output":"1"}"#),
                true,
                "already",
            ),
            (row(r#"{"input":"1","output":"1","batch":{"output":"10000.01"}}"#), false, "10000.01 dollars"),
            (row(r#"{"input":"2","output":"1","cache_write":"1"}"#), false, "is it the price of reading?"),
            (
                row(
                    r#"{"input":"1","output":"1","above":[{"input_tokens":9,"input":"2"},{"input_tokens":9,"input":"2"}]}"#,
                ),
                true,
                "do not rise",
            ),
        ] {
            let found = findings(&models, &[]);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].0 == error && found[0].1.contains(told), "{found:?}");
        }
    }

    #[test]
    fn models_that_are_used_without_a_price_are_named() {
        let found =
            findings(r#"{"names":["mine"],"input":"1","output":"1"}"#, &["mine", "gpt-4o", "gpt-*", "lost", "lost-*"]);
        let names: Vec<&str> = found.iter().map(|(_, told)| told.split(':').next().unwrap()).collect();
        assert_eq!(names, ["lost", "lost-*"]);
    }
}
