//! The programs of a run: the simulated upstream and replicas of Remora.

use std::net::SocketAddr;
use std::process::Command;

use tempfile::TempDir;

use crate::Fault;
use crate::process::Process;
use crate::services::Services;

const REMORA: &str = env!("CARGO_BIN_EXE_remora");
/// A directory of the build, so on a real disk.
const PLACE: &str = env!("CARGO_TARGET_TMPDIR");
/// Nothing is embedded, so that the figures are those of the proxy and its stores.
const CONFIG: &str = "[cache]\nmode = \"exact\"\n";

/// The simulated upstream.
pub(crate) struct Upstream {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    _place: TempDir,
}

/// One replica.
pub(crate) struct Replica {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    _place: TempDir,
}

impl Upstream {
    pub(crate) fn start() -> Result<Self, Fault> {
        let place = tempfile::tempdir_in(PLACE)?;
        let mut command = Command::new(REMORA);
        command.args(["simulate", "--listen", "127.0.0.1:0", "--chunk-delay", "0", "--tokens", "64"]);
        let mut process = Process::start(&mut command, place.path().join("upstream.log"))?;
        let address = process.address("listening on http://")?;
        Ok(Self { process, address, _place: place })
    }
}

impl Replica {
    /// Starts one and waits until it is ready.
    pub(crate) fn start(name: &str, upstream: SocketAddr, services: &Services) -> Result<Self, Fault> {
        let place = tempfile::tempdir_in(PLACE)?;
        let config = place.path().join("remora.toml");
        std::fs::write(&config, CONFIG)?;
        let mut command = Command::new(REMORA);
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        command.args(["--rem-listen", "127.0.0.1:0"]);
        command.arg("--upstream").arg(format!("http://{upstream}/v1")).arg("--config").arg(&config);
        command.args(["--store", &services.postgres, "--redis", &services.redis]).current_dir(place.path());
        let mut process = Process::start(&mut command, place.path().join(format!("{name}.log")))?;
        let address = process.address(": http://")?;
        Ok(Self { process, address, _place: place })
    }
}
