//! The embedding space: which vectors may be compared with each other. Part of every cache partition, so that a change
//! of model, revision or length never lets two kinds of vectors meet.

use std::fmt;

use super::builtin;

/// Model, revision and length of the vectors. Two vectors are comparable only if their spaces are equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Space {
    /// Name of the model.
    pub model: String,
    /// What else decides the numbers: for the built-in model the start of its file's SHA-256 and the version of our
    /// tokenising and pooling; for a remote one a digest of the endpoint.
    pub revision: String,
    /// Numbers in a vector.
    pub dimensions: usize,
}

impl Space {
    /// The space of the model inside the binary.
    pub(crate) fn builtin() -> Self {
        Self {
            model: builtin::NAME.to_owned(),
            revision: format!("{}.{}", builtin::digest_start(), builtin::READING_VERSION),
            dimensions: builtin::DIMENSIONS,
        }
    }

    /// The space of a remote model. Nobody tells us the revision of its weights; the endpoint at least is fixed, because
    /// two servers may run different weights under one name.
    pub(super) fn remote(url: &str, model: &str, dimensions: usize) -> Self {
        let digest = blake3::hash(url.trim_end_matches('/').as_bytes()).to_hex();
        let revision = digest.get(..12).unwrap_or_default().to_owned();
        Self { model: model.to_owned(), revision, dimensions }
    }
}

impl fmt::Display for Space {
    /// `model@revision/dimensions`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}/{}", self.model, self.revision, self.dimensions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_builtin_space_names_the_file_and_the_reading() {
        assert_eq!(Space::builtin().to_string(), "all-minilm-l6-v2-int8@66273468afad.1/384");
    }

    #[test]
    fn the_same_model_name_at_another_endpoint_is_another_space() {
        let one = Space::remote("https://a.example/v1/", "m", 3);
        assert_eq!(one, Space::remote("https://a.example/v1", "m", 3));
        assert_ne!(one, Space::remote("https://b.example/v1", "m", 3));
        assert_ne!(one, Space::remote("https://a.example/v1", "m", 4));
    }
}
