//! `remora rem import`: sends files to the sidecar, which splits and checks them.
//!
//! However it ends, it says how much is in: what was sent stays, and the same command again replaces it.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use http::Method;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};

use super::ask::{Failed, RemAt, ask};
use crate::rem::ingest::title_of;
use crate::store::rem::normalise;

/// Objects of one request, and their bytes: far below what a server takes by default. One that is larger goes alone.
const BATCH: usize = 100;
const BYTES: usize = 1 << 20;
/// How often the same is sent again when the server says that it is not the time, and the longest wait before.
const AGAIN: u32 = 10;
const LONGEST: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum To {
    Resources,
    Entities,
    Moments,
    Facts,
}

impl To {
    /// Edges are facts for people.
    fn path(self) -> &'static str {
        match self {
            Self::Resources => "/rem/v1/resources",
            Self::Entities => "/rem/v1/entities",
            Self::Moments => "/rem/v1/moments",
            Self::Facts => "/rem/v1/edges",
        }
    }

    fn of(name: &str) -> Option<Self> {
        match name {
            "resources" => Some(Self::Resources),
            "entities" => Some(Self::Entities),
            "moments" => Some(Self::Moments),
            "facts" | "edges" => Some(Self::Facts),
            _ => None,
        }
    }
}

#[derive(Args)]
pub(super) struct Import {
    /// Files: Markdown, text, or JSON lines. Markdown and text are known by their whole path: the same file again replaces what
    /// it brought before, if it is brought for the same readers (with or without --public).
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Table of JSON lines that name none.
    #[arg(long, value_enum, default_value = "resources")]
    table: To,
    /// For everybody of the tenant to see, not for this key only.
    #[arg(long)]
    public: bool,
    /// Category of what comes from Markdown and text, and of resources that have none.
    #[arg(long)]
    category: Option<String>,
    /// A tag for all of it; may be given several times.
    #[arg(long)]
    tag: Vec<String>,
    #[command(flatten)]
    at: RemAt,
}

/// What is sent in one request.
#[derive(Clone, Debug, PartialEq)]
struct Parcel {
    to: To,
    /// A document, or objects of lines.
    objects: Vec<Value>,
    /// Lines of the objects; empty for a document.
    lines: Vec<usize>,
}

/// What became of a file.
#[derive(Debug, PartialEq)]
struct Told {
    file: String,
    /// Objects that are in, were refused, and are there.
    sent: usize,
    refused: usize,
    all: usize,
    faults: Vec<String>,
}

impl Told {
    fn line(&self) -> String {
        let Self { file, sent, refused, all, .. } = self;
        let of = if sent + refused < *all { format!(" of {all}") } else { String::new() };
        format!("{file}: {sent}{of} {}", if *sent == 1 && of.is_empty() { "object" } else { "objects" })
    }
}

impl Import {
    pub(super) async fn run(self) -> Result<(), String> {
        let mut files = Vec::with_capacity(self.files.len());
        // All files are read before anything is sent: a name that is mistyped brings nothing in.
        for file in &self.files {
            let text = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
            let text = String::from_utf8(text).map_err(|_| {
                format!("{} is not UTF-8 text; Markdown, text and JSON lines can be imported", file.display())
            })?;
            files.push(self.parcels(file, text.trim_start_matches('\u{feff}'))?);
        }
        let mut told: Vec<Told> = self.files.iter().zip(&files).map(|(file, parcels)| begun(file, parcels)).collect();
        let bar = bar(u64::try_from(files.iter().map(Vec::len).sum::<usize>()).unwrap_or(u64::MAX));
        let ended = tokio::select! {
            // It is listened for before anything is sent.
            biased;
            _ = tokio::signal::ctrl_c() => Err("interrupted; what was under way may be in, too".to_owned()),
            ended = self.send_all(&files, &mut told, bar.as_ref()) => ended,
        };
        if let Some(bar) = &bar {
            bar.finish_and_clear();
        }
        for told in &told {
            if !self.at.json {
                println!("{}", told.line());
            }
            for fault in &told.faults {
                eprintln!("{}: {fault}", told.file);
            }
        }
        if self.at.json {
            let files: Vec<Value> = told
                .iter()
                .map(|told| json!({ "file": told.file, "objects": told.sent, "faults": told.faults }))
                .collect();
            println!("{}", json!({ "files": files }));
        }
        ended?;
        let failed = told.iter().any(|told| !told.faults.is_empty());
        if failed { Err("not everything was imported".to_owned()) } else { Ok(()) }
    }

    /// Sends everything in order. It ends early if nobody answers, or says again and again that it is not the time.
    async fn send_all(
        &self,
        files: &[Vec<Parcel>],
        told: &mut [Told],
        bar: Option<&ProgressBar>,
    ) -> Result<(), String> {
        for (parcels, told) in files.iter().zip(told) {
            if let Some(bar) = bar {
                bar.set_message(told.file.clone());
            }
            for parcel in parcels {
                match self.send(parcel).await {
                    Ok(()) => told.sent += parcel.objects.len(),
                    Err(failed) if failed.status.is_none() || failed.is_passing() => return Err(failed.text),
                    Err(failed) => {
                        told.refused += parcel.objects.len();
                        told.faults.push(complaint(parcel, &failed));
                    }
                }
                if let Some(bar) = bar {
                    bar.inc(1);
                }
            }
        }
        Ok(())
    }

    /// Sends a parcel, again if the server says so: the same again replaces what it brought.
    async fn send(&self, parcel: &Parcel) -> Result<(), Failed> {
        let body = Value::Array(parcel.objects.clone());
        let mut again = 0;
        loop {
            match ask(&self.at, Method::POST, parcel.to.path(), Some(&body)).await {
                Err(failed) if failed.is_passing() && again < AGAIN => {
                    again += 1;
                    let wait = failed.retry_after.unwrap_or(Duration::from_secs(1));
                    tokio::time::sleep(wait.min(LONGEST)).await;
                }
                done => return done.map(|_| ()),
            }
        }
    }

    fn parcels(&self, file: &Path, text: &str) -> Result<Vec<Parcel>, String> {
        let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
        match ending.as_str() {
            "jsonl" | "ndjson" => self.lines(file, text),
            "json" => {
                Err(format!("{}: JSON is read line by line; call it .jsonl, one object in each line", file.display()))
            }
            _ if text.trim().is_empty() => Err(format!("{} is empty", file.display())),
            ending => Ok(vec![self.document(file, text, matches!(ending, "md" | "markdown"))]),
        }
    }

    fn document(&self, file: &Path, text: &str, markdown: bool) -> Parcel {
        let mut object = Map::new();
        // The first heading of Markdown is its name, as the server reads it.
        let titled = || title_of(text).is_some_and(|title| !normalise(&title).is_empty());
        if let Some(name) = file.file_stem().filter(|_| !(markdown && titled())) {
            object.insert("name".to_owned(), name.to_string_lossy().into());
        }
        // Two files are two documents, wherever the command is run; one that is not there is none of ours to find.
        let whole = std::fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
        object.insert("uri".to_owned(), format!("file:{}", whole.display()).into());
        object.insert("content".to_owned(), text.into());
        object.insert("format".to_owned(), if markdown { "markdown" } else { "text" }.into());
        self.mark(To::Resources, &mut object);
        Parcel { to: To::Resources, objects: vec![Value::Object(object)], lines: Vec::new() }
    }

    fn lines(&self, file: &Path, text: &str) -> Result<Vec<Parcel>, String> {
        let mut parcels: Vec<Parcel> = Vec::new();
        let mut bytes = 0;
        for (number, line) in text.lines().enumerate() {
            let number = number + 1;
            if line.trim().is_empty() {
                continue;
            }
            let wrong = |what: &str| format!("{}, line {number}: {what}", file.display());
            let value: Value = serde_json::from_str(line).map_err(|error| wrong(&format!("not JSON: {error}")))?;
            let Value::Object(mut object) = value else { return Err(wrong("not an object")) };
            let to = match object.shift_remove("table") {
                None => self.table,
                Some(Value::String(name)) => To::of(&name).ok_or_else(|| {
                    wrong(&format!("there is no table `{name}` to import to: resources, entities, moments or facts"))
                })?,
                Some(_) => return Err(wrong("`table` must be a text")),
            };
            self.mark(to, &mut object);
            let object = Value::Object(object);
            let size = object.to_string().len() + 1;
            let takes = |parcel: &&mut Parcel| parcel.to == to && parcel.objects.len() < BATCH && bytes + size <= BYTES;
            match parcels.last_mut().filter(takes) {
                Some(parcel) => {
                    bytes += size;
                    parcel.objects.push(object);
                    parcel.lines.push(number);
                }
                None => {
                    bytes = size;
                    parcels.push(Parcel { to, objects: vec![object], lines: vec![number] });
                }
            }
        }
        if parcels.is_empty() {
            return Err(format!("{} has no object", file.display()));
        }
        Ok(parcels)
    }

    /// Adds what the command line says of everything. What a line says of itself stays.
    fn mark(&self, to: To, object: &mut Map<String, Value>) {
        // Edges have the owner of their source, and no tags.
        if to == To::Facts {
            return;
        }
        if self.public {
            object.entry("public").or_insert(true.into());
        }
        if let (To::Resources, Some(category)) = (to, &self.category) {
            object.entry("category").or_insert(category.as_str().into());
        }
        if !self.tag.is_empty()
            && let Value::Array(tags) = object.entry("tags").or_insert_with(|| Value::Array(Vec::new()))
        {
            tags.extend(self.tag.iter().map(|tag| Value::from(tag.as_str())));
        }
    }
}

/// Of a file nothing of which was sent yet.
fn begun(file: &Path, parcels: &[Parcel]) -> Told {
    let all = parcels.iter().map(|parcel| parcel.objects.len()).sum();
    Told { file: file.display().to_string(), sent: 0, refused: 0, all, faults: Vec::new() }
}

/// What is wrong with a parcel, and in which line.
fn complaint(parcel: &Parcel, failed: &Failed) -> String {
    let parameter = failed.problem.get("parameter").and_then(Value::as_str).unwrap_or_default();
    let index = parameter.strip_prefix('[').and_then(|rest| rest.split(']').next()?.parse::<usize>().ok());
    let line = index.and_then(|index| parcel.lines.get(index));
    let place = match (line, parcel.lines.first(), parcel.lines.last()) {
        (Some(line), _, _) => format!("line {line}: "),
        (None, Some(first), Some(last)) if first != last => format!("lines {first} to {last}: "),
        (None, Some(first), _) => format!("line {first}: "),
        (None, None, _) => String::new(),
    };
    let hint = failed.problem.get("hint").and_then(Value::as_str).map_or_else(String::new, |hint| format!("; {hint}"));
    let all = if parcel.lines.len() > 1 { " (none of the lines around it was taken)" } else { "" };
    format!("{place}{}{hint}{all}", failed.text)
}

fn bar(length: u64) -> Option<ProgressBar> {
    std::io::stderr().is_terminal().then(|| {
        let style = ProgressStyle::with_template("importing {bar:40} {pos}/{len}  {msg}");
        // A template that cannot be read would show the plain bar.
        ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use clap::Parser;
    use http::StatusCode;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        import: Import,
    }

    fn import(arguments: &[&str]) -> Import {
        Line::parse_from([&["import", "x"][..], arguments].concat()).import
    }

    #[test]
    fn a_document_is_sent_whole_with_what_the_command_line_says_of_it() {
        let import = import(&["--public", "--category", "meeting", "--tag", "q4", "--tag", "plan"]);
        let parcels = import.parcels(Path::new("a/notes.MD"), "# Notes\ntext").unwrap();
        let marked = json!({"uri": "file:a/notes.MD", "content": "# Notes\ntext", "format": "markdown", "public": true,
            "category": "meeting", "tags": ["q4", "plan"]});
        assert_eq!(parcels, [Parcel { to: To::Resources, objects: vec![marked], lines: vec![] }]);
        let text = &import.parcels(Path::new("notes.txt"), "# text").unwrap()[0].objects[0];
        assert_eq!((&text["name"], &text["format"]), (&json!("notes"), &json!("text")));
        let plain = &import.parcels(Path::new("notes.md"), "no heading").unwrap()[0].objects[0];
        assert_eq!(plain["name"], json!("notes"));
        // What looks like a heading in code is none, for the server as well.
        for text in ["```sh\n# run it\n```\n", "# - _\n"] {
            assert_eq!(import.parcels(Path::new("notes.md"), text).unwrap()[0].objects[0]["name"], json!("notes"));
        }
        assert!(import.parcels(Path::new("notes.txt"), " \n").unwrap_err().contains("is empty"));
        // One that is there has one name, however it is written; those of two folders have two.
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        let uri = |path: &Path| import.document(path, "x", false).objects[0]["uri"].as_str().unwrap().to_owned();
        for folder in ["a", "b"] {
            std::fs::create_dir(home.join(folder)).unwrap();
            std::fs::write(home.join(folder).join("notes.txt"), "x").unwrap();
        }
        assert_eq!(uri(&home.join("a/../a/notes.txt")), format!("file:{}", home.join("a/notes.txt").display()));
        assert_ne!(uri(&home.join("a/notes.txt")), uri(&home.join("b/notes.txt")));
        assert!(import.parcels(Path::new("notes.json"), "{}").unwrap_err().contains(".jsonl"));
    }

    #[test]
    fn lines_go_to_their_tables_in_order() {
        let import = import(&["--table", "entities", "--tag", "t", "--category", "c"]);
        let text = "{\"name\": \"a\"}\n\n{\"name\": \"b\", \"tags\": [\"own\"]}\n{\"table\": \"facts\", \"source\": \"a\"}\n\
                    {\"table\": \"resources\", \"name\": \"r\", \"category\": \"own\"}\n";
        let parcels = import.parcels(Path::new("x.jsonl"), text).unwrap();
        let shapes: Vec<_> = parcels.iter().map(|parcel| (parcel.to, parcel.lines.clone())).collect();
        assert_eq!(shapes, [(To::Entities, vec![1, 3]), (To::Facts, vec![4]), (To::Resources, vec![5])]);
        assert_eq!(
            parcels[0].objects,
            [json!({"name": "a", "tags": ["t"]}), json!({"name": "b", "tags": ["own", "t"]})]
        );
        assert_eq!(parcels[1].objects, [json!({"source": "a"})]);
        assert_eq!(parcels[2].objects, [json!({"name": "r", "category": "own", "tags": ["t"]})]);
        let many = "{\"name\": \"a\"}\n".repeat(BATCH + 1);
        assert_eq!(import.parcels(Path::new("x.ndjson"), &many).unwrap().len(), 2);
        let heavy = format!("{{\"name\": \"{}\"}}\n", "a".repeat(BYTES / 3)).repeat(4);
        let sizes = import.parcels(Path::new("x.ndjson"), &heavy).unwrap();
        assert_eq!(sizes.iter().map(|parcel| parcel.lines.clone()).collect::<Vec<_>>(), [[1, 2], [3, 4]]);
        for (text, says) in [
            ("{\"name\": 1}\nno\n", "line 2: not JSON"),
            ("[]", "line 1: not an object"),
            ("{\"table\": \"request\"}", "no table `request`"),
            ("\n", "no object"),
        ] {
            assert!(import.parcels(Path::new("x.jsonl"), text).unwrap_err().contains(says), "{text}");
        }
    }

    /// A server that refuses the first requests in this way; returns its address, and how often it was asked.
    async fn refusing(status: StatusCode, first: u32) -> (String, Arc<AtomicU32>) {
        let asked = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&asked);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            loop {
                let (mut caller, _) = listener.accept().await.unwrap();
                let mut read = Vec::new();
                // The body is a list, and nothing in front of it has such an end.
                while !read.ends_with(b"}]") {
                    assert_ne!(caller.read_buf(&mut read).await.unwrap(), 0);
                }
                let refused = counter.fetch_add(1, Ordering::SeqCst) < first;
                let status = if refused { status } else { StatusCode::CREATED };
                let head = format!(
                    "HTTP/1.1 {status}\r\nretry-after: 0\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{{}}"
                );
                caller.write_all(head.as_bytes()).await.unwrap();
            }
        });
        (url, asked)
    }

    #[tokio::test]
    async fn what_is_not_taken_now_is_sent_again_but_not_for_ever_and_what_is_in_is_told() {
        for (status, first, sent, asked) in [
            (StatusCode::TOO_MANY_REQUESTS, 3, 2, 5),
            (StatusCode::SERVICE_UNAVAILABLE, u32::MAX, 0, AGAIN + 1),
            (StatusCode::REQUEST_TIMEOUT, AGAIN, 2, AGAIN + 2),
            (StatusCode::BAD_REQUEST, 1, 1, 2),
        ] {
            let (url, count) = refusing(status, first).await;
            let import = import(&["--rem", &url]);
            let text = "{\"name\": \"a\"}\n{\"table\": \"entities\", \"name\": \"b\"}\n";
            let files = [import.parcels(Path::new("x.jsonl"), text).unwrap()];
            let mut told = [begun(Path::new("x.jsonl"), &files[0])];
            let ended = import.send_all(&files, &mut told, None).await;
            assert_eq!((told[0].sent, count.load(Ordering::SeqCst)), (sent, asked), "{status}");
            assert_eq!(ended.is_err(), sent == 0, "{status}");
            assert_eq!(told[0].line() == "x.jsonl: 0 of 2 objects", sent == 0, "{status}: {}", told[0].line());
        }
        let one = Told { file: "f".into(), sent: 1, refused: 1, all: 2, faults: Vec::new() };
        assert_eq!(one.line(), "f: 1 object");
    }

    #[test]
    fn a_refusal_names_the_line() {
        let parcel = Parcel { to: To::Entities, objects: vec![json!({}), json!({})], lines: vec![3, 5] };
        let failed = |parameter: &str| Failed {
            status: Some(StatusCode::BAD_REQUEST),
            text: "400: bad".into(),
            problem: json!({"parameter": parameter, "hint": "mend it"}),
            retry_after: None,
        };
        assert!(complaint(&parcel, &failed("[1].name")).starts_with("line 5: 400: bad; mend it"));
        assert!(complaint(&parcel, &failed("")).starts_with("lines 3 to 5: "));
    }
}
