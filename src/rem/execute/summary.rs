//! What edges there are, in numbers: by type and direction, with a few of the names at their other ends.

use std::collections::BTreeMap;

use super::super::EdgeSummary;

/// Names shown of the edges of one kind.
const SAMPLES: usize = 5;

/// One edge as it is counted.
pub(super) struct Counted<'e> {
    /// Place of the entry point that it is counted for; 0 if it is counted for the walk.
    pub(super) from: usize,
    pub(super) kind: &'e str,
    pub(super) inbound: bool,
    pub(super) weight: f64,
    /// Name at the other end.
    pub(super) other: &'e str,
    /// The caller finds nothing there.
    pub(super) dangling: bool,
}

/// Edges counted so far.
#[derive(Default)]
pub(super) struct Summary(BTreeMap<(usize, String, bool), Group>);

#[derive(Default)]
struct Group {
    count: u64,
    dangling: u64,
    /// Heaviest first, then by name.
    samples: Vec<(f64, String)>,
}

impl Summary {
    pub(super) fn add(&mut self, edge: &Counted<'_>) {
        let group = self.0.entry((edge.from, edge.kind.to_owned(), edge.inbound)).or_default();
        group.count += 1;
        group.dangling += u64::from(edge.dangling);
        let before = |(weight, name): &(f64, String)| {
            edge.weight.total_cmp(weight).then_with(|| name.as_str().cmp(edge.other)).is_le()
        };
        // A name that several edges lead to is shown at its heaviest.
        if let Some(at) = group.samples.iter().position(|(_, name)| name == edge.other) {
            if group.samples.get(at).is_some_and(|(weight, _)| edge.weight <= *weight) {
                return;
            }
            group.samples.remove(at);
        }
        let at = group.samples.iter().take_while(|sample| before(sample)).count();
        if at < SAMPLES {
            group.samples.insert(at, (edge.weight, edge.other.to_owned()));
            group.samples.truncate(SAMPLES);
        }
    }

    /// The groups by entry point, type and direction; `from` gives the entry points' names.
    pub(super) fn finish(self, from: impl Fn(usize) -> String) -> Vec<EdgeSummary> {
        let shown = |((at, kind, inbound), group): ((usize, String, bool), Group)| EdgeSummary {
            from: from(at),
            kind,
            direction: if inbound { "inbound" } else { "outbound" }.to_owned(),
            count: group.count,
            samples: group.samples.into_iter().map(|(_, name)| name).collect(),
            dangling: group.dangling,
        };
        self.0.into_iter().map(shown).collect()
    }
}
