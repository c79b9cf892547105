//! What an embedder makes of a text: the vector, and a digest of whatever the vector does not stand for.
//!
//! Every vector of every kind of embedder passes [`unit`]; nothing that is not finite, of the right length and of norm 1
//! gets further.

use std::sync::Arc;

use quick_cache::sync::Cache;

use super::EmbedError;

/// Digest of a space and a text.
pub(super) type Key = [u8; 32];

/// Vectors made before. Its placeholder for one in the making is what lets equal texts share it.
pub(super) type Memory = Cache<Key, Reading>;

/// A vector of norm 1 and what it leaves out. Cheap to clone; this is what the cache keeps.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    pub(super) vector: Arc<[f32]>,
    /// Digest of what the model did not see; see [`super::Embedded::truncated`].
    pub(super) unseen: Option<[u8; 32]>,
    /// What an endpoint bills for it.
    pub(super) bill: Option<super::Bill>,
}

/// Checks length and finiteness, and scales to norm 1.
pub(super) fn unit(mut vector: Vec<f32>, dimensions: usize) -> Result<Arc<[f32]>, EmbedError> {
    if vector.len() != dimensions {
        return Err(EmbedError::BadVector("wrong number of dimensions"));
    }
    if !vector.iter().all(|x| x.is_finite()) {
        return Err(EmbedError::BadVector("a number in it is not finite"));
    }
    // In f64, because the square of a large f32 is not an f32.
    let norm = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
    if norm < 1e-12 {
        return Err(EmbedError::BadVector("all zeros"));
    }
    for x in &mut vector {
        *x = narrow(f64::from(*x) / norm);
    }
    Ok(vector.into())
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a component of a unit vector is at most 1; only precision is lost"
)]
fn narrow(x: f64) -> f32 {
    x as f32
}

/// Digest of pieces of text, in order; the lengths keep ("ab", "c") and ("a", "bc") apart.
pub(super) fn digest<'a>(pieces: impl Iterator<Item = &'a str>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for piece in pieces {
        hasher.update(&(piece.len() as u64).to_le_bytes()).update(piece.as_bytes());
    }
    *hasher.finalize().as_bytes()
}

/// The start of `text`, at most `bytes` long, ending between two characters.
pub(super) fn head(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_is_scaled_to_norm_one() {
        assert_eq!(unit(vec![3.0, 4.0], 2).unwrap().as_ref(), [0.6, 0.8]);
        let large = unit(vec![f32::MAX, 0.0], 2).unwrap();
        assert_eq!(large.as_ref(), [1.0, 0.0]);
    }

    #[test]
    fn what_is_no_vector_is_refused() {
        for (vector, dimensions) in [
            (vec![1.0], 2),
            (vec![1.0, 2.0, 3.0], 2),
            (vec![], 0),
            (vec![0.0, 0.0], 2),
            (vec![f32::NAN, 1.0], 2),
            (vec![f32::INFINITY, 1.0], 2),
        ] {
            assert!(matches!(unit(vector.clone(), dimensions), Err(EmbedError::BadVector(_))), "{vector:?}");
        }
    }

    #[test]
    fn the_head_of_a_text_ends_between_characters() {
        assert_eq!(head("aé", 2), "a");
        assert_eq!(head("aé", 3), "aé");
        assert_eq!(head("aé", 99), "aé");
    }
}
