//! Tables and cells for people. Nothing here knows what is shown.

use serde_json::Value;

/// Longest cell, in characters; the last one of a row may be as long as it likes.
const LONGEST: usize = 60;

/// Rows under a head, aligned.
pub(super) struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
    /// Columns from here on are aligned on the right.
    numbers: usize,
}

impl Table {
    pub(super) fn new(head: &[&'static str]) -> Self {
        let head = head.iter().map(|name| (*name).to_owned()).collect();
        Self { head, rows: Vec::new(), numbers: usize::MAX }
    }

    /// A table whose columns from `numbers` on are amounts and counts.
    pub(super) fn with_numbers(head: Vec<String>, numbers: usize) -> Self {
        Self { head, rows: Vec::new(), numbers }
    }

    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The head and all rows, a line each.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let columns = self.head.len();
        let all = || std::iter::once(&self.head).chain(&self.rows);
        let width = |column: usize| all().filter_map(|row| row.get(column)).map(|cell| chars(cell)).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(|column| width(column).min(LONGEST)).collect();
        for row in all() {
            let cells = row.iter().enumerate().zip(&widths).map(|((column, cell), width)| {
                let cell = if column + 1 == columns { cell.clone() } else { cut(cell) };
                if column >= self.numbers { format!("{cell:>width$}") } else { format!("{cell:width$}") }
            });
            text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}

/// Names and what they are, a line each, aligned.
pub(super) fn members(members: &[(&str, String)]) -> String {
    let width = members.iter().map(|(name, _)| chars(name)).max().unwrap_or(0);
    members.iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
}

/// A time in milliseconds since 1970 as people write it, in UTC; `–` for none.
pub(super) fn time(value: Option<&Value>) -> String {
    let text = |ms: i64| Some(jiff::Timestamp::from_second(ms.div_euclid(1_000)).ok()?.to_string());
    value.and_then(Value::as_i64).and_then(text).unwrap_or_else(none)
}

/// A member as text, without quotes; `–` for none.
pub(super) fn text(value: &Value, member: &str) -> String {
    match value.get(member) {
        None | Some(Value::Null) => none(),
        Some(Value::String(text)) => clean(text),
        Some(Value::Array(items)) if items.is_empty() => none(),
        Some(Value::Array(items)) => {
            let item = |item: &Value| item.as_str().map_or_else(|| item.to_string(), clean);
            items.iter().map(item).collect::<Vec<_>>().join(", ")
        }
        Some(other) => other.to_string(),
    }
}

/// An amount of dollars to a millionth, from the member that has it in nano-dollars; `–` for none.
pub(super) fn usd(value: &Value, name: &str) -> String {
    let nano = value.get(format!("{name}_nano_usd").as_str()).and_then(Value::as_i64);
    nano.map_or_else(none, |nano| {
        // Half away from zero, as people round.
        let micro = (nano.unsigned_abs() + 500) / 1_000;
        let sign = if nano < 0 && micro > 0 { "-" } else { "" };
        format!("{sign}{}.{:06}", micro / 1_000_000, micro % 1_000_000)
    })
}

/// A part of a whole in percent; `None` of nothing.
pub(super) fn share(part: u64, whole: u64) -> Option<String> {
    #[expect(clippy::cast_precision_loss, reason = "a percentage has no such digits")]
    (whole > 0).then(|| format!("{:.1}", part as f64 / whole as f64 * 100.0))
}

/// What stands where there is nothing.
pub(super) fn none() -> String {
    "–".to_owned()
}

/// What came from elsewhere may not move the cursor of a terminal.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn cut(text: &str) -> String {
    if chars(text) <= LONGEST { text.to_owned() } else { text.chars().take(LONGEST - 1).chain(['…']).collect() }
}

fn chars(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_nothing_trails() {
        let mut table = Table::new(&["name", "usd", "for"]);
        table.row(vec!["m".into(), "500.00".into(), "all".into()]);
        table.row(vec!["größer".into(), "1".into(), String::new()]);
        assert_eq!(table.text(), "name    usd     for\nm       500.00  all\ngrößer  1\n");
    }

    #[test]
    fn amounts_are_rounded_to_a_millionth_and_nothing_is_not_less_than_nothing() {
        for (nano, shown) in [
            (0_i64, "0.000000"),
            (-499, "0.000000"),
            (-500, "-0.000001"),
            (1_999_999_500, "2.000000"),
            (i64::MAX, "9223372036.854776"),
            (i64::MIN, "-9223372036.854776"),
        ] {
            assert_eq!(usd(&json!({ "cost_nano_usd": nano }), "cost"), shown);
        }
        assert_eq!((usd(&json!({}), "cost"), share(1, 3), share(0, 0)), (none(), Some("33.3".to_owned()), None));
    }

    #[test]
    fn cells_have_no_control_characters_and_none_is_a_dash() {
        let row =
            json!({ "a": "x\u{1b}[2J", "list": ["p", 1], "empty": [], "null": null, "ms": 1_793_491_200_999_i64 });
        assert_eq!(text(&row, "a"), "x [2J");
        assert_eq!((text(&row, "list"), text(&row, "empty")), ("p, 1".to_owned(), none()));
        assert_eq!((text(&row, "null"), text(&row, "gone"), time(row.get("gone"))), (none(), none(), none()));
        assert_eq!(time(row.get("ms")), "2026-11-01T00:00:00Z");
    }
}
