//! Whether two answers say the same: the product's own comparison, for linking a prompt to a group and for labels.
//!
//! Runs meet the same few answers over and over, so each pair is compared once. Must never look at the intent: that is
//! what the policies are judged by.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::runtime::Handle;

use crate::cache::Likeness;
use crate::embed::Embedder;

/// Comparisons remembered; beyond, they are made anew.
const REMEMBERED: usize = 1_000_000;

/// See the module. Shared by all runs.
pub struct Linker {
    embedder: Embedder,
    runtime: Handle,
    known: Mutex<HashMap<[u8; 32], Likeness>>,
}

impl Linker {
    /// A linker that embeds on the current tokio runtime.
    pub fn new(embedder: Embedder) -> Self {
        Self { embedder, runtime: Handle::current(), known: Mutex::default() }
    }

    /// One for tests outside of any runtime; all texts are embedded alike.
    #[cfg(test)]
    pub(super) fn for_tests() -> std::sync::Arc<Self> {
        static RUNTIME: std::sync::LazyLock<tokio::runtime::Runtime> = std::sync::LazyLock::new(|| {
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
        });
        let embedder = Embedder::fixed(1, |_| Ok(vec![1.0]));
        std::sync::Arc::new(Self { embedder, runtime: RUNTIME.handle().clone(), known: Mutex::default() })
    }

    /// What comes of comparing the two. Blocks: not for an async thread.
    pub(super) fn compare(&self, fresh: &str, stored: &str) -> Likeness {
        if fresh == stored {
            return Likeness::Same;
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(blake3::hash(fresh.as_bytes()).as_bytes()).update(stored.as_bytes());
        let key = *hasher.finalize().as_bytes();
        let known = |key| self.known.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied();
        if let Some(likeness) = known(&key) {
            return likeness;
        }
        let likeness = self.runtime.block_on(Likeness::of(fresh, stored, &self.embedder, ""));
        let mut memory = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.len() < REMEMBERED {
            memory.insert(key, likeness);
        }
        likeness
    }

    /// Whether they certainly say the same.
    pub(super) fn same_answer(&self, fresh: &str, stored: &str) -> bool {
        self.compare(fresh, stored) == Likeness::Same
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn each_pair_is_compared_once_and_a_number_makes_another_answer() {
        let embedder = Embedder::fixed(1, |_| Ok(vec![1.0]));
        let linker = Linker::new(embedder.clone());
        let usual = "Please allow up to 3 working days for the parcel to arrive at your address.";
        let same = "The parcel arrives at your address; for that, please allow up to 3 working days.";
        let other = usual.replace('3', "4");
        let compared = tokio::task::spawn_blocking(move || {
            let likeness = [same, same, &other].map(|text| linker.compare(usual, text));
            (likeness, linker.known.lock().unwrap().len())
        });
        let (likeness, known) = compared.await.unwrap();
        assert_eq!((likeness, known), ([Likeness::Same, Likeness::Same, Likeness::Different], 2));
        assert_eq!(embedder.inferences(), 2, "two texts were embedded, for one comparison");
    }
}
