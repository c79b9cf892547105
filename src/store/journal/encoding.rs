//! A ledger row as bytes, exactly: what is decoded equals what was encoded, bit for bit.
//!
//! The first byte is the version of the encoding, the next 16 are the request's id, so that the id can be had without
//! decoding the rest. Numbers are LEB128 unless they have a fixed size, text has its length before it, and an absent value
//! is a zero byte. Both directions name every field, so that a new one does not compile until it is written and read;
//! then [`VERSION`] goes up.
//!
//! It must never panic, whatever bytes it is given.

use std::borrow::Cow;

use super::super::{Attempt, LedgerRow, Tokens};
use crate::ids::{EntryId, KeyId, RequestId, TenantId};

/// Version of the encoding, its first byte.
const VERSION: u8 = 2;
/// The version before: a journal may still have rows of the program before an upgrade. It ends where what came with version 2
/// begins.
const BEFORE: u8 = 1;

/// Appends the row to `out`.
pub(super) fn encode(row: &LedgerRow, out: &mut Vec<u8>) {
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
    let mut out = Out(out);
    out.bytes(&[VERSION]);
    out.bytes(&request.to_bytes());
    out.number(*started_at);
    out.maybe(tenant.as_ref(), |out, tenant| out.text(tenant.as_str()));
    out.maybe(key.as_ref(), |out, key| out.text(key.as_str()));
    out.maybe(user.as_deref(), Out::text);
    out.number(tags.len() as u64);
    for (name, value) in tags {
        out.text(name);
        out.text(value);
    }
    out.text(route);
    out.text(dialect);
    out.maybe(model_asked.as_deref(), Out::text);
    out.maybe(model_answered.as_deref(), Out::text);
    out.bytes(&[u8::from(*stream)]);
    out.text(outcome);
    out.maybe(tier.as_deref(), Out::text);
    out.maybe(reason.as_deref(), Out::text);
    out.maybe(*similarity, |out, cosine| out.bytes(&cosine.to_bits().to_le_bytes()));
    out.maybe(*entry, |out, entry| out.bytes(&entry.to_bytes()));
    out.number(u64::from(*status));
    out.maybe(upstream.as_deref(), Out::text);
    out.maybe(*upstream_status, |out, status| out.number(u64::from(status)));
    for count in [input, cache_read, cache_write, output, reasoning] {
        out.number(count);
    }
    out.maybe(tokens_source.as_deref(), Out::text);
    out.number(*latency_us);
    out.maybe(*ttft_us, Out::number);
    out.number(*overhead_us);
    out.maybe(*cost_nano_usd, Out::money);
    out.maybe(*saved_nano_usd, Out::money);
    out.maybe(price_version.as_deref(), Out::text);
    // Since version 2.
    out.number(cache_write_1h);
    others.into_iter().for_each(|count| out.number(count));
    out.maybe(*embedding_nano_usd, Out::money);
    out.maybe(*saved_gross_nano_usd, Out::money);
    out.maybe(service.as_deref(), Out::text);
    out.number(attempts.len() as u64);
    attempts.iter().for_each(|attempt| out.attempt(attempt));
}

/// The row; `None` if the bytes are not exactly one row of a version that is known.
pub(super) fn decode(bytes: &[u8]) -> Option<LedgerRow> {
    let mut from = In(bytes);
    let [version @ (BEFORE | VERSION)] = from.fixed()? else { return None };
    let mut row = LedgerRow {
        request: RequestId::from_bytes(from.fixed()?),
        started_at: from.number()?,
        tenant: from.maybe(|from| from.text().map(TenantId::new))?,
        key: from.maybe(|from| from.text().map(KeyId::new))?,
        user: from.maybe(In::text)?,
        tags: from.tags()?,
        route: from.text()?,
        dialect: from.text().map(Cow::Owned)?,
        model_asked: from.maybe(In::text)?,
        model_answered: from.maybe(In::text)?,
        stream: from.flag()?,
        outcome: from.text().map(Cow::Owned)?,
        tier: from.maybe(In::text)?.map(Cow::Owned),
        reason: from.maybe(In::text)?.map(Cow::Owned),
        similarity: from.maybe(|from| from.fixed().map(|bits| f32::from_bits(u32::from_le_bytes(bits))))?,
        entry: from.maybe(|from| from.fixed().map(EntryId::from_bytes))?,
        status: from.short()?,
        upstream: from.maybe(In::text)?,
        upstream_status: from.maybe(In::short)?,
        tokens: Tokens {
            input: from.number()?,
            cache_read: from.number()?,
            cache_write: from.number()?,
            output: from.number()?,
            reasoning: from.number()?,
            ..Tokens::default()
        },
        tokens_source: from.maybe(In::text)?.map(Cow::Owned),
        latency_us: from.number()?,
        ttft_us: from.maybe(In::number)?,
        overhead_us: from.number()?,
        cost_nano_usd: from.maybe(In::money)?,
        embedding_nano_usd: None,
        saved_gross_nano_usd: None,
        saved_nano_usd: from.maybe(In::money)?,
        price_version: from.maybe(In::text)?,
        service: None,
        attempts: Vec::new(),
    };
    if version == VERSION {
        for count in [
            &mut row.tokens.cache_write_1h,
            &mut row.tokens.audio_input,
            &mut row.tokens.audio_output,
            &mut row.tokens.image_input,
            &mut row.tokens.image_output,
        ] {
            *count = from.number()?;
        }
        row.embedding_nano_usd = from.maybe(In::money)?;
        row.saved_gross_nano_usd = from.maybe(In::money)?;
        row.service = from.maybe(In::text)?.map(Cow::Owned);
        for _ in 0..from.number()? {
            row.attempts.push(from.attempt()?);
        }
    }
    from.0.is_empty().then_some(row)
}

/// Whose row it is, of any version.
pub(super) fn request_of(bytes: &[u8]) -> Option<RequestId> {
    bytes.get(1..)?.first_chunk().map(|id| RequestId::from_bytes(*id))
}

struct Out<'a>(&'a mut Vec<u8>);

impl Out<'_> {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn number(&mut self, mut number: u64) {
        loop {
            let [low, ..] = number.to_le_bytes();
            number >>= 7;
            if number == 0 {
                return self.0.push(low & 0x7f);
            }
            self.0.push(low | 0x80);
        }
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.bytes(text.as_bytes());
    }

    fn money(&mut self, nano_usd: i64) {
        self.bytes(&nano_usd.to_le_bytes());
    }

    fn attempt(&mut self, attempt: &Attempt) {
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
        self.number(u64::from(*number));
        self.text(kind);
        self.number(*started_at);
        self.text(upstream);
        self.maybe(model.as_deref(), Self::text);
        self.maybe(*status, |out, status| out.number(u64::from(status)));
        self.number(*latency_us);
        tokens.counts().into_iter().for_each(|count| self.number(count));
        self.maybe(tokens_source.as_deref(), Self::text);
        self.maybe(service.as_deref(), Self::text);
        self.maybe(*cost_nano_usd, Self::money);
        self.maybe(price_version.as_deref(), Self::text);
    }

    fn maybe<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.0.push(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }
}

struct In<'a>(&'a [u8]);

impl In<'_> {
    fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.fixed()?;
            let part = u64::from(byte & 0x7f);
            // The last byte has room for one bit.
            if part << shift >> shift != part {
                return None;
            }
            number |= part << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn short(&mut self) -> Option<u16> {
        self.number()?.try_into().ok()
    }

    fn money(&mut self) -> Option<i64> {
        self.fixed().map(i64::from_le_bytes)
    }

    fn attempt(&mut self) -> Option<Attempt> {
        Some(Attempt {
            number: self.short()?,
            kind: self.text().map(Cow::Owned)?,
            started_at: self.number()?,
            upstream: self.text()?,
            model: self.maybe(In::text)?,
            status: self.maybe(In::short)?,
            latency_us: self.number()?,
            tokens: {
                let mut counts = [0; 10];
                for count in &mut counts {
                    *count = self.number()?;
                }
                Tokens::of(counts)
            },
            tokens_source: self.maybe(In::text)?.map(Cow::Owned),
            service: self.maybe(In::text)?.map(Cow::Owned),
            cost_nano_usd: self.maybe(In::money)?,
            price_version: self.maybe(In::text)?,
        })
    }

    fn flag(&mut self) -> Option<bool> {
        match self.fixed()? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }

    fn text(&mut self) -> Option<String> {
        let len = usize::try_from(self.number()?).ok()?;
        let (text, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        std::str::from_utf8(text).ok().map(str::to_owned)
    }

    fn tags(&mut self) -> Option<Vec<(String, String)>> {
        let mut tags = Vec::new();
        for _ in 0..self.number()? {
            tags.push((self.text()?, self.text()?));
        }
        Some(tags)
    }

    /// The outer `None` means that the bytes are wrong.
    fn maybe<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.flag()? { read(self).map(Some) } else { Some(None) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::sample::{bare_attempt, bare_row, row};

    fn encoded(row: &LedgerRow) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(row, &mut bytes);
        bytes
    }

    prop_compose! {
        fn rows()(
            base in any::<bool>(),
            number in any::<u64>(),
            numbers in any::<[u64; 4]>(),
            counts in any::<[u64; 10]>(),
            money in any::<(Option<i64>, Option<i64>, Option<u64>)>(),
            more in any::<(Option<i64>, Option<i64>, Option<String>)>(),
            attempts in proptest::collection::vec(any::<(u16, [u64; 10], Option<i64>, Option<String>)>(), 0..4),
            bits in any::<Option<u32>>(),
            texts in any::<(Option<String>, Option<String>, Option<String>, String)>(),
            tags in proptest::collection::vec(any::<(String, String)>(), 0..10),
            status in any::<(u16, Option<u16>, bool)>(),
        ) -> LedgerRow {
            let base = if base { row("t", number) } else { bare_row(number) };
            let [started_at, latency_us, overhead_us, id] = numbers;
            let attempts = attempts.into_iter().map(|(number, counts, cost_nano_usd, model)| Attempt {
                tokens: Tokens::of(counts), cost_nano_usd, model, ..bare_attempt(started_at, number)
            });
            LedgerRow {
                started_at, latency_us, overhead_us, tags,
                tokens: Tokens::of(counts),
                attempts: attempts.collect(),
                embedding_nano_usd: more.0, saved_gross_nano_usd: more.1, service: more.2.map(Cow::Owned),
                request: RequestId::at(id >> 16),
                cost_nano_usd: money.0, saved_nano_usd: money.1, ttft_us: money.2,
                similarity: bits.map(f32::from_bits),
                user: texts.0, model_answered: texts.1, price_version: texts.2, route: texts.3,
                status: status.0, upstream_status: status.1, stream: status.2,
                ..base
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_to_the_bit(row in rows()) {
            let bytes = encoded(&row);
            let back = decode(&bytes).unwrap();
            // A number that is not one does not equal itself.
            prop_assert_eq!(row.similarity.map(f32::to_bits), back.similarity.map(f32::to_bits));
            let same = |row: &LedgerRow| LedgerRow { similarity: None, ..row.clone() };
            prop_assert_eq!(same(&row), same(&back));
            prop_assert_eq!(request_of(&bytes), Some(row.request));
            prop_assert_eq!(encoded(&back), bytes);
        }

        #[test]
        fn any_bytes_are_answered_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = (decode(&bytes), request_of(&bytes));
            let mut known = vec![VERSION];
            known.extend(bytes);
            let _ = decode(&known);
        }

        #[test]
        fn a_flipped_bit_never_panics(row in rows(), at in any::<proptest::sample::Index>(), bit in 0u8..8) {
            let mut bytes = encoded(&row);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn a_row_of_the_program_before_is_read_and_lacks_what_that_did_not_know() {
        let full = row("t", 7);
        let mut bytes = encoded(&LedgerRow { attempts: Vec::new(), service: None, ..full.clone() });
        // Five kinds of tokens, two sums with their marks, no service, no attempts.
        bytes.truncate(bytes.len() - (5 + 2 * 9 + 1 + 1));
        bytes[0] = BEFORE;
        let known = Tokens { input: 1, cache_read: 2, cache_write: 3, output: 5, reasoning: 6, ..Tokens::default() };
        let expected = LedgerRow {
            tokens: known,
            embedding_nano_usd: None,
            saved_gross_nano_usd: None,
            service: None,
            attempts: Vec::new(),
            ..full
        };
        assert_eq!(decode(&bytes), Some(expected));
        bytes[0] = VERSION;
        assert_eq!(decode(&bytes), None);
    }

    #[test]
    fn a_row_that_is_cut_short_or_too_long_is_none() {
        let mut bytes = encoded(&row("t", 7));
        for len in 0..bytes.len() {
            assert_eq!(decode(&bytes[..len]), None, "{len} bytes");
        }
        bytes.push(0);
        assert_eq!(decode(&bytes), None);
        bytes.pop();
        bytes[0] = VERSION + 1;
        assert_eq!(decode(&bytes), None, "of a version to come");
    }
}
