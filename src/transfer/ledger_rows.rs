//! The bytes of ledger rows and of their corrections, as in `rows.rs`.

use super::codec::{BadBytes, Reader, Writer};
use crate::ids::{EntryId, KeyId, RequestId, TenantId};
use crate::store::{Attempt, Correction, LedgerRow, Rated, Tokens};

pub(super) fn put_request(out: &mut Writer, row: &LedgerRow) {
    let LedgerRow {
        request,
        started_at,
        tenant,
        key,
        user,
        tags,
        route,
        dialect,
        model_asked,
        model_answered,
        stream,
        outcome,
        tier,
        reason,
        similarity,
        entry,
        status,
        upstream,
        upstream_status,
        tokens,
        tokens_source,
        latency_us,
        ttft_us,
        overhead_us,
        cost_nano_usd,
        embedding_nano_usd,
        saved_gross_nano_usd,
        saved_nano_usd,
        price_version,
        service,
        attempts,
    } = row;
    let [input, cache_read, cache_write, cache_write_1h, output, reasoning, others @ ..] = tokens.counts();
    out.raw(&request.to_bytes());
    out.number(*started_at);
    out.maybe(tenant.as_ref(), |out, tenant| out.text(tenant.as_str()));
    out.maybe(key.as_ref(), |out, key| out.text(key.as_str()));
    out.maybe(user.as_deref(), Writer::text);
    out.tags(tags);
    out.text(route);
    out.text(dialect);
    out.maybe(model_asked.as_deref(), Writer::text);
    out.maybe(model_answered.as_deref(), Writer::text);
    out.flag(*stream);
    out.text(outcome);
    out.maybe(tier.as_deref(), Writer::text);
    out.maybe(reason.as_deref(), Writer::text);
    out.maybe(*similarity, Writer::real);
    out.maybe(*entry, |out, entry| out.raw(&entry.to_bytes()));
    out.small(*status);
    out.maybe(upstream.as_deref(), Writer::text);
    out.maybe(*upstream_status, Writer::small);
    for count in [input, cache_read, cache_write, output, reasoning] {
        out.number(count);
    }
    out.maybe(tokens_source.as_deref(), Writer::text);
    out.number(*latency_us);
    out.maybe(*ttft_us, Writer::number);
    out.number(*overhead_us);
    out.maybe(*cost_nano_usd, Writer::money);
    out.maybe(*saved_nano_usd, Writer::money);
    out.maybe(price_version.as_deref(), Writer::text);
    // Here rows of format 3 and before end.
    out.number(cache_write_1h);
    others.into_iter().for_each(|count| out.number(count));
    out.maybe(*embedding_nano_usd, Writer::money);
    out.maybe(*saved_gross_nano_usd, Writer::money);
    out.maybe(service.as_deref(), Writer::text);
    out.number(attempts.len() as u64);
    attempts.iter().for_each(|attempt| put_attempt(out, attempt));
}

fn put_attempt(out: &mut Writer, attempt: &Attempt) {
    let Attempt {
        number,
        kind,
        started_at,
        upstream,
        model,
        status,
        latency_us,
        tokens,
        tokens_source,
        service,
        cost_nano_usd,
        price_version,
    } = attempt;
    out.small(*number);
    out.text(kind);
    out.number(*started_at);
    out.text(upstream);
    out.maybe(model.as_deref(), Writer::text);
    out.maybe(*status, Writer::small);
    out.number(*latency_us);
    tokens.counts().into_iter().for_each(|count| out.number(count));
    out.maybe(tokens_source.as_deref(), Writer::text);
    out.maybe(service.as_deref(), Writer::text);
    out.maybe(*cost_nano_usd, Writer::money);
    out.maybe(price_version.as_deref(), Writer::text);
}

fn attempt(reader: &mut Reader<'_>) -> Result<Attempt, BadBytes> {
    Ok(Attempt {
        number: reader.small()?,
        kind: reader.word()?,
        started_at: reader.number()?,
        upstream: reader.string()?,
        model: reader.maybe(Reader::string)?,
        status: reader.maybe(Reader::small)?,
        latency_us: reader.number()?,
        tokens: {
            let mut counts = [0; 10];
            for count in &mut counts {
                *count = reader.number()?;
            }
            Tokens::of(counts)
        },
        tokens_source: reader.maybe(Reader::word)?,
        service: reader.maybe(Reader::word)?,
        cost_nano_usd: reader.maybe(Reader::money)?,
        price_version: reader.maybe(Reader::string)?,
    })
}

pub(super) fn request(reader: &mut Reader<'_>) -> Result<LedgerRow, BadBytes> {
    let mut row = LedgerRow {
        request: RequestId::from_bytes(reader.array()?),
        started_at: reader.number()?,
        tenant: reader.maybe(|reader| reader.text().map(TenantId::new))?,
        key: reader.maybe(|reader| reader.text().map(KeyId::new))?,
        user: reader.maybe(Reader::string)?,
        tags: reader.tags()?,
        route: reader.string()?,
        dialect: reader.word()?,
        model_asked: reader.maybe(Reader::string)?,
        model_answered: reader.maybe(Reader::string)?,
        stream: reader.flag()?,
        outcome: reader.word()?,
        tier: reader.maybe(Reader::word)?,
        reason: reader.maybe(Reader::word)?,
        similarity: reader.maybe(Reader::real)?,
        entry: reader.maybe(|reader| reader.array().map(EntryId::from_bytes))?,
        status: reader.small()?,
        upstream: reader.maybe(Reader::string)?,
        upstream_status: reader.maybe(Reader::small)?,
        tokens: Tokens {
            input: reader.number()?,
            cache_read: reader.number()?,
            cache_write: reader.number()?,
            output: reader.number()?,
            reasoning: reader.number()?,
            ..Tokens::default()
        },
        tokens_source: reader.maybe(Reader::word)?,
        latency_us: reader.number()?,
        ttft_us: reader.maybe(Reader::number)?,
        overhead_us: reader.number()?,
        cost_nano_usd: reader.maybe(Reader::money)?,
        embedding_nano_usd: None,
        saved_gross_nano_usd: None,
        saved_nano_usd: reader.maybe(Reader::money)?,
        price_version: reader.maybe(Reader::string)?,
        service: None,
        attempts: Vec::new(),
    };
    if !reader.is_empty() {
        for count in [
            &mut row.tokens.cache_write_1h,
            &mut row.tokens.audio_input,
            &mut row.tokens.audio_output,
            &mut row.tokens.image_input,
            &mut row.tokens.image_output,
        ] {
            *count = reader.number()?;
        }
        row.embedding_nano_usd = reader.maybe(Reader::money)?;
        row.saved_gross_nano_usd = reader.maybe(Reader::money)?;
        row.service = reader.maybe(Reader::word)?;
        row.attempts = reader.list(attempt)?;
    }
    Ok(row)
}

pub(super) fn put_correction(out: &mut Writer, row: &Correction) {
    let Correction { request, started_at, at, before, after } = row;
    out.raw(&request.to_bytes());
    out.number(*started_at);
    out.number(*at);
    for rated in [before, after] {
        let Rated { cost, embedding, saved_gross, saved_net, price_version } = rated;
        for money in [cost, embedding, saved_gross, saved_net] {
            out.maybe(*money, Writer::money);
        }
        out.maybe(price_version.as_deref(), Writer::text);
    }
}

pub(super) fn correction(reader: &mut Reader<'_>) -> Result<Correction, BadBytes> {
    let rated = |reader: &mut Reader<'_>| {
        Ok(Rated {
            cost: reader.maybe(Reader::money)?,
            embedding: reader.maybe(Reader::money)?,
            saved_gross: reader.maybe(Reader::money)?,
            saved_net: reader.maybe(Reader::money)?,
            price_version: reader.maybe(Reader::string)?,
        })
    };
    Ok(Correction {
        request: RequestId::from_bytes(reader.array()?),
        started_at: reader.number()?,
        at: reader.number()?,
        before: rated(reader)?,
        after: rated(reader)?,
    })
}
