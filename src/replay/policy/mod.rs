//! The policies that are compared: what each is asked, what it may answer, and what it is told afterwards.
//!
//! A policy sees a request and its nearest points and says whether one of their answers is served. It holds only what it
//! has learnt; the points are in the run's [`Memory`](super::memory::Memory). It must never look at the class of an answer.

mod current;
mod fixed;
mod logistic;
mod vcache;

use std::fmt;
use std::sync::Arc;

use serde_json::{Value, json};

use super::link::Linker;
use super::memory::{Answer, Near, Placement};
use super::prompt::Prompt;
use crate::cache::decide::{Guards, Observation, Weights};

/// A request to decide.
pub struct Ask<'a> {
    /// Its prompt.
    pub prompt: &'a Prompt,
    /// The nearest points of its partition, at most ten, best first.
    pub near: &'a [Near<'a>],
}

/// What a policy decides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// Place in [`Ask::near`] of the point whose answer is served; `None` is a miss.
    pub serve: Option<usize>,
    /// Place of the candidate that was refused and why, if one was.
    pub refused: Option<(usize, &'static str)>,
    /// The probability that the answer is right, if the policy estimates one.
    pub probability: Option<f64>,
    /// The least probability it serves at, if it has one.
    pub threshold: Option<f64>,
    /// Ask upstream as well, in the background, and learn from what comes. Means nothing for a miss.
    pub audit: bool,
}

impl Decision {
    /// Serve the answer of that place, or nothing, without an estimate.
    pub fn plain(serve: Option<usize>) -> Self {
        Self { serve, refused: None, probability: None, threshold: None, audit: false }
    }
}

/// One way to decide. Each run has its own.
pub trait Policy: Send {
    /// Decides a request.
    fn decide(&mut self, ask: &Ask<'_>) -> Decision;

    /// The request has gone upstream, after a miss or in the audit of a hit, and this came back. Says how the prompt is stored,
    /// and may learn.
    fn place(&mut self, ask: &Ask<'_>, fresh: &Answer) -> Placement;

    /// The labels it has learnt from, for fitting weights.
    fn observations(&self) -> &[Observation] {
        &[]
    }
}

/// A policy with its parameters, of which any number of runs can be made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Spec {
    /// The nearest answer at or above a fixed cosine; with guards, the nearest to which none objects.
    Fixed {
        /// Least cosine.
        threshold: f32,
        /// Guards that are asked, if any.
        guards: Option<Guards>,
    },
    /// vCache.
    VCache {
        /// Greatest error rate, 0–1.
        delta: f64,
        /// Store every prompt that was sent upstream, as the other policies do, instead of only those for which the
        /// nearest entry's answer was not right.
        store_all: bool,
    },
    /// What this version does.
    Current {
        /// What the configuration says.
        settings: Settings,
        /// The error budget.
        budget: f64,
        /// Weights to start with.
        weights: Option<Weights>,
    },
}

/// What the current policy takes from the configuration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Least cosine.
    pub similarity: f32,
    /// Guards in use.
    pub guards: Guards,
    /// Share of hits that are audited.
    pub audit_rate: f64,
}

impl Spec {
    /// The policy at the beginning of a run. Runs with the same seed decide alike.
    pub fn start(&self, seed: u64, linker: &Arc<Linker>) -> Box<dyn Policy> {
        match *self {
            Self::Fixed { threshold, guards } => Box::new(fixed::Fixed::new(threshold, guards)),
            Self::VCache { delta, store_all } => {
                Box::new(vcache::VCache::new(delta, store_all, seed, Arc::clone(linker)))
            }
            Self::Current { settings, budget, weights } => {
                Box::new(current::Current::new(settings, budget, weights, seed, Arc::clone(linker)))
            }
        }
    }

    /// Name without parameters.
    pub fn family(&self) -> &'static str {
        match self {
            Self::Fixed { guards: None, .. } => "fixed",
            Self::Fixed { guards: Some(_), .. } => "fixed + guards",
            Self::VCache { store_all: false, .. } => "vcache",
            Self::VCache { store_all: true, .. } => "vcache, all stored",
            Self::Current { .. } => "current",
        }
    }

    /// The parameters, for a report.
    pub fn parameters(&self) -> Value {
        match self {
            Self::Fixed { threshold, guards } => json!({ "cosine": short(*threshold), "guards": guards.is_some() }),
            Self::VCache { delta, store_all } => json!({ "delta": delta, "store_all": store_all }),
            Self::Current { settings, budget, .. } => {
                json!({ "max_error_rate": budget, "cosine": short(settings.similarity), "audit_rate": settings.audit_rate })
            }
        }
    }
}

/// The decimal number that was meant by an `f32`.
fn short(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| f64::from(value))
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed { threshold, guards: None } => write!(f, "fixed {threshold:.2}"),
            Self::Fixed { threshold, guards: Some(_) } => write!(f, "fixed {threshold:.2} + guards"),
            Self::VCache { delta, store_all: false } => write!(f, "vcache δ={delta}"),
            Self::VCache { delta, store_all: true } => write!(f, "vcache δ={delta}, all stored"),
            Self::Current { budget, .. } => write!(f, "current, budget {} %", budget * 100.0),
        }
    }
}
