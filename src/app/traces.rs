//! The export of spans in a running program: begun if it is configured, ended when no more requests come.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::config::Config;
use crate::ids::RequestId;
use crate::task;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::trace::{Exporter, Settings};
use crate::upstream::{self, SetupError};

/// Time for what waits when the program ends. Spans are worth no longer wait.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// Spans are being sent.
pub(super) struct Tracing {
    closing: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Tracing {
    /// Sends spans where the configuration says, or none.
    ///
    /// # Errors
    /// The certificates of the upstream, which are trusted here too, cannot be read.
    pub(super) fn begin(config: &Config, clock: &Clock, metrics: &Arc<Metrics>) -> Result<Option<Self>, SetupError> {
        let Some(base) = &config.telemetry.otlp else { return Ok(None) };
        let Ok(target) = format!("{base}/v1/traces").parse() else { return Err(SetupError::Url(base.clone())) };
        let settings = Settings {
            target,
            headers: config.telemetry.otlp_headers.clone(),
            tls: upstream::tls(upstream::roots(config.upstream.ca_file.as_deref())?),
            ratio: config.telemetry.trace_ratio,
            room: config.telemetry.trace_queue,
            upstream: config.upstream.name.clone(),
            server: host_and_port(&config.upstream.url),
            // As good as any name that nobody else has.
            instance: RequestId::at(clock.now_ms()).to_string(),
        };
        let (closing, told) = watch::channel(false);
        let (tracer, exporter) = Exporter::new(settings, metrics.traces.clone(), told);
        metrics.set_tracer(tracer);
        Ok(Some(Self { closing, task: task::spawn("traces", metrics, exporter.run()) }))
    }

    /// Sends what waits, for a while.
    pub(super) async fn end(self) {
        self.closing.send_replace(true);
        let abort = self.task.abort_handle();
        if tokio::time::timeout(LAST_SPANS, self.task).await.is_err() {
            abort.abort();
            tracing::warn!("the collector did not take the last spans in time");
        }
    }
}

fn host_and_port(url: &str) -> (String, u16) {
    let uri = url.parse::<http::Uri>().unwrap_or_default();
    let usual = if uri.scheme_str() == Some("http") { 80 } else { 443 };
    (uri.host().unwrap_or_default().to_owned(), uri.port_u16().unwrap_or(usual))
}
