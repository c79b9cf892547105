//! Why there is no vector. None of these can fail a request: the pipeline turns each into a bypass of the semantic tier.

/// Why a text could not be turned into a vector. Carries no prompt and no credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EmbedError {
    /// As many texts wait, or are at the remote endpoint, as may.
    #[error("the queue of the embedder is full")]
    QueueFull,
    /// No vector within `[embedding] deadline`.
    #[error("no vector within the deadline")]
    Deadline,
    /// The remote endpoint has failed repeatedly and is left alone for a while.
    #[error("the remote embedder failed repeatedly and is not asked for now")]
    BreakerOpen,
    /// What came back is no vector of this space; the text says what is wrong with it.
    #[error("unusable vector: {0}")]
    BadVector(&'static str),
    /// The model or the embedder's settings cannot be used, or inference failed.
    #[error("embedder: {0}")]
    Model(String),
    /// The remote endpoint answered with this HTTP status.
    #[error("the remote embedder answered with status {0}")]
    RemoteStatus(u16),
    /// The remote endpoint could not be reached, or broke off.
    #[error("remote embedder: {0}")]
    RemoteUnreachable(String),
    /// There is nothing in the text that a vector could stand for.
    #[error("the text is empty")]
    Empty,
}

impl EmbedError {
    /// The reason as a log field and metric label; one of a closed set.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Deadline => "deadline",
            Self::BreakerOpen => "breaker_open",
            Self::BadVector(_) => "bad_vector",
            Self::Model(_) => "model",
            Self::RemoteStatus(_) => "remote_status",
            Self::RemoteUnreachable(_) => "remote_unreachable",
            Self::Empty => "empty",
        }
    }
}
