//! What speaks for a neighbour's answer: the numbers from which the probability is made.
//!
//! Stands between the search for nearest points and the [`Learner`](super::Learner). Takes the ten nearest points with
//! the answer groups they belong to, asks the guards, and describes the best group in nineteen numbers: how near it is, how
//! far ahead of the next group, how many of the neighbours it has, and how much of the new prompt's words it covers.
//!
//! Pure. It must never look beyond the neighbours it was given, nor turn a guard's objection into anything but a miss.

use super::difference::Difference;
use super::features::{Features, Form, Reading};
use super::guard::{Guard, Guards, Objection};

/// How many numbers describe a candidate.
pub const INPUTS: usize = 19;

/// Names of the numbers, in order; for explanations and files of weights.
pub const INPUT_NAMES: [&str; INPUTS] = [
    "one",
    "cosine",
    "cosine_squared",
    "margin",
    "votes",
    "group_size",
    "posterior",
    "share_of_ten",
    "overlap",
    "overlap_margin",
    "uncovered",
    "covered_elsewhere",
    "length",
    "group_cosine",
    "groups",
    "tenth_cosine",
    "wide_posterior",
    "rival_share",
    "top_three_margin",
];

/// The numbers.
pub type Inputs = [f32; INPUTS];

/// Neighbours of a full decision.
const FULL: usize = 10;
/// Neighbours that vote.
const VOTERS: usize = 5;
/// Lead over rivals that nobody has seen, where fewer than [`FULL`] points are near.
const UNSEEN_MARGIN: f32 = 0.15;
/// Most that a lead counts.
const MOST_MARGIN: f32 = 0.4;
/// Widths of the kernels in which neighbours share out their votes.
const KERNEL: f32 = 0.03;
const WIDE_KERNEL: f32 = 0.06;
/// Points of a group whose mean cosine is compared with that of another group's.
const TOP: usize = 3;
/// What a word without a topic counts beside one with.
const STOP_WEIGHT: f32 = 0.15;
/// Groups that are tried, nearest first, when guards refuse the one before.
const TRIED: usize = 3;
/// Linked prompts of one group that must have differed in what a guard looks at before its objection is moot there.
pub const WAIVED_FROM: u8 = 2;

/// One near point.
#[derive(Clone, Copy, Debug)]
pub struct Near<'a> {
    /// Cosine to the new prompt.
    pub cosine: f32,
    /// Number of the answer group it belongs to: equal numbers, equal groups.
    pub group: usize,
    /// Points of that group.
    pub group_size: usize,
    /// The group's waivers.
    pub waivers: Waivers,
    /// Its prompt.
    pub features: &'a Features,
}

impl Near<'_> {
    /// Whether the guard's objection does not count in this group: its prompts have shown so, or it is about an exchanged
    /// word and the group has several prompts, so that the probability knows better what may be exchanged.
    pub fn waives(&self, guard: Guard) -> bool {
        waives(guard, self.waivers, self.group_size)
    }
}

/// See [`Near::waives`].
pub fn waives(guard: Guard, waivers: Waivers, group_size: usize) -> bool {
    waivers.waives(guard) || (guard == Guard::Substitution && group_size > 1)
}

/// For each guard, how many prompts of a group were found to have the same answer although the guard objected. Two such
/// prompts show that what the guard looks at does not change this answer: whether the card "has not come" or is "late", the
/// advice is the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waivers([u8; Guard::ALL.len()]);

/// Guards whose objection no evidence can make moot. Numbers, dates and names are values without end: that three orders are all
/// on their way says nothing about a fourth. Language and containment stand against attacks and against answers in another
/// language.
const NEVER_MOOT: [Guard; 5] = [Guard::Numbers, Guard::Dates, Guard::Entities, Guard::Language, Guard::Containment];

impl Waivers {
    /// Adds what one more linked prompt has shown.
    pub fn add(&mut self, objections: GuardSet) {
        for guard in Guard::ALL {
            if objections.has(guard)
                && let Some(count) = self.0.get_mut(guard as usize)
            {
                *count = count.saturating_add(1);
            }
        }
    }

    /// How many prompts have shown that the guard's objection does not matter here.
    pub fn count(&self, guard: Guard) -> u8 {
        self.0.get(guard as usize).copied().unwrap_or(0)
    }

    /// Whether the guard's objection is moot.
    pub fn waives(&self, guard: Guard) -> bool {
        !NEVER_MOOT.contains(&guard) && self.count(guard) >= WAIVED_FROM
    }
}

/// A set of guards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuardSet(u16);

impl GuardSet {
    /// The set with these bits; bit n is the nth of [`Guard::ALL`].
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// See [`Self::from_bits`].
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Whether the guard is in the set.
    pub const fn has(self, guard: Guard) -> bool {
        self.0 >> guard as u16 & 1 == 1
    }

    /// What is in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl FromIterator<Guard> for GuardSet {
    fn from_iter<T: IntoIterator<Item = Guard>>(guards: T) -> Self {
        Self(guards.into_iter().fold(0, |bits, guard| bits | 1 << guard as u16))
    }
}

/// The candidate that a decision is about.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// Place of its best point among the neighbours that no guard refuses; of its best point if all are refused.
    pub index: usize,
    /// Its group.
    pub group: usize,
    /// Points in its group.
    pub group_size: usize,
    /// Cosine of that point.
    pub cosine: f32,
    /// Lead over the best point of another group; nothing if there is no other group.
    pub margin: Option<f32>,
    /// How the words of the two prompts differ.
    pub difference: Difference,
    /// What the probability is made from.
    pub inputs: Inputs,
    /// The first objection of a guard that nothing makes moot.
    pub objection: Option<Objection>,
}

/// The evidence for the best candidate. Nothing if no neighbour is at least as near as `floor`.
///
/// If guards refuse every near point of the nearest group, a group further off may take its place, but only with a prompt
/// in the same words: where "order 7781" and "order 7782" are both stored, the wrong one may well be nearer than the right
/// one. Any other would gain by the absence of a rival that may be right after all: most objections are over-careful.
pub fn weigh(new: &Features, near: &[Near<'_>], floor: f32, guards: Guards) -> Option<Evidence> {
    let mut left: Vec<(usize, Near<'_>)> =
        near.iter().copied().enumerate().filter(|(_, n)| !n.cosine.is_nan()).collect();
    let mut first_refused = None;
    for _ in 0..TRIED {
        let Some(found) = weigh_first(new, &left, floor, guards) else { break };
        if found.objection.is_none() {
            let may = first_refused.is_none() || found.difference == Difference::None;
            return if may { Some(found) } else { first_refused };
        }
        left.retain(|(_, n)| n.group != found.group);
        first_refused.get_or_insert(found);
    }
    first_refused
}

fn weigh_first(new: &Features, near: &[(usize, Near<'_>)], floor: f32, guards: Guards) -> Option<Evidence> {
    let (best, first) = near.first().filter(|(_, n)| n.cosine >= floor)?;
    let own = || near.iter().filter(|(_, n)| n.group == first.group && n.cosine >= floor);
    let mut objection = None;
    let mut chosen = (*best, first);
    for (index, point) in own() {
        match guards.check_unless(new, point.features, |guard| point.waives(guard)) {
            Ok(()) => {
                (chosen, objection) = ((*index, point), None);
                break;
            }
            Err(refused) => {
                objection.get_or_insert(refused);
            }
        }
    }
    let rival = near.iter().find(|(_, n)| n.group != first.group).map(|(_, n)| first.cosine - n.cosine);
    Some(Evidence {
        index: chosen.0,
        group: first.group,
        group_size: first.group_size,
        cosine: chosen.1.cosine,
        margin: rival,
        difference: Difference::between(new, chosen.1.features),
        inputs: inputs(new, near, first, rival),
        objection,
    })
}

fn inputs(new: &Features, near: &[(usize, Near<'_>)], first: &Near<'_>, rival: Option<f32>) -> Inputs {
    let is_own = |n: &Near<'_>| n.group == first.group;
    let points = || near.iter().map(|(_, n)| n);
    let count = near.len().max(1) as f32;
    let best = first.cosine;
    let last = near.get(FULL - 1).map(|(_, n)| n.cosine);
    let margin = rival.or(last.map(|last| best - last + 0.02)).unwrap_or(UNSEEN_MARGIN).min(MOST_MARGIN);
    let votes = points().take(VOTERS).filter(|n| is_own(n)).count() as f32 / count.min(VOTERS as f32);
    let posterior = |width: f32| {
        let kernel = |n: &Near<'_>| ((n.cosine - best) / width).exp();
        points().filter(|n| is_own(n)).map(kernel).sum::<f32>() / points().map(kernel).sum::<f32>()
    };
    let own = points().filter(|n| is_own(n)).count() as f32;
    let own_cosine = points().filter(|n| is_own(n)).map(|n| n.cosine).sum::<f32>() / own;
    let mut groups: Vec<usize> = points().map(|n| n.group).collect();
    groups.sort_unstable();
    groups.dedup();
    let words = Words::of(new, near, first.group);
    let farthest = near.last().map_or(best, |(_, n)| n.cosine);
    // Of a group with fewer points, the missing ones count as far as the farthest there is.
    let top = |group: usize| {
        let own = points().filter(|n| n.group == group).take(TOP);
        let (sum, count) = own.fold((0.0, 0), |(sum, count), n| (sum + n.cosine, count + 1));
        (sum + farthest * (TOP - count) as f32) / TOP as f32
    };
    let rivals = || groups.iter().filter(|group| **group != first.group);
    let rival_points = rivals().map(|group| points().filter(|n| n.group == *group).count()).max().unwrap_or_default();
    let rival_top = rivals().map(|group| top(*group)).reduce(f32::max);
    let top_margin = match rival_top {
        Some(rival) => (top(first.group) - rival).min(MOST_MARGIN),
        None => margin,
    };
    let d = best - 0.85;
    [
        1.0,
        d,
        3.0 * d.signum() * d * d,
        margin,
        votes - 0.6,
        (1.0 + first.group_size as f32).ln().min(3.0) / 3.0,
        posterior(KERNEL) - 0.6,
        own / count - 0.5,
        words.overlap - 0.4,
        words.overlap_margin,
        words.uncovered - 0.3,
        words.covered_elsewhere,
        words.length - 2.3,
        own_cosine - 0.8,
        groups.len() as f32 / 10.0 - 0.4,
        last.map_or(-0.2, |last| last - 0.7),
        posterior(WIDE_KERNEL) - 0.6,
        rival_points as f32 / count - 0.2,
        top_margin,
    ]
}

/// What the words say. Stop words count a little, so that two prompts of nothing else can still be compared.
struct Words {
    /// Greatest share of common words with a point of the group (weighted Jaccard index).
    overlap: f32,
    /// Its lead over the other groups' points.
    overlap_margin: f32,
    /// Share of the prompt's words that none of the group's near points has.
    uncovered: f32,
    /// Share of the prompt's words that only other groups' near points have.
    covered_elsewhere: f32,
    /// Logarithm of one plus the number of different words.
    length: f32,
}

impl Words {
    fn of(new: &Features, near: &[(usize, Near<'_>)], group: usize) -> Self {
        let Form::Read(text) = &new.0 else {
            return Self { overlap: 0.0, overlap_margin: 0.0, uncovered: 1.0, covered_elsewhere: 0.0, length: 4.0 };
        };
        let mut covered = Covered::new(text);
        let (mut own, mut other): (f32, Option<f32>) = (0.0, None);
        for (_, point) in near {
            let Form::Read(stored) = &point.features.0 else { continue };
            let is_own = point.group == group;
            let overlap = covered.with(stored, is_own);
            if is_own {
                own = own.max(overlap);
            } else {
                other = Some(other.map_or(overlap, |most| most.max(overlap)));
            }
        }
        let (uncovered, covered_elsewhere) = covered.shares();
        Self {
            overlap: own,
            overlap_margin: other.map_or(0.3, |other| own - other),
            uncovered,
            covered_elsewhere,
            length: (1.0 + covered.words.len() as f32).ln(),
        }
    }
}

/// The different words of the new prompt, and which kind of neighbour has each.
struct Covered<'a> {
    text: &'a Reading,
    words: Vec<(f32, bool, bool)>,
    total: f32,
}

impl<'a> Covered<'a> {
    fn new(text: &'a Reading) -> Self {
        let words: Vec<_> = text.distinct().iter().map(|word| (weight(text, *word), false, false)).collect();
        let total = words.iter().map(|(weight, _, _)| weight).sum();
        Self { text, words, total }
    }

    /// Marks what the stored text has too; returns the weighted Jaccard index of the two.
    fn with(&mut self, stored: &Reading, own: bool) -> f32 {
        let mut theirs = stored.distinct().iter().peekable();
        let (mut shared, mut beyond) = (0.0, 0.0);
        for (word, (weight_of_word, by_own, by_other)) in self.text.distinct().iter().zip(&mut self.words) {
            let stem = self.text.stem(*word);
            while let Some(lower) = theirs.next_if(|t| stored.stem(**t) < stem) {
                beyond += weight(stored, *lower);
            }
            if theirs.next_if(|t| stored.stem(**t) == stem).is_some() {
                shared += *weight_of_word;
                *if own { by_own } else { by_other } = true;
            }
        }
        beyond += theirs.map(|word| weight(stored, *word)).sum::<f32>();
        let all = self.total + beyond;
        if all > 0.0 { shared / all } else { 0.0 }
    }

    fn shares(&self) -> (f32, f32) {
        if self.total <= 0.0 {
            return (0.0, 0.0);
        }
        let missing = self.words.iter().filter(|(_, own, _)| !own);
        let sum = |words: &mut dyn Iterator<Item = &(f32, bool, bool)>| words.map(|(weight, _, _)| weight).sum::<f32>();
        let uncovered = sum(&mut missing.clone()) / self.total;
        (uncovered, sum(&mut missing.filter(|(_, _, other)| *other)) / self.total)
    }
}

fn weight(text: &Reading, word: u16) -> f32 {
    if text.has_topic(word) { 1.0 } else { STOP_WEIGHT }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near<'a>(rows: &'a [(f32, usize, Features)]) -> Vec<Near<'a>> {
        let size = |group| rows.iter().filter(|(_, g, _)| *g == group).count();
        let point = |(cosine, group, features): &'a (f32, usize, Features)| Near {
            cosine: *cosine,
            group: *group,
            group_size: size(*group),
            waivers: Waivers::default(),
            features,
        };
        rows.iter().map(point).collect()
    }

    fn rows(rows: &[(f32, usize, &str)]) -> Vec<(f32, usize, Features)> {
        rows.iter().map(|(cosine, group, text)| (*cosine, *group, Features::of(text))).collect()
    }

    #[test]
    fn the_numbers_of_a_small_neighbourhood() {
        let stored = rows(&[
            (0.95, 7, "reset my password"),
            (0.90, 7, "password reset"),
            (0.80, 3, "close my account"),
            (0.70, 7, "forgot password"),
        ]);
        let found = weigh(&Features::of("reset the password"), &near(&stored), 0.6, Guards::all()).unwrap();
        assert_eq!((found.index, found.group, found.group_size, found.objection), (0, 7, 3, None));
        let named = |name| found.inputs[INPUT_NAMES.iter().position(|n| *n == name).unwrap()];
        let close = |name, value: f32| assert!((named(name) - value).abs() < 1e-4, "{name}: {} ≠ {value}", named(name));
        close("one", 1.0);
        close("cosine", 0.10);
        close("cosine_squared", 0.03);
        close("margin", 0.15);
        close("votes", 0.15);
        close("group_size", 4.0_f32.ln() / 3.0);
        close("share_of_ten", 0.25);
        close("group_cosine", 0.05);
        close("groups", -0.2);
        close("tenth_cosine", -0.2);
        // reset, password (1 each) and "the" (0.15) against password, reset.
        close("overlap", 2.0 / 2.15 - 0.4);
        close("uncovered", 0.15 / 2.15 - 0.3);
        close("covered_elsewhere", 0.0);
        close("overlap_margin", 2.0 / 2.15);
        close("length", 4.0_f32.ln() - 2.3);
        close("rival_share", 0.05);
        // (0.95 + 0.90 + 0.70) / 3 against (0.80 + 2 · 0.70) / 3.
        close("top_three_margin", 2.55 / 3.0 - 2.2 / 3.0);
        let kernel = |d: f32| (-d / 0.06).exp();
        close(
            "wide_posterior",
            (1.0 + kernel(0.05) + kernel(0.25)) / (1.0 + kernel(0.05) + kernel(0.25) + kernel(0.15)) - 0.6,
        );
    }

    #[test]
    fn a_refused_group_gives_way_to_the_next_and_its_reason_stays() {
        let stored =
            rows(&[(0.97, 0, "track order 7781"), (0.95, 1, "please track order 7782"), (0.9, 2, "track order 7783")]);
        let found = weigh(&Features::of("track order 7782"), &near(&stored), 0.6, Guards::all()).unwrap();
        assert_eq!((found.index, found.group, found.objection), (1, 1, None));
        let found = weigh(&Features::of("track order 7784"), &near(&stored), 0.6, Guards::all()).unwrap();
        assert_eq!((found.index, found.objection.map(|o| o.guard)), (0, Some(Guard::Numbers)));
        assert!(weigh(&Features::of("track order 7784"), &near(&stored), 0.98, Guards::all()).is_none());
        assert!(weigh(&Features::of("x"), &[], 0.0, Guards::all()).is_none());
    }

    #[test]
    fn an_objection_is_moot_where_two_linked_prompts_have_shown_it_but_never_one_to_a_value() {
        let ask = |near: &[Near<'_>], text: &str| {
            weigh(&Features::of(text), near, 0.6, Guards::all()).unwrap().objection.map(|o| o.guard)
        };
        let stored = rows(&[(0.97, 0, "my new card has arrived late")]);
        let mut late = near(&stored);
        let shown: GuardSet = [Guard::Negation, Guard::Numbers, Guard::Containment].into_iter().collect();
        let asked = "my new card has not arrived late";
        late[0].waivers.add(shown);
        assert_eq!(ask(&late, asked), Some(Guard::Negation), "one is not enough");
        late[0].waivers.add(shown);
        assert_eq!(ask(&late, asked), None);
        assert!(!late[0].waivers.waives(Guard::Containment), "nothing makes an attack moot");
        let stored = rows(&[(0.97, 0, "where is order 7781")]);
        let mut orders = near(&stored);
        (0..5).for_each(|_| orders[0].waivers.add(shown));
        assert_eq!(ask(&orders, "where is order 7784"), Some(Guard::Numbers), "the fourth order may be another matter");
    }
}
