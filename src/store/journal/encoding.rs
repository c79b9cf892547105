//! A ledger row as bytes, exactly: what is decoded equals what was encoded, bit for bit.
//!
//! The first byte is the version of the encoding, the next 16 are the request's id, so that the id can be had without
//! decoding the rest. Numbers are LEB128 unless they have a fixed size, text has its length before it, and an absent value
//! is a zero byte. Both directions name every field, so that a new one does not compile until it is written and read;
//! then [`VERSION`] goes up.
//!
//! It must never panic, whatever bytes it is given.

use std::borrow::Cow;

use super::super::{LedgerRow, Tokens};
use crate::ids::{EntryId, KeyId, RequestId, TenantId};

/// Version of the encoding, its first byte.
const VERSION: u8 = 1;

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
        saved_nano_usd,
        price_version,
    } = row;
    let Tokens { input, cache_read, cache_write, output, reasoning } = tokens;
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
        out.number(*count);
    }
    out.maybe(tokens_source.as_deref(), Out::text);
    out.number(*latency_us);
    out.maybe(*ttft_us, Out::number);
    out.number(*overhead_us);
    out.maybe(*cost_nano_usd, |out, cost| out.bytes(&cost.to_le_bytes()));
    out.maybe(*saved_nano_usd, |out, saved| out.bytes(&saved.to_le_bytes()));
    out.maybe(price_version.as_deref(), Out::text);
}

/// The row; `None` if the bytes are not exactly one row of a version that is known.
pub(super) fn decode(bytes: &[u8]) -> Option<LedgerRow> {
    let mut from = In(bytes);
    if from.fixed::<1>()? != [VERSION] {
        return None;
    }
    let row = LedgerRow {
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
        },
        tokens_source: from.maybe(In::text)?.map(Cow::Owned),
        latency_us: from.number()?,
        ttft_us: from.maybe(In::number)?,
        overhead_us: from.number()?,
        cost_nano_usd: from.maybe(|from| from.fixed().map(i64::from_le_bytes))?,
        saved_nano_usd: from.maybe(|from| from.fixed().map(i64::from_le_bytes))?,
        price_version: from.maybe(In::text)?,
    };
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
    use crate::store::sample::{bare_row, row};

    fn encoded(row: &LedgerRow) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(row, &mut bytes);
        bytes
    }

    prop_compose! {
        fn rows()(
            base in any::<bool>(),
            number in any::<u64>(),
            numbers in any::<[u64; 9]>(),
            money in any::<(Option<i64>, Option<i64>, Option<u64>)>(),
            bits in any::<Option<u32>>(),
            texts in any::<(Option<String>, Option<String>, Option<String>, String)>(),
            tags in proptest::collection::vec(any::<(String, String)>(), 0..10),
            status in any::<(u16, Option<u16>, bool)>(),
        ) -> LedgerRow {
            let base = if base { row("t", number) } else { bare_row(number) };
            let [started_at, latency_us, overhead_us, input, cache_read, cache_write, output, reasoning, id] = numbers;
            LedgerRow {
                started_at, latency_us, overhead_us, tags,
                tokens: Tokens { input, cache_read, cache_write, output, reasoning },
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
