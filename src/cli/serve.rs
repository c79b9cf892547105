//! `remora serve`

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::check::{environment, load};
use crate::app::{App, Replacements, Source};
use crate::config::{Config, Overrides};
use crate::telemetry::log;

/// Time left for open requests after a second signal.
const HURRY: Duration = Duration::from_secs(1);

/// The signal to read the configuration again.
const HANG_UP: &str = "SIGHUP";

#[derive(Args)]
pub(super) struct Serve {
    /// Configuration file; flags win over it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

/// Flags that win over the configuration file.
#[derive(Args, Clone)]
pub(super) struct Flags {
    /// Address of the data plane.
    #[arg(long, value_name = "A:P")]
    listen: Option<String>,
    /// Address of the admin plane.
    #[arg(long, value_name = "A:P")]
    admin_listen: Option<String>,
    /// Address of the REM sidecar.
    #[arg(long, value_name = "A:P")]
    rem_listen: Option<String>,
    /// Base URL of the upstream, as in https://api.openai.com/v1.
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
    /// Database, as in sqlite://remora.db.
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Redis that replicas share, as in redis://cache:6379.
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
}

impl Flags {
    pub(super) fn overrides(&self) -> Overrides {
        Overrides {
            listen: self.listen.clone(),
            admin_listen: self.admin_listen.clone(),
            rem_listen: self.rem_listen.clone(),
            upstream: self.upstream.clone(),
            store: self.store.clone(),
            redis: self.redis.clone(),
        }
    }
}

impl Serve {
    pub(super) async fn run(self) -> Result<(), String> {
        let config = load(self.config.as_deref(), &self.flags)?;
        log::init(&config.telemetry).map_err(|error| error.to_string())?;
        let banner = banner(&config);
        let source =
            Source { path: self.config.clone(), env: environment().collect(), overrides: self.flags.overrides() };
        let replace = Replacements { source: Some(source), ..Replacements::default() };
        // The handlers stand before anything is opened, so that a signal during start-up ends it in order, too.
        let mut signals = Signals::new().map_err(|error| format!("signals cannot be handled: {error}"))?;
        let app = tokio::select! {
            started = App::start_with(config, replace) => started.map_err(|error| error.to_string())?,
            name = signals.end() => {
                tracing::info!(signal = name, "stopped while starting");
                return Ok(());
            }
        };
        let rem = app.rem.map(|rem| format!("rem http://{rem}; ")).unwrap_or_default();
        let (data, admin) = (app.data.to_string(), app.admin.to_string());
        eprintln!("{}", banner.replace("{data}", &data).replace("{rem}", &rem).replace("{admin}", &admin));
        let name = loop {
            match signals.next().await {
                HANG_UP => app.reload(HANG_UP).await,
                name => break name,
            }
        };
        tracing::info!(signal = name, "signal received; send it again to hurry");
        let shutdown = app.shutdown();
        let stop = app.stop();
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return Ok(()),
                _ = signals.end() => shutdown.trigger(HURRY),
            }
        }
    }
}

fn banner(config: &Config) -> String {
    let mode = if config.server.passthrough { "passthrough: each caller's own key" } else { "virtual keys" };
    format!(
        "remora {}: http://{{data}}/v1 → {} ({mode}); store {}; {{rem}}admin http://{{admin}}",
        env!("CARGO_PKG_VERSION"),
        config.upstream.url,
        config.store.url
    )
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.hang_up.recv() => HANG_UP,
        }
    }

    /// The next one that ends the program.
    async fn end(&mut self) -> &'static str {
        loop {
            let name = self.next().await;
            if name != HANG_UP {
                return name;
            }
        }
    }
}
