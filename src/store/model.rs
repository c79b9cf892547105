//! What is stored: answers, the points that lead to them, the ledger, and decisions of the semantic tier.
//!
//! A *point* is one stored prompt; it leads to exactly one *entry*, the answer. Several points may share an entry.

use std::borrow::Cow;

use bytes::Bytes;

use crate::clock::UnixMs;
use crate::ids::{AuditId, EntryId, KeyId, PointId, RequestId, TenantId};

/// A 256-bit keyed hash: a fingerprint, a partition or a normalised prompt.
pub type Digest = [u8; 32];

/// One cached answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Identity, in time order.
    pub id: EntryId,
    /// Owner. Checked again before an answer is served.
    pub tenant: TenantId,
    /// What must match exactly for a semantic hit.
    pub partition: Digest,
    /// `x-remora-namespace`, empty if none.
    pub namespace: String,
    /// Wire format of `body`, as in `chat`, `completions`, `embeddings`.
    pub dialect: Cow<'static, str>,
    /// Model as the caller asked for it.
    pub model: String,
    /// The answer as one JSON document, exactly as a client that did not ask for a stream would get it.
    pub body: Bytes,
    /// Why the answer ended: `stop` or `tool_calls`; empty where the dialect has no such thing.
    pub finish: Cow<'static, str>,
    /// Tokens of the answer if upstream told.
    pub completion_tokens: Option<u64>,
    /// The token limit of the request that produced it (`max_tokens` and its kin).
    pub token_limit: Option<u64>,
    /// Whose request produced it.
    pub writer: KeyId,
    /// `x-remora-tags`.
    pub tags: Vec<(String, String)>,
    /// When it was made.
    pub created_at: UnixMs,
    /// From when on it is never served.
    pub expires_at: UnixMs,
}

/// One stored prompt and where it leads.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Identity, in time order.
    pub id: PointId,
    /// The answer it leads to.
    pub entry: EntryId,
    /// Owner; always that of the entry.
    pub tenant: TenantId,
    /// Partition the vector is searched in.
    pub partition: Digest,
    /// Key of the exact tier.
    pub fingerprint: Digest,
    /// Key of the normalised prompt inside the partition; only for semantic candidates.
    pub normalised: Option<Digest>,
    /// The last user turn; only for semantic candidates.
    pub prompt: Option<String>,
    /// Embedding space of `vector`, as `model@revision/dimensions`.
    pub space: Option<String>,
    /// Unit-norm embedding of `prompt`.
    pub vector: Option<Vec<f32>>,
    /// Guards that objected between this prompt and another of its entry although both had the same answer; bit n is
    /// guard n.
    pub contradicts: u16,
    /// Whose request made it.
    pub writer: KeyId,
    /// When it was made.
    pub created_at: UnixMs,
}

/// Tokens of one request by kind. The kinds do not overlap: their sum is what was billed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Text input that was neither read from nor written to the provider's prompt cache.
    pub input: u64,
    /// Input read from the provider's prompt cache.
    pub cache_read: u64,
    /// Input written to the provider's prompt cache for its usual time.
    pub cache_write: u64,
    /// Input written to the provider's prompt cache for an hour, where that is billed apart.
    pub cache_write_1h: u64,
    /// Text output without reasoning.
    pub output: u64,
    /// Reasoning output.
    pub reasoning: u64,
    /// Sound in the input.
    pub audio_input: u64,
    /// Sound in the output.
    pub audio_output: u64,
    /// Pictures in the input, where they are billed apart from text.
    pub image_input: u64,
    /// Pictures in the output, where they are billed apart from text.
    pub image_output: u64,
}

impl Tokens {
    /// Names of the kinds, in the order of [`Tokens::counts`]: labels of metrics and members of reports.
    pub const KINDS: [&str; 10] = [
        "input",
        "cache_read",
        "cache_write",
        "cache_write_1h",
        "output",
        "reasoning",
        "audio_input",
        "audio_output",
        "image_input",
        "image_output",
    ];

    /// The counts in the order of [`Tokens::KINDS`].
    pub fn counts(&self) -> [u64; 10] {
        let Self {
            input,
            cache_read,
            cache_write,
            cache_write_1h,
            output,
            reasoning,
            audio_input,
            audio_output,
            image_input,
            image_output,
        } = *self;
        [
            input,
            cache_read,
            cache_write,
            cache_write_1h,
            output,
            reasoning,
            audio_input,
            audio_output,
            image_input,
            image_output,
        ]
    }

    /// What [`Tokens::counts`] took apart.
    pub fn of(counts: [u64; 10]) -> Self {
        let [
            input,
            cache_read,
            cache_write,
            cache_write_1h,
            output,
            reasoning,
            audio_input,
            audio_output,
            image_input,
            image_output,
        ] = counts;
        Self {
            input,
            cache_read,
            cache_write,
            cache_write_1h,
            output,
            reasoning,
            audio_input,
            audio_output,
            image_input,
            image_output,
        }
    }

    /// All tokens.
    pub fn sum(&self) -> u64 {
        self.counts().into_iter().fold(0, u64::saturating_add)
    }

    /// All tokens of the input.
    pub fn input_sum(&self) -> u64 {
        [self.input, self.cache_read, self.cache_write, self.cache_write_1h, self.audio_input, self.image_input]
            .into_iter()
            .fold(0, u64::saturating_add)
    }

    /// Both together, kind by kind.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let mut counts = self.counts();
        for (count, more) in counts.iter_mut().zip(other.counts()) {
            *count = count.saturating_add(more);
        }
        Self::of(counts)
    }
}

/// One call to an upstream on behalf of a request. A request that was answered from the cache has none, one that was tried
/// twice has two; the provider may bill each.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// Which call of its request it is, from 1.
    pub number: u16,
    /// What for: `completion` (the answer), `check` (a hit asked again) or `embedding` (the vector of a prompt).
    pub kind: Cow<'static, str>,
    /// When it was sent.
    pub started_at: UnixMs,
    /// The upstream's name.
    pub upstream: String,
    /// Model asked for.
    pub model: Option<String>,
    /// The upstream's status; `None` if there was no answer.
    pub status: Option<u16>,
    /// Sent to head of the answer or failure, microseconds.
    pub latency_us: u64,
    /// Tokens that are billed for it.
    pub tokens: Tokens,
    /// As [`LedgerRow::tokens_source`].
    pub tokens_source: Option<Cow<'static, str>>,
    /// As [`LedgerRow::service`].
    pub service: Option<Cow<'static, str>>,
    /// What it cost, nano-dollars; `None` if its model has no price.
    pub cost_nano_usd: Option<i64>,
    /// Version of the price that was used.
    pub price_version: Option<String>,
}

/// Tag of a check's ledger row: the request that was checked. Reports have no groups for it.
pub const AUDIT_OF: &str = "audit_of";

/// One row of the requests ledger: exactly one for each request.
#[derive(Clone, Debug, PartialEq)]
pub struct LedgerRow {
    /// Identity.
    pub request: RequestId,
    /// When its head had been read.
    pub started_at: UnixMs,
    /// Who; `None` if the caller was not known.
    pub tenant: Option<TenantId>,
    /// With which key.
    pub key: Option<KeyId>,
    /// End user named by the caller.
    pub user: Option<String>,
    /// `x-remora-tags`.
    pub tags: Vec<(String, String)>,
    /// HTTP method and path, as in `POST /v1/chat/completions`.
    pub route: String,
    /// Wire format, as in `chat`; `other` for what is passed through.
    pub dialect: Cow<'static, str>,
    /// Model in the request.
    pub model_asked: Option<String>,
    /// Model in the answer.
    pub model_answered: Option<String>,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// `hit`, `miss`, `bypass`, `refresh`, `coalesced`, `refused`, `failed`, `cancelled`; `audit` for a hit that was asked again, or
    /// was to be and had no room (`reason`).
    pub outcome: Cow<'static, str>,
    /// `exact` or `semantic`, on hits.
    pub tier: Option<Cow<'static, str>>,
    /// Why not a hit, not stored, or refused: one of the closed list of reasons.
    pub reason: Option<Cow<'static, str>>,
    /// Cosine of the best candidate, if one was looked for.
    pub similarity: Option<f32>,
    /// Entry served or stored.
    pub entry: Option<EntryId>,
    /// Status sent to the client.
    pub status: u16,
    /// Upstream's name, if it was asked.
    pub upstream: Option<String>,
    /// Upstream's status.
    pub upstream_status: Option<u16>,
    /// Tokens that upstream billed for, or on a hit those replayed.
    pub tokens: Tokens,
    /// Whether `tokens` were told by upstream (`billed`), counted by us (`estimated`), come from an entry or a shared answer
    /// (`replayed`), or cannot be known although upstream bills (`unknown`).
    pub tokens_source: Option<Cow<'static, str>>,
    /// Request head read to last byte handed over, microseconds.
    pub latency_us: u64,
    /// Request head read to first byte of the body, microseconds.
    pub ttft_us: Option<u64>,
    /// Time that this program added, microseconds.
    pub overhead_us: u64,
    /// What its calls for an answer cost, nano-dollars: the sum over its attempts but those for a vector. `None` if a model
    /// has no price. Nothing for what the cache answered.
    pub cost_nano_usd: Option<i64>,
    /// What its vector cost, nano-dollars: nothing with the embedder inside the program.
    pub embedding_nano_usd: Option<i64>,
    /// What an upstream would have been paid if the cache had not answered, nano-dollars. `None` if that is not known; 0 for
    /// what the cache did not answer.
    pub saved_gross_nano_usd: Option<i64>,
    /// The same less what the cache cost for this row: its vector, and all of it if the row is that of a check. So the sum over
    /// all rows is what was saved net. Nano-dollars; negative for a miss that paid for a vector.
    pub saved_nano_usd: Option<i64>,
    /// Version of the price that was used.
    pub price_version: Option<String>,
    /// Service tier that the provider billed, as in `batch`, `flex`, `priority`; `None` is the standard one.
    pub service: Option<Cow<'static, str>>,
    /// Its calls to upstreams, by number.
    pub attempts: Vec<Attempt>,
}

impl LedgerRow {
    /// Whether it is that of a hit asked again: what it cost is a cost of the cache.
    pub fn is_check(&self) -> bool {
        self.outcome == "audit" || self.attempts.iter().any(|attempt| attempt.kind == "check")
    }

    /// Whether an upstream billed for it and nobody knows how much.
    pub fn is_unpriced(&self) -> bool {
        self.cost_nano_usd.is_none() && self.tokens_source.as_deref().is_some_and(|source| source != "replayed")
    }
}

/// One decision of the semantic tier about one request.
#[derive(Clone, Debug, PartialEq)]
pub struct DecisionRow {
    /// Identity: a request is decided once.
    pub request: RequestId,
    /// When it was decided.
    pub at: UnixMs,
    /// Who asked.
    pub tenant: TenantId,
    /// With which key.
    pub key: KeyId,
    /// Model in the request.
    pub model: String,
    /// Where candidates were looked for.
    pub partition: Digest,
    /// `serve` or `shadow`.
    pub mode: Cow<'static, str>,
    /// `accept`, or why not.
    pub verdict: Cow<'static, str>,
    /// Whether it was served, or would have been in another mode.
    pub would_serve: bool,
    /// Entry of the best candidate.
    pub entry: Option<EntryId>,
    /// Point of the best candidate.
    pub point: Option<PointId>,
    /// Cosine between the prompt and the candidate's, -1 to 1.
    pub cosine: Option<f32>,
    /// That the candidate's answer is right, 0 to 1.
    pub probability: Option<f32>,
    /// Least probability that was served at that moment, 0 to 1.
    pub theta: Option<f32>,
    /// What the probability was made from; empty if nothing was near.
    pub inputs: Vec<f32>,
    /// Whether the candidate's answer was right, once known.
    pub right: Option<bool>,
    /// Where that is known from: `audit`, `miss` or `feedback`.
    pub label: Option<Cow<'static, str>>,
    /// Tokens of the candidate's answer, if known.
    pub tokens: Option<u64>,
    /// The prompt, where prompts are recorded.
    pub prompt: Option<String>,
}

/// What was learnt from the decisions of one tenant about one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LearnedRow {
    /// Owner.
    pub tenant: TenantId,
    /// Model in the requests.
    pub model: String,
    /// The state, in the form of whoever learns.
    pub state: String,
    /// When it was last saved.
    pub updated_at: UnixMs,
}

/// One change made through the admin plane. Rows are added and never changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    /// Identity, in time order.
    pub id: AuditId,
    /// When the change was made.
    pub at: UnixMs,
    /// Who: the name of an admin token, a short hash of the configured one, `loopback` where none is needed, or what caused
    /// it, as in `start` and `SIGHUP`.
    pub actor: String,
    /// What kind of change, as in `cache.invalidate`.
    pub action: Cow<'static, str>,
    /// Why, in the words of whoever made it.
    pub reason: Option<String>,
    /// What was asked for, as JSON.
    pub what: String,
    /// What came of it, as JSON.
    pub result: String,
}
