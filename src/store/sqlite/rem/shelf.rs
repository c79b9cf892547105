//! Vectors of REM data in memory, part by part: a part is what one owner has in one table and one space.
//!
//! A part is read once and then read on behind the last number that it has seen; what is deleted or replaced stays in it until it
//! is read anew. So a part may have too much, never too little, and whoever takes candidates from it looks each up in the database
//! before he believes it. That makes a part right whoever has changed the database, and leaves no rule of who may see what here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Memory for all parts of one kind together, bytes. A part that is larger by itself is not kept.
const MOST_BYTES: usize = 256 << 20;

/// Numbers that are multiplied at a time; the compiler makes vector instructions of it.
const LANES: usize = 16;

/// What may stand on a shelf.
pub(in crate::store::sqlite) trait Weighed: Default {
    /// Memory that it takes, bytes.
    fn bytes(&self) -> usize;
}

/// All parts of one kind.
pub(in crate::store::sqlite) struct Shelf<P> {
    most: AtomicUsize,
    parts: Mutex<Parts<P>>,
}

impl<P> Default for Shelf<P> {
    fn default() -> Self {
        Self { most: AtomicUsize::new(MOST_BYTES), parts: Mutex::new(Parts { by_number: HashMap::new(), now: 0 }) }
    }
}

struct Parts<P> {
    by_number: HashMap<i64, Kept<P>>,
    /// Counts uses.
    now: u64,
}

struct Kept<P> {
    part: Arc<RwLock<P>>,
    used: u64,
    bytes: usize,
}

/// The vectors of one part, in the order of their numbers.
#[derive(Default)]
pub(in crate::store::sqlite) struct Part {
    numbers: Vec<i64>,
    components: Vec<f32>,
    /// One over the length of each.
    scales: Vec<f32>,
    dimensions: usize,
    /// Number of the last one that was read.
    pub(super) seen: i64,
    /// Vectors that came, and searches that were made, since it was compared with the database.
    pub(super) unchecked: usize,
}

/// A vector that may be near: its approximate cosine, and its number.
pub(super) type Candidate = (f32, i64);

impl Part {
    /// Adds a vector if it has not been seen yet.
    pub(super) fn add(&mut self, number: i64, vector: &[f32]) {
        if number <= self.seen {
            return;
        }
        self.seen = number;
        if self.dimensions == 0 {
            self.dimensions = vector.len();
        }
        // A space has one number of dimensions; what has another cannot be compared.
        if vector.is_empty() || vector.len() != self.dimensions {
            return;
        }
        self.unchecked += 1;
        self.numbers.push(number);
        self.components.extend_from_slice(vector);
        self.scales.push(scale(vector));
    }

    /// How many vectors there are.
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// All of which the approximate cosine to `asked`, of length 1, is `least` or more, in any order.
    pub(super) fn candidates(&self, asked: &[f32], least: f32, found: &mut Vec<Candidate>) {
        if asked.len() != self.dimensions {
            return;
        }
        let vectors = self.components.chunks_exact(self.dimensions.max(1));
        for ((vector, scale), number) in vectors.zip(&self.scales).zip(&self.numbers) {
            let near = dot(asked, vector) * scale;
            if near >= least {
                found.push((near, *number));
            }
        }
    }

    /// Memory that so many vectors of this length take, bytes.
    pub(super) fn expected(vectors: usize, dimensions: usize) -> usize {
        vectors.saturating_mul(dimensions.saturating_mul(4).saturating_add(12))
    }
}

impl Weighed for Part {
    fn bytes(&self) -> usize {
        self.numbers.capacity() * 8 + self.components.capacity() * 4 + self.scales.capacity() * 4
    }
}

impl<P: Weighed> Shelf<P> {
    /// Gives it less memory, or more.
    #[cfg(test)]
    pub(super) fn limit_to(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
        self.parts.lock().unwrap().by_number.clear();
    }

    /// The part of this number, empty if there was none.
    pub(super) fn part(&self, number: i64) -> Arc<RwLock<P>> {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.now += 1;
        let now = parts.now;
        let kept = parts.by_number.entry(number).or_insert_with(|| Kept { part: Arc::default(), used: 0, bytes: 0 });
        kept.used = now;
        Arc::clone(&kept.part)
    }

    /// An empty part in place of the one of this number. Whoever still has that one goes on with it: to empty it under him would
    /// lose what he has not added yet, because he reads on behind what he has seen of it.
    pub(super) fn renew(&self, number: i64) -> Arc<RwLock<P>> {
        self.drop_part(number);
        self.part(number)
    }

    /// Notes how large a part has become, and takes away those that were used longest ago if all together are too large.
    pub(super) fn weigh(&self, number: i64) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = parts.by_number.get_mut(&number) {
            kept.bytes = kept.part.read().unwrap_or_else(PoisonError::into_inner).bytes();
        }
        let mut bytes: usize = parts.by_number.values().map(|kept| kept.bytes).sum();
        while bytes > self.most.load(Ordering::Relaxed) {
            let oldest = parts.by_number.iter().min_by_key(|(_, kept)| kept.used).map(|(number, _)| *number);
            let Some(gone) = oldest.and_then(|oldest| parts.by_number.remove(&oldest)) else { return };
            bytes = bytes.saturating_sub(gone.bytes);
        }
    }

    /// Takes a part away if there is nothing in it: those of callers that have nothing would stay for ever, because they take nothing.
    pub(super) fn drop_empty(&self, number: i64) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let empty = |kept: &Kept<P>| kept.part.read().unwrap_or_else(PoisonError::into_inner).bytes() == 0;
        if parts.by_number.get(&number).is_some_and(empty) {
            parts.by_number.remove(&number);
        }
    }

    /// How many parts there are.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.parts.lock().unwrap().by_number.len()
    }

    /// Takes a part away.
    pub(super) fn drop_part(&self, number: i64) {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).by_number.remove(&number);
    }

    /// Whether a part of so many bytes may be kept.
    pub(super) fn holds(&self, bytes: usize) -> bool {
        bytes <= self.most.load(Ordering::Relaxed)
    }
}

/// By how much an approximate cosine may be wrong: rounding of that many products.
pub(super) fn tolerance(dimensions: usize) -> f32 {
    f32::from(u16::try_from(dimensions).unwrap_or(u16::MAX)) * f32::EPSILON + 4.0 * f32::EPSILON
}

/// The vector with length 1.
pub(super) fn unit(vector: &[f32]) -> Vec<f32> {
    let scale = scale(vector);
    vector.iter().map(|number| number * scale).collect()
}

/// One over the length of a vector; 0 for one without length.
pub(super) fn scale(vector: &[f32]) -> f32 {
    let square: f64 = vector.iter().map(|number| f64::from(*number) * f64::from(*number)).sum();
    #[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is wanted")]
    if square > 0.0 { (1.0 / square.sqrt()) as f32 } else { 0.0 }
}

/// The inner product.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    for (x, y) in a_blocks.iter().zip(b_blocks) {
        for ((sum, x), y) in sums.iter_mut().zip(x).zip(y) {
            *sum += x * y;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(shelf: &Shelf<Part>, number: i64, vectors: i64) {
        let part = shelf.part(number);
        for seq in 1..=vectors {
            part.write().unwrap().add(seq, &[0.6, 0.8]);
        }
        shelf.weigh(number);
    }

    #[test]
    fn a_shelf_keeps_what_was_used_last_and_never_more_than_it_may() {
        let shelf = Shelf::default();
        shelf.limit_to(4_000);
        for number in 1..=3 {
            filled(&shelf, number, 40);
        }
        assert_eq!([1, 2, 3].map(|number| shelf.part(number).read().unwrap().len()), [40; 3]);
        shelf.part(1);
        filled(&shelf, 4, 60);
        assert_eq!(shelf.part(2).read().unwrap().len(), 0, "used longest ago");
        assert_eq!(shelf.part(1).read().unwrap().len(), 40);
        assert!(shelf.holds(Part::expected(200, 2)) && !shelf.holds(Part::expected(201, 2)));
        filled(&shelf, 5, 1_000);
        let bytes: usize = shelf.parts.lock().unwrap().by_number.values().map(|kept| kept.bytes).sum();
        assert!(bytes <= 4_000, "{bytes}");
    }

    #[test]
    fn a_part_that_begins_anew_leaves_the_old_one_to_those_who_have_it() {
        let shelf = Shelf::<Part>::default();
        filled(&shelf, 1, 40);
        // A search that has read up to 40 and is about to add what came after.
        let held = shelf.part(1);
        let after = held.read().unwrap().seen;
        let anew = shelf.renew(1);
        held.write().unwrap().add(after + 1, &[0.6, 0.8]);
        assert_eq!((held.read().unwrap().len(), held.read().unwrap().seen), (41, 41));
        assert_eq!(
            (anew.read().unwrap().len(), anew.read().unwrap().seen),
            (0, 0),
            "1 to 40 would never be read again"
        );
        assert!(Arc::ptr_eq(&anew, &shelf.part(1)));
    }

    #[test]
    fn what_was_seen_is_not_added_again_and_what_cannot_be_compared_is_left_out() {
        let mut part = Part::default();
        for (number, vector) in [(2, vec![0.0, 2.0]), (1, vec![1.0, 0.0]), (2, vec![1.0, 0.0]), (3, vec![1.0])] {
            part.add(number, &vector);
        }
        part.add(9, &[3.0, 4.0]);
        let mut found = Vec::new();
        part.candidates(&[0.0, 1.0], -1.0, &mut found);
        assert_eq!(found, [(1.0, 2), (0.8, 9)]);
        part.candidates(&[1.0], -1.0, &mut found);
        assert_eq!((found.len(), part.seen), (2, 9));
    }

    #[test]
    fn an_approximate_cosine_is_as_near_as_it_says() {
        let component =
            |seed: u32| f32::from(u16::try_from(seed.wrapping_mul(2_654_435_761) >> 16).unwrap()) / 65_536.0 - 0.5;
        for dimensions in [1_usize, 15, 16, 17, 384, 1_536] {
            let vector = |start: u32| {
                (0..dimensions).map(|at| component(start + u32::try_from(at).unwrap())).collect::<Vec<_>>()
            };
            let (a, b) = (vector(1), vector(7_919));
            let exact = crate::store::rem::cosine(&a, &b);
            let near = f64::from(dot(&unit(&a), &b) * scale(&b));
            assert!((near - exact).abs() <= f64::from(tolerance(dimensions)), "{dimensions}: {near} {exact}");
        }
    }
}
