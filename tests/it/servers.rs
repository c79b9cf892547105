//! Servers that belong to one test, which may stop, stall and break them: PostgreSQL with pgvector, and Redis.
//!
//! PostgreSQL comes from the folder that REMORA_PG_BIN names, Redis from the PATH; `scripts/services.sh start` sees to both.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use sqlx::{ConnectOptions, Connection};

use crate::child::until;
use crate::fleet::service;

/// The user for whom PostgreSQL runs when the tests run as root, which it refuses.
const NOBODY: u32 = 65_534;

/// A port that nobody has at this moment.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn kill(signal: &str, pids: &[u32]) {
    let mut command = Command::new("kill");
    command.arg(format!("-{signal}")).args(pids.iter().map(u32::to_string)).stderr(Stdio::null());
    // One that has ended meanwhile cannot be signalled and need not be.
    let _status = command.status().unwrap();
}

/// Processes that this one has started and that still run.
fn children(parent: u32) -> Vec<u32> {
    let pids =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let is_child = |pid: &u32| {
        // Name in brackets, state, parent; one that has ended meanwhile is none.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent_of = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse::<u32>().ok());
        parent_of == Some(parent)
    };
    pids.filter(is_child).collect()
}

/// A PostgreSQL server. Dropping it ends it.
pub(crate) struct OwnPostgres {
    dir: tempfile::TempDir,
    port: u16,
    settings: String,
}

impl OwnPostgres {
    /// Made and started; `settings` as in `-c max_connections=20`.
    pub(crate) async fn start(settings: &str) -> Self {
        let own = Self { dir: tempfile::tempdir().unwrap(), port: free_port(), settings: settings.to_owned() };
        if is_root() {
            std::os::unix::fs::chown(own.dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        own.run("initdb", &["-D", &own.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]).await;
        own.up().await;
        own
    }

    /// URL of the database `postgres` on it.
    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    fn data(&self) -> String {
        self.dir.path().join("data").display().to_string()
    }

    /// Starts it again after it was stopped.
    pub(crate) async fn up(&self) {
        let options = format!(
            "-p {} -k {} -c listen_addresses=127.0.0.1 -c shared_buffers=32MB -c fsync=off {}",
            self.port,
            self.dir.path().display(),
            self.settings
        );
        let log = self.dir.path().join("server.log").display().to_string();
        self.run("pg_ctl", &["-D", &self.data(), "-w", "-t", "60", "-l", &log, "-o", &options, "start"]).await;
    }

    /// A fast stop: transactions are rolled back, clients disconnected, then it is gone.
    pub(crate) async fn down(&self) {
        self.run("pg_ctl", &["-D", &self.data(), "-m", "fast", "-w", "stop"]).await;
    }

    /// From now on it accepts connections and answers nothing.
    pub(crate) fn stall(&self) {
        let main = self.main();
        // The one that starts others first.
        kill("STOP", &[main]);
        kill("STOP", &children(main));
    }

    /// It goes on where it was.
    pub(crate) fn resume(&self) {
        let main = self.main();
        kill("CONT", &children(main));
        kill("CONT", &[main]);
    }

    fn main(&self) -> u32 {
        let file = std::fs::read_to_string(PathBuf::from(self.data()).join("postmaster.pid")).unwrap();
        file.lines().next().unwrap().trim().parse().unwrap()
    }

    async fn run(&self, program: &str, args: &[&str]) {
        let program = PathBuf::from(service("REMORA_PG_BIN")).join(program);
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            let user = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".to_owned()];
            command.args(user).arg(&program);
            command
        } else {
            Command::new(&program)
        };
        // The server inherits these: a pipe would stay open for as long as it runs.
        command.args(args).current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let status = tokio::task::spawn_blocking(move || command.status().unwrap()).await.unwrap();
        let log = std::fs::read_to_string(self.dir.path().join("server.log")).unwrap_or_default();
        assert!(status.success(), "{} {args:?}: {status}\n{log}", program.display());
    }
}

impl Drop for OwnPostgres {
    fn drop(&mut self) {
        if let Ok(file) = std::fs::read_to_string(PathBuf::from(self.data()).join("postmaster.pid"))
            && let Some(main) = file.lines().next().and_then(|line| line.trim().parse().ok())
        {
            let all = children(main);
            kill("KILL", &[main]);
            kill("KILL", &all);
        }
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Holds connections until the server has none left.
pub(crate) async fn take_all_connections(url: &str) -> Vec<sqlx::PgConnection> {
    let options: sqlx::postgres::PgConnectOptions = url.parse().unwrap();
    let mut held = Vec::new();
    while let Ok(connection) = options.connect().await {
        held.push(connection);
    }
    held
}

/// Gives them back.
pub(crate) async fn give_back(held: Vec<sqlx::PgConnection>) {
    for connection in held {
        connection.close().await.unwrap();
    }
}

/// A Redis server without a disk. Dropping it ends it.
pub(crate) struct OwnRedis {
    process: Option<std::process::Child>,
    dir: tempfile::TempDir,
    address: SocketAddr,
}

impl OwnRedis {
    pub(crate) async fn start() -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut own = Self { process: None, dir: tempfile::tempdir().unwrap(), address };
        own.up().await;
        own
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Starts it again, empty, after it was killed.
    pub(crate) async fn up(&mut self) {
        let port = self.address.port().to_string();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.current_dir(self.dir.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let advice = "redis-server is not there: run `eval \"$(scripts/services.sh start)\"` first";
        self.process = Some(command.spawn().expect(advice));
        let address = self.address;
        until("Redis listens", || async move { tokio::net::TcpStream::connect(address).await.ok() }).await;
    }

    /// Sudden death; what it held is gone.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// From now on it answers nothing.
    pub(crate) fn stall(&self) {
        kill("STOP", &[self.process.as_ref().unwrap().id()]);
    }

    pub(crate) fn resume(&self) {
        kill("CONT", &[self.process.as_ref().unwrap().id()]);
    }
}

impl Drop for OwnRedis {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
