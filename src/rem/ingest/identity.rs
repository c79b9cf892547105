//! Identities made from what rows stand for, so that writing something again replaces it.

use crate::clock::UnixMs;
use crate::ids::RemId;
use crate::store::rem::{Owner, RemRow, RemTable, Scope, normalise};

/// An identity from texts; `what` keeps kinds of it apart. It says nothing about the texts.
pub(in crate::rem) fn derived(what: &str, parts: &[&[u8]]) -> RemId {
    let mut hasher = blake3::Hasher::new_derive_key("remora rem identity 1");
    for part in std::iter::once(&what.as_bytes()).chain(parts) {
        hasher.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(part);
    }
    let mut id = [0; 16];
    hasher.finalize_xof().fill(&mut id);
    RemId::from_bytes(id)
}

/// The identity of what a user writes: where it came from if he says so, else what it is called; a moment also by when it began.
pub(super) fn of_user(
    scope: &Scope,
    owner: &Owner,
    table: RemTable,
    name: &str,
    uri: Option<&str>,
    starts_at: Option<UnixMs>,
) -> RemId {
    // Public rows of two keys are two rows: nobody replaces what another has written for all.
    let writer = if *owner == Owner::Public { scope.key.as_str() } else { "" };
    let (owner, key) = (owner.to_string(), normalise(name));
    let (way, key) = uri.map_or(("name", key.as_str()), |uri| ("uri", uri));
    let starts = starts_at.map_or([0; 8], u64::to_be_bytes);
    let parts: [&[u8]; 7] = [
        scope.tenant.as_str().as_bytes(),
        owner.as_bytes(),
        table.as_str().as_bytes(),
        way.as_bytes(),
        key.as_bytes(),
        &starts,
        writer.as_bytes(),
    ];
    derived("user", &parts)
}

/// The identity of a part of a document; that of the first one is the document's.
pub(super) fn of_part(first: RemId, number: u32) -> RemId {
    if number == 0 { first } else { derived("part", &[&first.to_bytes(), &number.to_be_bytes()]) }
}

/// Another identity for something whose own is taken by what was renamed since.
pub(super) fn aside(id: RemId, round: u32) -> RemId {
    derived("aside", &[&id.to_bytes(), &round.to_be_bytes()])
}

/// Whether both stand for the same thing, as [`of_user`] tells things apart.
pub(super) fn are_same(a: &RemRow, b: &RemRow) -> bool {
    let named = || normalise(&a.name) == normalise(&b.name) && a.starts_at == b.starts_at;
    a.table == b.table
        && match (&a.uri, &b.uri) {
            (Some(a), Some(b)) => a == b,
            (None, None) => named(),
            _ => false,
        }
}
