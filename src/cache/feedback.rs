//! Somebody says that an answer was wrong, or right.
//!
//! Beside the life of a request, from the admin plane and from callers. A bad answer is taken away with all prompts that
//! lead to it, for what is left of a group would lead the same question there again; a bad hit by similarity is also a
//! label for the learner. The reply lists who else was served it.
//!
//! Invariant: a caller reaches only requests of its own tenant and key.

use super::decide::{INPUTS, Observation, Source};
use super::{Cache, Tier};
use crate::ids::{EntryId, KeyId, PointId, RequestId, TenantId};
use crate::store::{DecisionRow, DecisionWrite, LedgerRow, LedgerStore, StoreError};

/// Requests listed at most.
const MOST_SERVED: u32 = 1_000;

/// What somebody thinks of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opinion {
    /// It was right.
    Good,
    /// It was wrong.
    Bad,
}

/// Feedback on one request.
#[derive(Debug, Clone)]
pub struct Feedback {
    /// The request.
    pub request: RequestId,
    /// What of it.
    pub opinion: Opinion,
    /// Who says so, where it is a caller and not the operator.
    pub caller: Option<(TenantId, KeyId)>,
    /// How far back to look for others who were served the same, milliseconds.
    pub within_ms: u64,
}

/// What feedback has changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Consequences {
    /// Tenant of the request.
    pub tenant: TenantId,
    /// The answer that the request got, if it was stored.
    pub entry: Option<EntryId>,
    /// The prompt that was taken out of its group.
    pub unlinked: Option<PointId>,
    /// The answer that was taken away with all prompts that led to it.
    pub removed: Option<EntryId>,
    /// Whether the learner has taken it in.
    pub learnt: bool,
    /// Other requests that were served the same answer, newest first.
    pub served: Vec<LedgerRow>,
}

/// Feedback that cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum FeedbackError {
    /// There is no such request, or it is another's.
    #[error("there is no request {0}; rows appear some milliseconds after the request has ended")]
    Unknown(RequestId),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Cache {
    /// Takes feedback in; at once nothing that it takes away is served any more.
    ///
    /// # Errors
    /// The request is not known, or the store cannot be read.
    pub async fn feedback(&self, feedback: &Feedback, ledger: &dyn LedgerStore) -> Result<Consequences, FeedbackError> {
        // The row may still be in the queue.
        self.flush().await;
        let unknown = || FeedbackError::Unknown(feedback.request);
        let row = ledger.request(feedback.request).await?.ok_or_else(unknown)?;
        let tenant = row.tenant.clone().ok_or_else(unknown)?;
        if let Some((caller, key)) = &feedback.caller
            && (*caller != tenant || row.key.as_ref() != Some(key))
        {
            return Err(unknown());
        }
        let decision = self.decisions.decision(feedback.request).await?;
        let semantic = row.tier.as_deref() == Some(Tier::Semantic.as_str());
        let mut done = Consequences {
            tenant: tenant.clone(),
            entry: row.entry,
            unlinked: None,
            removed: None,
            learnt: false,
            served: Vec::new(),
        };
        if let Some(decision) = decision.as_ref().filter(|_| semantic) {
            // A caller may only tighten: praise teaches nothing unless the operator gives it. Nor does repeating oneself.
            let heard = decision.label.as_deref() == Some(Source::Feedback.as_str());
            let counts = feedback.opinion == Opinion::Bad || feedback.caller.is_none();
            done.learnt = counts && !heard && self.learn_from(decision, feedback.opinion);
        }
        let Some(entry) = row.entry else { return Ok(done) };
        if feedback.opinion == Opinion::Bad {
            match decision.and_then(|d| d.point).filter(|_| semantic) {
                Some(point) => {
                    done.unlinked = self.unlink(&tenant, entry, point).then_some(point);
                    // The group's other prompts would lead the same question to the same answer.
                    done.removed = self.remove(&tenant, entry).await?.then_some(entry);
                }
                None => done.removed = self.remove(&tenant, entry).await?.then_some(entry),
            }
            self.flush().await;
        }
        let since = self.clock.now_ms().saturating_sub(feedback.within_ms);
        let served = ledger.served(&tenant, entry, since, MOST_SERVED).await?;
        let own_key = |row: &LedgerRow| feedback.caller.as_ref().is_none_or(|(_, key)| row.key.as_ref() == Some(key));
        done.served = served.into_iter().filter(|row| row.request != feedback.request && own_key(row)).collect();
        self.metrics.learning.feedback.with_label_values(&[feedback.opinion.as_str()]).inc();
        Ok(done)
    }

    fn learn_from(&self, decision: &DecisionRow, opinion: Opinion) -> bool {
        let Ok(inputs) = <[f32; INPUTS]>::try_from(decision.inputs.as_slice()) else { return false };
        let right = opinion == Opinion::Good;
        let budget = self.settings.max_error_rate;
        let observation = Observation { inputs, right };
        self.learn(&decision.tenant, &decision.model, observation, Source::Feedback, budget);
        let label = Source::Feedback.as_str().into();
        // Without its row the label still counts for the learner.
        self.writer.decision(DecisionWrite::Label { request: decision.request, right, label }).is_ok()
    }
}

impl Opinion {
    /// Name in requests and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
        }
    }
}
