//! Prompts with their intents: CSV, and JSON of splits.

use std::collections::{BTreeMap, HashMap};

use super::{Intents, Query};
use crate::replay::ReplayError;

/// Splits whose names begin so hold prompts that belong to no intent: each is a class of its own.
const OUT_OF_SCOPE: &str = "oos";

impl Intents {
    fn push(&mut self, text: &str, class: usize) {
        self.queries.push(Query { text: text.to_owned(), class });
    }

    fn class(&mut self, name: &str) -> usize {
        self.classes.push(name.to_owned());
        self.classes.len() - 1
    }
}

/// Whether a line is the header of a CSV file that can be read.
pub(super) fn is_header(line: &str) -> bool {
    columns(line.split(',').map(|name| name.trim().trim_matches('"'))).is_some()
}

/// Places of text and category.
fn columns<'a>(header: impl Iterator<Item = &'a str>) -> Option<(usize, usize)> {
    let header: Vec<&str> = header.map(str::trim).collect();
    let find = |name: &str| header.iter().position(|column| column.eq_ignore_ascii_case(name));
    Some((find("text")?, find("category")?))
}

/// Reads CSV with a header; fields may be quoted, with quotes and line breaks in them.
pub(super) fn csv(name: &str, text: &str) -> Result<Intents, ReplayError> {
    let wrong = |line: u64, what: &str| ReplayError::new(format!("{name}:{line}: {what}"));
    let mut reader = csv::ReaderBuilder::new().from_reader(text.as_bytes());
    let header = reader.headers().map_err(|error| wrong(1, &error.to_string()))?.clone();
    let (text_at, category_at) = columns(header.iter())
        .ok_or_else(|| wrong(1, "the header lacks text or category; begin the file with the line text,category"))?;
    let mut intents = Intents::default();
    let mut known: HashMap<String, usize> = HashMap::new();
    for record in reader.records() {
        let record = record.map_err(|error| {
            let line = error.position().map_or(0, csv::Position::line);
            wrong(line, &format!("{}; quote fields that contain commas, quotes or line breaks", plainly(&error)))
        })?;
        let line = record.position().map_or(0, csv::Position::line);
        let field = |at: usize, what: &str| {
            let field = record.get(at).map(str::trim).filter(|field| !field.is_empty());
            field.ok_or_else(|| wrong(line, &format!("the {what} is empty; fill it in or take the line out")))
        };
        let (text, category) = (field(text_at, "text")?, field(category_at, "category")?);
        let class = match known.get(category) {
            Some(class) => *class,
            None => {
                let class = intents.class(category);
                known.insert(category.to_owned(), class);
                class
            }
        };
        intents.push(text, class);
    }
    if intents.queries.is_empty() {
        return Err(wrong(1, "has a header and nothing else; add lines with prompts"));
    }
    Ok(intents)
}

fn plainly(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("has {len} fields instead of {expected_len}")
        }
        _ => error.to_string(),
    }
}

/// Reads `{"split": [["text", "intent"], …], …}`.
pub(super) fn splits(name: &str, text: &str, wanted: &[String]) -> Result<Intents, ReplayError> {
    let all: BTreeMap<String, Vec<(String, String)>> = serde_json::from_str(text).map_err(|error| {
        let line = error.line();
        ReplayError::new(format!("{name}:{line}: {error}; expected an object of splits, each a list of [text, intent]"))
    })?;
    if let Some(unknown) = wanted.iter().find(|split| !all.contains_key(*split)) {
        let there = all.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        return Err(ReplayError::new(format!("{name}: has no split {unknown}; there are {there}")));
    }
    let mut intents = Intents::default();
    let mut known: HashMap<&str, usize> = HashMap::new();
    for (split, items) in all.iter().filter(|(split, _)| wanted.is_empty() || wanted.contains(*split)) {
        for (index, (text, intent)) in items.iter().enumerate() {
            if text.trim().is_empty() {
                let what =
                    format!("{name}: item {} of {split} has an empty text; fill it in or take it out", index + 1);
                return Err(ReplayError::new(what));
            }
            let class = if split.starts_with(OUT_OF_SCOPE) {
                intents.class(&format!("{split}_{}", index + 1))
            } else if let Some(class) = known.get(intent.as_str()) {
                *class
            } else {
                let class = intents.class(intent);
                known.insert(intent, class);
                class
            };
            intents.push(text, class);
        }
    }
    if intents.queries.is_empty() {
        return Err(ReplayError::new(format!("{name}: has no prompts in the splits taken; name others with --split")));
    }
    Ok(intents)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(intents: &Intents) -> Vec<(&str, &str)> {
        intents.queries.iter().map(|query| (query.text.as_str(), intents.classes[query.class].as_str())).collect()
    }

    #[test]
    fn csv_fields_may_hold_commas_quotes_and_line_breaks_and_columns_any_order() {
        let text = "category,text\ncard,\"Where, \"\"please\"\",\nis it?\"\nfee,Why?\ncard,Lost\n";
        let intents = csv("f", text).unwrap();
        assert_eq!(rows(&intents), [("Where, \"please\",\nis it?", "card"), ("Why?", "fee"), ("Lost", "card")]);
        assert_eq!(intents.classes, ["card", "fee"]);
    }

    #[test]
    fn bad_csv_is_named_with_its_line() {
        for (text, says) in [
            ("a,b\nx,y\n", "f:1: the header lacks"),
            ("text,category\n", "f:1: has a header and nothing else"),
            ("text,category\n\"x\ny\",c\nz\n", "f:4: has 1 fields instead of 2"),
            ("text,category\nx,c\ny, \n", "f:3: the category is empty"),
            ("text,category\n,c\n", "f:2: the text is empty"),
        ] {
            let error = csv("f", text).unwrap_err();
            assert!(error.0.starts_with(says), "{text:?}: {error}");
        }
    }

    const SPLITS: &str = r#"{"train":[["a","x"],["b","y"]],"val":[["c","x"]],"oos_val":[["d","oos"],["e","oos"]]}"#;

    #[test]
    fn prompts_out_of_scope_are_classes_of_their_own_and_intents_span_splits() {
        let all = splits("f", SPLITS, &[]).unwrap();
        let expected = [("d", "oos_val_1"), ("e", "oos_val_2"), ("a", "x"), ("b", "y"), ("c", "x")];
        assert_eq!(rows(&all), expected);
        assert_eq!(all.queries[2].class, all.queries[4].class);
        assert_eq!(rows(&splits("f", SPLITS, &["val".to_owned()]).unwrap()), [("c", "x")]);
    }

    #[test]
    fn bad_splits_say_what_is_wrong() {
        let error = |text: &str, wanted: &str| splits("f", text, &[wanted.to_owned()]).unwrap_err().0;
        assert_eq!(error(SPLITS, "test"), "f: has no split test; there are oos_val, train, val");
        assert!(error("{\n\"train\":[[\"a\"]]}", "train").starts_with("f:2: "));
        assert!(error(r#"{"train":[]}"#, "train").contains("no prompts"));
        assert!(error(r#"{"train":[["x","i"],["","i"]]}"#, "train").contains("item 2 of train"));
    }
}
