//! Reads one section of the tree into typed values and notes everything that is wrong on the way.
//!
//! A reader never stops at the first mistake: a value that cannot be used is noted and a stand-in returned, so that
//! the whole configuration is always looked at. [`Reader::section`] and [`Reader::list`] end by reporting every key
//! that nobody asked for; a key that is not read is therefore an unknown key, and cannot be forgotten silently.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::money::NanoUsd;
use super::problem::{Problem, ProblemKind, Problems, Source, quote};
use super::terms::Wrong;
use super::tree::{self, Map, Node, Value};
use super::units::{parse_duration, parse_size, show_duration, show_size};
use super::unknown;

/// What all readers of one configuration share.
pub(super) struct Context {
    /// The process environment, for `*_env` keys.
    pub(super) env: BTreeMap<String, String>,
    /// What was found so far.
    pub(super) problems: Problems,
    /// Every documented key, as in `cache.ttl`; to suggest the right section for a misplaced one.
    pub(super) known: Vec<String>,
}

/// One section being read.
pub(super) struct Reader<'a> {
    map: &'a Map,
    path: String,
    source: Source,
    pub(super) context: &'a mut Context,
    /// Keys that exist in this section.
    asked: Vec<String>,
    /// Keys that were refused already, and are not to be suggested.
    refused: Vec<String>,
}

impl<'a> Reader<'a> {
    /// Reads the root of a tree through `read`, then reports what it did not ask for.
    pub(super) fn root<T>(map: &Map, context: &mut Context, read: impl FnOnce(&mut Reader<'_>) -> T) -> T {
        Reader::over(map, String::new(), Source::Default, context, read)
    }

    fn over<T>(
        map: &Map,
        path: String,
        source: Source,
        context: &mut Context,
        read: impl FnOnce(&mut Reader<'_>) -> T,
    ) -> T {
        let mut reader = Reader { map, path, source, context, asked: Vec::new(), refused: Vec::new() };
        let value = read(&mut reader);
        reader.report_unknown();
        value
    }

    /// Reads the table `key`. One that is not there reads as empty.
    pub(super) fn section<T>(&mut self, key: &str, read: impl FnOnce(&mut Reader<'_>) -> T) -> T {
        let empty = Map::new();
        let path = self.path_of(key);
        let (map, source) = match self.ask(key) {
            Some(Node { value: Value::Table(map), source }) => (map, source.clone()),
            Some(node) => {
                self.wrong_type(key, node, "a section", &format!("write it as [{path}] with its keys below"));
                // Its keys are not missing, they were never reached: read on without noting more.
                let mut blind = Context { env: BTreeMap::new(), problems: Problems::default(), known: Vec::new() };
                return Reader::over(&empty, path, node.source.clone(), &mut blind, read);
            }
            None => (&empty, self.source.clone()),
        };
        Reader::over(map, path, source, self.context, read)
    }

    /// Reads each table of the list `key`. A list that is not there is empty.
    pub(super) fn list<T>(&mut self, key: &str, mut read: impl FnMut(&mut Reader<'_>) -> T) -> Vec<T> {
        let advice = format!("write it as [[{}]] with two brackets, once for each", self.plain_path_of(key));
        let node = match self.ask(key) {
            None => return Vec::new(),
            Some(node) => node,
        };
        let Value::Array(items) = &node.value else {
            self.wrong_type(key, node, "a list of sections", &advice);
            return Vec::new();
        };
        let mut read_all = Vec::with_capacity(items.len());
        for (number, item) in items.iter().enumerate() {
            let Value::Table(map) = &item.value else {
                self.wrong_type(key, item, "a list of sections", &advice);
                continue;
            };
            let path = format!("{}[{number}]", self.path_of(key));
            read_all.push(Reader::over(map, path, item.source.clone(), self.context, &mut read));
        }
        read_all
    }

    /// Whether the key was written here.
    pub(super) fn has(&mut self, key: &str) -> bool {
        self.ask(key).is_some()
    }

    /// A duration between the two, both allowed.
    pub(super) fn duration(&mut self, key: &str, least: Duration, most: Duration) -> Duration {
        const ADVICE: &str =
            "write a whole number and a unit in quotes: \"500ms\", \"30s\", \"10m\", \"24h\" or \"7d\"";
        let Some(node) = self.require(key) else { return least };
        let (Value::Text(text) | Value::Raw(text)) = &node.value else {
            self.wrong_type(key, node, "a duration", ADVICE);
            return least;
        };
        match parse_duration(text) {
            None => self.note(key, &node.source, ProblemKind::BadValue, not_a("duration", text), ADVICE.to_owned()),
            Some(value) if value < least || value > most => {
                self.out_of_range(key, &node.source, text, &show_duration(least), &show_duration(most));
            }
            Some(value) => return value,
        }
        least
    }

    /// A size in bytes between the two, both allowed.
    pub(super) fn size(&mut self, key: &str, least: u64, most: u64) -> u64 {
        const ADVICE: &str = "write a number of bytes, or a whole number and a unit: \"64KiB\", \"8MiB\", \"1GiB\"";
        let Some(node) = self.require(key) else { return least };
        let (shown, value) = match &node.value {
            Value::Text(text) | Value::Raw(text) => match parse_size(text) {
                Some(value) => (text.clone(), value),
                None => {
                    let message = not_a("size", text);
                    self.note(key, &node.source, ProblemKind::BadValue, message, ADVICE.to_owned());
                    return least;
                }
            },
            // One that does not fit counts as 0, which no range allows.
            Value::Integer(number) => (number.to_string(), u64::try_from(*number).unwrap_or(0)),
            _ => {
                self.wrong_type(key, node, "a size", ADVICE);
                return least;
            }
        };
        if (least..=most).contains(&value) {
            return value;
        }
        self.out_of_range(key, &node.source, &shown, &show_size(least), &show_size(most));
        least
    }

    /// A whole number between the two, both allowed.
    pub(super) fn count(&mut self, key: &str, least: u32, most: u32) -> u32 {
        u32::try_from(self.whole(key, least.into(), most.into())).unwrap_or(least)
    }

    /// The same for numbers that may be larger.
    pub(super) fn whole(&mut self, key: &str, least: u64, most: u64) -> u64 {
        let Some(node) = self.require(key) else { return least };
        let number = match &node.value {
            Value::Integer(number) => Some(*number),
            Value::Raw(text) => text.trim().parse().ok(),
            _ => None,
        };
        let Some(number) = number else {
            self.wrong_type(key, node, "a whole number", "write digits only, without quotes");
            return least;
        };
        match u64::try_from(number) {
            Ok(value) if (least..=most).contains(&value) => value,
            _ => {
                self.out_of_range(key, &node.source, &number.to_string(), &least.to_string(), &most.to_string());
                least
            }
        }
    }

    /// An amount of dollars. A number with a point is taken as it was written, as long as a float holds all its digits.
    pub(super) fn money(&mut self, key: &str) -> NanoUsd {
        const ADVICE: &str = "write dollars with at most nine digits behind the point, as in \"12.50\"";
        const EXACT: usize = 15;
        let Some(node) = self.require(key) else { return NanoUsd(0) };
        let text = match &node.value {
            Value::Text(text) | Value::Raw(text) => text.clone(),
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => {
                let shown = number.to_string();
                if shown.bytes().filter(u8::is_ascii_digit).count() > EXACT {
                    let message = "the number has more digits than are kept without quotes".to_owned();
                    self.note(key, &node.source, ProblemKind::BadValue, message, ADVICE.to_owned());
                    return NanoUsd(0);
                }
                shown
            }
            _ => {
                self.wrong_type(key, node, "an amount of dollars", ADVICE);
                return NanoUsd(0);
            }
        };
        text.parse().unwrap_or_else(|_| {
            let message = not_a("amount of dollars", &text);
            self.note(key, &node.source, ProblemKind::BadValue, message, ADVICE.to_owned());
            NanoUsd(0)
        })
    }

    /// A list of numbers.
    pub(super) fn numbers(&mut self, key: &str) -> Vec<f64> {
        const ADVICE: &str = "write a list of numbers, as in [0.5, 0.8, 1.0]";
        let Some(node) = self.require(key) else { return Vec::new() };
        let Value::Array(items) = &node.value else {
            self.wrong_type(key, node, "a list", ADVICE);
            return Vec::new();
        };
        let mut numbers = Vec::with_capacity(items.len());
        for item in items {
            match &item.value {
                Value::Float(number) => numbers.push(*number),
                #[expect(clippy::cast_precision_loss, reason = "shares are far below the point where it matters")]
                Value::Integer(number) => numbers.push(*number as f64),
                _ => self.wrong_type(key, item, "a list of numbers", ADVICE),
            }
        }
        numbers
    }

    /// A number between the two, both allowed.
    pub(super) fn number(&mut self, key: &str, least: f64, most: f64) -> f64 {
        let Some(node) = self.require(key) else { return least };
        let number = match &node.value {
            Value::Float(number) => Some(*number),
            #[expect(clippy::cast_precision_loss, reason = "the ranges are far below the point where it matters")]
            Value::Integer(number) => Some(*number as f64),
            Value::Raw(text) => text.trim().parse().ok(),
            _ => None,
        };
        let Some(number) = number else {
            self.wrong_type(key, node, "a number", "write it without quotes, as in 0.95");
            return least;
        };
        // A NaN is in no range.
        if (least..=most).contains(&number) {
            return number;
        }
        self.out_of_range(key, &node.source, &number.to_string(), &least.to_string(), &most.to_string());
        least
    }

    /// Any text.
    pub(super) fn text(&mut self, key: &str) -> String {
        let Some(node) = self.require(key) else { return String::new() };
        match &node.value {
            Value::Text(text) | Value::Raw(text) => text.clone(),
            _ => {
                self.wrong_type(key, node, "a string", "put it in double quotes");
                String::new()
            }
        }
    }

    /// Text that passes `check`, else a problem with the reason and the advice it gives.
    pub(super) fn checked<T>(
        &mut self,
        key: &str,
        check: impl FnOnce(&str) -> Result<T, (String, String)>,
    ) -> Option<T> {
        let before = self.context.problems.len();
        let text = self.text(key);
        if self.context.problems.len() > before {
            return None;
        }
        match check(&text) {
            Ok(value) => Some(value),
            Err((message, fix)) => {
                let source = self.source_of(key);
                self.note(key, &source, ProblemKind::BadValue, message, fix);
                None
            }
        }
    }

    /// One of the named values.
    pub(super) fn choice<T: Copy>(&mut self, key: &str, first: T, choices: &[(&str, T)]) -> T {
        let before = self.context.problems.len();
        let text = self.text(key);
        if self.context.problems.len() > before {
            return first;
        }
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
            return *value;
        }
        let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let source = self.source_of(key);
        let message = format!("{} is not one of the choices", quote(&text));
        self.note(key, &source, ProblemKind::BadValue, message, format!("use one of {}", names.join(", ")));
        first
    }

    /// `true` or `false`; in the environment as text.
    pub(super) fn flag(&mut self, key: &str) -> bool {
        let Some(node) = self.require(key) else { return false };
        match &node.value {
            Value::Bool(value) => return *value,
            Value::Raw(text) if text.trim() == "true" => return true,
            Value::Raw(text) if text.trim() == "false" => return false,
            _ => {}
        }
        let fix = "write true or false without quotes".to_owned();
        self.note(key, &node.source, ProblemKind::BadValue, "expected true or false".to_owned(), fix);
        false
    }

    /// `true`, `false`, or `"auto"` for the given value.
    pub(super) fn flag_or_auto(&mut self, key: &str, auto: bool) -> bool {
        let Some(node) = self.require(key) else { return auto };
        match &node.value {
            Value::Bool(value) => return *value,
            Value::Text(text) if text == "auto" => return auto,
            Value::Raw(text) => match text.trim() {
                "auto" => return auto,
                "true" => return true,
                "false" => return false,
                _ => {}
            },
            _ => {}
        }
        let message = "expected true, false or \"auto\"".to_owned();
        let fix = "write true or false without quotes, or \"auto\"".to_owned();
        self.note(key, &node.source, ProblemKind::BadValue, message, fix);
        auto
    }

    /// A list of strings; in the environment separated by commas.
    pub(super) fn strings(&mut self, key: &str) -> Vec<String> {
        const ADVICE: &str = "write a list of strings, as in [\"a\", \"b\"]";
        let Some(node) = self.require(key) else { return Vec::new() };
        let items = match &node.value {
            Value::Raw(text) => {
                let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                return parts.map(str::to_owned).collect();
            }
            Value::Array(items) => items,
            _ => {
                self.wrong_type(key, node, "a list", ADVICE);
                return Vec::new();
            }
        };
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            match &item.value {
                Value::Text(text) => texts.push(text.clone()),
                _ => self.wrong_type(key, item, "a list of strings", ADVICE),
            }
        }
        texts
    }

    /// `ADDRESS:PORT`.
    pub(super) fn address(&mut self, key: &str) -> SocketAddr {
        let read = self.checked(key, |text| {
            text.parse().map_err(|_| {
                let fix = "write a numeric address and a port: \"127.0.0.1:8080\", \"0.0.0.0:8080\" or \"[::1]:8080\"";
                (not_a("address", text), fix.to_owned())
            })
        });
        read.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    /// Where the key was written, else where its section was.
    pub(super) fn source_of(&self, key: &str) -> Source {
        self.map.get(key).map_or_else(|| self.source.clone(), |node| node.source.clone())
    }

    /// The full path of a key of this section.
    pub(super) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Notes a problem at a key of this section.
    pub(super) fn note(&mut self, key: &str, source: &Source, kind: ProblemKind, message: String, fix: String) {
        let problem = Problem { source: source.clone(), key: self.path_of(key), kind, message, fix, suggestion: None };
        self.context.problems.push(problem);
    }

    /// Notes what is wrong with terms that were read here, each at its place. Says nothing where something was found before,
    /// and nothing of a name that was made from something that is itself in doubt.
    pub(super) fn note_wrong(&mut self, wrong: &[Wrong]) {
        for Wrong { place, what, fix } in wrong {
            let made_from = place.strip_suffix(".name").map(|place| self.path_of(&format!("{place}.period")));
            let doubted = made_from.is_some_and(|place| self.context.problems.touch(&place));
            if doubted || self.context.problems.touch(&self.path_of(place)) {
                continue;
            }
            let outer = place.rsplit_once('.').map_or(place.as_str(), |(outer, _)| outer);
            let node = tree::find(self.map, place).or_else(|| tree::find(self.map, outer));
            let source = node.map_or_else(|| self.source.clone(), |node| node.source.clone());
            self.note(place, &source, ProblemKind::BadValue, what.clone(), (*fix).to_owned());
        }
    }

    /// Marks a key that must never be written, so that it is not reported as unknown as well.
    pub(super) fn refuse(&mut self, key: &str) -> Option<&'a Node> {
        self.refused.push(key.to_owned());
        self.map.get(key)
    }

    fn ask(&mut self, key: &str) -> Option<&'a Node> {
        if !self.asked.iter().any(|asked| asked == key) {
            self.asked.push(key.to_owned());
        }
        self.map.get(key)
    }

    fn require(&mut self, key: &str) -> Option<&'a Node> {
        let found = self.ask(key);
        if found.is_none() {
            let (source, fix) = (self.source.clone(), format!("add `{key} = …` to this section"));
            self.note(key, &source, ProblemKind::Missing, "is needed here".to_owned(), fix);
        }
        found
    }

    fn wrong_type(&mut self, key: &str, node: &Node, wanted: &str, fix: &str) {
        let message = format!("expected {wanted}, found {}", node.value.type_name());
        self.note(key, &node.source, ProblemKind::WrongType, message, fix.to_owned());
    }

    fn out_of_range(&mut self, key: &str, source: &Source, shown: &str, least: &str, most: &str) {
        let message = format!("{} is out of range", quote(shown));
        self.note(key, source, ProblemKind::OutOfRange, message, format!("use a value from {least} to {most}"));
    }

    fn plain_path_of(&self, key: &str) -> String {
        unknown::without_numbers(&self.path_of(key))
    }

    fn report_unknown(&mut self) {
        for (key, node) in self.map {
            if !self.asked.contains(key) && !self.refused.contains(key) {
                let path = self.path_of(key);
                let problem = unknown::problem(&path, key, node, &self.asked, &self.context.known);
                self.context.problems.push(problem);
            }
        }
    }
}

fn not_a(what: &str, text: &str) -> String {
    let article = if what.starts_with('a') { "an" } else { "a" };
    format!("{} is not {article} {what}", quote(text))
}
