//! On real servers: the one at `REDIS_URL` in a space of chance, and servers of their own for what stops or breaks one.

mod faults;
mod leases;
mod secure;
mod values;
mod wakes;

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::*;

/// Long enough for a loaded machine; what is about deadlines sets its own.
const PATIENT: Duration = Duration::from_secs(1);

pub(crate) fn space() -> Digest {
    std::array::from_fn(|_| fastrand::u8(..))
}

pub(crate) fn settings(url: &str) -> config::Redis {
    config::Redis {
        url: url.parse().unwrap(),
        password: None,
        ca_file: None,
        cluster: false,
        deadline: PATIENT,
        in_flight: 64,
        queue: 256,
        exact_ttl: Duration::from_secs(60),
        lease_wait: Duration::from_secs(10),
    }
}

/// The server that all tests share.
pub(crate) fn common() -> config::Redis {
    let url = std::env::var("REDIS_URL").expect("REDIS_URL is not set: run `eval \"$(scripts/services.sh start)\"`");
    settings(&url)
}

/// Connected.
pub(crate) async fn ready(settings: &config::Redis, space: &Digest) -> Shared {
    let shared = Shared::connect(settings, space).unwrap();
    eventually("it is up", || shared.stats().up).await;
    shared
}

/// Waits until it holds, which must not take half a minute.
pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..3000 {
        if holds() {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

/// Waits until the background writes are done.
async fn written(shared: &Shared) {
    eventually("the queue is empty", || shared.stats().queued == 0 && shared.stats().in_flight == 0).await;
}

/// Asks until the value is there.
async fn found(shared: &Shared, key: &Digest) -> Bytes {
    for _ in 0..1000 {
        if let Some(value) = shared.get(key).await {
            return value;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("the value never appeared");
}

/// Writes until the value is there: a server that has just come back may not take the first write.
async fn shares(shared: &Shared, key: Digest, value: &Bytes) {
    for _ in 0..300 {
        shared.put(key, value.clone(), PATIENT * 30);
        written(shared).await;
        if shared.get(&key).await.as_ref() == Some(value) {
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("never shared: {:?}", shared.stats());
}

/// A server of one test's own.
pub(crate) struct Server {
    port: u16,
    extra: Vec<String>,
    dir: tempfile::TempDir,
    child: Child,
}

impl Server {
    pub(crate) fn start(extra: &[&str]) -> Self {
        let port = free_port();
        let dir = tempfile::tempdir().unwrap();
        let extra: Vec<String> = extra.iter().map(|part| (*part).to_owned()).collect();
        let child = launch(port, &extra, &dir);
        let server = Self { port, extra, dir, child };
        server.wait();
        server
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// With a deadline that a stopped server breaks soon.
    pub(crate) fn settings(&self) -> config::Redis {
        config::Redis { deadline: Duration::from_millis(200), ..settings(&self.url()) }
    }

    /// One command, on a connection of its own.
    pub(crate) fn order<T: redis::FromRedisValue>(&self, command: &str) -> T {
        let mut parts = command.split(' ');
        let mut cmd = redis::cmd(parts.next().unwrap());
        for part in parts {
            cmd.arg(part);
        }
        let client = redis::Client::open(self.url()).unwrap();
        cmd.query(&mut client.get_connection().unwrap()).unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    /// Stops or continues the process, or ends it.
    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts again on the same port, empty.
    pub(crate) fn restart(&mut self) {
        self.child = launch(self.port, &self.extra, &self.dir);
        self.wait();
    }

    fn wait(&self) {
        for _ in 0..1000 {
            if std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("redis-server does not start: {:?}", self.extra);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn launch(port: u16, extra: &[String], dir: &tempfile::TempDir) -> Child {
    let port = port.to_string();
    // With TLS the plain port is switched off by the test, which gives its own.
    let ports: &[&str] =
        if extra.iter().any(|part| part == "--tls-port") { &["--port", "0"] } else { &["--port", &port] };
    Command::new("redis-server")
        .args(ports)
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--enable-debug-command", "yes", "--dir"])
        .arg(dir.path())
        .args(extra.iter().map(|part| if part == "PORT" { &port } else { part }))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server cannot be started: run `scripts/services.sh start`, which installs it")
}
