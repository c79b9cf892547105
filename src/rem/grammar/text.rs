//! Reads the text form, by recursive descent: a type, what it is about, and clauses in any order.

use super::super::query::range;
use super::super::{Code, Fault, Query, Sql, Start, guard};
use super::clause::{Kind, Shape, TYPES, What, nearest};
use super::draft::{Clause, Draft, short};
use super::scan::{Said, Scan};
use crate::store::rem::VIEWS;

/// Words after which a condition goes on with an operand.
const OPERATORS: [&str; 9] = ["and", "or", "not", "like", "ilike", "between", "is", "escape", "collate"];

/// Reads a query; `stages` says whether it may start at a stage of a batch.
pub(super) fn read(text: &str, stages: bool) -> Result<Query, Fault> {
    if text.len() > range::QUERY_BYTES {
        let detail = format!("a query has at most {} bytes, and this one has {}", range::QUERY_BYTES, text.len());
        return Err(Fault::new(Code::TooLarge, detail).of("query"));
    }
    if let Some(at) = text.chars().position(|letter| letter == '\0') {
        return Err(no_nul().at(at));
    }
    let mut reader = Reader { scan: Scan::new(text), stages };
    reader.scan.blanks();
    let from = reader.scan.at();
    if reader.scan.ended() {
        return Err(Fault::new(Code::ParseError, "the query is empty").at(from).hint(TYPES));
    }
    let word = reader.scan.name();
    if selects(&word) {
        return statement(text, from);
    }
    let Some(kind) = Kind::of(&word) else {
        reader.scan.go_to(from);
        let word = reader.scan.word(false);
        let fault = Fault::new(Code::ParseError, format!("`{}` is no type of query", short(&word))).at(from);
        let types = ["LOOKUP", "GET", "FUZZY", "SEARCH", "TRAVERSE", "SQL", "SELECT"];
        return Err(match nearest(&word.to_uppercase(), types) {
            Some(close) => fault.hint(format!("did you mean {close}? {TYPES}")),
            None => fault.hint(TYPES),
        });
    };
    reader.scan.blanks();
    let body = reader.scan.at();
    if kind == Kind::Sql && !reader.at_table() {
        return statement(text, body);
    }
    let draft = reader.clauses(kind, None)?;
    draft.build(Some(reader.scan.at()))
}

/// No database keeps such a text.
pub(super) fn no_nul() -> Fault {
    Fault::new(Code::InvalidArgument, "the character NUL cannot be part of a query").hint("take it out")
}

fn selects(word: &str) -> bool {
    word.eq_ignore_ascii_case("select") || word.eq_ignore_ascii_case("with")
}

/// A whole statement, from this character on.
fn statement(text: &str, from: usize) -> Result<Query, Fault> {
    let statement: String = text.chars().skip(from).collect();
    let checked = guard::check(&statement);
    let text = checked.map_err(|fault| Fault { position: fault.position.map(|at| at + from), ..fault })?;
    Ok(Query::Sql(Sql { text }))
}

/// Whether `plan=` says yes.
fn planned(values: &[Said]) -> Result<bool, Fault> {
    let said = values.first().cloned().unwrap_or_default();
    match said.text.to_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => {
            let detail = format!("plan must be true or false, not `{}`", short(&said.text));
            let fault = Fault::new(Code::InvalidArgument, detail).of("plan").hint("as in plan=true");
            Err(match said.at {
                Some(at) => fault.at(at),
                None => fault,
            })
        }
    }
}

/// A clause that begins at the next word.
struct Next {
    what: What,
    /// The value, if the keyword is one by itself.
    flag: Option<&'static str>,
    /// `name=value`
    argument: bool,
    /// `plan=true`, which says a depth.
    plan: bool,
    /// Where what follows it begins.
    body: usize,
}

struct Reader {
    scan: Scan,
    stages: bool,
}

impl Reader {
    /// The clause of this type that begins here, if one does. Nothing is read.
    fn next(&mut self, kind: Kind) -> Option<Next> {
        let from = self.scan.at();
        let next = self.look(kind);
        self.scan.go_to(from);
        next
    }

    fn look(&mut self, kind: Kind) -> Option<Next> {
        let name = self.scan.name();
        let close = self.scan.at();
        let bounded = self.scan.peek().is_none_or(|letter| letter.is_whitespace() || "\"'=(".contains(letter));
        if name.is_empty() || !bounded {
            return None;
        }
        let keyword = kind.keyword(&name);
        self.scan.blanks();
        let assigned = self.scan.peek() == Some('=') && self.scan.ahead(1) != Some('=');
        if assigned {
            let plan = kind == Kind::Traverse && name.eq_ignore_ascii_case("plan");
            let said = if plan { Some(What::Depth) } else { kind.argument(&name) };
            let what = said.or(keyword.filter(|(_, flag)| flag.is_none()).map(|(what, _)| what))?;
            return Some(Next { what, flag: None, argument: true, plan, body: self.scan.at() + 1 });
        }
        let (what, flag) = keyword?;
        if what == What::Order {
            let by = self.scan.name();
            let close = self.scan.at();
            return by.eq_ignore_ascii_case("by").then_some(Next {
                what,
                flag,
                argument: false,
                plan: false,
                body: close,
            });
        }
        Some(Next { what, flag, argument: false, plan: false, body: close })
    }

    /// Whether SQL's short form stands here, or nothing: everything else is a statement, and the guard says what is wrong with it.
    /// `DELETE FROM x` is not a table `DELETE` with a clause: whoever writes it must be told that nothing may be changed.
    fn at_table(&mut self) -> bool {
        let from = self.scan.at();
        let begins = self.scan.ended() || self.at_clause(Kind::Sql, None);
        let name = self.scan.name().to_lowercase();
        self.scan.blanks();
        let alone = !name.is_empty() && (self.scan.ended() || self.at_clause(Kind::Sql, None));
        self.scan.go_to(from);
        begins || (alone && !selects(&name) && !guard::writes(&name)) || VIEWS.iter().any(|(view, _)| *view == name)
    }

    /// Whether a clause of one of these types begins here.
    fn at_clause(&mut self, kind: Kind, outer: Option<Kind>) -> bool {
        self.next(kind).is_some() || outer.is_some_and(|outer| self.next(outer).is_some())
    }

    /// What follows the type. Inside of another query, it ends where a clause of that one begins.
    fn clauses(&mut self, kind: Kind, outer: Option<Kind>) -> Result<Draft, Fault> {
        let mut draft = Draft::new(kind);
        let mut leading = None;
        self.scan.blanks();
        if !self.scan.ended() && !self.at_clause(kind, outer) {
            let at = Some(self.scan.at());
            let (what, values) = match kind {
                Kind::Lookup | Kind::Traverse => (What::Names, self.names(kind, outer)?),
                Kind::Fuzzy | Kind::Search => (What::Names, vec![self.text(kind, outer, false)?]),
                Kind::Sql => (What::Tables, vec![self.word(false)?]),
            };
            let clause = Clause { what, of: what.parameter(kind).to_owned(), at, values };
            if kind == Kind::Traverse { leading = Some(clause) } else { draft.put(clause)? }
        }
        loop {
            self.scan.blanks();
            if self.scan.ended() {
                break;
            }
            let outside = outer.is_some_and(|outer| self.next(outer).is_some());
            match self.next(kind) {
                Some(next) if !(outside && draft.has(next.what)) => self.clause(kind, outer, &next, &mut draft)?,
                _ if outside => break,
                _ => return Err(self.unknown(kind)),
            }
        }
        if let Some(mut clause) = leading {
            // `TRAVERSE types WITH …`
            if draft.start.is_some() {
                clause.what = What::Types;
                clause.of = What::Types.parameter(kind).to_owned();
            }
            draft.put(clause)?;
        }
        Ok(draft)
    }

    fn clause(&mut self, kind: Kind, outer: Option<Kind>, next: &Next, draft: &mut Draft) -> Result<(), Fault> {
        let at = self.scan.at();
        self.scan.go_to(next.body);
        self.scan.blanks();
        let what = next.what;
        let of = if next.plan { "plan" } else { what.parameter(kind) }.to_owned();
        if let Some(flag) = next.flag {
            let values = vec![Said { text: flag.to_owned(), at: Some(at), ..Said::default() }];
            return draft.put(Clause { what, of, at: Some(at), values });
        }
        // A condition may begin with a column that is called as a clause, `category = 'x'`.
        let open = next.argument || matches!(what.shape(), Shape::Order | Shape::Condition);
        if self.scan.ended() || (!open && self.at_clause(kind, outer)) {
            let fault = Fault::new(Code::ParseError, format!("nothing follows {of}")).at(self.scan.at()).of(of);
            return Err(fault.hint("a value that is a word of the grammar must be quoted"));
        }
        if what == What::With {
            draft.put(Clause { what, of, at: Some(at), values: Vec::new() })?;
            draft.start = Some(self.start(kind)?);
            return Ok(());
        }
        let values = match what.shape() {
            Shape::Text if next.argument && kind == Kind::Lookup => self.words()?,
            Shape::Text if next.argument => vec![self.word(false)?],
            Shape::Text => vec![self.text(kind, outer, kind == Kind::Traverse && what == What::Names)?],
            Shape::Words => self.words()?,
            Shape::Condition => vec![self.condition(kind, outer)?],
            Shape::Order => self.order(kind)?,
            Shape::Word | Shape::Query => vec![self.word(false)?],
        };
        let values = match next.plan {
            false => values,
            true if planned(&values)? => vec![Said { text: "0".to_owned(), at: Some(at), ..Said::default() }],
            true => return Ok(()),
        };
        let clause = Clause { what, of, at: Some(at), values };
        if what == What::Tables {
            // At once: `in` in the midst of bare words is told before what follows it.
            clause.tables()?;
        }
        draft.put(clause)
    }

    /// `$stage`, or a query inside of this one.
    fn start(&mut self, kind: Kind) -> Result<Start, Fault> {
        let at = self.scan.at();
        if self.scan.take('$') {
            let name = self.scan.name();
            if !super::is_stage_name(&name) {
                let fault = Fault::new(Code::ParseError, "the name of a stage must follow the `$`").at(at);
                return Err(fault.of("with").hint("as in WITH $people"));
            }
            if !self.stages {
                let fault = Fault::new(Code::InvalidArgument, format!("there is no stage `${name}` here")).at(at);
                return Err(fault.of("with").hint("stages belong to a batch: POST /rem/v1/batch"));
            }
            return Ok(Start::Stage(name));
        }
        let word = self.scan.name();
        match Kind::of(&word) {
            Some(inner @ (Kind::Lookup | Kind::Fuzzy | Kind::Search)) => {
                let draft = self.clauses(inner, Some(kind))?;
                Ok(Start::Query(Box::new(draft.build(Some(self.scan.at()))?)))
            }
            _ => {
                self.scan.go_to(at);
                let word = self.scan.word(false);
                let fault = Fault::new(Code::ParseError, format!("WITH takes no `{}`", short(&word))).at(at);
                Err(fault.of("with").hint("a LOOKUP, FUZZY or SEARCH follows it, or the name of a stage as in $people"))
            }
        }
    }

    /// Keys with commas between them.
    fn names(&mut self, kind: Kind, outer: Option<Kind>) -> Result<Vec<Said>, Fault> {
        let mut names = Vec::new();
        loop {
            self.scan.blanks();
            names.push(self.text(kind, outer, true)?);
            self.scan.blanks();
            if !self.scan.take(',') {
                return Ok(names);
            }
        }
    }

    /// Single words or quoted texts with commas between them.
    fn words(&mut self) -> Result<Vec<Said>, Fault> {
        let mut words = Vec::new();
        loop {
            self.scan.blanks();
            words.push(self.word(true)?);
            self.scan.blanks();
            if !self.scan.take(',') {
                return Ok(words);
            }
        }
    }

    fn word(&mut self, to_comma: bool) -> Result<Said, Fault> {
        if self.scan.at_quote() {
            return self.scan.quoted();
        }
        let at = self.scan.at();
        let text = self.scan.word(to_comma);
        if text.is_empty() {
            return Err(Fault::new(Code::ParseError, "a word is missing").at(at).hint("there is one comma too many"));
        }
        Ok(Said { text, at: Some(at), ..Said::default() })
    }

    /// A quoted text, or bare words up to a clause, and to a comma if that is asked for.
    fn text(&mut self, kind: Kind, outer: Option<Kind>, to_comma: bool) -> Result<Said, Fault> {
        if self.scan.at_quote() {
            return self.scan.quoted();
        }
        let from = self.scan.at();
        let mut end = from;
        loop {
            self.scan.blanks();
            let stop = self.scan.ended() || (to_comma && self.scan.peek() == Some(','));
            if stop || self.at_clause(kind, outer) {
                break;
            }
            self.bare(kind, outer, end == from)?;
            self.scan.word(to_comma);
            end = self.scan.at();
        }
        if end == from {
            let fault = Fault::new(Code::ParseError, "a text is missing").at(from).of(What::Names.parameter(kind));
            return Err(fault.hint("a text that is a word of the grammar must be quoted"));
        }
        Ok(Said { text: self.scan.between(from, end), at: Some(from), ..Said::default() })
    }

    /// Refuses words of a bare text that were hardly meant to be part of it: nothing is dropped, and nothing is swallowed.
    fn bare(&mut self, kind: Kind, outer: Option<Kind>, first: bool) -> Result<(), Fault> {
        let at = self.scan.at();
        if self.scan.at_quote() && !first {
            let fault = Fault::new(Code::ParseError, "a quote begins in the midst of bare words").at(at);
            return Err(fault.hint("put the whole text in quotes, or a comma between two keys"));
        }
        let name = self.scan.name();
        let assigned = self.scan.peek() == Some('=') && !name.is_empty();
        let ended = self.scan.peek().is_none_or(|letter| letter.is_whitespace() || letter == ',');
        self.scan.go_to(at);
        if assigned && !name.starts_with(|letter: char| letter.is_numeric()) {
            return Err(self.unknown(kind));
        }
        let capitals = ended && !first && name.len() > 3 && name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
        if capitals {
            let close = kind.close_to(&name).or_else(|| outer.and_then(|outer| outer.close_to(&name)));
            if kind.foreign(&name).is_some() || (name.len() > 4 && close.is_some()) {
                return Err(self.unknown(kind));
            }
        }
        Ok(())
    }

    /// What stands here is no clause of this type.
    fn unknown(&mut self, kind: Kind) -> Fault {
        let at = self.scan.at();
        let word = self.scan.name();
        if word.is_empty() {
            let rest = self.scan.word(false);
            self.scan.go_to(at);
            let fault = Fault::new(Code::ParseError, format!("`{}` cannot stand here", short(&rest))).at(at);
            return fault.hint(format!(
                "{} takes clauses here: {}; a text with other signs must be quoted",
                kind.as_str(),
                kind.clause_names()
            ));
        }
        self.scan.go_to(at);
        let detail = format!("{} has no clause `{}`", kind.as_str(), short(&word));
        let fault = Fault::new(Code::ParseError, detail).at(at).of(short(&word));
        let advice = "a text with such a word in it must be quoted";
        if let Some(close) = kind.close_to(&word) {
            return fault.hint(format!("did you mean {close}? {advice}"));
        }
        match kind.foreign(&word.to_ascii_uppercase()) {
            Some(other) => fault.hint(format!("{} has it; {advice}", other.as_str())),
            None => fault.hint(format!("its clauses are {}; {advice}", kind.clause_names())),
        }
    }

    /// `depth DESC`, or for SQL all up to the next clause.
    fn order(&mut self, kind: Kind) -> Result<Vec<Said>, Fault> {
        if self.scan.at_quote() && kind != Kind::Sql {
            let said = self.scan.quoted()?;
            let words = said.text.split_whitespace();
            return Ok(words.map(|word| Said { text: word.to_owned(), at: said.at, ..Said::default() }).collect());
        }
        if kind == Kind::Sql {
            return Ok(vec![self.condition(kind, None)?]);
        }
        let mut words = vec![self.word(false)?];
        self.scan.blanks();
        let at = self.scan.at();
        let way = self.scan.word(false);
        if way.eq_ignore_ascii_case("asc") || way.eq_ignore_ascii_case("desc") {
            words.push(Said { text: way, at: Some(at), ..Said::default() });
        } else {
            self.scan.go_to(at);
        }
        Ok(words)
    }

    /// A condition: quoted as a whole, or bare up to the next clause. A clause cannot begin where an operand must follow or
    /// inside of parentheses, so columns may be called as clauses are.
    fn condition(&mut self, kind: Kind, outer: Option<Kind>) -> Result<Said, Fault> {
        let from = self.scan.at();
        if self.scan.at_quote() {
            let said = self.scan.quoted()?;
            self.scan.blanks();
            let operator = {
                let at = self.scan.at();
                let name = self.scan.name().to_lowercase();
                self.scan.blanks();
                let in_list = name == "in" && self.scan.peek() == Some('(');
                self.scan.go_to(at);
                in_list || OPERATORS.contains(&name.as_str())
            };
            if self.scan.ended() || (!operator && self.at_clause(kind, outer)) {
                return Ok(Said { at: Some(from + 1), ..said });
            }
            self.scan.go_to(from);
        }
        let (mut end, mut operand, mut depth) = (from, true, 0_usize);
        loop {
            self.scan.blanks();
            let Some(letter) = self.scan.peek() else { break };
            if letter == '\'' || letter == '"' {
                self.sql_quote(letter)?;
                operand = false;
            } else if letter.is_alphanumeric() || letter == '_' {
                let at = self.scan.at();
                let name = self.scan.name().to_lowercase();
                self.scan.blanks();
                let list = name == "in" && self.scan.peek() == Some('(');
                let operator = list || OPERATORS.contains(&name.as_str());
                self.scan.go_to(at);
                if !operand && depth == 0 && !operator && self.at_clause(kind, outer) {
                    break;
                }
                self.scan.name();
                operand = operator;
            } else {
                self.scan.step();
                depth = match letter {
                    '(' => depth + 1,
                    ')' => depth.saturating_sub(1),
                    _ => depth,
                };
                operand = letter != ')';
            }
            end = self.scan.at();
        }
        self.scan.go_to(end);
        Ok(Said { text: self.scan.between(from, end), at: Some(from), ..Said::default() })
    }

    /// Goes past a quoted text as SQL writes it: a quote in it is doubled, and a backslash is a character.
    fn sql_quote(&mut self, quote: char) -> Result<(), Fault> {
        let from = self.scan.at();
        self.scan.step();
        loop {
            match self.scan.peek() {
                None => {
                    let fault = Fault::new(Code::ParseError, format!("the quote {quote} is not closed")).at(from);
                    return Err(fault.hint(format!("put another {quote} where the text ends")));
                }
                Some(letter) if letter == quote => {
                    self.scan.step();
                    if self.scan.peek() != Some(quote) {
                        return Ok(());
                    }
                    self.scan.step();
                }
                Some(_) => self.scan.step(),
            }
        }
    }
}
