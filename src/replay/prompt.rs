//! The texts of a recording, each read and embedded once: what every policy and every seed then shares.
//!
//! Must never embed a text twice, and never keep one without its vector: a replay without the semantic tier would judge
//! nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::JoinSet;

use super::{Phase, Progress, ReplayError};
use crate::cache::decide::{Features, normalise};
use crate::embed::Embedder;
use crate::store::Digest;

/// A prompt and all that is derived from its text.
#[derive(Debug)]
pub struct Prompt {
    /// The text.
    pub text: Box<str>,
    /// What the guards know of it.
    pub features: Features,
    /// [`normalise`] of it.
    pub normalised: Box<str>,
    /// Unit vector.
    pub vector: Arc<[f32]>,
    /// Digest of what the embedder did not see of it; prompts that differ in it must not match.
    pub unseen: Option<Digest>,
}

/// Gives each distinct text a number, in order of appearance from 0.
#[derive(Debug, Default)]
pub struct Texts {
    numbers: HashMap<Arc<str>, usize>,
    texts: Vec<Arc<str>>,
}

impl Texts {
    /// The number of a text; a new one if it is new.
    pub fn number(&mut self, text: &str) -> usize {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let text: Arc<str> = text.into();
        self.texts.push(Arc::clone(&text));
        self.numbers.insert(text, self.texts.len() - 1);
        self.texts.len() - 1
    }

    /// Number of distinct texts.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// True if there is no text.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// Embeds all texts, `parallel` at a time; the result has them by number.
    ///
    /// # Errors
    /// The embedder refuses a text.
    pub async fn embed(
        self,
        embedder: &Embedder,
        parallel: usize,
        tell: &Progress,
    ) -> Result<Vec<Prompt>, ReplayError> {
        let total = self.texts.len();
        let (texts, next, done) = (Arc::new(self.texts), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut workers = JoinSet::new();
        for _ in 0..parallel.clamp(1, total.max(1)) {
            let (texts, next, done) = (Arc::clone(&texts), Arc::clone(&next), Arc::clone(&done));
            let (embedder, tell) = (embedder.clone(), Arc::clone(tell));
            workers.spawn(async move {
                let mut made = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(text) = texts.get(number) else { return Ok(made) };
                    made.push((number, read(&embedder, text).await?));
                    tell(Phase::Embedding, done.fetch_add(1, Ordering::Relaxed) + 1, total);
                }
            });
        }
        let mut prompts = Vec::with_capacity(total);
        while let Some(worker) = workers.join_next().await {
            prompts.extend(worker.map_err(|error| ReplayError::new(format!("embedding stopped: {error}")))??);
        }
        prompts.sort_unstable_by_key(|(number, _)| *number);
        Ok(prompts.into_iter().map(|(_, prompt)| prompt).collect())
    }
}

async fn read(embedder: &Embedder, text: &str) -> Result<Prompt, ReplayError> {
    let embedded = embedder.embed(text).await.map_err(|error| {
        let start: String = text.chars().take(60).collect();
        ReplayError::new(format!(
            "the prompt {start:?} cannot be embedded: {error}; check [embedding] in the configuration"
        ))
    })?;
    Ok(Prompt {
        text: text.into(),
        features: Features::of(text),
        normalised: normalise(text).into(),
        vector: embedded.vector,
        unseen: embedded.truncated,
    })
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// A prompt with a vector of one's own, which must be of length 1.
    pub(crate) fn prompt(text: &str, vector: &[f32]) -> Prompt {
        Prompt {
            text: text.into(),
            features: Features::of(text),
            normalised: normalise(text).into(),
            vector: vector.into(),
            unseen: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::embed::EmbedError;

    #[tokio::test(flavor = "multi_thread")]
    async fn each_distinct_text_is_embedded_once_and_keeps_its_number() {
        let mut texts = Texts::default();
        let numbers: Vec<usize> = ["b", "a", "b", "c", "a"].iter().map(|text| texts.number(text)).collect();
        assert_eq!((numbers, texts.len()), (vec![0, 1, 0, 2, 1], 3));
        let embedder = Embedder::fixed(2, |text| Ok(vec![text.as_bytes()[0] as f32, 1.0]));
        let told = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&told);
        let tell: Progress = Arc::new(move |_, done, of| sink.lock().unwrap().push((done, of)));
        let prompts = texts.embed(&embedder, 2, &tell).await.unwrap();
        assert_eq!(prompts.iter().map(|p| &*p.text).collect::<Vec<_>>(), ["b", "a", "c"]);
        assert_eq!(embedder.inferences(), 3);
        let mut told = told.lock().unwrap().clone();
        told.sort_unstable();
        assert_eq!(told, [(1, 3), (2, 3), (3, 3)]);
    }

    #[tokio::test]
    async fn a_text_that_cannot_be_embedded_is_named() {
        let mut texts = Texts::default();
        texts.number("too much");
        let tell: Progress = Arc::new(|_, _, _| ());
        let error = texts.embed(&Embedder::failing(EmbedError::QueueFull), 1, &tell).await.unwrap_err();
        assert!(error.0.contains("too much"), "{error}");
    }
}
