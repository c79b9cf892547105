//! A walk along edges, a level at a time: which nodes there are, and by which edge each was first reached.
//!
//! A level of outbound edges takes one read for the edges of all its nodes and one for all names that they lead to. Names
//! that were met before are not read again, so a dense graph costs no more than its nodes.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::super::{Code, Fault, Load, Traverse};
use super::ask::{Ask, Hit};
use super::lookup::best;
use super::summary::{Counted, Summary};
use crate::ids::RemId;
use crate::store::rem::{Direction, RemEdge, RemEdges, RemNamed, RemRow, normalise};

/// Most nodes of a walk, and most edges that it follows.
pub(super) const CAPS: (usize, usize) = (1_000, 10_000);

/// Names, or rows, that are read at once.
const AT_ONCE: usize = 500;

/// Rows that are read under as many names: a cap of the walk.
const NAMED: u32 = 2_000;

/// Bytes of texts that a walk may meet.
const TEXT_BYTES: usize = 64 << 20;

/// A node of a walk.
pub(super) struct Node {
    pub(super) row: RemRow,
    pub(super) depth: u8,
    /// Place of the node from which it was reached.
    pub(super) parent: Option<usize>,
    /// Type and weight of the edge by which it was reached.
    pub(super) via: Option<(String, f64)>,
    /// Score of an entry point, not rounded.
    pub(super) score: Option<f64>,
}

/// An edge followed to a row.
struct Step {
    to: RemId,
    parent: usize,
    kind: String,
    weight: f64,
}

/// What one level has followed.
pub(super) struct Level {
    /// Edges that no level before has followed.
    pub(super) edges: u64,
    /// Their types.
    pub(super) kinds: BTreeSet<String>,
    /// Places of the nodes that it has reached first.
    pub(super) reached: Vec<usize>,
}

/// A walk under way.
pub(super) struct Walk<'w> {
    ask: &'w Ask<'w>,
    query: &'w Traverse,
    pub(super) nodes: Vec<Node>,
    at: HashMap<RemId, usize>,
    /// What names lead to, by their normal form.
    names: HashMap<String, Vec<RemNamed>>,
    /// Rows that are no nodes yet, by id; found as sources of edges.
    sources: HashMap<RemId, RemRow>,
    counted: HashSet<(RemId, String, String)>,
    edges: usize,
    bytes: usize,
    /// A cap has ended it.
    pub(super) truncated: bool,
    pub(super) summary: Summary,
}

impl<'w> Walk<'w> {
    /// A walk that is at its entry points.
    pub(super) fn from(ask: &'w Ask<'w>, query: &'w Traverse, entries: Vec<Hit>) -> Self {
        let truncated = entries.len() > CAPS.0;
        let mut walk = Self {
            ask,
            query,
            nodes: Vec::new(),
            at: HashMap::new(),
            names: HashMap::new(),
            sources: HashMap::new(),
            counted: HashSet::new(),
            edges: 0,
            bytes: 0,
            truncated,
            summary: Summary::default(),
        };
        for hit in entries.into_iter().take(CAPS.0) {
            walk.visit(Node { row: hit.row, depth: 0, parent: None, via: None, score: hit.score });
        }
        walk
    }

    fn visit(&mut self, node: Node) -> usize {
        let place = self.nodes.len();
        self.at.insert(node.row.id, place);
        self.nodes.push(node);
        place
    }

    /// Follows the edges of these nodes. With `each` they are counted for each entry point apart, and nothing is reached.
    pub(super) async fn step(&mut self, frontier: &[usize], each: bool) -> Result<Level, Fault> {
        let mut level = Level { edges: 0, kinds: BTreeSet::new(), reached: Vec::new() };
        let mut steps = Vec::new();
        if self.query.direction != Direction::Inbound {
            self.outbound(frontier, each, &mut level, &mut steps).await?;
        }
        if self.query.direction != Direction::Outbound {
            self.inbound(frontier, each, &mut level, &mut steps).await?;
        }
        if !each {
            self.reach(frontier, steps, &mut level);
        }
        Ok(level)
    }

    async fn outbound(
        &mut self,
        frontier: &[usize],
        each: bool,
        level: &mut Level,
        steps: &mut Vec<Step>,
    ) -> Result<(), Fault> {
        let ids: Vec<RemId> = frontier.iter().filter_map(|place| Some(self.nodes.get(*place)?.row.id)).collect();
        let store = &self.ask.parts.store;
        let edges = self.ask.store(store.rem_edges_from(self.ask.scope, &ids, self.wanted())).await?;
        let edges = self.capped(edges);
        let forms: Vec<String> = edges.iter().map(|edge| normalise(&edge.target)).collect();
        self.learn(&forms).await?;
        for (edge, form) in edges.into_iter().zip(forms) {
            let Some(parent) = self.at.get(&edge.source).copied() else { continue };
            let named = self.names.get(&form).map(Vec::as_slice).unwrap_or_default();
            let to: Vec<RemId> = best(&edge.target, named).map(|named| named.row.id).collect();
            let other = shown(&edge.target, named).to_owned();
            self.count(&edge, form, if each { parent } else { 0 }, false, &other, to.is_empty(), level);
            steps.extend(to.into_iter().map(|to| Step { to, parent, kind: edge.kind.clone(), weight: edge.weight }));
        }
        Ok(())
    }

    async fn inbound(
        &mut self,
        frontier: &[usize],
        each: bool,
        level: &mut Level,
        steps: &mut Vec<Step>,
    ) -> Result<(), Fault> {
        let mut forms = BTreeSet::new();
        for node in frontier.iter().filter_map(|place| self.nodes.get(*place)) {
            let names = std::iter::once(&node.row.name).chain(&node.row.aliases);
            forms.extend(names.map(|name| normalise(name)).filter(|form| !form.is_empty()));
        }
        let forms: Vec<String> = forms.into_iter().collect();
        let store = &self.ask.parts.store;
        let edges = self.ask.store(store.rem_edges_to(self.ask.scope, &forms, self.wanted())).await?;
        let edges = self.capped(edges);
        self.learn(&forms).await?;
        self.learn_sources(edges.iter().map(|edge| edge.source)).await?;
        let here: HashSet<usize> = frontier.iter().copied().collect();
        for edge in edges {
            let form = normalise(&edge.target);
            let named = self.names.get(&form).map(Vec::as_slice).unwrap_or_default();
            // A name may lead to another row than the one that was asked for, and a source may be gone: then there is no such edge.
            let ends: Vec<usize> = best(&edge.target, named)
                .filter_map(|named| self.at.get(&named.row.id).copied())
                .filter(|place| here.contains(place))
                .collect();
            let source = self.at.get(&edge.source).and_then(|place| self.nodes.get(*place)).map(|node| &node.row);
            let Some(other) = source.or_else(|| self.sources.get(&edge.source)).map(|row| row.name.clone()) else {
                continue;
            };
            let Some(parent) = ends.iter().copied().min() else { continue };
            for end in ends.iter().take(if each { ends.len() } else { 1 }) {
                self.count(&edge, form.clone(), if each { *end } else { 0 }, true, &other, false, level);
            }
            steps.push(Step { to: edge.source, parent, kind: edge.kind, weight: edge.weight });
        }
        Ok(())
    }

    fn wanted(&self) -> RemEdges<'w> {
        let left = CAPS.1.saturating_sub(self.edges).saturating_add(1);
        let limit = u32::try_from(left).unwrap_or(u32::MAX);
        RemEdges { kinds: &self.query.types, min_weight: self.query.min_weight, limit }
    }

    /// The edges that the walk still may follow.
    fn capped(&mut self, mut edges: Vec<RemEdge>) -> Vec<RemEdge> {
        let left = CAPS.1.saturating_sub(self.edges);
        if edges.len() > left {
            self.truncated = true;
            edges.truncate(left);
        }
        self.edges += edges.len();
        edges
    }

    /// Counts an edge when it is met first; one whose both ends are in the walk is met twice if both ways are gone.
    #[allow(clippy::too_many_arguments, reason = "one edge, and where it was met")]
    fn count(
        &mut self,
        edge: &RemEdge,
        form: String,
        from: usize,
        inbound: bool,
        other: &str,
        dangling: bool,
        level: &mut Level,
    ) {
        let first = self.counted.insert((edge.source, edge.kind.clone(), form));
        if first {
            level.edges += 1;
            level.kinds.insert(edge.kind.clone());
        }
        // `from` is 0 for a walk; entry points apart count an edge for each of its ends.
        if first || self.query.depth == 0 {
            self.summary.add(&Counted { from, kind: &edge.kind, inbound, weight: edge.weight, other, dangling });
        }
    }

    /// Reads what these names lead to, if it is not known.
    async fn learn(&mut self, forms: &[String]) -> Result<(), Fault> {
        let unknown: BTreeSet<&String> =
            forms.iter().filter(|form| !form.is_empty() && !self.names.contains_key(*form)).collect();
        let unknown: Vec<String> = unknown.into_iter().cloned().collect();
        for forms in unknown.chunks(AT_ONCE) {
            let found = self.ask.store(self.ask.parts.store.rem_named(self.ask.scope, forms, &[], NAMED)).await?;
            self.truncated |= u32::try_from(found.len()).is_ok_and(|len| len >= NAMED);
            for form in forms {
                self.names.insert(form.clone(), Vec::new());
            }
            for mut named in found {
                self.weigh(&mut named.row)?;
                if let Some(known) = forms.get(named.asked).and_then(|form| self.names.get_mut(form)) {
                    known.push(named);
                }
            }
        }
        Ok(())
    }

    /// Reads rows that edges leave, if they are not known.
    async fn learn_sources(&mut self, ids: impl Iterator<Item = RemId>) -> Result<(), Fault> {
        let unknown: BTreeSet<RemId> =
            ids.filter(|id| !self.at.contains_key(id) && !self.sources.contains_key(id)).collect();
        let unknown: Vec<RemId> = unknown.into_iter().collect();
        for ids in unknown.chunks(AT_ONCE) {
            for mut row in self.ask.store(self.ask.parts.store.rem_rows(self.ask.scope, ids)).await? {
                self.weigh(&mut row)?;
                self.sources.insert(row.id, row);
            }
        }
        Ok(())
    }

    /// Forgets texts that are not shown, and stops at too much of those that are.
    fn weigh(&mut self, row: &mut RemRow) -> Result<(), Fault> {
        if self.query.load != Load::Load || self.query.depth == 0 {
            row.text = String::new();
        }
        self.bytes = self.bytes.saturating_add(row.text.len());
        if self.bytes > TEXT_BYTES {
            let detail = format!("the walk meets more than {TEXT_BYTES} bytes of text");
            let hint = "use LAZY or KEYS, fewer types, a MIN_WEIGHT or a smaller DEPTH";
            return Err(Fault::new(Code::TooLarge, detail).of("depth").hint(hint));
        }
        Ok(())
    }

    /// Makes nodes of the rows that are reached for the first time: each by its heaviest edge, the heaviest first.
    fn reach(&mut self, frontier: &[usize], steps: Vec<Step>, level: &mut Level) {
        let order: HashMap<usize, usize> = frontier.iter().enumerate().map(|(order, place)| (*place, order)).collect();
        let rank = |step: &Step| order.get(&step.parent).copied().unwrap_or(usize::MAX);
        let mut first: HashMap<RemId, Step> = HashMap::new();
        for step in steps {
            let before = |than: &Step| {
                let ties = || (&step.kind, rank(&step)).cmp(&(&than.kind, rank(than)));
                than.weight.total_cmp(&step.weight).then_with(ties).is_lt()
            };
            if !self.at.contains_key(&step.to) && first.get(&step.to).is_none_or(before) {
                first.insert(step.to, step);
            }
        }
        let mut rows: HashMap<RemId, RemRow> = HashMap::with_capacity(first.len());
        for named in self.names.values().flatten().filter(|named| first.contains_key(&named.row.id)) {
            rows.entry(named.row.id).or_insert_with(|| named.row.clone());
        }
        for id in first.keys() {
            if let Some(row) = self.sources.remove(id) {
                rows.entry(*id).or_insert(row);
            }
        }
        let mut fresh: Vec<(Step, RemRow)> =
            first.into_values().filter_map(|step| rows.remove(&step.to).map(|row| (step, row))).collect();
        fresh.sort_by_cached_key(|(step, row)| (heavy(step.weight), normalise(&row.name), row.table, row.id));
        let left = CAPS.0.saturating_sub(self.nodes.len());
        self.truncated |= fresh.len() > left;
        for (step, row) in fresh.into_iter().take(left) {
            let depth = self.nodes.get(step.parent).map_or(0, |parent| parent.depth).saturating_add(1);
            let via = Some((step.kind, step.weight));
            let place = self.visit(Node { row, depth, parent: Some(step.parent), via, score: None });
            level.reached.push(place);
        }
    }

    /// Names from the entry point to a node.
    pub(super) fn path(&self, node: &Node) -> Vec<String> {
        let parent = |node: &&Node| node.parent.and_then(|place| self.nodes.get(place));
        let mut path: Vec<String> =
            std::iter::successors(Some(node), parent).map(|node| node.row.name.clone()).collect();
        path.reverse();
        path
    }
}

/// The name at the end of an edge: that of what it leads to if that is one thing, for it may lead there by an alias.
fn shown<'n>(target: &'n str, named: &'n [RemNamed]) -> &'n str {
    let mut names = best(target, named).map(|named| named.row.name.as_str());
    let Some(first) = names.next() else { return target };
    if names.all(|name| name == first) { first } else { target }
}

/// A weight as a number that orders the heaviest first.
pub(super) fn heavy(weight: f64) -> std::cmp::Reverse<u64> {
    // Bits of floats that are not negative are in the order of the floats; a weight is 0 to 1.
    std::cmp::Reverse(weight.max(0.0).to_bits())
}
