//! Reading a recording: which of the known forms a file has, and what is in it.
//!
//! | form | name | content |
//! |---|---|---|
//! | labelled pairs | `.jsonl` | a JSON object a line: `{"id","category","a","b","same_answer","style"}` |
//! | intents | `.csv` | the columns `text` and `category` |
//! | intents in splits | `.json` | `{"train": [["text", "intent"], …], …}`; splits `oos…` have no intent |
//! | recorded traffic | a store | decisions with their prompts; see `traffic` |
//!
//! A file may be compressed by gzip. A file of another name is known by its first bytes. Every error names the file and the
//! line and says how to mend it. Must never guess around a broken line: a figure over half a file is a wrong figure.

mod intents;
mod pairs;
mod traffic;

use std::io::Read as _;
use std::path::Path;

use super::ReplayError;
pub use traffic::{Asked, Facts, Selection, Traffic};

/// One request of a stream of intents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The prompt.
    pub text: String,
    /// The class of prompts with the same right answer; a place in [`Intents::classes`].
    pub class: usize,
}

/// Prompts with their intents, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intents {
    /// The prompts.
    pub queries: Vec<Query>,
    /// Names of the classes.
    pub classes: Vec<String>,
}

/// One side of a labelled pair.
#[derive(Clone, Debug, PartialEq)]
pub enum Side {
    /// A prompt.
    Text(String),
    /// A conversation: chat messages as they stand in a request.
    Messages(serde_json::Value),
}

/// Two prompts, and whether one answer is right for both.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// Where it stands in the file, from 1.
    pub line: usize,
    /// What kind of pair it is.
    pub category: String,
    /// How it was written; may be empty.
    pub style: String,
    /// The one that is stored.
    pub a: Side,
    /// The one that is asked.
    pub b: Side,
    /// Whether the answer to `a` is right for `b`.
    pub same_answer: bool,
}

/// What was recorded.
#[derive(Clone, Debug, PartialEq)]
pub enum Recording {
    /// Prompts with their intents.
    Intents(Intents),
    /// Labelled pairs.
    Pairs(Vec<Pair>),
    /// What the program itself has seen. Never in a file.
    Traffic(Traffic),
}

#[derive(Clone, Copy)]
enum Form {
    Csv,
    Pairs,
    Splits,
}

impl Recording {
    /// Reads a file. `splits` are the names of those to take of a file that has some; none means all.
    ///
    /// # Errors
    /// The file cannot be read, has none of the forms, is empty, or a line of it is wrong.
    pub fn open(path: &Path, splits: &[String]) -> Result<Self, ReplayError> {
        let name = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|error| {
            ReplayError::new(format!(
                "{name}: cannot be read: {error}; give the path of a file that this user may read"
            ))
        })?;
        Self::read(&name, bytes, splits)
    }

    /// [`Self::open`] with the content in hand; `name` decides the form and stands in messages.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn read(name: &str, bytes: Vec<u8>, splits: &[String]) -> Result<Self, ReplayError> {
        let bytes = plain(name, bytes)?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let line = 1 + error.as_bytes().iter().take(valid).filter(|byte| **byte == b'\n').count();
            ReplayError::new(format!("{name}:{line}: is not UTF-8; save the file as UTF-8"))
        })?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        if text.trim().is_empty() {
            return Err(ReplayError::new(format!("{name}: is empty; give a file with at least one prompt")));
        }
        let form = form(name, text).ok_or_else(|| {
            ReplayError::new(format!(
                "{name}:1: is neither labelled pairs (JSON lines with a, b and same_answer), nor CSV with the columns \
                 text,category, nor JSON splits of [text, intent]; convert it to one of these"
            ))
        })?;
        if !splits.is_empty() && !matches!(form, Form::Splits) {
            return Err(ReplayError::new(format!("{name}: has no splits; leave --split out")));
        }
        match form {
            Form::Csv => intents::csv(name, text).map(Self::Intents),
            Form::Splits => intents::splits(name, text, splits).map(Self::Intents),
            Form::Pairs => pairs::json_lines(name, text).map(Self::Pairs),
        }
    }
}

/// The content without compression.
fn plain(name: &str, bytes: Vec<u8>) -> Result<Vec<u8>, ReplayError> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(bytes);
    }
    let mut content = Vec::new();
    flate2::read::MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut content).map_err(|error| {
        ReplayError::new(format!("{name}: the gzip data is damaged or cut short ({error}); get the file anew"))
    })?;
    Ok(content)
}

/// By name where it says enough, by the first line where not.
fn form(name: &str, text: &str) -> Option<Form> {
    let lower = name.to_ascii_lowercase();
    let lower = lower.strip_suffix(".gz").unwrap_or(&lower);
    if lower.ends_with(".csv") {
        return Some(Form::Csv);
    }
    if lower.ends_with(".jsonl") || lower.ends_with(".ndjson") {
        return Some(Form::Pairs);
    }
    let first = text.lines().find(|line| !line.trim().is_empty())?;
    if text.trim_start().starts_with('{') {
        let object: Option<serde_json::Map<String, serde_json::Value>> = serde_json::from_str(first).ok();
        let is_pair = object.is_some_and(|object| object.contains_key("a") && object.contains_key("b"));
        return Some(if is_pair { Form::Pairs } else { Form::Splits });
    }
    intents::is_header(first).then_some(Form::Csv)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn read(name: &str, text: &str) -> Result<Recording, ReplayError> {
        Recording::read(name, text.as_bytes().to_vec(), &[])
    }

    const PAIR: &str = r#"{"id":"1","category":"c","a":"x","b":"y","same_answer":true,"style":"s"}"#;
    const SPLITS: &str = r#"{"train":[["x","i"]]}"#;

    #[test]
    fn the_form_is_known_by_name_or_by_content_and_compression_does_not_matter() {
        for name in ["f.jsonl", "f.NDJSON", "f.json", "f"] {
            assert!(matches!(read(name, PAIR), Ok(Recording::Pairs(pairs)) if pairs.len() == 1), "{name}");
        }
        for name in ["f.json", "f", "f.txt"] {
            assert!(matches!(read(name, SPLITS), Ok(Recording::Intents(_))), "{name}");
        }
        for name in ["f.csv", "f"] {
            assert!(matches!(read(name, "\u{feff}text,category\na,b\n"), Ok(Recording::Intents(_))), "{name}");
        }
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(SPLITS.as_bytes()).unwrap();
        let packed = packed.finish().unwrap();
        assert_eq!(Recording::read("f.json.gz", packed.clone(), &[]), read("f.json", SPLITS));
        let cut = packed[..packed.len() - 9].to_vec();
        let error = Recording::read("f.json.gz", cut, &[]).unwrap_err();
        assert!(error.0.starts_with("f.json.gz: the gzip data"), "{error}");
    }

    #[test]
    fn what_cannot_be_read_says_where_and_how_to_mend_it() {
        let bad =
            |name: &str, bytes: &[u8], splits: &[String]| Recording::read(name, bytes.to_vec(), splits).unwrap_err().0;
        assert!(bad("f.csv", b" \n", &[]).contains("f.csv: is empty"));
        assert!(bad("f", b"hello\nworld", &[]).starts_with("f:1: is neither"));
        assert!(bad("f.csv", b"text,category\na,b\n\xff,b\n", &[]).starts_with("f.csv:3: is not UTF-8"));
        assert!(bad("f.csv", b"text,category\na,b\n", &["train".to_owned()]).contains("has no splits"));
        assert!(
            Recording::open(Path::new("no/such/file"), &[]).unwrap_err().0.starts_with("no/such/file: cannot be read")
        );
    }
}
