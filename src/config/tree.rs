//! A configuration as it was written: a tree of values that remember where they come from.
//!
//! Files, environment and flags all become such trees and are laid over each other here, before anything is
//! interpreted. Tables merge key by key; everything else, lists of tables too, replaces what was there.

use std::collections::BTreeMap;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::problem::{Problem, ProblemKind, Problems, Source};

/// One section.
pub(super) type Map = BTreeMap<String, Node>;

/// A value and where its key was written.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) source: Source,
}

/// What was written.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// A TOML string.
    Text(String),
    /// Text from the environment or the command line; its type is whatever the key asks for.
    Raw(String),
    /// A whole number; one that does not fit is held at the nearest end of the range.
    Integer(i128),
    Float(f64),
    Bool(bool),
    /// A date or time, which no key takes.
    Date,
    Array(Vec<Node>),
    Table(Map),
}

impl Value {
    /// What it is called in a message.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Text(_) | Self::Raw(_) => "a string",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Bool(_) => "true or false",
            Self::Date => "a date",
            Self::Array(_) => "a list",
            Self::Table(_) => "a section",
        }
    }
}

/// Reads TOML. `path` is the file's name for messages; without it, values count as defaults. On a syntax error the
/// problems are reported, at most one for a line, and there is no tree.
pub(super) fn parse(text: &str, path: Option<&Arc<str>>, problems: &mut Problems) -> Option<Map> {
    let places = Places::new(text, path);
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Some(map(table.get_ref(), &places));
    }
    let mut last = None;
    for error in errors {
        let source = places.at(error.span().map_or(0, |span| span.start));
        if last.as_ref().is_some_and(|last| same_line(last, &source)) {
            continue;
        }
        last = Some(source.clone());
        problems.push(Problem {
            source,
            key: String::new(),
            kind: ProblemKind::Syntax,
            message: format!("not valid TOML: {}", error.message()),
            fix: "mend the line; nothing else in the file was looked at".to_owned(),
            suggestion: None,
        });
    }
    None
}

/// Lays `over` on `base`.
pub(super) fn merge(base: &mut Map, over: Map) {
    for (key, node) in over {
        match (base.get_mut(&key), node) {
            (Some(Node { value: Value::Table(below), source }), Node { value: Value::Table(above), source: newer }) => {
                *source = newer;
                merge(below, above);
            }
            (_, node) => {
                base.insert(key, node);
            }
        }
    }
}

/// Gives every table of the list `key` what it lacks from the first table of that list in `defaults`.
pub(super) fn fill_list(root: &mut Map, defaults: &Map, key: &str) {
    let Some(Node { value: Value::Array(wanted), .. }) = defaults.get(key) else { return };
    let Some(Node { value: Value::Table(template), .. }) = wanted.first() else { return };
    let Some(Node { value: Value::Array(items), .. }) = root.get_mut(key) else { return };
    for item in items {
        if let Value::Table(table) = &mut item.value {
            for (key, node) in template {
                table.entry(key.clone()).or_insert_with(|| node.clone());
            }
        }
    }
}

/// Why [`set`] could not.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SetError {
    /// An element of a list that is not there.
    NoSuchElement,
    /// A key inside something that is not a section.
    NotASection,
}

/// Puts `text` at `path`. In a list of tables a segment may be the element's number, from 0; without a number the
/// first element is meant. Sections that do not exist are made, and reported later as unknown.
pub(super) fn set(root: &mut Map, path: &[String], text: &str, source: &Source) -> Result<(), SetError> {
    let Some((head, rest)) = path.split_first() else { return Err(SetError::NotASection) };
    if rest.is_empty() {
        root.insert(head.clone(), Node { value: Value::Raw(text.to_owned()), source: source.clone() });
        return Ok(());
    }
    let made = || Node { value: Value::Table(Map::new()), source: source.clone() };
    match &mut root.entry(head.clone()).or_insert_with(made).value {
        Value::Table(inner) => set(inner, rest, text, source),
        Value::Array(items) => {
            let number = rest.first().and_then(|segment| segment.parse::<usize>().ok());
            let rest = if number.is_some() { rest.get(1..).unwrap_or_default() } else { rest };
            match items.get_mut(number.unwrap_or(0)) {
                Some(Node { value: Value::Table(inner), .. }) => set(inner, rest, text, source),
                Some(_) => Err(SetError::NotASection),
                None => Err(SetError::NoSuchElement),
            }
        }
        _ => Err(SetError::NotASection),
    }
}

/// The value at a path such as `upstream[0].total`.
pub(super) fn find<'a>(root: &'a Map, path: &str) -> Option<&'a Node> {
    let (head, rest) = path.split_once('.').map_or((path, None), |(head, rest)| (head, Some(rest)));
    let (name, number) = head.split_once('[').map_or((head, None), |(name, number)| (name, Some(number)));
    let mut node = root.get(name)?;
    if let (Some(number), Value::Array(items)) = (number, &node.value) {
        node = items.get(number.trim_end_matches(']').parse::<usize>().ok()?)?;
    }
    match (rest, &node.value) {
        (None, _) => Some(node),
        (Some(rest), Value::Table(inner)) => find(inner, rest),
        (Some(_), _) => None,
    }
}

/// Every key of the tree as a path without element numbers, as in `upstream.url`.
pub(super) fn paths(map: &Map, prefix: &str, out: &mut Vec<String>) {
    for (key, node) in map {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match &node.value {
            Value::Table(inner) => paths(inner, &path, out),
            Value::Array(items) => {
                for item in items {
                    if let Value::Table(inner) = &item.value {
                        paths(inner, &path, out);
                    }
                }
            }
            _ => {}
        }
        out.push(path);
    }
}

fn map(table: &DeTable<'_>, places: &Places<'_>) -> Map {
    let entry = |(key, value): (&toml::Spanned<toml::de::DeString<'_>>, &toml::Spanned<DeValue<'_>>)| {
        let node = Node { value: convert(value.get_ref(), places), source: places.at(key.span().start) };
        (key.get_ref().to_string(), node)
    };
    table.iter().map(entry).collect()
}

fn convert(value: &DeValue<'_>, places: &Places<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => Value::Integer(integer(number.as_str(), number.radix())),
        DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Datetime(_) => Value::Date,
        DeValue::Array(items) => Value::Array(
            items
                .iter()
                .map(|item| Node { value: convert(item.get_ref(), places), source: places.at(item.span().start) })
                .collect(),
        ),
        DeValue::Table(inner) => Value::Table(map(inner, places)),
    }
}

fn integer(digits: &str, radix: u32) -> i128 {
    let end = if digits.starts_with('-') { i128::MIN } else { i128::MAX };
    i128::from_str_radix(digits, radix).unwrap_or(end)
}

fn same_line(a: &Source, b: &Source) -> bool {
    matches!((a, b), (Source::File { line: a, .. }, Source::File { line: b, .. }) if a == b)
}

/// Turns byte offsets of one file into line and column.
struct Places<'a> {
    text: &'a str,
    path: Option<&'a Arc<str>>,
    /// Offset of the first byte of each line.
    lines: Vec<usize>,
}

impl<'a> Places<'a> {
    fn new(text: &'a str, path: Option<&'a Arc<str>>) -> Self {
        let after_breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(offset, _)| offset + 1);
        Self { text, path, lines: std::iter::once(0).chain(after_breaks).collect() }
    }

    fn at(&self, offset: usize) -> Source {
        let Some(path) = self.path else { return Source::Default };
        let line = self.lines.partition_point(|start| *start <= offset);
        let start = self.lines.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let before = self.text.get(start..offset).unwrap_or_default();
        Source::File { path: Arc::clone(path), line, column: before.chars().count() + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Map {
        let mut problems = Problems::default();
        let tree = parse(text, Some(&Arc::from("f")), &mut problems);
        assert!(problems.is_empty(), "{problems}");
        tree.unwrap()
    }

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let tree = tree("a = 1\n[b]\n  \"ü\" = 1\n  x = { \"ä\" = 1, z = 2 }\n");
        let at = |path| find(&tree, path).unwrap().source.to_string();
        assert_eq!(at("a"), "f:1:1");
        assert_eq!(at("b"), "f:2:2");
        assert_eq!(at("b.x"), "f:4:3");
        assert_eq!(at("b.x.z"), "f:4:18");
    }

    #[test]
    fn syntax_errors_are_all_reported_with_their_lines() {
        let mut problems = Problems::default();
        assert!(parse("a = = 1\nb = 2\nc = \"open\nd =\n", Some(&Arc::from("f")), &mut problems).is_none());
        let lines: Vec<_> = problems.iter().map(|problem| problem.source.to_string()).collect();
        assert!(lines.len() >= 2, "{problems}");
        assert!(lines.first().unwrap().starts_with("f:1:"), "{lines:?}");
    }

    #[test]
    fn tables_merge_and_lists_replace() {
        let mut base = tree("[a]\nx = 1\ny = 2\n[[l]]\nn = 1\n[[l]]\nn = 2\n");
        merge(&mut base, tree("[a]\ny = 3\n[[l]]\nn = 9\n"));
        assert!(matches!(find(&base, "a.x").unwrap().value, Value::Integer(1)));
        assert!(matches!(find(&base, "a.y").unwrap().value, Value::Integer(3)));
        assert!(matches!(find(&base, "l[0].n").unwrap().value, Value::Integer(9)));
        assert!(find(&base, "l[1]").is_none());
    }

    #[test]
    fn a_path_reaches_into_lists_by_number_or_to_the_first_element() {
        let mut root = tree("v = 1\n[[l]]\nn = 1\n[[l]]\nn = 2\n");
        let env = Source::Env(Arc::from("E"));
        let path = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(set(&mut root, &path("l.n"), "7", &env), Ok(()));
        assert_eq!(set(&mut root, &path("l.1.n"), "8", &env), Ok(()));
        assert_eq!(set(&mut root, &path("l.2.n"), "9", &env), Err(SetError::NoSuchElement));
        assert_eq!(set(&mut root, &path("v.n"), "9", &env), Err(SetError::NotASection));
        assert_eq!(set(&mut root, &path("l.1"), "9", &env), Err(SetError::NotASection));
        assert!(matches!(&find(&root, "l[0].n").unwrap().value, Value::Raw(text) if text == "7"));
        assert!(matches!(&find(&root, "l[1].n").unwrap().value, Value::Raw(text) if text == "8"));
    }
}
