//! Requests with their attempts, corrections of them, and what they cost.

use super::super::rollup::{Delta, MEASURES, columns_of, group_of};
use super::super::{Attempt, Correction, LedgerRow, Rated, Spend, StoreError, Tokens, UsageAsk, UsageRow};
use super::cells::{Cells, StoredRow};
use crate::ids::{EntryId, KeyId, RequestId, TenantId};

/// The columns of a request, in the order in which rows are written and read. The name of the user's is a word of PostgreSQL's.
macro_rules! request_columns {
    ($user:literal) => {
        concat!(
            "id, started_at, tenant, key, ",
            $user,
            ", tags, route, dialect, model_asked, model_answered, stream, outcome, tier, \
             reason, similarity, entry, status, upstream, upstream_status, tokens_input, tokens_cache_read, \
             tokens_cache_write, tokens_output, tokens_reasoning, tokens_source, latency_us, ttft_us, overhead_us, \
             cost_nano_usd, saved_nano_usd, price_version, tokens_cache_write_1h, tokens_audio_input, tokens_audio_output, \
             tokens_image_input, tokens_image_output, service, embedding_nano_usd, saved_gross_nano_usd"
        )
    };
}

/// A request without its attempts.
pub(in crate::store) fn request<'r>(row: &'r impl StoredRow<'r>) -> Result<LedgerRow, StoreError> {
    let mut cells = Cells::of("requests", row);
    let mut row = LedgerRow {
        request: RequestId::from_bytes(cells.id()?),
        started_at: cells.count()?,
        tenant: cells.take::<Option<&str>>()?.map(TenantId::new),
        key: cells.take::<Option<&str>>()?.map(KeyId::new),
        user: cells.text_or_null()?,
        tags: cells.tags()?,
        route: cells.string()?,
        dialect: cells.word()?,
        model_asked: cells.text_or_null()?,
        model_answered: cells.text_or_null()?,
        stream: cells.take()?,
        outcome: cells.word()?,
        tier: cells.word_or_null()?,
        reason: cells.word_or_null()?,
        similarity: cells.take()?,
        entry: cells.id_or_null()?.map(EntryId::from_bytes),
        status: cells.small()?,
        upstream: cells.text_or_null()?,
        upstream_status: cells.small_or_null()?,
        tokens: Tokens {
            input: cells.count()?,
            cache_read: cells.count()?,
            cache_write: cells.count()?,
            output: cells.count()?,
            reasoning: cells.count()?,
            ..Tokens::default()
        },
        tokens_source: cells.word_or_null()?,
        latency_us: cells.count()?,
        ttft_us: cells.count_or_null()?,
        overhead_us: cells.count()?,
        cost_nano_usd: cells.take()?,
        embedding_nano_usd: None,
        saved_gross_nano_usd: None,
        saved_nano_usd: cells.take()?,
        price_version: cells.text_or_null()?,
        service: None,
        attempts: Vec::new(),
    };
    for count in [
        &mut row.tokens.cache_write_1h,
        &mut row.tokens.audio_input,
        &mut row.tokens.audio_output,
        &mut row.tokens.image_input,
        &mut row.tokens.image_output,
    ] {
        *count = cells.count_or_null()?.unwrap_or(0);
    }
    row.service = cells.word_or_null()?;
    row.embedding_nano_usd = cells.take()?;
    row.saved_gross_nano_usd = cells.take()?;
    Ok(row)
}

/// The columns of an attempt after those that name its request.
macro_rules! attempt_columns {
    () => {
        "number, kind, started_at, upstream, model, status, latency_us, tokens_input, \
         tokens_cache_read, tokens_cache_write, tokens_cache_write_1h, tokens_output, tokens_reasoning, \
         tokens_audio_input, tokens_audio_output, tokens_image_input, tokens_image_output, tokens_source, \
         service, cost_nano_usd, price_version"
    };
}

/// An attempt, of which the next cell is the first.
pub(in crate::store) fn attempt<'r>(cells: &mut Cells<'r, impl StoredRow<'r>>) -> Result<Attempt, StoreError> {
    let mut attempt = Attempt {
        number: cells.small()?,
        kind: cells.word()?,
        started_at: cells.count()?,
        upstream: cells.string()?,
        model: cells.text_or_null()?,
        status: cells.small_or_null()?,
        latency_us: cells.count()?,
        tokens: Tokens::default(),
        tokens_source: None,
        service: None,
        cost_nano_usd: None,
        price_version: None,
    };
    let mut counts = [0; 10];
    for count in &mut counts {
        *count = cells.count()?;
    }
    attempt.tokens = Tokens::of(counts);
    attempt.tokens_source = cells.word_or_null()?;
    attempt.service = cells.word_or_null()?;
    attempt.cost_nano_usd = cells.take()?;
    attempt.price_version = cells.text_or_null()?;
    Ok(attempt)
}

/// The columns of a correction, in the order in which they are written and read.
macro_rules! correction_columns {
    () => {
        "request, at, started_at, before_cost, before_embedding, before_saved_gross, before_saved_net, \
         before_price_version, after_cost, after_embedding, after_saved_gross, after_saved_net, after_price_version"
    };
}

pub(in crate::store) fn correction<'r>(row: &'r impl StoredRow<'r>) -> Result<Correction, StoreError> {
    let mut cells = Cells::of("corrections", row);
    let mut correction = Correction {
        request: RequestId::from_bytes(cells.id()?),
        at: cells.count()?,
        started_at: cells.count()?,
        before: Rated::default(),
        after: Rated::default(),
    };
    for rated in [&mut correction.before, &mut correction.after] {
        *rated = Rated {
            cost: cells.take()?,
            embedding: cells.take()?,
            saved_gross: cells.take()?,
            saved_net: cells.take()?,
            price_version: cells.text_or_null()?,
        };
    }
    Ok(correction)
}

pub(in crate::store) fn spend<'r>(row: &'r impl StoredRow<'r>) -> Result<Spend, StoreError> {
    let mut cells = Cells::of("requests", row);
    Ok(Spend {
        tenant: cells.take::<Option<&str>>()?.map(TenantId::new),
        slot: cells.count()?,
        key: cells.take::<Option<&str>>()?.map(KeyId::new),
        model: cells.text_or_null()?,
        tags: cells.tags()?,
        nano_usd: cells.take()?,
        requests: cells.count()?,
        unpriced: cells.count()?,
    })
}

/// A row of a report on usage. How a sum is selected, and so is read by `sum`, is for the database to say.
pub(in crate::store) fn usage<'r, R: StoredRow<'r>>(
    ask: &UsageAsk,
    row: &'r R,
    sum: fn(&mut Cells<'r, R>) -> Result<i64, StoreError>,
) -> Result<UsageRow, StoreError> {
    let mut cells = Cells::of("usage_sums", row);
    let slot = cells.count()?;
    let mut texts = Vec::new();
    for _ in columns_of(&ask.by) {
        texts.push(cells.string()?);
    }
    let mut sums = Delta([0; MEASURES]);
    for one in &mut sums.0 {
        *one = sum(&mut cells)?;
    }
    Ok(UsageRow { slot: ask.slot.map(|_| slot), group: group_of(&ask.by, texts), sums: sums.sums() })
}

pub(in crate::store) use {attempt_columns, correction_columns, request_columns};
