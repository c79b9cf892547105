//! The model inside the binary: all-MiniLM-L6-v2, int8, 384 dimensions, run by rten on the caller's thread.
//!
//! How a text is read (a change to any of this needs a new [`READING_VERSION`]):
//!
//! - Word pieces, at most [`WINDOWS`] windows of [`WINDOW`] of them, each window embedded on its own; the vectors are
//!   averaged with the windows' lengths as weights and scaled to norm 1. So the tail of a prompt counts.
//! - One window per model call. Activations are quantised with one scale for the whole tensor, so in a batch a text's
//!   vector would depend on its neighbours, and equal texts would no longer have equal vectors.
//! - What the vector cannot stand for goes into a digest, and so must match exactly: the whole text if it is longer than
//!   the windows reach, and otherwise the words that have no word pieces (all are the same `[UNK]` to the model:
//!   emoji, rare scripts, words of more than 100 characters).
//!
//! Must never run on an async thread: a call takes milliseconds of pure computation.

use std::sync::{Arc, OnceLock};

use rten::{ModelOptions, NodeId, RunOptions, ThreadPool};
use rten_tensor::NdTensor;
use rten_tensor::prelude::*;
use tokenizers::Tokenizer;

use super::EmbedError;
use super::reading::{Reading, digest, head, unit};

/// Name in the embedding space.
pub(super) const NAME: &str = "all-minilm-l6-v2-int8";
/// Numbers in a vector.
pub(super) const DIMENSIONS: usize = 384;
/// Version of the rules above.
pub(super) const READING_VERSION: u32 = 1;

/// Word pieces in a window: the 256 positions the model was trained for, less the two that mark start and end.
const WINDOW: usize = 254;
/// Windows of a text. Two take about 70 ms of one thread, which is what the default deadline leaves room for.
const WINDOWS: usize = 2;
/// Bytes that are cut into word pieces at all; three times what two windows of English hold.
const MAX_BYTES: usize = 8 * 1024;

const START: i32 = 101;
const END: i32 = 102;
const UNKNOWN: u32 = 100;

static NETWORK: &[u8] = include_bytes!("model/all-minilm-l6-v2.int8.onnx");
static TOKENIZER: &[u8] = include_bytes!("model/tokenizer.json");
static SUMS: &str = include_str!("model/SHA256SUMS");

/// First 12 hex digits of the network file's SHA-256. A test holds the sums against the files.
pub(super) fn digest_start() -> &'static str {
    SUMS.get(..12).unwrap_or_default()
}

/// The loaded model. There is one per process: the bytes are constant, and a reload of the configuration must not cost
/// a second copy of the weights.
pub(super) fn model() -> Result<&'static Model, EmbedError> {
    static MODEL: OnceLock<Result<Model, EmbedError>> = OnceLock::new();
    MODEL.get_or_init(Model::load).as_ref().map_err(Clone::clone)
}

/// The network, its tokeniser and the nodes we use.
pub(super) struct Model {
    network: rten::Model,
    tokenizer: Tokenizer,
    ids: NodeId,
    mask: NodeId,
    output: NodeId,
}

impl Model {
    fn load() -> Result<Self, EmbedError> {
        // Without it the weights are brought into the order of the kernels again in every call, which for a short prompt
        // is nearly all the work.
        let network = ModelOptions::with_all_ops().prepack_weights(true).load_static_slice(NETWORK).map_err(fault)?;
        let mut tokenizer = Tokenizer::from_bytes(TOKENIZER).map_err(fault)?;
        // The file cuts and pads to 128, for training; we cut into windows ourselves.
        tokenizer.with_truncation(None).map_err(fault)?.with_padding(None);
        // A prompt that contains "[SEP]" means the five characters, not the model's mark.
        tokenizer.set_encode_special_tokens(true);
        let node = |name| network.node_id(name).map_err(fault);
        let (ids, mask, output) = (node("input_ids")?, node("attention_mask")?, node("embedding")?);
        Ok(Self { network, tokenizer, ids, mask, output })
    }

    /// Embeds one text on `pool`.
    pub(super) fn read(&self, text: &str, pool: &Arc<ThreadPool>) -> Result<Reading, EmbedError> {
        let seen = head(text, MAX_BYTES);
        let pieces = self.tokenizer.encode_fast(seen, false).map_err(fault)?;
        let pieces = pieces.get_ids();
        if pieces.is_empty() {
            return Err(EmbedError::Empty);
        }
        if seen.len() < text.len() || pieces.len() > WINDOW * WINDOWS {
            // The digest lets this text match nothing but itself; a second window would buy nothing.
            let first = pieces.get(..WINDOW).unwrap_or(pieces);
            let vector = unit(self.run(first, pool)?, DIMENSIONS)?;
            return Ok(Reading { vector, unseen: Some(digest(std::iter::once(text))), bill: None });
        }
        let unseen = if pieces.contains(&UNKNOWN) { Some(self.unknown_words(seen)?) } else { None };
        Ok(Reading { vector: self.pool_windows(pieces, pool)?, unseen, bill: None })
    }

    fn pool_windows(&self, pieces: &[u32], pool: &Arc<ThreadPool>) -> Result<Arc<[f32]>, EmbedError> {
        let mut sum = vec![0.0; DIMENSIONS];
        for window in pieces.chunks(WINDOW) {
            let vector = unit(self.run(window, pool)?, DIMENSIONS)?;
            #[expect(clippy::cast_precision_loss, reason = "at most 254")]
            let weight = window.len() as f32;
            for (total, x) in sum.iter_mut().zip(vector.iter()) {
                *total += weight * x;
            }
        }
        unit(sum, DIMENSIONS)
    }

    fn run(&self, window: &[u32], pool: &Arc<ThreadPool>) -> Result<Vec<f32>, EmbedError> {
        // rten takes 32 bits where the network's file says 64. A vocabulary of 30,522 fits both.
        let ids = window.iter().map(|&id| i32::try_from(id).unwrap_or(0));
        let ids: Vec<i32> = std::iter::once(START).chain(ids).chain(std::iter::once(END)).collect();
        let ids = NdTensor::<i32, 2>::from_data([1, ids.len()], ids);
        let mask = NdTensor::<i32, 2>::full(ids.shape(), 1);
        let options = RunOptions::default().with_thread_pool(Some(Arc::clone(pool)));
        let inputs = vec![(self.ids, ids.into()), (self.mask, mask.into())];
        let mut outputs = self.network.run(inputs, &[self.output], Some(options)).map_err(fault)?;
        let output = outputs.pop().ok_or(EmbedError::BadVector("the model gave none"))?;
        let output: NdTensor<f32, 2> = output.try_into().map_err(fault)?;
        Ok(output.into_data())
    }

    /// Digest of the words the model cannot tell apart. A second pass, because positions in the text cost time and few
    /// texts have such words.
    fn unknown_words(&self, text: &str) -> Result<[u8; 32], EmbedError> {
        let pieces = self.tokenizer.encode(text, false).map_err(fault)?;
        let words = pieces.get_ids().iter().zip(pieces.get_offsets());
        Ok(digest(words.filter(|(id, _)| **id == UNKNOWN).map(|(_, &(from, to))| text.get(from..to).unwrap_or(text))))
    }
}

fn fault(error: impl std::fmt::Display) -> EmbedError {
    EmbedError::Model(error.to_string())
}

#[cfg(test)]
mod tests;
