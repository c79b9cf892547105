//! The rows of a document, and what becomes of the edges that leave them.
//!
//! Edges that others have made, or that a search for near texts has found, stay when a document is written again: only those that
//! the body says, and those from part to part, are its own.

use std::collections::{BTreeMap, HashMap};

use super::split::Part;
use super::{NAME, edges, identity};
use crate::clock::UnixMs;
use crate::ids::RemId;
use crate::store::rem::{NEXT_PART, Owner, RemEdge, RemRow, RemWrite, SIMILAR_TO, normalise};

/// The rows of a document: one if it has one part, else one for each; then what is said of their edges. `given` are those of the body;
/// `None` leaves those that there are.
pub(super) fn document(first: RemRow, parts: &[Part], given: Option<Vec<RemEdge>>, now: UnixMs) -> Vec<RemWrite> {
    let owner = first.owner.clone();
    let rows = rows(first, parts);
    let mut own: Vec<RemId> = rows.iter().map(|row| row.id).collect();
    let mut links: Vec<RemEdge> = edges::next_parts(&rows, now).into_iter().flatten().collect();
    let mut writes: Vec<RemWrite> =
        rows.into_iter().map(|row| RemWrite::Put { row: Box::new(row), vector: None, edges: None }).collect();
    if let Some(given) = given {
        // The edges of a body are those of its first part. That its text is near another's is not for the body to say.
        let rest = own.split_off(own.len().min(1));
        let (kind, others) = (SIMILAR_TO.to_owned(), true);
        writes.push(RemWrite::Unlink { owner: owner.clone(), sources: own, kind, others });
        own = rest;
        links.splice(0..0, given);
    }
    if !own.is_empty() {
        let (kind, others) = (NEXT_PART.to_owned(), false);
        writes.push(RemWrite::Unlink { owner: owner.clone(), sources: own, kind, others });
    }
    if !links.is_empty() {
        writes.push(RemWrite::Link { owner, edges: links });
    }
    writes
}

fn rows(first: RemRow, parts: &[Part]) -> Vec<RemRow> {
    let [head, rest @ ..] = parts else { return vec![first] };
    let mut names = Names::of(&first.name);
    let title = normalise(&first.name);
    let mut rows = vec![RemRow { text: head.text.clone(), ..first.clone() }];
    for part in rest {
        let name = names.free(&part_name(&first.name, &title, part));
        let id = identity::of_part(first.id, part.ordinal);
        let part_of = Some((first.id, part.ordinal));
        rows.push(RemRow { id, name, text: part.text.clone(), aliases: Vec::new(), part_of, ..first.clone() });
    }
    if let [first, _, ..] = &mut *rows {
        first.part_of = Some((first.id, 0));
    }
    rows
}

/// "Title › heading", or "Title" alone, with room for a number behind it.
fn part_name(title: &str, normal: &str, part: &Part) -> String {
    const NUMBER: usize = 20;
    let heading = if normalise(&part.title) == normal { "" } else { part.title.as_str() };
    let behind = if heading.is_empty() { String::new() } else { format!(" › {heading}") };
    let room = NAME.saturating_sub(behind.chars().count() + NUMBER);
    title.chars().take(room).chain(behind.chars()).collect()
}

/// Names that are taken, in their normal forms, each with the number that is next for it: thousands of parts may be under one heading,
/// and none of them counts from the beginning again.
pub(super) struct Names {
    next: HashMap<String, u32>,
    /// Names that were looked at.
    #[cfg(test)]
    pub(super) looked_at: usize,
}

impl Names {
    pub(super) fn of(first: &str) -> Self {
        Self {
            next: HashMap::from([(normalise(first), 2)]),
            #[cfg(test)]
            looked_at: 0,
        }
    }

    /// The name, with a number if it is taken.
    pub(super) fn free(&mut self, name: &str) -> String {
        let normal = normalise(name);
        let Some(mut number) = self.next.get(&normal).copied() else {
            self.take(normal);
            return name.to_owned();
        };
        loop {
            let unique = format!("{name} ({number})");
            number = number.saturating_add(1);
            if self.take(normalise(&unique)) {
                self.next.insert(normal, number);
                return unique;
            }
        }
    }

    fn take(&mut self, normal: String) -> bool {
        #[cfg(test)]
        {
            self.looked_at += 1;
        }
        if self.next.contains_key(&normal) {
            return false;
        }
        self.next.insert(normal, 2);
        true
    }
}

/// Writes that are about edges alone: they go last and together, so that the rows before them travel together, too.
#[derive(Default)]
pub(super) struct EdgeWrites {
    unlinks: BTreeMap<(Owner, String, bool), Vec<RemId>>,
    links: BTreeMap<Owner, Vec<RemEdge>>,
}

impl EdgeWrites {
    /// Whether a write is one of these.
    pub(super) fn takes(write: &RemWrite) -> bool {
        matches!(write, RemWrite::Link { .. } | RemWrite::Unlink { .. })
    }

    /// Takes one in; gives back what is none.
    pub(super) fn take(&mut self, write: RemWrite) -> Option<RemWrite> {
        match write {
            RemWrite::Unlink { owner, sources, kind, others } => {
                self.unlinks.entry((owner, kind, others)).or_default().extend(sources);
            }
            RemWrite::Link { owner, edges } => self.links.entry(owner).or_default().extend(edges),
            other => return Some(other),
        }
        None
    }

    /// All of them: first what goes, then what comes.
    pub(super) fn all(self) -> impl Iterator<Item = RemWrite> {
        let unlink = |((owner, kind, others), sources)| RemWrite::Unlink { owner, sources, kind, others };
        let link = |(owner, edges)| RemWrite::Link { owner, edges };
        self.unlinks.into_iter().map(unlink).chain(self.links.into_iter().map(link))
    }
}

/// Gives a document, with all of its parts and their edges, the identity that goes with another first part.
pub(super) fn moved(document: &mut [RemWrite], first: RemId) {
    let mut ids: HashMap<RemId, RemId> = HashMap::new();
    for write in document {
        match write {
            RemWrite::Put { row, edges, .. } => {
                let id = identity::of_part(first, row.part_of.map_or(0, |(_, number)| number));
                ids.insert(row.id, id);
                row.id = id;
                row.part_of = row.part_of.map(|(_, number)| (first, number));
                edges.iter_mut().flatten().for_each(|edge| edge.source = id);
            }
            RemWrite::Link { edges, .. } => {
                for edge in edges {
                    edge.source = ids.get(&edge.source).copied().unwrap_or(edge.source);
                }
            }
            RemWrite::Unlink { sources, .. } => {
                for source in sources {
                    *source = ids.get(source).copied().unwrap_or(*source);
                }
            }
            _ => {}
        }
    }
}
