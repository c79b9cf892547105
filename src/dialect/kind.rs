//! kind
/// d
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// d
    Chat,
    /// d
    Completions,
    /// d
    Embeddings,
    /// d
    Models,
    /// d
    Other,
}
impl Dialect {
    /// d
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completions => "completions",
            Self::Embeddings => "embeddings",
            Self::Models => "models",
            Self::Other => "other",
        }
    }
}
