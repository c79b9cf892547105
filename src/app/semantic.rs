//! What the semantic tier is made of, as the configuration says: guards, embedder, weights.

use crate::cache::decide::{Guard, Guards, UnknownGuard, Weights, WeightsError};
use crate::config::{CacheMode, Config};
use crate::embed::Embedder;

pub(super) fn guards(off: &[String]) -> Result<Guards, UnknownGuard> {
    let off: Vec<Guard> = off.iter().map(|name| name.parse()).collect::<Result<_, _>>()?;
    Ok(Guards::without(&off))
}

/// An embedder that cannot be made costs the semantic tier, not the start.
pub(super) fn embedder(config: &Config) -> Embedder {
    Embedder::new(&config.embedding).unwrap_or_else(|error| {
        tracing::error!(%error, "no embedder: the semantic tier is bypassed");
        Embedder::failing(error)
    })
}

pub(super) fn warm(config: &Config, embedder: Embedder) -> Option<impl Future<Output = ()> + use<>> {
    if config.cache.mode < CacheMode::Shadow {
        return None;
    }
    let warming = tokio::task::spawn_blocking(move || embedder.warm());
    Some(async move {
        match warming.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the embedder does not work: the semantic tier is bypassed"),
            Err(error) => tracing::error!(%error, "the embedder does not work: the semantic tier is bypassed"),
        }
    })
}

/// The weights of the configuration, or those that come with the program for this embedder.
pub(super) fn weights(config: &Config, embedder: &Embedder) -> Result<Option<Weights>, WeightsError> {
    let space = embedder.space().to_string();
    let Some(file) = &config.cache.weights_file else { return Ok(Weights::shipped(&space)) };
    Weights::load(file, &space).map(Some)
}
