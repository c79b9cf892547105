//! Starts of the real program on a filled store: how long until it is ready, and what memory it takes on the way.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::Fault;
use crate::client::Connection;
use crate::process::Process;

const REMORA: &str = env!("CARGO_BIN_EXE_remora");
/// Longest start.
const START: Duration = Duration::from_secs(600);
/// Everything fits: neither the caps of the cache nor the budget of the index leave anything out.
const CONFIG: &str = "[cache]\nmax_entries = 4000000\nmax_bytes = \"64GiB\"\nindex_bytes = \"16GiB\"\n";
/// Gauges are set this often.
const GAUGES: Duration = Duration::from_secs(11);
/// A program that takes less CPU time than `QUIET_CPU` in `QUIET` has no work left.
const QUIET: Duration = Duration::from_secs(2);
const QUIET_CPU: Duration = Duration::from_millis(60);

/// What a start took. Memory in MiB.
#[derive(Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) seconds: f64,
    /// CPU time of the program, seconds.
    pub(crate) cpu: f64,
    /// Resident when ready.
    pub(crate) ready: f64,
    /// Most that was resident until then.
    pub(crate) peak: f64,
}

/// A program that is ready.
pub(crate) struct Start {
    pub(crate) figures: Figures,
    process: Process,
    admin: SocketAddr,
}

/// What is resident once the graphs are built.
pub(crate) struct Settled {
    /// Seconds from ready until there was no upkeep left.
    pub(crate) seconds: f64,
    /// Resident, MiB.
    pub(crate) resident: f64,
    /// `remora_index_bytes`.
    pub(crate) index_bytes: f64,
}

/// Starts the program in `place` on the store at `url` and waits until it is ready.
pub(crate) fn start(place: &Path, url: &str) -> Result<Start, Fault> {
    let config = place.join("remora.toml");
    std::fs::write(&config, CONFIG)?;
    let mut command = Command::new(REMORA);
    command.args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    command.args(["--rem-listen", "127.0.0.1:0"]);
    command.args(["--upstream", "http://127.0.0.1:9/v1", "--store", url, "--config"]).arg(&config);
    command.current_dir(place);
    let began = Instant::now();
    let mut process = Process::start(&mut command, place.join("remora.log"))?;
    let admin = process.address_within("admin http://", START)?;
    let seconds = began.elapsed().as_secs_f64();
    let (peak, ready) = (process.status("VmHWM:")?, process.status("VmRSS:")?);
    let figures = Figures { seconds, cpu: process.cpu()?.as_secs_f64(), ready, peak };
    Ok(Start { figures, process, admin })
}

impl Start {
    /// Waits for the upkeep to end, `longest` at most.
    pub(crate) async fn settle(&self, longest: Duration) -> Result<Option<Settled>, Fault> {
        let began = Instant::now();
        let mut before = self.process.cpu()?;
        loop {
            tokio::time::sleep(QUIET).await;
            let now = self.process.cpu()?;
            if now - before <= QUIET_CPU {
                break;
            }
            if began.elapsed() > longest {
                return Ok(None);
            }
            before = now;
        }
        let seconds = (began.elapsed() - QUIET).as_secs_f64();
        tokio::time::sleep(GAUGES).await;
        let resident = self.process.status("VmRSS:")?;
        Ok(Some(Settled { seconds, resident, index_bytes: self.gauge("remora_index_bytes").await? }))
    }

    async fn gauge(&self, name: &str) -> Result<f64, Fault> {
        let mut connection = Connection::open(self.admin).await?;
        // Another name than its own would be refused.
        let request = format!("GET /metrics HTTP/1.1\r\nhost: {}\r\n\r\n", self.admin);
        let answer = connection.exchange(request.as_bytes()).await?;
        let text = String::from_utf8_lossy(answer.body).into_owned();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).ok_or("no such gauge")?;
        Ok(value.trim().parse()?)
    }
}
