//! Reads the JSON form: the same clauses as members, the same checks.

use serde_json::{Map, Value};

use super::super::query::range;
use super::super::{BatchStage, Code, Fault, Query, Sql, Start, guard};
use super::clause::{Kind, TYPES, What, nearest};
use super::draft::{Clause, Draft, short};
use super::scan::Said;
use super::{is_stage_name, parse, parse_stage, text};

/// A query on its own.
pub(super) fn query(value: &Value) -> Result<Query, Fault> {
    read(value, None)
}

/// The stages of a batch.
pub(super) fn batch(value: &Value) -> Result<Vec<BatchStage>, Fault> {
    let members = object(value, "a batch", "{\"stages\": [{\"name\": \"a\", \"query\": \"LOOKUP x\"}]}")?;
    known(members, &["stages"])?;
    let stages = match members.get("stages") {
        Some(Value::Array(stages)) if !stages.is_empty() && stages.len() <= range::STAGES => stages,
        Some(Value::Array(stages)) => {
            let detail = format!("a batch has 1 to {} stages, not {}", range::STAGES, stages.len());
            return Err(invalid("stages", detail).hint("send them in several batches"));
        }
        Some(other) => return Err(wrong_type("stages", "a list of stages", other)),
        None => return Err(Fault::new(Code::ParseError, "a batch needs stages").of("stages")),
    };
    let mut read_ones: Vec<BatchStage> = Vec::with_capacity(stages.len());
    for (number, stage) in stages.iter().enumerate() {
        let place = format!("stages[{number}]");
        let inside = |fault: Fault| {
            let parameter = fault.parameter.map_or_else(|| place.clone(), |member| format!("{place}.{member}"));
            Fault { parameter: Some(parameter), ..fault }
        };
        read_ones.push(stage_of(stage, &read_ones).map_err(inside)?);
    }
    Ok(read_ones)
}

fn stage_of(value: &Value, earlier: &[BatchStage]) -> Result<BatchStage, Fault> {
    let members = object(value, "a stage", "{\"name\": \"a\", \"query\": \"LOOKUP x\"}")?;
    let name = match members.get("name") {
        Some(Value::String(name)) => name.clone(),
        Some(other) => return Err(wrong_type("name", "a text", other)),
        None => return Err(Fault::new(Code::ParseError, "a stage needs a name").of("name").hint("as in \"people\"")),
    };
    if !is_stage_name(&name) {
        let detail = format!("`{}` cannot be the name of a stage", short(&name));
        return Err(invalid("name", detail).hint("letters, digits and _, no digit first, at most 64"));
    }
    if earlier.iter().any(|stage| stage.name == name) {
        return Err(invalid("name", format!("two stages are called `{name}`")).hint("give each its own name"));
    }
    let mut rest = members.clone();
    rest.shift_remove("name");
    Ok(BatchStage { query: read(&Value::Object(rest), Some(earlier))?, name })
}

/// `earlier` are the stages that the query may start at, if it is in a batch.
fn read(value: &Value, earlier: Option<&[BatchStage]>) -> Result<Query, Fault> {
    let example = "{\"query\": \"LOOKUP \\\"sarah chen\\\"\"} or {\"type\": \"lookup\", \"keys\": [\"sarah chen\"]}";
    let members = object(value, "a query", example)?;
    let query = match (members.get("query"), members.get("type")) {
        (Some(_), Some(_)) => {
            let fault = Fault::new(Code::ParseError, "a query is a text in `query` or typed by `type`, not both");
            return Err(fault.of("query").hint("a typed query says what it looks for in keys, text or key"));
        }
        (Some(Value::String(text)), None) => {
            known(members, &["query"])?;
            if earlier.is_some() { parse_stage(text) } else { parse(text) }
        }
        (Some(other), None) => Err(wrong_type("query", "a text", other)),
        (None, Some(Value::String(kind))) => typed(kind, members, earlier.is_some()),
        (None, Some(other)) => Err(wrong_type("type", "a text", other)),
        (None, None) => {
            known(members, &["query", "type"])?;
            Err(Fault::new(Code::ParseError, "there is no query").of("query").hint(format!("as in {example}")))
        }
    }?;
    let start = match &query {
        Query::Traverse(traverse) => Some(&traverse.start),
        _ => None,
    };
    let Some(Start::Stage(stage)) = start else { return Ok(query) };
    let names: Vec<&str> = earlier.unwrap_or_default().iter().map(|stage| stage.name.as_str()).collect();
    if names.contains(&stage.as_str()) {
        return Ok(query);
    }
    let fault = invalid("with", format!("there is no earlier stage `${stage}`"));
    Err(match nearest(stage, names.iter().copied()) {
        Some(close) => fault.hint(format!("did you mean ${close}?")),
        None if names.is_empty() => fault.hint("this is the first stage"),
        None => fault.hint(format!("the earlier ones are {}", names.join(", "))),
    })
}

fn typed(kind: &str, members: &Map<String, Value>, stages: bool) -> Result<Query, Fault> {
    let Some(kind) = Kind::of(kind) else {
        let fault = invalid("type", format!("`{}` is no type of query", short(kind)));
        let types = ["lookup", "fuzzy", "search", "traverse", "sql"];
        return Err(match nearest(&kind.to_lowercase(), types) {
            Some(close) => fault.hint(format!("did you mean {close}?")),
            None => fault.hint(format!("the types are {}", types.join(", "))),
        });
    };
    let size: usize = members.iter().map(|(name, value)| name.len() + weight(value)).sum();
    if size > range::QUERY_BYTES {
        let detail = format!("a query has at most {} bytes, and this one has {size}", range::QUERY_BYTES);
        return Err(Fault::new(Code::TooLarge, detail));
    }
    if kind == Kind::Sql && members.contains_key("sql") {
        known(members, &["type", "sql"])?;
        let statement = string("sql", members.get("sql").unwrap_or(&Value::Null))?;
        let of = |fault: Fault| fault.of("sql");
        return Ok(Query::Sql(Sql { text: guard::check(&statement).map_err(of)? }));
    }
    let mut draft = Draft::new(kind);
    for (name, value) in members {
        // Absent and null are the same to many clients.
        if name == "type" || value.is_null() {
            continue;
        }
        if name == "plan" && kind == Kind::Traverse {
            match value {
                Value::Bool(true) => draft.put(clause(What::Depth, name, vec![said("0".to_owned())]))?,
                Value::Bool(false) => {}
                other => return Err(wrong_type(name, "true or false", other)),
            }
            continue;
        }
        // `type` is taken by the type of the query, so the types of edges are `types` here.
        let Some(what) = kind.argument(name) else {
            return Err(unknown(name, &members_of(kind)));
        };
        if what == What::With {
            draft.put(clause(what, name, Vec::new()))?;
            draft.start = Some(start(name, value, stages)?);
            continue;
        }
        draft.put(clause(what, name, values(kind, what, name, value)?))?;
    }
    draft.build(None)
}

fn members_of(kind: Kind) -> Vec<&'static str> {
    let mut names = vec!["type"];
    names.extend(What::members(kind));
    match kind {
        Kind::Traverse => names.push("plan"),
        Kind::Sql => names.push("sql"),
        Kind::Lookup | Kind::Fuzzy | Kind::Search => {}
    }
    names
}

/// Bytes of the texts in it.
fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(weight).sum(),
        Value::Object(members) => members.iter().map(|(name, value)| name.len() + weight(value)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
    }
}

fn start(name: &str, value: &Value, stages: bool) -> Result<Start, Fault> {
    let inner = match value {
        Value::Object(_) => read(value, None),
        Value::String(text) => {
            if let Some(stage) = text.trim().strip_prefix('$') {
                if !is_stage_name(stage) || !stages {
                    let fault = invalid(name, format!("there is no stage `{}` here", short(text)));
                    return Err(fault.hint("stages belong to a batch, and are named as in $people"));
                }
                return Ok(Start::Stage(stage.to_owned()));
            }
            parse(text)
        }
        other => return Err(wrong_type(name, "a query", other)),
    };
    let inside = |fault: Fault| {
        let parameter = fault.parameter.map_or_else(|| name.to_owned(), |member| format!("{name}.{member}"));
        Fault { parameter: Some(parameter), ..fault }
    };
    match inner.map_err(inside)? {
        query @ (Query::Lookup(_) | Query::Fuzzy(_) | Query::Search(_)) => Ok(Start::Query(Box::new(query))),
        other => {
            let fault = invalid(name, format!("TRAVERSE cannot start at what a query of type {} finds", other.kind()));
            Err(fault.hint("it starts at a lookup, fuzzy or search"))
        }
    }
}

fn values(kind: Kind, what: What, name: &str, value: &Value) -> Result<Vec<Said>, Fault> {
    match what {
        What::Tables if kind == Kind::Sql => Ok(vec![said(string(name, value)?)]),
        What::Tables | What::Types => strings(name, value),
        What::Names if kind == Kind::Lookup => strings(name, value),
        What::Limit | What::Least | What::Depth | What::MinWeight => match value {
            Value::Number(number) => Ok(vec![said(number.to_string())]),
            other => Err(wrong_type(name, "a number", other)),
        },
        What::Order if kind == Kind::Traverse => {
            let text = string(name, value)?;
            Ok(text.split_whitespace().map(|word| said(word.to_owned())).collect())
        }
        _ => Ok(vec![said(string(name, value)?)]),
    }
}

fn clause(what: What, name: &str, values: Vec<Said>) -> Clause {
    Clause { what, of: name.to_owned(), at: None, values }
}

fn said(text: String) -> Said {
    Said { text, ..Said::default() }
}

fn string(name: &str, value: &Value) -> Result<String, Fault> {
    match value {
        Value::String(text) if text.contains('\0') => Err(text::no_nul().of(name)),
        Value::String(text) => Ok(text.clone()),
        other => Err(wrong_type(name, "a text", other)),
    }
}

/// A list of texts; one alone need not be in a list.
fn strings(name: &str, value: &Value) -> Result<Vec<Said>, Fault> {
    match value {
        Value::Array(items) => items.iter().map(|item| string(name, item).map(said)).collect(),
        Value::String(_) => Ok(vec![said(string(name, value)?)]),
        other => Err(wrong_type(name, "a list of texts", other)),
    }
}

fn invalid(name: &str, detail: impl Into<String>) -> Fault {
    Fault::new(Code::InvalidArgument, detail).of(name)
}

fn wrong_type(name: &str, wants: &str, found: &Value) -> Fault {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    invalid(name, format!("{} must be {wants}, not {found}", short(name)))
}

fn object<'a>(value: &'a Value, what: &str, example: &str) -> Result<&'a Map<String, Value>, Fault> {
    value.as_object().ok_or_else(|| {
        Fault::new(Code::ParseError, format!("{what} must be a JSON object")).hint(format!("as in {example}"))
    })
}

fn known(members: &Map<String, Value>, names: &[&'static str]) -> Result<(), Fault> {
    match members.keys().find(|name| !names.contains(&name.as_str())) {
        Some(name) => Err(unknown(name, names)),
        None => Ok(()),
    }
}

fn unknown(name: &str, names: &[&'static str]) -> Fault {
    let fault = invalid(&short(name), format!("there is no member `{}` here", short(name)));
    match nearest(&name.to_lowercase(), names.iter().copied()) {
        Some(close) => fault.hint(format!("did you mean {close}?")),
        None => fault.hint(format!("its members are {} ({TYPES})", names.join(", "))),
    }
}
