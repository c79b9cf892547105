//! What one policy remembers during one run: its points, their groups, and an index for each partition.
//!
//! Where requests have times, a group is gone a fixed time after it was opened, with all its points: as in the product,
//! where a linked prompt does not lengthen the life of an answer.
//!
//! Each run has its own, so policies cannot see each other's entries. Point ids are the order of insertion, so that ties
//! fall the same way in every run. Searches compare every vector: a graph would make a run depend on its building.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::prompt::Prompt;
use super::{NEIGHBOURS, ReplayError};
use crate::clock::UnixMs;
use crate::ids::PointId;
use crate::index::Partition;
use crate::store::Digest;

/// An answer that came from upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its words.
    pub text: Arc<str>,
    /// The class whose question it answers. For judging a run; policies decide by the text.
    pub class: usize,
}

/// A stored prompt near a new one.
#[derive(Clone, Copy, Debug)]
pub struct Near<'a> {
    /// Which point, in order of insertion from 0.
    pub point: usize,
    /// Cosine between it and the new prompt.
    pub cosine: f32,
    /// The stored prompt.
    pub prompt: &'a Prompt,
    /// Its answer group, in order of opening from 0.
    pub group: usize,
    /// Points of the group.
    pub group_size: usize,
    /// The group's answer.
    pub answer: &'a Answer,
}

/// What to do with a prompt whose answer came from upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Store it as a point of this group; the group keeps its answer.
    Join(usize),
    /// Store it as the first point of a new group with the answer that came.
    Open,
    /// Do not store it.
    Drop,
}

struct Point {
    prompt: usize,
    group: usize,
}

struct Group {
    answer: Answer,
    partition: Digest,
    points: Vec<usize>,
}

/// See the module.
pub struct Memory<'a> {
    prompts: &'a [Prompt],
    points: Vec<Point>,
    groups: Vec<Group>,
    partitions: HashMap<Digest, Partition>,
    now: UnixMs,
    /// Groups that are still there and when they were opened, oldest first.
    opened: VecDeque<(UnixMs, usize)>,
}

impl<'a> Memory<'a> {
    /// An empty one over all prompts there are.
    pub fn new(prompts: &'a [Prompt]) -> Self {
        Self {
            prompts,
            points: Vec::new(),
            groups: Vec::new(),
            partitions: HashMap::new(),
            now: 0,
            opened: VecDeque::new(),
        }
    }

    /// Sets the time and lets go of what was opened `ttl` ago or earlier, both in milliseconds. Time never goes back: of
    /// requests recorded at the same moment, one may be stamped a little before another that came first.
    pub fn advance(&mut self, to: UnixMs, ttl: u64) {
        self.now = self.now.max(to);
        while let Some((opened, group)) = self.opened.front().copied()
            && opened.saturating_add(ttl) <= self.now
        {
            self.opened.pop_front();
            let Some(Group { partition, points, .. }) = self.groups.get_mut(group) else { continue };
            let Some(index) = self.partitions.get(partition) else { continue };
            for point in points.drain(..) {
                index.remove(id(point));
            }
        }
    }

    /// The ten nearest points of the partition, best first.
    pub fn near(&self, partition: &Digest, prompt: &Prompt) -> Vec<Near<'_>> {
        let Some(index) = self.partitions.get(partition) else { return Vec::new() };
        let found = index.search(&prompt.vector, NEIGHBOURS).into_iter();
        found.filter_map(|neighbour| self.resolve(number(neighbour.id)?, neighbour.cosine)).collect()
    }

    fn resolve(&self, point: usize, cosine: f32) -> Option<Near<'_>> {
        let Point { prompt, group } = self.points.get(point)?;
        let Group { answer, points, .. } = self.groups.get(*group)?;
        let prompt = self.prompts.get(*prompt)?;
        Some(Near { point, cosine, prompt, group: *group, group_size: points.len(), answer })
    }

    /// Stores a prompt, by its place among all prompts, as `placement` says.
    ///
    /// # Errors
    /// The prompt or the group does not exist, or the index refuses the vector.
    pub fn insert(
        &mut self,
        partition: &Digest,
        prompt: usize,
        placement: Placement,
        answer: Answer,
    ) -> Result<(), ReplayError> {
        let nothing = |what: &str, number: usize| ReplayError::new(format!("there is no {what} {number}"));
        let vector = &self.prompts.get(prompt).ok_or_else(|| nothing("prompt", prompt))?.vector;
        let group = match placement {
            Placement::Drop => return Ok(()),
            Placement::Join(group) => group,
            Placement::Open => {
                self.groups.push(Group { answer, partition: *partition, points: Vec::new() });
                self.opened.push_back((self.now, self.groups.len() - 1));
                self.groups.len() - 1
            }
        };
        self.groups.get_mut(group).ok_or_else(|| nothing("group", group))?.points.push(self.points.len());
        let index = self.partitions.entry(*partition).or_insert_with(|| Partition::new(vector.len(), usize::MAX));
        index.insert(id(self.points.len()), vector).map_err(|error| ReplayError::new(error.to_string()))?;
        self.points.push(Point { prompt, group });
        Ok(())
    }
}

fn id(point: usize) -> PointId {
    PointId::from_bytes((point as u128).to_be_bytes())
}

fn number(id: PointId) -> Option<usize> {
    usize::try_from(u128::from_be_bytes(id.to_bytes())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::prompt::testing::prompt;

    #[test]
    fn points_are_found_in_their_partition_with_their_group() {
        let prompts = [prompt("a", &[1.0, 0.0]), prompt("b", &[0.8, 0.6]), prompt("c", &[0.0, 1.0])];
        let mut memory = Memory::new(&prompts);
        let answer = |class| Answer { text: "x".into(), class };
        memory.insert(&[1; 32], 0, Placement::Open, answer(5)).unwrap();
        memory.insert(&[1; 32], 1, Placement::Join(0), answer(6)).unwrap();
        memory.insert(&[2; 32], 2, Placement::Open, answer(7)).unwrap();
        memory.insert(&[2; 32], 0, Placement::Drop, answer(8)).unwrap();
        let near = memory.near(&[1; 32], &prompts[1]);
        assert_eq!(
            near.iter().map(|n| (n.point, n.group, n.group_size, n.answer.class)).collect::<Vec<_>>(),
            [(1, 0, 2, 5), (0, 0, 2, 5)]
        );
        assert!((near[1].cosine - 0.8).abs() < 1e-3);
        assert_eq!(memory.near(&[2; 32], &prompts[0]).len(), 1);
        assert!(memory.near(&[3; 32], &prompts[0]).is_empty());
        assert!(memory.insert(&[1; 32], 0, Placement::Join(9), answer(1)).is_err());
    }

    #[test]
    fn a_group_is_gone_with_all_its_points_a_while_after_it_was_opened() {
        let prompts = [prompt("a", &[1.0, 0.0]), prompt("b", &[0.8, 0.6]), prompt("c", &[0.0, 1.0])];
        let mut memory = Memory::new(&prompts);
        let answer = |class| Answer { text: "x".into(), class };
        let near = |memory: &Memory<'_>| memory.near(&[1; 32], &prompts[1]).iter().map(|n| n.point).collect::<Vec<_>>();
        memory.advance(1_000, 100);
        memory.insert(&[1; 32], 0, Placement::Open, answer(0)).unwrap();
        memory.advance(1_050, 100);
        memory.insert(&[1; 32], 1, Placement::Join(0), answer(0)).unwrap();
        memory.insert(&[1; 32], 2, Placement::Open, answer(1)).unwrap();
        memory.advance(1_099, 100);
        assert_eq!(near(&memory), [1, 0, 2]);
        memory.advance(1_100, 100);
        assert_eq!(near(&memory), [2], "joining does not lengthen the life of a group");
        memory.advance(900, 100);
        memory.insert(&[1; 32], 0, Placement::Open, answer(0)).unwrap();
        memory.advance(1_150, 100);
        assert_eq!(near(&memory), [3], "time does not go back");
        memory.advance(1_200, 100);
        assert!(near(&memory).is_empty());
    }
}
