//! The real program as a child process: its own directory, its own ports, its log lines, and a client to talk to it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use remora::config::Migrate;
use remora::store::SqliteStore;
use serde_json::Value;

use crate::rig::Answer;

/// Any free port.
const ANY: &str = "127.0.0.1:0";

/// How long anything may take before a test gives up on it. Far above what it does take, for a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

pub(crate) type Http = Client<HttpConnector, Full<Bytes>>;

/// Asks again and again until there is something, and says what was waited for if it never comes.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The directory in which the program runs, and how it is started there.
pub(crate) struct Home {
    pub(crate) dir: tempfile::TempDir,
    program: PathBuf,
    upstream: String,
    config: String,
    env: Vec<(String, String)>,
}

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Standard output, of a command that must have worked.
    pub(crate) fn ok(&self) -> &str {
        assert_eq!(self.code, Some(0), "{self:?}");
        &self.out
    }

    /// Standard error, of a command that must have failed with this code.
    pub(crate) fn failed(&self, code: i32) -> &str {
        assert_eq!(self.code, Some(code), "{self:?}");
        &self.err
    }
}

/// All of `words` are in `text`.
#[track_caller]
pub(crate) fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "`{word}` is missing in: {text}");
    }
}

impl Home {
    /// An empty directory. Requests are forwarded to `upstream`, as in `http://127.0.0.1:9000`.
    pub(crate) fn new(upstream: &str) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            program: env!("CARGO_BIN_EXE_remora").into(),
            upstream: format!("{upstream}/v1"),
            config: String::new(),
            env: Vec::new(),
        }
    }

    /// For tests that never get as far as a request.
    pub(crate) fn nowhere() -> Self {
        Self::new("http://127.0.0.1:9")
    }

    /// Adds to the configuration file.
    pub(crate) fn with(mut self, toml: &str) -> Self {
        self.config.push_str(toml);
        self.config.push('\n');
        self
    }

    /// Without the `[store]` section.
    pub(crate) fn without_store(mut self) -> Self {
        if let Some(at) = self.config.find("[store]") {
            self.config.truncate(at);
        }
        self
    }

    /// Without the model, which takes long to load in an unoptimised build.
    pub(crate) fn exact(self) -> Self {
        self.with("[cache]\nmode = \"exact\"")
    }

    /// Adds to the environment, which is otherwise empty.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Another build of the program.
    pub(crate) fn program(mut self, program: PathBuf) -> Self {
        self.program = program;
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.path("remora.db")
    }

    /// The store, opened in this process while the program does not run.
    pub(crate) async fn store(&self) -> Arc<SqliteStore> {
        SqliteStore::open(&self.database(), Migrate::Auto).await.unwrap()
    }

    /// Every file in the directory, as length and digest. Left out are the configuration and what SQLite puts beside a
    /// database without anything in it: the index of the log, and an empty log.
    pub(crate) fn files(&self) -> BTreeMap<String, String> {
        let entries = std::fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().path());
        let named = entries.filter(|path| path.is_file()).map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let content = std::fs::read(&path).unwrap();
            let empty_log = name.ends_with("-wal") && content.is_empty();
            let left_out = empty_log || name.ends_with("-shm") || name == "remora.toml";
            (!left_out).then(|| (name, format!("{} bytes, {}", content.len(), blake3::hash(&content).to_hex())))
        });
        named.flatten().collect()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).current_dir(self.dir.path()).env_clear().envs(self.env.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts a command that does not end by itself, with its output in pipes.
    pub(crate) fn spawn(&self, args: &[&str]) -> std::process::Child {
        self.command(args).spawn().unwrap()
    }

    /// Runs a command to its end.
    pub(crate) async fn run(&self, args: &[&str]) -> Ran {
        self.run_fed(args, "").await
    }

    /// The same with something at standard input.
    pub(crate) async fn run_fed(&self, args: &[&str], input: &str) -> Ran {
        let mut child = self.command(args).stdin(Stdio::piped()).spawn().unwrap();
        let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_owned());
        let output = tokio::task::spawn_blocking(move || {
            // Whoever reads nothing of it may have ended before.
            let _ = stdin.write_all(input.as_bytes());
            drop(stdin);
            child.wait_with_output().unwrap()
        });
        let output = tokio::time::timeout(PATIENCE, output).await.expect("the command does not end").unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Ran { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// `remora serve` with the configuration so far on free ports; more `flags` win.
    pub(crate) fn serve(&self, flags: &[&str]) -> Child {
        self.write("remora.toml", &self.config);
        let store = format!("sqlite://{}", self.database().display());
        let mut args = vec!["serve", "--config", "remora.toml", "--upstream", &self.upstream];
        for (flag, value) in
            [("--listen", ANY), ("--admin-listen", ANY), ("--rem-listen", ANY), ("--store", store.as_str())]
        {
            if !flags.contains(&flag) {
                args.extend([flag, value]);
            }
        }
        args.extend(flags);
        Child::new(self.command(&args))
    }

    /// Starts it and waits until `/readyz` says so.
    pub(crate) async fn start(&self) -> Running {
        self.serve(&[]).ready().await
    }

    /// Starts it, expecting that it does not start, and says what it wrote to standard error.
    pub(crate) async fn refused(&self, flags: &[&str]) -> String {
        let mut child = self.serve(flags);
        let status = child.ended().await;
        assert_eq!(status.code(), Some(1), "{}", child.log());
        child.log()
    }
}

/// The program, started. Dropping it kills it.
pub(crate) struct Child {
    process: std::process::Child,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Child {
    fn new(mut command: Command) -> Self {
        let mut process = command.spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (stderr, sink) = (process.stderr.take().unwrap(), Arc::clone(&lines));
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                sink.lock().unwrap().push(line);
            }
        });
        Self { process, lines, reader: Some(reader) }
    }

    /// What it has written to standard error.
    pub(crate) fn log(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    /// Waits for a log line with this in it.
    pub(crate) async fn logged(&self, part: &str) -> String {
        until(part, || async {
            let lines = self.lines.lock().unwrap();
            lines.iter().find(|line| line.contains(part)).cloned()
        })
        .await
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Sends a signal by its name, as in `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status().unwrap();
        assert!(status.success());
    }

    /// Waits for its end; everything it wrote is then in the log.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                break status;
            }
            assert!(began.elapsed() < PATIENCE, "the program does not end:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        let mut out = String::new();
        self.process.stdout.take().map(|mut pipe| pipe.read_to_string(&mut out));
        assert_eq!(out, "", "`serve` writes to standard error only");
        status
    }

    /// Waits until it serves.
    pub(crate) async fn ready(mut self) -> Running {
        let began = Instant::now();
        let (data, admin, rem) = loop {
            let lines = self.lines.lock().unwrap().clone();
            if let Some(found) = lines.iter().find_map(|line| addresses(line)) {
                break found;
            }
            let ended = self.process.try_wait().unwrap();
            assert!(ended.is_none() && began.elapsed() < PATIENCE, "not ready ({ended:?}):\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(2)).await;
        };
        let client = Client::builder(TokioExecutor::new()).build_http();
        let running = Running { child: self, data, admin, rem, client };
        until("/readyz", || async {
            (running.admin(Method::GET, "/readyz", None).await.status == StatusCode::OK).then_some(())
        })
        .await;
        running
    }
}

/// The addresses in the log line that says that it is ready.
fn addresses(line: &str) -> Option<(SocketAddr, SocketAddr, Option<SocketAddr>)> {
    let (_, rest) = line.split_once("ready data=")?;
    let (data, rest) = rest.split_once(" admin=")?;
    let rem = rest.split_once(" rem=").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
    Some((data.parse().ok()?, rest.split(' ').next()?.parse().ok()?, rem))
}

/// The program, serving.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) data: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// Of the REM sidecar, where there is one.
    pub(crate) rem: Option<SocketAddr>,
    pub(crate) client: Http,
}

impl Running {
    /// Sends any request and reads the answer to its end.
    pub(crate) async fn exchange(&self, request: Request<Full<Bytes>>) -> Answer {
        try_exchange(&self.client, request).await.unwrap()
    }

    /// A request to the admin plane.
    pub(crate) async fn admin(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        self.admin_with(method, path, &[], body.map(|body| body.to_string()).unwrap_or_default()).await
    }

    pub(crate) async fn admin_with(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        self.exchange(request(method, self.admin, path, headers, body.into())).await
    }

    /// What the admin plane answers to a question that must succeed.
    pub(crate) async fn told(&self, path: &str) -> Value {
        let answer = self.admin(Method::GET, path, None).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
        answer.json()
    }

    /// A chat request.
    pub(crate) async fn chat(&self, key: &str, body: &Value) -> Answer {
        self.chat_with(key, &[], body).await
    }

    pub(crate) async fn chat_with(&self, key: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        self.exchange(chat_request(self.data, key, headers, body)).await
    }

    /// Waits for the ledger row of an answer.
    pub(crate) async fn row(&self, answer: &Answer) -> Value {
        let path = format!("/admin/v1/requests/{}", answer.header("x-remora-request-id"));
        let asked = || async {
            let row = self.admin(Method::GET, &path, None).await;
            (row.status == StatusCode::OK).then(|| row.json())
        };
        until("the ledger row", asked).await
    }

    /// URL of the admin plane, for `--admin`.
    pub(crate) fn admin_url(&self) -> String {
        format!("http://{}", self.admin)
    }

    /// Ends it with SIGTERM and returns its log.
    pub(crate) async fn stop(mut self) -> String {
        self.child.signal("TERM");
        let status = self.child.ended().await;
        assert_eq!(status.code(), Some(0), "{}", self.child.log());
        self.child.log()
    }

    /// Waits until nobody listens on the data plane.
    pub(crate) async fn no_new_connections(&self) {
        let address = self.data;
        let closed = || async move {
            let tried = tokio::net::TcpStream::connect(address).await;
            tried.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused).then_some(())
        };
        until("new connections are refused", closed).await;
    }
}

/// A request to one of the planes.
pub(crate) fn request(
    method: Method,
    to: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(format!("http://{to}{path}"));
    if !body.is_empty() {
        request = request.header("content-type", "application/json");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(body)).unwrap()
}

pub(crate) fn chat_request(to: SocketAddr, key: &str, headers: &[(&str, &str)], body: &Value) -> Request<Full<Bytes>> {
    let bearer = format!("Bearer {key}");
    let headers: Vec<_> = headers.iter().copied().chain([("authorization", bearer.as_str())]).collect();
    request(Method::POST, to, "/v1/chat/completions", &headers, Bytes::from(body.to_string()))
}

/// An answer read to its end, or why there is none.
pub(crate) async fn try_exchange(client: &Http, request: Request<Full<Bytes>>) -> Result<Answer, String> {
    let answer = async {
        let response = client.request(request).await.map_err(|error| error.to_string())?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    };
    tokio::time::timeout(PATIENCE, answer).await.map_err(|_| "no answer".to_owned())?
}

/// Resident memory of a process in bytes.
pub(crate) fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
