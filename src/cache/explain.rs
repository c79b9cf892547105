//! Explaining a decision: which key a request has, what lies near it, and what each guard says.

use serde::Serialize;

use super::decide::{Features, Verdict};
use super::lookup::{Ask, Query};
use super::outcome::Tier;
use super::policy::Plan;
use super::{Cache, Candidate};
use crate::call::{Call, Keys};
use crate::ids::TenantId;

/// Everything that decides about one request, in words.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// What would happen: `hit`, `miss` or `bypass`.
    pub result: &'static str,
    /// Which tier would answer.
    pub tier: Option<&'static str>,
    /// Why not a hit.
    pub reason: Option<String>,
    /// Owner of the data.
    pub tenant: String,
    /// Key of the exact tier, hex.
    pub fingerprint: String,
    /// Partition of the semantic tier, hex; none if the request may not be compared by similarity.
    pub partition: Option<String>,
    /// Embedding space.
    pub space: String,
    /// Why the request may be answered by an equal one only.
    pub exact_only: Option<&'static str>,
    /// What the keys are made of.
    pub key_parts: serde_json::Value,
    /// The text that is compared.
    pub text: Option<String>,
    /// Least cosine.
    pub floor: f32,
    /// The ten nearest points, best first.
    pub neighbours: Vec<NeighbourReport>,
}

/// One near point and what speaks against it.
#[derive(Debug, Serialize)]
pub struct NeighbourReport {
    /// Entry it leads to.
    pub entry: String,
    /// Cosine to the request.
    pub cosine: f32,
    /// Its prompt.
    pub prompt: String,
    /// Each guard's verdict and evidence.
    pub guards: Vec<GuardReport>,
}

/// What one guard says.
#[derive(Debug, Serialize)]
pub struct GuardReport {
    /// Its name.
    pub guard: &'static str,
    /// `pass`, `reject`, `abstain` or `off`.
    pub verdict: &'static str,
    /// What it saw, as in `7781 ≠ 7782`.
    pub evidence: String,
}

impl Cache {
    /// Runs the look-up without serving or storing anything.
    pub async fn explain(
        &self,
        tenant: &TenantId,
        call: &Call,
        keys: &Keys,
        plan: &Plan,
        key_parts: serde_json::Value,
    ) -> Explanation {
        let ask = Ask { token_limit: call.token_limit, max_age: plan.max_age };
        let mut report = Explanation {
            result: "miss",
            tier: None,
            reason: None,
            tenant: tenant.to_string(),
            fingerprint: hex(&keys.fingerprint),
            partition: None,
            space: self.embedder().space().to_string(),
            exact_only: call.exact_only.map(crate::call::ExactOnly::as_str),
            key_parts,
            text: call.text.clone(),
            floor: plan.floor,
            neighbours: Vec::new(),
        };
        if let Some(reason) = plan.why_not {
            report.result = if plan.refresh { "miss" } else { "bypass" };
            report.reason = Some(reason.as_str().to_owned());
        }
        let exact = self.exact(tenant, &keys.fingerprint, ask).await;
        match &call.text {
            Some(text) => {
                let query = Query { tenant, keys, text, floor: plan.floor, ask };
                self.explain_neighbours(query, &mut report).await;
            }
            None if plan.why_not.is_none() => {
                let why = call.exact_only.map_or("not_stored", crate::call::ExactOnly::as_str);
                report.reason = Some(why.to_owned());
            }
            None => {}
        }
        if exact.is_ok() && plan.why_not.is_none() {
            (report.result, report.tier, report.reason) = ("hit", Some("exact"), None);
        }
        report
    }

    async fn explain_neighbours(&self, query: Query<'_>, report: &mut Explanation) {
        let may_hit = report.reason.is_none();
        if let Some(hit) = self.same_words(query).await.filter(|_| may_hit) {
            (report.result, report.tier) = ("hit", Some(hit.tier.as_str()));
        }
        let vector = match self.vector(query.tenant, query.keys, query.text).await {
            Ok(vector) => vector,
            Err(reason) => {
                report.reason.get_or_insert_with(|| reason.as_str().to_owned());
                return;
            }
        };
        report.partition = Some(hex(&vector.partition));
        let (candidates, _) = self.nearest(query.tenant, &vector);
        let new = Features::of(query.text);
        report.neighbours = candidates.iter().map(|candidate| self.neighbour(&new, candidate)).collect();
        if may_hit && report.result != "hit" {
            match self.judge(query, &candidates) {
                (Some(_), Verdict::Accept) => {
                    (report.result, report.tier) = ("hit", Some(Tier::Semantic.as_str()));
                }
                (_, verdict) => report.reason = Some(verdict.as_str().to_owned()),
            }
        }
    }

    fn neighbour(&self, new: &Features, candidate: &Candidate) -> NeighbourReport {
        let findings = self.guards.explain(new, &Features::of(&candidate.meta.prompt));
        NeighbourReport {
            entry: candidate.meta.entry.to_string(),
            cosine: candidate.cosine,
            prompt: candidate.meta.prompt.to_string(),
            guards: findings
                .into_iter()
                .map(|f| GuardReport { guard: f.guard.as_str(), verdict: f.verdict.as_str(), evidence: f.evidence })
                .collect(),
        }
    }
}

fn hex(digest: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*digest).to_hex().to_string()
}
