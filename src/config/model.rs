//! The configuration as the program uses it: every value checked, defaults applied, secrets resolved.
//!
//! `config/remora.toml` documents each key; the field docs here give units and what is not obvious from there.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{
    Alerts, KeySpec, MasterKey, RateSettings, RedisUrl, Rem, Savings, Seal, Secret, StoreUrl, Telemetry, TenantSpec,
    UnknownPrice,
};

/// Everything `remora serve` needs to run.
#[derive(Clone)]
pub struct Config {
    /// Data plane listener.
    pub server: Server,
    /// Admin plane listener.
    pub admin: Admin,
    /// The REM sidecar.
    pub rem: Rem,
    /// Durable storage.
    pub store: Store,
    /// What replicas share besides the store; `None` without a URL.
    pub redis: Option<Redis>,
    /// How rate limits and budgets are kept.
    pub limits: RateSettings,
    /// How prompts become vectors.
    pub embedding: Embedding,
    /// Cache policy; a tenant may narrow it.
    pub cache: Cache,
    /// Where requests are forwarded.
    pub upstream: Upstream,
    /// What models cost.
    pub prices: Prices,
    /// What the cache is measured by.
    pub savings: Savings,
    /// Whom to tell of what.
    pub alerts: Alerts,
    /// Declared tenants. Empty means passthrough mode.
    pub tenants: Vec<Tenant>,
    /// Logs and metric labels.
    pub telemetry: Telemetry,
}

/// `[server]`
#[derive(Clone, PartialEq)]
pub struct Server {
    /// Address of the data plane.
    pub listen: SocketAddr,
    /// TLS of the data plane; clear text without.
    pub tls: Option<Tls>,
    /// Whether an unknown key is sent upstream as the caller's own credential.
    pub passthrough: bool,
    /// How long open requests may run on after SIGTERM or SIGINT.
    pub drain: Duration,
    /// Sizes and counts.
    pub limits: Limits,
    /// Deadlines towards the client.
    pub deadlines: Deadlines,
}

/// Certificate files; reloaded when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// PEM file: leaf certificate first, then the chain.
    pub cert: PathBuf,
    /// PEM file: the private key.
    pub key: PathBuf,
}

/// `[server.limits]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections in all.
    pub connections: usize,
    /// Open connections from one address.
    pub connections_per_ip: usize,
    /// Concurrent HTTP/2 streams of one connection.
    pub h2_streams: u32,
    /// Bytes of request line and headers.
    pub head_bytes: usize,
    /// Number of request headers.
    pub headers: usize,
    /// Bytes of the request target.
    pub uri_bytes: usize,
    /// Bytes of a request body.
    pub body_bytes: usize,
    /// Nesting of JSON arrays and objects.
    pub json_depth: usize,
    /// Members of all objects of one body together.
    pub json_keys: usize,
    /// Elements of one array.
    pub json_array: usize,
    /// Bytes of one string.
    pub json_string: usize,
    /// Chat messages of one request.
    pub messages: usize,
    /// Tools of one request.
    pub tools: usize,
    /// Largest `n`.
    pub choices: u64,
    /// Stop sequences of one request.
    pub stop: usize,
    /// Bytes of an upstream response that is read as a whole or recorded.
    pub response_bytes: usize,
    /// Bytes of one line of an event stream.
    pub sse_line_bytes: usize,
    /// Bytes of one event of an event stream.
    pub sse_event_bytes: usize,
}

/// `[server.deadlines]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// From TCP accept to the end of the TLS handshake.
    pub tls: Duration,
    /// From the first wait for a request to the end of its head.
    pub head: Duration,
    /// Between two parts of a request body.
    pub body_idle: Duration,
    /// For a whole request body.
    pub body: Duration,
    /// An idle keep-alive connection.
    pub keep_alive: Duration,
    /// A client that does not read its reply.
    pub write_stall: Duration,
}

/// `[admin]`
#[derive(Clone, PartialEq)]
pub struct Admin {
    /// Address of the admin plane.
    pub listen: SocketAddr,
    /// TLS of the admin plane; clear text without.
    pub tls: Option<Tls>,
    /// Bearer token; required unless `listen` is a loopback address.
    pub token: Option<Secret>,
}

/// `[store]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// Where the data is.
    pub url: StoreUrl,
    /// A second database that receives every write after the first; none by default.
    pub shadow: Option<StoreUrl>,
    /// Whether `serve` brings an older schema up to date by itself.
    pub migrate: Migrate,
    /// File with the 32-byte secret that keys all hashes; made on first start. By default the path of a SQLite database
    /// plus `.key`; none with PostgreSQL, and then the secret is in the database, where all replicas find it.
    pub secret_file: Option<PathBuf>,
    /// Longest time a row waits before it is written.
    pub flush: Duration,
    /// How long a start waits for a database server that is not there yet.
    pub start_wait: Duration,
    /// Longest time to serve from memory without word from a store that other replicas change too.
    pub blind: Duration,
    /// Directory of the ledger journal. By default the path of a SQLite database plus `.journal`; with PostgreSQL
    /// `remora-journal` in the working directory.
    pub journal_dir: PathBuf,
    /// Most bytes of the ledger journal.
    pub journal_bytes: u64,
    /// Whether the disk is asked to keep what is appended to the journal.
    pub journal_sync: bool,
    /// Whose prompts, answers and vectors are sealed.
    pub seal: Seal,
    /// Wraps the data keys of sealed tenants.
    pub master_key: Option<MasterKey>,
    /// Opens data keys that have not been wrapped anew yet.
    pub previous_master_key: Option<MasterKey>,
}

/// `[store] migrate`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Migrate {
    /// Migrate at start.
    Auto,
    /// Refuse to start on an older schema.
    Manual,
}

/// `[redis]`
#[derive(Clone, PartialEq)]
pub struct Redis {
    /// Where it is.
    pub url: RedisUrl,
    /// Password, when it is not part of the URL.
    pub password: Option<Secret>,
    /// PEM file of the certificate authorities that are trusted instead of the public ones.
    pub ca_file: Option<PathBuf>,
    /// Whether the server is a node of a cluster.
    pub cluster: bool,
    /// Longest wait for any answer; past it the request goes on without.
    pub deadline: Duration,
    /// Operations at once; one more is refused.
    pub in_flight: usize,
    /// Background writes that may wait; one more is dropped.
    pub queue: usize,
    /// Longest life of a shared answer.
    pub exact_ttl: Duration,
    /// How long a request waits for another replica's answer to an equal prompt.
    pub lease_wait: Duration,
}

/// `[embedding]`
#[derive(Clone, PartialEq)]
pub struct Embedding {
    /// Which embedder.
    pub kind: EmbeddingKind,
    /// Longest wait for a vector on the request path; past it the semantic tier is bypassed.
    pub deadline: Duration,
    /// Inference threads of the built-in model.
    pub threads: usize,
    /// Prompts that may wait for a thread; one more is a bypass.
    pub queue: usize,
    /// Vectors remembered by text hash.
    pub cache_entries: usize,
}

/// `[embedding] kind`
#[derive(Clone, PartialEq)]
pub enum EmbeddingKind {
    /// The model inside the binary.
    Builtin,
    /// Any OpenAI-compatible `/embeddings` endpoint.
    OpenAi {
        /// Base URL, as in `https://api.openai.com/v1`.
        url: String,
        /// Model name sent in the request.
        model: String,
        /// Bearer token.
        api_key: Option<Secret>,
        /// Expected length of the vectors.
        dimensions: usize,
    },
}

/// How far a request may go into the cache. Ordered: each step allows more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheMode {
    /// Neither read nor store.
    Off,
    /// Exact tier only.
    Exact,
    /// Exact tier; what the semantic tier would have served is recorded.
    Shadow,
    /// Exact and semantic tier.
    Semantic,
}

/// Who shares answers inside a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Share {
    /// Only the same key.
    Key,
    /// All keys of the tenant.
    Tenant,
    /// Only the same end user (`x-remora-user`, else the body's `user`).
    User,
}

/// `[cache]`
#[derive(Clone, Debug, PartialEq)]
pub struct Cache {
    /// Tiers in use.
    pub mode: CacheMode,
    /// Lifetime of an answer from its creation; a read does not extend it.
    pub ttl: Duration,
    /// Least cosine of a semantic hit, 0–1; a caller may only raise it.
    pub similarity: f32,
    /// Wrong answers that may be served by similarity, as a share of all requests.
    pub max_error_rate: f64,
    /// Sharing scope.
    pub share: Share,
    /// Highest temperature of a semantic candidate; a request without the member counts as 1.
    pub max_temperature: f64,
    /// Answers kept.
    pub max_entries: usize,
    /// Bytes of all kept answers, prompts and vectors.
    pub max_bytes: u64,
    /// Bytes of answers held in memory; the rest is read from the store.
    pub memory_bytes: u64,
    /// Memory for the index; what does not fit is searched in the store, where the store can.
    pub index_bytes: u64,
    /// Largest answer that is stored, in bytes.
    pub max_entry_bytes: usize,
    /// Names of guards that are switched off.
    pub guards_off: Vec<String>,
    /// Entries in a partition from which it is searched through a graph instead of by a scan.
    pub hnsw_from: usize,
    /// File of weights instead of the shipped ones.
    pub weights_file: Option<PathBuf>,
    /// Whether the prompt of every decision is recorded, for `remora replay`.
    pub record_prompts: bool,
    /// How long decisions are kept.
    pub keep_decisions: Duration,
    /// Whether an answer is served to others only after two writers got it.
    pub two_writers: bool,
    /// Answers that one key may store in a minute.
    pub writes_per_minute: u32,
    /// Largest share of a full cache that one key may hold, 0–1.
    pub writer_share: f64,
    /// Distinct near misses of one key in ten minutes that raise the alarm.
    pub probe_alarm: u32,
    /// Checking what is served.
    pub audit: Audit,
}

/// `[cache.audit]`
#[derive(Clone, Debug, PartialEq)]
pub struct Audit {
    /// Share of the semantic hits that are asked again, 0–1.
    pub rate: f64,
    /// Most audits of one tenant in an hour.
    pub per_hour: u32,
    /// Most tokens that audits of one tenant may cost in a day.
    pub tokens_per_day: u64,
}

/// `[[upstream]]`; exactly one for now.
#[derive(Clone, PartialEq)]
pub struct Upstream {
    /// Name in metrics and logs.
    pub name: String,
    /// Base URL without trailing slash, as in `https://api.openai.com/v1`.
    pub url: String,
    /// Credential sent upstream for callers with a virtual key.
    pub api_key: Option<Secret>,
    /// PEM file of certificate authorities trusted besides the public ones.
    pub ca_file: Option<PathBuf>,
    /// TCP connect and TLS handshake.
    pub connect: Duration,
    /// From sending the request to the response head when a stream was asked for.
    pub first_byte_stream: Duration,
    /// The same for a whole answer.
    pub first_byte: Duration,
    /// Between two parts of a response body.
    pub idle: Duration,
    /// A whole request, first byte to last.
    pub total: Duration,
    /// Requests in flight to this upstream; one more waits.
    pub max_in_flight: usize,
    /// Whether it is sent the trace context of requests.
    pub trace_context: bool,
}

/// `[[tenant]]`
#[derive(Clone, PartialEq)]
pub struct Tenant {
    /// Unique name; is the tenant id.
    pub name: String,
    /// Its keys.
    pub keys: Vec<TenantKey>,
    /// Upstream credential of this tenant, instead of the shared one.
    pub upstream_api_key: Option<Secret>,
    /// What it is held to, `[tenant.cache]` among it.
    pub spec: TenantSpec,
}

/// `[[tenant.key]]`
#[derive(Clone, PartialEq)]
pub struct TenantKey {
    /// Unique within the tenant; is the key id, as `tenant/name`.
    pub name: String,
    /// What the caller sends.
    pub secret: Secret,
    /// What the key may do and what it is held to.
    pub spec: KeySpec,
}

/// `[tenant.cache]`
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TenantCache {
    /// See [`Cache::mode`]; the narrower of the two holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<CacheMode>,
    /// See [`Cache::ttl`]; the shorter of the two holds.
    #[serde(skip_serializing_if = "Option::is_none", with = "super::units::optional_duration")]
    pub ttl: Option<Duration>,
    /// See [`Cache::similarity`]; the higher of the two holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub similarity: Option<f32>,
    /// See [`Cache::max_error_rate`]; the lower of the two holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_error_rate: Option<f64>,
    /// See [`Cache::share`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<Share>,
}

/// `[prices]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prices {
    /// Price list of the operator, laid over the shipped one.
    pub file: Option<PathBuf>,
    /// What to do with a model without a price, where the tenant says nothing.
    pub unknown: UnknownPrice,
    /// Output tokens that are taken for an answer without a limit of a model whose longest answer is not known.
    pub assumed_output: u32,
}
