//! Child processes and what the system's accounting says of them (Linux, `/proc`).

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Fault;

/// Ticks of `/proc/PID/stat` in a second; Linux shows the same number to user space on every architecture we run on.
const TICKS: u64 = 100;
/// Longest start.
const START: Duration = Duration::from_secs(30);

/// A running program; killed when dropped.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its standard error in the file `log`.
    pub(crate) fn start(command: &mut Command, log: PathBuf) -> Result<Self, Fault> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?).spawn()?;
        Ok(Self { child, log })
    }

    /// Waits until it has said `before` and then an address.
    pub(crate) fn address(&mut self, before: &str) -> Result<SocketAddr, Fault> {
        self.address_within(before, START)
    }

    /// [`Self::address`] with another bound than the usual one.
    pub(crate) fn address_within(&mut self, before: &str, longest: Duration) -> Result<SocketAddr, Fault> {
        let began = Instant::now();
        while began.elapsed() < longest {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("ended with {status}: {}", fs::read_to_string(&self.log)?).into());
            }
            let said = fs::read_to_string(&self.log)?;
            let address = said.split_once(before).and_then(|(_, after)| after.split_once(['/', '\n']));
            if let Some((address, _)) = address {
                return Ok(address.parse()?);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(format!("not ready within {longest:?}: {}", fs::read_to_string(&self.log)?).into())
    }

    /// User and system time so far, at ten milliseconds' resolution.
    pub(crate) fn cpu(&self) -> Result<Duration, Fault> {
        cpu_of(self.child.id(), 2)
    }

    /// [`Self::cpu`] once work that was put off (batches for the store) is done, too.
    pub(crate) async fn settled_cpu(&self) -> Result<Duration, Fault> {
        let mut before = self.cpu()?;
        loop {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let now = self.cpu()?;
            if now - before <= Duration::from_millis(10) {
                return Ok(now);
            }
            before = now;
        }
    }

    /// Resident memory in MiB: all of it, and what of it is not backed by a file.
    pub(crate) fn memory(&self) -> Result<(f64, f64), Fault> {
        Ok((self.status("VmRSS:")?, self.status("RssAnon:")?))
    }

    /// A size from `/proc/PID/status` in MiB, as in `VmHWM:`.
    pub(crate) fn status(&self, name: &str) -> Result<f64, Fault> {
        let status = fs::read_to_string(self.proc("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("status is too short")?;
        Ok(line.split_whitespace().next().ok_or("status has an empty line")?.parse::<f64>()? / 1_024.0)
    }

    /// Lines of its log that tell of trouble.
    pub(crate) fn complaints(&self) -> Result<Vec<String>, Fault> {
        let said = fs::read_to_string(&self.log)?;
        let bad = |line: &&str| line.contains(" WARN ") || line.contains("ERROR");
        Ok(said.lines().filter(bad).map(str::to_owned).collect())
    }

    fn proc(&self, file: &str) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string()).join(file)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only on a process that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first `fields` of: user and system time of a process, user and system time of its children that have ended; added
/// up, at ten milliseconds' resolution.
pub(crate) fn cpu_of(process: u32, fields: usize) -> Result<Duration, Fault> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The second field, the program's name, may hold blanks; it ends with the last parenthesis.
    let (_, after) = stat.rsplit_once(')').ok_or("stat without a name")?;
    let ticks = after.split_whitespace().skip(11).take(fields).map(str::parse::<u64>);
    Ok(Duration::from_millis(ticks.sum::<Result<u64, _>>()? * 1_000 / TICKS))
}
