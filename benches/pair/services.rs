//! The database of a round, and the CPU time of PostgreSQL and Redis where they run on this machine (Linux, `/proc`).

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, query_scalar, raw_sql};

use crate::Fault;
use crate::process::cpu_of;

/// What replicas share.
pub(crate) struct Services {
    server: PgConnectOptions,
    name: String,
    /// Of the round's database.
    pub(crate) postgres: String,
    pub(crate) redis: String,
    /// The server's first process, whose children are all others.
    postmaster: u32,
    redis_process: u32,
}

impl Services {
    /// Makes a database.
    pub(crate) async fn create() -> Result<Self, Fault> {
        const ADVICE: &str = "DATABASE_URL and REDIS_URL: run `eval \"$(scripts/services.sh start)\"` first";
        let url = std::env::var("DATABASE_URL").map_err(|_| ADVICE)?;
        let redis = std::env::var("REDIS_URL").map_err(|_| ADVICE)?;
        let (server, name) = (url.parse::<PgConnectOptions>()?, format!("remora_bench_{:016x}", fastrand::u64(..)));
        let postgres = format!("{}/{name}", url.rsplit_once('/').ok_or("DATABASE_URL without a database")?.0);
        let mut connection = server.connect().await?;
        raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await?;
        let own: i32 = query_scalar("SELECT pg_backend_pid()").fetch_one(&mut connection).await?;
        let postmaster = parent(u32::try_from(own)?)?;
        let redis_process = redis_process(&redis)?;
        Ok(Self { server, name, postgres, redis, postmaster, redis_process })
    }

    /// CPU time so far of PostgreSQL, all processes of the server, and of Redis.
    pub(crate) fn cpu(&self) -> Result<(Duration, Duration), Fault> {
        let mut postgres = cpu_of(self.postmaster, 4)?;
        for process in fs::read_dir("/proc")? {
            let Some(process) = process?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // One that has ended meanwhile counts with its parent the next time.
            if parent(process).is_ok_and(|parent| parent == self.postmaster) {
                postgres += cpu_of(process, 2).unwrap_or_default();
            }
        }
        Ok((postgres, cpu_of(self.redis_process, 2)?))
    }

    pub(crate) async fn drop(self) -> Result<(), Fault> {
        let mut connection = self.server.connect().await?;
        raw_sql(AssertSqlSafe(format!("DROP DATABASE {} WITH (FORCE)", self.name))).execute(&mut connection).await?;
        Ok(())
    }
}

fn parent(process: u32) -> Result<u32, Fault> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))
        .map_err(|_| "PostgreSQL does not run on this machine: its CPU time cannot be read")?;
    let (_, fields) = stat.rsplit_once(')').ok_or("stat without a name")?;
    Ok(fields.split_whitespace().nth(1).ok_or("stat is too short")?.parse()?)
}

fn redis_process(url: &str) -> Result<u32, Fault> {
    let address = url.strip_prefix("redis://").ok_or("REDIS_URL: redis://host:port only")?;
    let mut socket = TcpStream::connect(address.split('/').next().unwrap_or(address))?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    socket.write_all(b"INFO server\r\n")?;
    let mut said = String::new();
    let mut buffer = [0; 4_096];
    while !said.contains("\r\nprocess_id:") || !said.ends_with('\n') {
        match socket.read(&mut buffer)? {
            0 => return Err("Redis does not say its process".into()),
            more => said.push_str(&String::from_utf8_lossy(buffer.get(..more).unwrap_or_default())),
        }
    }
    let (_, after) = said.split_once("\r\nprocess_id:").ok_or("Redis does not say its process")?;
    Ok(after.lines().next().unwrap_or_default().parse()?)
}
