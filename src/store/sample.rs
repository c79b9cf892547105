//! Sample rows for tests of storage.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use super::{
    AlertRow, Attempt, AuditRow, DecisionRow, DecisionWrite, Entry, EntryWrite, KeyRow, LearnedRow, LedgerRow, Point,
    TenantRecord, TokenRow, Tokens,
};
use crate::ids::{AuditId, EntryId, KeyId, PointId, RequestId, TenantId};

/// Far beyond every `now` of these tests.
pub(crate) const LATER: u64 = 1_000_000;

pub(crate) fn tenant(name: &str) -> TenantId {
    TenantId::new(name)
}

/// The entry id with this number; higher numbers are newer.
pub(crate) fn entry_id(number: u64) -> EntryId {
    EntryId::from_bytes(u128::from(number).to_be_bytes())
}

pub(crate) fn request_id(number: u64) -> RequestId {
    RequestId::from_bytes(u128::from(number).to_be_bytes())
}

/// A plain entry that expires at [`LATER`].
pub(crate) fn entry(owner: &str, number: u64) -> Entry {
    Entry {
        id: entry_id(number),
        tenant: tenant(owner),
        partition: [1; 32],
        namespace: String::new(),
        dialect: Cow::Borrowed("chat"),
        model: "gpt-4o".into(),
        body: Bytes::from(format!(r#"{{"answer":{number}}}"#)),
        finish: Cow::Borrowed("stop"),
        completion_tokens: Some(7),
        token_limit: None,
        writer: KeyId::new(format!("{owner}/default")),
        tags: Vec::new(),
        created_at: number,
        expires_at: LATER,
    }
}

/// The point with this number (unique among those of the entry) that leads to entry `of`.
pub(crate) fn point(owner: &str, of: u64, number: u64) -> Point {
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let component = (of * 10 + number) as f32;
    Point {
        id: PointId::from_bytes(u128::from(of * 1000 + number).to_be_bytes()),
        entry: entry_id(of),
        tenant: tenant(owner),
        partition: [1; 32],
        fingerprint: [2; 32],
        normalised: Some([3; 32]),
        prompt: Some(format!("prompt {of}.{number}")),
        space: Some("minilm@1/4".into()),
        vector: Some(vec![component, -0.5, f32::MIN_POSITIVE, 0.0]),
        contradicts: 0,
        writer: KeyId::new(format!("{owner}/default")),
        created_at: number,
    }
}

/// Stores entry `number` with points 0 and 1.
pub(crate) fn put(owner: &str, number: u64) -> EntryWrite {
    put_entry(entry(owner, number), vec![point(owner, number, 0), point(owner, number, 1)])
}

pub(crate) fn put_entry(entry: Entry, points: Vec<Point>) -> EntryWrite {
    EntryWrite::Put { entry: Arc::new(entry), points }
}

pub(crate) fn delete(owner: &str, number: u64) -> EntryWrite {
    EntryWrite::Delete { tenant: tenant(owner), entry: entry_id(number) }
}

/// A row in which every field is set.
pub(crate) fn row(owner: &str, number: u64) -> LedgerRow {
    LedgerRow {
        request: request_id(number),
        started_at: number,
        tenant: Some(tenant(owner)),
        key: Some(KeyId::new(format!("{owner}/default"))),
        user: Some("Zoë".into()),
        tags: vec![("team".into(), "search, \"ops\"".into()), ("größe".into(), "☃".into())],
        route: "POST /v1/chat/completions".into(),
        dialect: Cow::Borrowed("chat"),
        model_asked: Some("gpt-4o".into()),
        model_answered: Some("gpt-4o-2024-11-20".into()),
        stream: true,
        outcome: Cow::Borrowed("hit"),
        tier: Some(Cow::Borrowed("semantic")),
        reason: Some(Cow::Borrowed("none")),
        similarity: Some(0.927),
        entry: Some(entry_id(number)),
        status: 200,
        upstream: Some("openai".into()),
        upstream_status: Some(599),
        tokens: Tokens::of([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        tokens_source: Some(Cow::Borrowed("replayed")),
        latency_us: 1_234,
        ttft_us: Some(99),
        overhead_us: 77,
        cost_nano_usd: Some(-1),
        embedding_nano_usd: Some(20),
        saved_gross_nano_usd: Some(1 << 40),
        saved_nano_usd: Some((1 << 40) - 20),
        price_version: Some("2026-08".into()),
        service: Some(Cow::Borrowed("flex")),
        attempts: vec![attempt(number, 1), bare_attempt(number, 2)],
    }
}

/// An attempt in which every field is set.
pub(crate) fn attempt(at: u64, number: u16) -> Attempt {
    Attempt {
        number,
        kind: Cow::Borrowed("completion"),
        started_at: at,
        upstream: "größe".into(),
        model: Some("gpt-4o".into()),
        status: Some(503),
        latency_us: 1_200,
        tokens: Tokens::of([11, 12, 13, 14, 15, 16, 17, 18, 19, 20]),
        tokens_source: Some(Cow::Borrowed("estimated")),
        service: Some(Cow::Borrowed("batch")),
        cost_nano_usd: Some(i64::MIN),
        price_version: Some("2026-08".into()),
    }
}

/// An attempt in which every field that may be absent is.
pub(crate) fn bare_attempt(at: u64, number: u16) -> Attempt {
    Attempt {
        kind: Cow::Borrowed("embedding"),
        model: None,
        status: None,
        tokens: Tokens::default(),
        tokens_source: None,
        service: None,
        cost_nano_usd: None,
        price_version: None,
        ..attempt(at, number)
    }
}

/// A row in which every field that may be absent is.
pub(crate) fn bare_row(number: u64) -> LedgerRow {
    LedgerRow {
        tenant: None,
        key: None,
        user: None,
        tags: Vec::new(),
        model_asked: None,
        model_answered: None,
        stream: false,
        tier: None,
        reason: None,
        similarity: None,
        entry: None,
        upstream: None,
        upstream_status: None,
        tokens: Tokens::default(),
        tokens_source: None,
        ttft_us: None,
        cost_nano_usd: None,
        embedding_nano_usd: None,
        saved_gross_nano_usd: None,
        saved_nano_usd: None,
        price_version: None,
        service: None,
        attempts: Vec::new(),
        ..row("nobody", number)
    }
}

/// A decision made at `number`, in which every field is set.
pub(crate) fn decision(owner: &str, number: u64) -> DecisionRow {
    DecisionRow {
        request: request_id(number),
        at: number,
        tenant: tenant(owner),
        key: KeyId::new(format!("{owner}/default")),
        model: "gpt-4o".into(),
        partition: [4; 32],
        mode: Cow::Borrowed("shadow"),
        verdict: Cow::Borrowed("accept"),
        would_serve: true,
        entry: Some(entry_id(number)),
        point: Some(PointId::from_bytes(u128::from(number * 1000).to_be_bytes())),
        cosine: Some(0.927),
        probability: Some(0.98),
        theta: Some(0.97),
        inputs: vec![1.0, -0.0, f32::MIN_POSITIVE, 0.4],
        right: Some(false),
        label: Some(Cow::Borrowed("audit")),
        tokens: Some(7),
        prompt: Some("Größe \"☃\" \u{0} ?".into()),
    }
}

/// A decision in which every field that may be absent is.
pub(crate) fn bare_decision(owner: &str, number: u64) -> DecisionRow {
    DecisionRow {
        verdict: Cow::Borrowed("nothing_near"),
        would_serve: false,
        entry: None,
        point: None,
        cosine: None,
        probability: None,
        theta: None,
        inputs: Vec::new(),
        right: None,
        label: None,
        tokens: None,
        prompt: None,
        ..decision(owner, number)
    }
}

pub(crate) fn new_decision(row: DecisionRow) -> DecisionWrite {
    DecisionWrite::New(Box::new(row))
}

pub(crate) fn label(number: u64, right: bool, source: &'static str) -> DecisionWrite {
    DecisionWrite::Label { request: request_id(number), right, label: Cow::Borrowed(source) }
}

pub(crate) fn learned(owner: &str, model: &str, updated_at: u64) -> LearnedRow {
    let state = format!(r#"{{"weights":[{updated_at}]}}"#);
    LearnedRow { tenant: tenant(owner), model: model.into(), state, updated_at }
}

/// Moves point `number` of entry `from` to entry `to`, with guards and a tag of its own.
pub(crate) fn link(owner: &str, from: u64, number: u64, to: u64) -> EntryWrite {
    EntryWrite::Link {
        tenant: tenant(owner),
        point: point(owner, from, number).id,
        from: entry_id(from),
        to: entry_id(to),
        contradicts: 0b101,
        tags: vec![("team".into(), format!("linked {from}.{number}"))],
    }
}

pub(crate) fn merge(owner: &str, from: u64, to: u64) -> EntryWrite {
    let tags = vec![("team".into(), format!("merged {from}"))];
    EntryWrite::Merge { tenant: tenant(owner), from: entry_id(from), to: entry_id(to), tags }
}

pub(crate) fn drop_point(owner: &str, of: u64, number: u64) -> EntryWrite {
    EntryWrite::DropPoint { tenant: tenant(owner), entry: entry_id(of), point: point(owner, of, number).id }
}

pub(crate) fn audit_id(number: u64) -> AuditId {
    AuditId::from_bytes(u128::from(number).to_be_bytes())
}

/// A row in which every field is set.
pub(crate) fn audit_row(number: u64) -> AuditRow {
    AuditRow {
        id: audit_id(number),
        at: number,
        actor: "9f86d081".into(),
        action: Cow::Borrowed("cache.invalidate"),
        reason: Some("wrong \"prices\", größer".into()),
        what: r#"{"tag":"team=blue"}"#.into(),
        result: r#"{"removed":3}"#.into(),
    }
}

/// A tenant with everything that it may have.
pub(crate) fn tenant_record(name: &str) -> TenantRecord {
    TenantRecord {
        tenant: tenant(name),
        declared: true,
        spec: r#"{"limits":{"rpm":60}}"#.into(),
        credential: Some(Bytes::from_static(&[0, 1, 255])),
        created_at: 1,
        updated_at: 2,
    }
}

/// A key in which every field is set.
pub(crate) fn key_row(owner: &str, number: u64) -> KeyRow {
    KeyRow {
        id: format!("key{number:05}"),
        tenant: tenant(owner),
        name: "größe".into(),
        hash: [6; 32],
        spec: r#"{"models":["gpt-4o*"]}"#.into(),
        expires_at: Some(7_000),
        replaced_by: Some("key99999".into()),
        created_at: number,
        updated_at: number + 1,
        used_at: Some(number + 2),
    }
}

/// An admin token in which every field is set.
pub(crate) fn token_row(number: u64) -> TokenRow {
    TokenRow {
        id: format!("tok{number:05}"),
        name: format!("ci {number}"),
        hash: [7; 32],
        role: "operator".into(),
        tenant: Some(tenant("ann")),
        expires_at: Some(8_000),
        created_at: number,
        used_at: Some(number + 3),
    }
}

/// An alert raised at `number`.
pub(crate) fn alert_row(owner: &str, number: u64) -> AlertRow {
    AlertRow {
        id: format!("budget:{owner}:month:0:{number}"),
        at: number,
        tenant: Some(tenant(owner)),
        kind: "budget_threshold".into(),
        title: "80 % of the budget is spent, größer".into(),
        payload: r#"{"spent":"8.00"}"#.into(),
    }
}
