//! The tools: what a model is told of them, and what they do.

use std::sync::Arc;
use std::time::Instant;

use rmcp::handler::server::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, Implementation, JsonObject, ListToolsResult,
    PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool, ToolAnnotations,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer};
use serde_json::{Value, json};

use crate::rem::GRAMMAR;
use crate::rem::http::{Problem, Shared, batch, query};
use crate::rem::query::range;
use crate::rem::schema::{EXAMPLES, TYPES, document};
use crate::store::rem::Scope;

/// Said to a model before it sees the tools.
const INSTRUCTIONS: &str = "Remora keeps what was asked of language models through it and what they answered, with documents, \
     people, things and events that users have added. Find an entry point by name (LOOKUP), by a name that may be misspelt \
     (FUZZY) or by meaning (SEARCH); then walk from it along edges (TRAVERSE). Count and add up with SQL over `requests`. Call \
     rem_schema once to see the tables and their columns. You see what the API key of this connection may see.";

/// Answers the messages of one request.
pub(super) struct Tools {
    shared: Shared,
}

impl Tools {
    pub(super) fn new(shared: Shared) -> Self {
        Self { shared }
    }

    async fn run(&self, tool: &str, arguments: &Value, scope: &Scope) -> Option<CallToolResult> {
        let began = Instant::now();
        let (kind, answered) = match tool {
            "rem_query" => {
                let (kind, answered) = query(&self.shared, scope, arguments).await;
                (kind, answered.map(|answer| json!(answer)).map_err(Problem::from))
            }
            "rem_batch" => {
                let answered = batch(&self.shared, scope, arguments).await;
                let told = answered.map_err(|(stage, fault)| match stage {
                    Some(stage) => Problem::from(fault).in_stage(stage),
                    None => fault.into(),
                });
                ("batch", told)
            }
            "rem_schema" => ("schema", Ok(document())),
            _ => return None,
        };
        let status = answered.as_ref().map_or_else(Problem::code, |_| "ok");
        self.shared.metrics.rem.count(kind, status, began.elapsed());
        Some(match answered {
            Ok(value) => CallToolResult::structured(value),
            // The model reads it and mends what it has written.
            Err(problem) => CallToolResult::structured_error(problem.document()),
        })
    }
}

impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools().build();
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new("remora", env!("CARGO_PKG_VERSION")))
            .with_instructions(INSTRUCTIONS)
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        all().into_iter().find(|tool| tool.name == name)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(all()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        // Who asks was found out from the headers of this very message.
        let parts = context.extensions.get::<http::request::Parts>();
        let Some(scope) = parts.and_then(|parts| parts.extensions.get::<Scope>()) else {
            return Err(ErrorData::internal_error("the message came without a caller", None));
        };
        let arguments = Value::Object(request.arguments.unwrap_or_default());
        match self.run(&request.name, &arguments, scope).await {
            Some(result) => Ok(result.into()),
            None => {
                let text =
                    format!("there is no tool `{}`; there are rem_query, rem_batch and rem_schema", request.name);
                Err(ErrorData::invalid_params(text, None))
            }
        }
    }
}

/// The three tools.
fn all() -> Vec<Tool> {
    let query_text = json!({
        "type": "string",
        "minLength": 1,
        "maxLength": range::QUERY_BYTES,
        "description": "A query, as in LOOKUP \"sarah chen\"",
    });
    let one = json!({
        "type": "object",
        "properties": { "query": query_text },
        "required": ["query"],
        "additionalProperties": false,
    });
    let stage = json!({
        "type": "object",
        "properties": {
            "name": {
                "type": "string",
                "pattern": "^[A-Za-z_][A-Za-z0-9_]*$",
                "description": "By which later stages refer to it, as in $a",
            },
            "query": query_text,
        },
        "required": ["name", "query"],
        "additionalProperties": false,
    });
    let many = json!({
        "type": "object",
        "properties": {
            "stages": { "type": "array", "minItems": 1, "maxItems": range::STAGES, "items": stage },
        },
        "required": ["stages"],
        "additionalProperties": false,
    });
    let none = json!({ "type": "object", "properties": {}, "additionalProperties": false });
    vec![
        tool("rem_query", "Ask Remora", ask(), one),
        tool("rem_batch", "Ask Remora in steps", BATCH.to_owned(), many),
        tool("rem_schema", "What Remora knows", SCHEMA.to_owned(), none),
    ]
}

/// What a model must know to write a query.
fn ask() -> String {
    let types = TYPES.map(|(kind, means)| format!("{kind}: {means}")).join("\n");
    format!("{ASK}\n\n{types}\n\n{GRAMMAR}\n\nExamples:\n{}", EXAMPLES.join("\n"))
}

const ASK: &str = "Answers one query over resources (documents, and answers of language models), entities (people, models, things), \
     moments (sessions, meetings, incidents), the edges between them, and requests. Gives rows in `results`, best first, each with its \
     table, name and data; names that were not found in `missing`, with names spelt alike in `suggestions`; what can be walked in \
     `edge_summary`. A query that is wrong is answered with `code`, `detail`, `position` and `hint`: mend it and ask again.";
const BATCH: &str = "Answers several queries in order, in one call. A TRAVERSE may start where an earlier stage has ended: stages \
     [{\"name\": \"a\", \"query\": \"SEARCH \\\"refunds\\\"\"}, {\"name\": \"b\", \"query\": \"TRAVERSE WITH $a DEPTH 1\"}]. The grammar is that of \
     rem_query. The first stage that is wrong ends the batch, and is named in `stage`.";
const SCHEMA: &str = "Tells the tables with their columns and types, which of them are searched by meaning, the types of edges, the grammar, \
     the ranges of all numbers, and the functions that SQL may use. Call it before writing WHERE or SQL.";

fn tool(name: &'static str, title: &str, description: String, schema: Value) -> Tool {
    let schema = if let Value::Object(members) = schema { members } else { JsonObject::default() };
    let hints = ToolAnnotations::new().read_only(true).idempotent(true).open_world(false);
    Tool::new(name, description, Arc::new(schema)).with_title(title).with_annotations(hints)
}
