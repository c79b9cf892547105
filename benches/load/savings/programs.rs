//! The programs of a run, with all times that matter shortened like the day.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use remora::config::Migrate;
use remora::store::{LedgerRow, SqliteStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::process::Process;
use crate::traffic::DAY;
use crate::{Fault, Settings};

const REMORA: &str = env!("CARGO_BIN_EXE_remora");
/// A directory of the build, so on a real disk.
const PLACE: &str = env!("CARGO_TARGET_TMPDIR");

/// How long a model takes to answer, and how long providers keep the beginning of a prompt, in seconds of a real day.
const LATENCY: f64 = 1.5;
const PROMPT_CACHE: f64 = 300.0;

/// What runs: Remora with its upstream, and the same upstream alone.
pub(crate) struct Programs {
    remora: Process,
    _upstream: Process,
    _alone: Process,
    pub(crate) data: SocketAddr,
    admin: SocketAddr,
    pub(crate) alone: SocketAddr,
    place: TempDir,
}

/// Where the book of answers goes.
pub(crate) fn place() -> Result<(TempDir, PathBuf), Fault> {
    let place = tempfile::tempdir_in(PLACE)?;
    let book = place.path().join("answers.jsonl");
    Ok((place, book))
}

impl Programs {
    /// Starts all three.
    pub(crate) fn start(place: TempDir, book: &Path, settings: &Settings) -> Result<Self, Fault> {
        let (upstream, upstream_address) = simulate(&place, "upstream", book, settings)?;
        let (alone, alone_address) = simulate(&place, "alone", book, settings)?;
        let config = place.path().join("remora.toml");
        std::fs::write(&config, configuration(settings))?;
        let mut command = Command::new(REMORA);
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        command.args(["--rem-listen", "127.0.0.1:0", "--upstream"]);
        command.arg(format!("http://{upstream_address}/v1")).arg("--config").arg(&config);
        command.arg("--store").arg(format!("sqlite://{}", place.path().join("remora.db").display()));
        command.current_dir(place.path());
        let mut remora = Process::start(&mut command, place.path().join("remora.log"))?;
        let admin = remora.address("admin http://")?;
        let data = remora.address(": http://")?;
        Ok(Self { remora, _upstream: upstream, _alone: alone, data, admin, alone: alone_address, place })
    }

    /// What the admin plane answers.
    pub(crate) async fn admin(&self, path: &str) -> Result<String, Fault> {
        let mut socket = TcpStream::connect(self.admin).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await?;
        let mut reply = String::new();
        socket.read_to_string(&mut reply).await?;
        let (head, body) = reply.split_once("\r\n\r\n").ok_or("an answer without an end of its head")?;
        if head.starts_with("HTTP/1.1 200") { Ok(body.to_owned()) } else { Err(format!("{path}: {reply}").into()) }
    }

    /// Waits until everything is written, ends the programs, and reads the ledger. Returned with complaints of the log and the
    /// series of money among the metrics.
    pub(crate) async fn end(self) -> Result<(Vec<LedgerRow>, Vec<String>, Vec<String>), Fault> {
        self.remora.settled_cpu().await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let money =
            |line: &&str| line.starts_with("remora_cost_usd_total") || line.starts_with("remora_saved_usd_total");
        let metrics = self.admin("/metrics").await?.lines().filter(money).map(str::to_owned).collect();
        let complaints = self.remora.complaints()?;
        drop(self.remora);
        let store = SqliteStore::open(&self.place.path().join("remora.db"), Migrate::Auto).await?;
        let rows = store.stores().ledger.recent(None, u32::MAX).await?;
        store.close().await;
        Ok((rows, complaints, metrics))
    }
}

fn simulate(place: &TempDir, name: &str, book: &Path, settings: &Settings) -> Result<(Process, SocketAddr), Fault> {
    let mut command = Command::new(REMORA);
    command.args(["simulate", "--listen", "127.0.0.1:0", "--answers"]).arg(book);
    command.args(["--latency", &short(LATENCY, settings), "--prompt-cache", &short(PROMPT_CACHE, settings)]);
    let mut process = Process::start(&mut command, place.path().join(format!("{name}.log")))?;
    let address = process.address("listening on http://")?;
    Ok((process, address))
}

/// Seconds of a real day as a duration of this run, in whole milliseconds.
fn short(seconds: f64, settings: &Settings) -> String {
    format!("{}ms", (seconds / speed(settings) * 1_000.0).round().max(1.0))
}

/// How much faster a day is here.
fn speed(settings: &Settings) -> f64 {
    DAY / settings.day.as_secs_f64()
}

/// The defaults, except that durations are shorter and rates higher by as much as the day is.
///
/// The embedder's deadline and queue are for callers who wait: here the questions of some minutes come within a second, and what
/// waits for a busy machine must not become a miss. By how much questions came too late is in the report.
fn configuration(settings: &Settings) -> String {
    let rate = |number: f64| (number * speed(settings)).round();
    format!(
        "[cache]\nttl = \"{ttl}\"\nwrites_per_minute = {writes}\nprobe_alarm = {probes}\nweights_file = \"{weights}\"\n\
         [cache.audit]\nper_hour = {audits}\ntokens_per_day = {tokens}\n\
         [savings]\nprompt_cache_ttl = \"{prompts}\"\n\
         [embedding]\ndeadline = \"20s\"\nqueue = 100000\n\
         [server.limits]\nconnections_per_ip = 2000\n",
        ttl = short(DAY, settings),
        writes = rate(6_000.0),
        probes = rate(200.0),
        weights = settings.weights,
        audits = rate(120.0).min(1_000_000.0),
        tokens = rate(1_000_000.0).min(4e9),
        prompts = short(PROMPT_CACHE, settings),
    )
}
