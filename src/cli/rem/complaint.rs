//! What is wrong with a query, with a mark under the place.

use serde_json::Value;

use super::ask::Failed;

/// Longest piece of a query that is shown.
const SHOWN: usize = 100;

/// What is wrong, where in the query, and the advice.
pub(super) fn text(query: &str, failed: &Failed) -> String {
    let mut text = failed.text.clone();
    let position = failed.problem.get("position").and_then(Value::as_u64);
    if let Some((line, mark)) = position.and_then(|at| usize::try_from(at).ok()).and_then(|at| marked(query, at)) {
        text.push_str(&format!("\n  {line}\n  {mark}"));
    }
    if let Some(hint) = failed.problem.get("hint").and_then(Value::as_str) {
        text.push_str(&format!("\n  {hint}"));
    }
    text
}

/// The line of the query with this character, and one with a mark under it; `None` if there is no such character.
pub(super) fn marked(query: &str, at: usize) -> Option<(String, String)> {
    let letters: Vec<char> = query.chars().collect();
    if at > letters.len() || letters.is_empty() {
        return None;
    }
    let before = letters.get(..at)?;
    let start = before.iter().rposition(|letter| *letter == '\n').map_or(0, |at| at + 1);
    // Of a long line, what is around the place.
    let start = start.max(at.saturating_sub(SHOWN / 2));
    let shown = letters.iter().skip(start).take_while(|letter| **letter != '\n').take(SHOWN);
    let line: String = shown.map(|letter| if letter.is_control() { ' ' } else { *letter }).collect();
    Some((line, format!("{}^", " ".repeat(at - start))))
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_mark_is_under_the_character() {
        let problem =
            json!({"code": "parse_error", "detail": "the quote \" is not closed", "position": 10, "hint": "close it"});
        let status = Some(StatusCode::BAD_REQUEST);
        let failed = Failed { status, text: "400 Bad Request: x".into(), problem, retry_after: None };
        let query = "LOOKUP 東, \"unclosed";
        assert_eq!(text(query, &failed), "400 Bad Request: x\n  LOOKUP 東, \"unclosed\n            ^\n  close it");
        assert_eq!(marked("a\nbc\td", 4), Some(("bc d".to_owned(), "  ^".to_owned())));
        assert_eq!(marked("ab", 2), Some(("ab".to_owned(), "  ^".to_owned())), "at the end");
        assert_eq!((marked("ab", 3), marked("", 0)), (None, None));
        let (line, mark) = marked(&format!("{}X{}", "a".repeat(500), "b".repeat(500)), 500).unwrap();
        assert_eq!(line.chars().nth(mark.len() - 1), Some('X'));
        assert_eq!(line.chars().count(), SHOWN);
    }
}
