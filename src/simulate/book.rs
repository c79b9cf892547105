//! Answers by the book: what is said to questions that are listed in a file, instead of an answer made up from the question.
//!
//! A made-up answer names its question, so no two wordings of a question have the same one. That shows which question an
//! answer belongs to, and would show a semantic cache that its every hit was wrong. A model answers by what was meant; the book
//! says what that is.
//!
//! The file is JSON lines, `{"question": "…", "answer": "…"}`; a question is the whole last user message. `{context}` in an answer
//! becomes a digest of what came before that message, so that an answer from another conversation can be seen.

use std::collections::HashMap;

use serde::Deserialize;

use super::request::ChatRequest;

/// What stands for the digest.
const CONTEXT: &str = "{context}";
/// Hexadecimal digits of it.
const DIGITS: usize = 8;

/// Answers by question.
#[derive(Debug, Default)]
pub(super) struct Book(HashMap<String, String>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    question: String,
    answer: String,
}

impl Book {
    /// Reads the text of a book.
    ///
    /// # Errors
    /// The first line that is not an entry, for a person to read.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut answers = HashMap::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let Line { question, answer } =
                serde_json::from_str(line).map_err(|error| format!("line {}: {error}", number + 1))?;
            answers.insert(question, answer);
        }
        Ok(Self(answers))
    }

    /// The listed answer to the last user message.
    pub(super) fn answer(&self, request: &ChatRequest<'_>) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        let answer = self.0.get(request.question().as_ref())?;
        if !answer.contains(CONTEXT) {
            return Some(answer.clone());
        }
        let digest = request.context().to_hex();
        Some(answer.replace(CONTEXT, digest.get(..DIGITS).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(book: &Book, messages: &str) -> Option<String> {
        let body = format!(r#"{{"model":"m","messages":[{messages}]}}"#);
        book.answer(&ChatRequest::parse(body.as_bytes()).unwrap())
    }

    #[test]
    fn a_listed_question_gets_its_answer_and_any_other_none() {
        let book = Book::parse("{\"question\":\"Where is my card?\",\"answer\":\"On its way.\"}\n\n").unwrap();
        assert_eq!(ask(&book, r#"{"role":"user","content":"Where is my card?"}"#).as_deref(), Some("On its way."));
        assert_eq!(ask(&book, r#"{"role":"user","content":"Where is my card"}"#), None);
    }

    #[test]
    fn the_digest_is_of_what_came_before_the_question() {
        let book = Book::parse(r#"{"question":"q","answer":"a {context}"}"#).unwrap();
        let of = |system: &str| {
            let said = format!(r#"{{"role":"system","content":"{system}"}},{{"role":"user","content":"q"}}"#);
            ask(&book, &said).unwrap()
        };
        assert_eq!((of("x"), of("x").len()), (of("x"), "a ".len() + DIGITS));
        assert_ne!(of("x"), of("y"));
    }

    #[test]
    fn a_line_that_is_no_entry_is_named() {
        let told = Book::parse("{\"question\":\"q\",\"answer\":\"a\"}\n{\"question\":\"q\"}").unwrap_err();
        assert!(told.starts_with("line 2: "), "{told}");
    }
}
