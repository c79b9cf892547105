//! The three programs of a run: upstream, bare proxy, Remora.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::Fault;
use crate::cases::To;
use crate::process::Process;

const REMORA: &str = env!("CARGO_BIN_EXE_remora");
/// A directory of the build, so on a real disk.
const PLACE: &str = env!("CARGO_TARGET_TMPDIR");

/// Everything that a round needs; stopped and cleared away when dropped.
pub(crate) struct Programs {
    upstream: Process,
    bare: Process,
    pub(crate) remora: Process,
    addresses: [SocketAddr; 3],
    _place: TempDir,
}

impl Programs {
    /// Starts all three. `chunk_delay` is the pause between two events of the upstream's streams, `tokens` the length
    /// of its answers.
    pub(crate) async fn start(chunk_delay: &str, tokens: u32) -> Result<Self, Fault> {
        let place = tempfile::tempdir_in(PLACE)?;
        let simulate = ["simulate", "--listen", "127.0.0.1:0", "--chunk-delay", chunk_delay, "--tokens"];
        let mut upstream = Process::start(
            Command::new(REMORA).args(simulate).arg(tokens.to_string()),
            place.path().join("upstream.log"),
        )?;
        let upstream_address = upstream.address("listening on http://")?;
        let mut bare = Process::start(
            Command::new(std::env::current_exe()?).arg("bare-proxy").arg(upstream_address.to_string()),
            place.path().join("bare.log"),
        )?;
        let bare_address = bare.address("bare proxy: http://")?;
        let (remora, remora_address) = serve(&place, upstream_address, "semantic")?;
        let addresses = [upstream_address, bare_address, remora_address];
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(Self { upstream, bare, remora, addresses, _place: place })
    }

    /// Resident memory of an idle Remora that goes as far as `mode`.
    pub(crate) async fn idle_memory(mode: &str) -> Result<(f64, f64), Fault> {
        let place = tempfile::tempdir_in(PLACE)?;
        let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
        let (remora, _) = serve(&place, nobody, mode)?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        remora.memory()
    }

    /// Where a program listens.
    pub(crate) fn of(&self, to: To) -> SocketAddr {
        let [upstream, bare, remora] = self.addresses;
        match to {
            To::Upstream => upstream,
            To::Bare => bare,
            To::Remora => remora,
        }
    }

    /// CPU time of upstream, bare proxy and Remora, once they have come to rest.
    pub(crate) async fn cpu(&self) -> Result<(Duration, Duration, Duration), Fault> {
        let remora = self.remora.settled_cpu().await?;
        Ok((self.upstream.cpu()?, self.bare.cpu()?, remora))
    }
}

fn serve(place: &TempDir, upstream: SocketAddr, mode: &str) -> Result<(Process, SocketAddr), Fault> {
    let config = place.path().join("remora.toml");
    // The deadline is there for callers who wait; here a busy machine must not turn a hit into a miss.
    // The simulated upstream answers every wording differently: audits would soon have the cache serve nothing by similarity.
    let cache = format!("[cache]\nmode = \"{mode}\"\n[cache.audit]\nrate = 0.0\n");
    std::fs::write(&config, format!("{cache}\n[embedding]\ndeadline = \"5s\"\n"))?;
    let mut command = Command::new(REMORA);
    command.args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    command.args(["--rem-listen", "127.0.0.1:0", "--upstream"]);
    command.arg(format!("http://{upstream}/v1")).arg("--config").arg(&config);
    command.arg("--store").arg(format!("sqlite://{}", place.path().join("remora.db").display()));
    let mut remora = Process::start(&mut command, place.path().join("remora.log"))?;
    let address = remora.address(": http://")?;
    Ok((remora, address))
}
