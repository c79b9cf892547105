//! What is connected to: one server, or a cluster through one of its nodes.

use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection, PubSub};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, IntoConnectionInfo, Pipeline, RedisFuture, RedisResult,
    TlsCertificates, Value,
};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::config;

/// Longest time for name resolution, TCP, TLS and the greeting. In the background only.
pub(super) const CONNECT: Duration = Duration::from_secs(2);

/// Why Redis cannot be used at all. A server that is away is no error.
#[derive(Debug, thiserror::Error)]
pub enum SharedError {
    /// The URL, or what was given with it.
    #[error("redis.url {url}: {problem}; write redis://HOST:PORT, or rediss://HOST:PORT for TLS")]
    Url {
        /// Without its password.
        url: config::RedisUrl,
        /// What is wrong.
        problem: &'static str,
    },
    /// The file of certificate authorities.
    #[error("redis.ca_file {path}: {problem}; give a PEM file of certificates")]
    CaFile {
        /// Path of the file.
        path: String,
        /// What is wrong.
        problem: String,
    },
}

/// Makes connections.
pub(super) struct Target {
    /// The server, or the node that is named; news are heard there.
    node: Client,
    cluster: Option<ClusterClient>,
}

/// A connection that many operations share. Clones share it.
#[derive(Clone)]
pub(super) enum Connection {
    One(MultiplexedConnection),
    Cluster(Box<ClusterConnection>),
}

impl Target {
    pub(super) fn new(settings: &config::Redis) -> Result<Self, SharedError> {
        let bad = |problem| SharedError::Url { url: settings.url.clone(), problem };
        let info = info(settings).map_err(|_| bad("it cannot be read"))?;
        let certificates = certificates(settings)?;
        let node = match &certificates {
            Some(certificates) => Client::build_with_tls(info.clone(), certificates.clone()).map_err(|error| {
                let path = settings.ca_file.as_deref().unwrap_or(std::path::Path::new("")).display().to_string();
                SharedError::CaFile { path, problem: error.to_string() }
            })?,
            None => Client::open(info.clone()).map_err(|_| bad("it cannot be used"))?,
        };
        let cluster = if settings.cluster {
            // One more try, at once: for a slot that has moved. Anything longer is past the deadline anyway.
            let mut builder = ClusterClient::builder([info])
                .retries(1)
                .min_retry_wait(1)
                .max_retry_wait(10)
                .connection_timeout(CONNECT)
                .response_timeout(settings.deadline)
                .overall_response_timeout(Some(settings.deadline));
            if let Some(certificates) = certificates {
                builder = builder.certs(certificates);
            }
            Some(builder.build().map_err(|_| bad("it cannot be used for a cluster"))?)
        } else {
            None
        };
        Ok(Self { node, cluster })
    }

    /// A new connection. The caller limits the time.
    pub(super) async fn connect(&self) -> RedisResult<Connection> {
        match &self.cluster {
            Some(cluster) => Ok(Connection::Cluster(Box::new(cluster.get_async_connection().await?))),
            None => {
                let config =
                    AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(None);
                Ok(Connection::One(self.node.get_multiplexed_async_connection_with_config(&config).await?))
            }
        }
    }

    /// A new connection for subscriptions. The caller limits the time.
    pub(super) async fn listen(&self) -> RedisResult<PubSub> {
        self.node.get_async_pubsub().await
    }
}

fn info(settings: &config::Redis) -> RedisResult<ConnectionInfo> {
    let info = settings.url.expose().into_connection_info()?;
    let Some(password) = &settings.password else { return Ok(info) };
    let login = info.redis_settings().clone().set_password(password.expose());
    Ok(info.set_redis_settings(login))
}

fn certificates(settings: &config::Redis) -> Result<Option<TlsCertificates>, SharedError> {
    let Some(path) = &settings.ca_file else { return Ok(None) };
    let failed = |problem: String| SharedError::CaFile { path: path.display().to_string(), problem };
    let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let mut found = false;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        certificate.map_err(|error| failed(error.to_string()))?;
        found = true;
    }
    if !found {
        return Err(failed("there is no certificate in it".to_owned()));
    }
    Ok(Some(TlsCertificates { client_tls: None, root_cert: Some(pem) }))
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(one) => one.req_packed_command(cmd),
            Self::Cluster(cluster) => cluster.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(one) => one.req_packed_commands(pipeline, offset, count),
            Self::Cluster(cluster) => cluster.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(one) => one.get_db(),
            Self::Cluster(cluster) => cluster.get_db(),
        }
    }
}
