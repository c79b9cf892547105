//! From clear rows to sealed ones and back.
//!
//! | Row | Sealed | In the column |
//! |---|---|---|
//! | entry | body | body, as bytes |
//! | point | prompt, embedding space and vector, as one | prompt, as base64; the others are empty |
//! | decision | prompt | prompt, as base64 |

use bytes::Bytes;
use zeroize::Zeroizing;

use super::super::forms::{vector_bytes, vector_of};
use super::super::{DecisionRow, Entry, Point, StoreError};
use super::crypto::{Key, Kind, MAGIC, PREFIX, Place, base64, unbase64};
use crate::ids::TenantId;

/// A cell that does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closed;

/// Whether a prompt read from a database is sealed.
pub fn is_sealed(text: &str) -> bool {
    text.starts_with(PREFIX)
}

pub(super) fn is_sealed_text(text: Option<&str>) -> bool {
    text.is_some_and(is_sealed)
}

pub(super) fn is_sealed_body(body: &[u8]) -> bool {
    body.starts_with(&MAGIC)
}

fn text(key: &Key, place: Place<'_>, clear: &[u8]) -> Result<String, StoreError> {
    Ok(format!("{PREFIX}{}", base64(&key.seal(place, clear)?)))
}

fn open_text(key: &Key, place: Place<'_>, text: &str) -> Result<Zeroizing<Vec<u8>>, Closed> {
    let sealed = text.strip_prefix(PREFIX).and_then(unbase64).ok_or(Closed)?;
    key.open(place, &sealed).ok_or(Closed)
}

fn place(kind: Kind, tenant: &TenantId, id: [u8; 16]) -> Place<'_> {
    Place { kind, tenant: tenant.as_str(), id }
}

pub(super) fn seal_entry(key: &Key, entry: &Entry) -> Result<Entry, StoreError> {
    let sealed = key.seal(place(Kind::Body, &entry.tenant, entry.id.to_bytes()), &entry.body)?;
    let body = Bytes::from([&MAGIC[..], &sealed[..]].concat());
    Ok(Entry { body, ..entry.clone() })
}

pub(super) fn open_entry(key: &Key, entry: &mut Entry) -> Result<(), Closed> {
    let sealed = entry.body.strip_prefix(&MAGIC[..]).ok_or(Closed)?;
    let clear = key.open(place(Kind::Body, &entry.tenant, entry.id.to_bytes()), sealed).ok_or(Closed)?;
    entry.body = Bytes::copy_from_slice(&clear);
    Ok(())
}

/// A point of the exact tier alone has nothing to seal.
pub(super) fn seal_point(key: &Key, point: &Point) -> Result<Point, StoreError> {
    if point.prompt.is_none() && point.vector.is_none() {
        return Ok(point.clone());
    }
    let mut clear = Zeroizing::new(Vec::new());
    for part in [point.prompt.as_deref(), point.space.as_deref()] {
        put(&mut clear, part.map(str::as_bytes));
    }
    put(&mut clear, point.vector.as_deref().map(vector_bytes).as_deref());
    let sealed = text(key, place(Kind::Point, &point.tenant, point.id.to_bytes()), &clear)?;
    Ok(Point { prompt: Some(sealed), space: None, vector: None, ..point.clone() })
}

pub(super) fn open_point(key: &Key, point: &mut Point) -> Result<(), Closed> {
    let sealed = point.prompt.as_deref().ok_or(Closed)?;
    let clear = open_text(key, place(Kind::Point, &point.tenant, point.id.to_bytes()), sealed)?;
    let mut rest = &clear[..];
    let prompt = take(&mut rest)?;
    let space = take(&mut rest)?;
    let vector = take(&mut rest)?;
    let owned = |part: Option<&[u8]>| {
        part.map(|bytes| std::str::from_utf8(bytes).map(str::to_owned)).transpose().map_err(|_| Closed)
    };
    let (prompt, space) = (owned(prompt)?, owned(space)?);
    point.vector = vector.map(vector_of).transpose().map_err(|_| Closed)?;
    (point.prompt, point.space) = (prompt, space);
    Ok(())
}

pub(super) fn seal_decision(key: &Key, row: &DecisionRow) -> Result<DecisionRow, StoreError> {
    let at = place(Kind::Decision, &row.tenant, row.request.to_bytes());
    let prompt = row.prompt.as_deref().map(|prompt| text(key, at, prompt.as_bytes())).transpose()?;
    Ok(DecisionRow { prompt, ..row.clone() })
}

pub(super) fn open_decision(key: &Key, row: &mut DecisionRow) -> Result<(), Closed> {
    let sealed = row.prompt.as_deref().ok_or(Closed)?;
    let clear = open_text(key, place(Kind::Decision, &row.tenant, row.request.to_bytes()), sealed)?;
    row.prompt = Some(std::str::from_utf8(&clear).map_err(|_| Closed)?.to_owned());
    Ok(())
}

/// A part: 0 if it is absent, else 1, its length and its bytes.
fn put(out: &mut Vec<u8>, part: Option<&[u8]>) {
    out.push(u8::from(part.is_some()));
    if let Some(bytes) = part {
        out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        out.extend_from_slice(bytes);
    }
}

fn take<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Closed> {
    let (flag, after) = rest.split_first().ok_or(Closed)?;
    if *flag == 0 {
        *rest = after;
        return Ok(None);
    }
    let (length, after) = after.split_first_chunk::<8>().ok_or(Closed)?;
    let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| Closed)?;
    let (bytes, after) = after.split_at_checked(length).ok_or(Closed)?;
    *rest = after;
    Ok(Some(bytes))
}
