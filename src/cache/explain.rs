//! Explaining a decision: which key a request has, what lies near it, and what each guard says.

use serde::Serialize;

use super::Cache;
use super::considered::Considered;
use super::decide::{Features, Finding, Guard, INPUT_NAMES, Learner, Opinion, Reject, Stage, waives};
use super::lookup::{Ask, Neighbour, Query};
use super::outcome::{Reason, Tier};
use super::policy::Plan;
use crate::call::{Call, Keys};
use crate::config::CacheMode;
use crate::ids::{KeyId, RequestId, TenantId};
use crate::telemetry::trace::Marks;

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
    /// The reason in words.
    pub because: String,
    /// How the decision was made; none if nothing was near.
    pub decision: Option<DecisionReport>,
    /// What the tenant's traffic on this model has taught.
    pub learner: Option<LearnerReport>,
    /// The ten nearest points, best first.
    pub neighbours: Vec<NeighbourReport>,
}

/// How the best candidate was judged.
#[derive(Debug, Serialize)]
pub struct DecisionReport {
    /// Its answer group.
    pub group: String,
    /// Points of the group.
    pub group_size: usize,
    /// Cosine of its best point.
    pub cosine: f32,
    /// Lead over the best other group; none if there is no other.
    pub margin: Option<f32>,
    /// How the words of the two prompts differ.
    pub words: &'static str,
    /// Each input, its weight, and their product.
    pub inputs: Vec<InputReport>,
    /// Probability that its answer is right.
    pub probability: f32,
    /// Threshold; none while nothing could reach it or it is not in use yet.
    pub theta: Option<f32>,
    /// Guards whose objection does not count in this group, for its prompts have shown so.
    pub waived: Vec<String>,
}

/// One number that the probability is made from.
#[derive(Debug, Serialize)]
pub struct InputReport {
    /// Its name.
    pub name: &'static str,
    /// x
    pub x: f32,
    /// w
    pub w: f64,
    /// w·x
    pub product: f64,
}

/// What a learner knows.
#[derive(Debug, Clone, Serialize)]
pub struct LearnerReport {
    /// Whose traffic.
    pub tenant: String,
    /// On which model.
    pub model: String,
    /// `cold`, `warm`, `tight` or `exact_only`.
    pub stage: &'static str,
    /// Requests seen.
    pub seen: u64,
    /// Labels learnt from.
    pub labels: u64,
    /// Audits that the report looks back on.
    pub audits: u64,
    /// Those that were wrong.
    pub wrong: u64,
    /// Wrong of audited hits, and its 95 % interval.
    pub wrong_of_hits: [f64; 3],
    /// Share of the requests that the semantic tier looked at lately that it served, or would have.
    pub hit_share: f64,
    /// Wrong as a share of those requests: what the error budget is about.
    pub wrong_of_requests: [f64; 3],
    /// Threshold; none while nothing could reach it or it is not in use yet.
    pub theta: Option<f32>,
    /// How many times more errors audits found than expected.
    pub scale: f64,
}

/// One near point and what speaks against it.
#[derive(Debug, Serialize)]
pub struct NeighbourReport {
    /// The point.
    pub point: String,
    /// Entry it leads to: its answer group.
    pub entry: String,
    /// Points of that group.
    pub group_size: usize,
    /// Whose request made it.
    pub writer: String,
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
    /// `pass`, `reject`, `waived`, `abstain` or `off`.
    pub verdict: &'static str,
    /// What it saw, as in `7781 ≠ 7782`.
    pub evidence: String,
}

impl Cache {
    /// Runs the look-up without serving or storing anything.
    pub async fn explain(
        &self,
        tenant: &TenantId,
        key: &KeyId,
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
            because: String::new(),
            decision: None,
            learner: None,
            neighbours: Vec::new(),
        };
        if let Some(reason) = plan.why_not {
            report.result = if plan.refresh { "miss" } else { "bypass" };
            report.reason = Some(reason.as_str().to_owned());
        } else if plan.read < CacheMode::Shadow {
            report.reason = Some(report.exact_only.unwrap_or(Reason::NotStored.as_str()).to_owned());
        }
        let exact = self.exact(tenant, &keys.fingerprint, ask).await;
        if let (Err(why), true) = (&exact, report.reason.as_deref() == Some(Reason::NotStored.as_str())) {
            report.reason = Some(why.as_str().to_owned());
        }
        match &call.text {
            Some(text) => {
                let marks = Marks::default();
                let query = Query {
                    tenant,
                    keys,
                    text,
                    request: RequestId::at(0),
                    key,
                    model: &call.model,
                    floor: plan.floor,
                    budget: plan.budget,
                    shadow: plan.read == CacheMode::Shadow,
                    ask,
                    marks: &marks,
                };
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
        report.because = because(&report);
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
        let (neighbours, _) = self.nearest(query.tenant, &vector);
        let new = Features::of(query.text);
        report.neighbours = neighbours.iter().map(|near| self.neighbour(&new, near)).collect();
        let considered = self.consider(query, vector.partition, &neighbours);
        report.decision = self.decision_report(&considered, &neighbours);
        report.learner = Some(self.learner_report(query.tenant, query.model));
        if may_hit && report.result != "hit" {
            match considered.refused() {
                None => match considered.chosen().and_then(|chosen| neighbours.get(chosen.index)) {
                    Some(near) => match self.suits(&near.entry, query.ask) {
                        Ok(()) if query.shadow => report.reason = Some(Reason::Shadow.as_str().to_owned()),
                        Ok(()) => (report.result, report.tier) = ("hit", Some(Tier::Semantic.as_str())),
                        Err(why) => report.reason = Some(why.as_str().to_owned()),
                    },
                    None => report.reason = Some(Reject::NoNeighbour.as_str().to_owned()),
                },
                Some(refused) => report.reason = Some(refused.as_str().to_owned()),
            }
        }
    }

    fn decision_report(&self, considered: &Considered, neighbours: &[Neighbour]) -> Option<DecisionReport> {
        let chosen = considered.chosen()?;
        let weights = self.learners.of(&considered.tenant, &considered.model).lock().weights().0;
        let inputs = INPUT_NAMES.into_iter().zip(chosen.inputs).zip(weights);
        let group = neighbours.get(chosen.index)?;
        let waived = Guard::ALL.into_iter().filter(|guard| group.entry.waivers.waives(*guard));
        Some(DecisionReport {
            group: chosen.entry.to_string(),
            group_size: chosen.group_size,
            cosine: chosen.cosine,
            margin: chosen.margin,
            words: chosen.difference.as_str(),
            inputs: inputs.map(|((name, x), w)| InputReport { name, x, w, product: w * f64::from(x) }).collect(),
            probability: chosen.judgement.probability,
            theta: Some(chosen.judgement.theta).filter(|theta| theta.is_finite()),
            waived: waived
                .map(|guard| {
                    format!("{guard} ({} prompts of the group differ in it)", group.entry.waivers.count(guard))
                })
                .collect(),
        })
    }

    /// What the tenant's traffic on a model has taught.
    pub fn learner_report(&self, tenant: &TenantId, model: &str) -> LearnerReport {
        report_of(tenant, model, &self.learners.of(tenant, model).lock())
    }

    /// All learners.
    pub fn learner_reports(&self) -> Vec<LearnerReport> {
        self.learners.all().iter().map(|((tenant, model), seat)| report_of(tenant, model, &seat.lock())).collect()
    }

    fn neighbour(&self, new: &Features, near: &Neighbour) -> NeighbourReport {
        let findings = self.guards.explain(new, near.point.features());
        let waives = |guard| waives(guard, near.entry.waivers, near.entry.points.len());
        let report = |f: Finding| {
            let waived = f.verdict == Opinion::Reject && waives(f.guard);
            let verdict = if waived { "waived" } else { f.verdict.as_str() };
            GuardReport { guard: f.guard.as_str(), verdict, evidence: f.evidence }
        };
        NeighbourReport {
            point: near.id.to_string(),
            entry: near.entry.id.to_string(),
            group_size: near.entry.points.len(),
            writer: near.point.writer.to_string(),
            cosine: near.cosine,
            prompt: near.point.prompt.to_string(),
            guards: findings.into_iter().map(report).collect(),
        }
    }
}

fn report_of(tenant: &TenantId, model: &str, learner: &Learner) -> LearnerReport {
    let audited = learner.audited();
    let share = learner.hit_share();
    let of_requests = [audited.share, audited.low, audited.high].map(|bound| bound * share);
    LearnerReport {
        tenant: tenant.to_string(),
        model: model.to_owned(),
        stage: learner.stage().as_str(),
        seen: learner.seen(),
        labels: learner.labelled(),
        audits: learner.audit_count() as u64,
        wrong: learner.wrong_count() as u64,
        wrong_of_hits: [audited.share, audited.low, audited.high],
        hit_share: share,
        wrong_of_requests: of_requests,
        theta: Some(learner.theta()).filter(|theta| theta.is_finite() && learner.stage() != Stage::Cold),
        scale: learner.scale(),
    }
}

/// The result in a sentence.
fn because(report: &Explanation) -> String {
    let evidence = |wanted: &str| {
        let guards = report.neighbours.iter().flat_map(|near| &near.guards);
        guards.filter(|g| g.verdict == "reject" && g.guard == wanted).map(|g| g.evidence.clone()).next()
    };
    let reason = report.reason.as_deref();
    match (report.result, report.tier, reason, &report.decision) {
        ("hit", Some("exact"), _, _) => "an equal request is stored".to_owned(),
        ("hit", _, _, Some(d)) if report.neighbours.first().is_some_and(|near| near.cosine < 0.999_999) => {
            let theta =
                d.theta.map_or("the words alone vouch for it while nothing has been learnt".to_owned(), |theta| {
                    format!("its answer is right with probability {:.4}, and {theta:.4} is enough", d.probability)
                });
            format!("the nearest answer is near enough (cosine {:.4}) and {theta}", d.cosine)
        }
        ("hit", ..) => "a prompt in the same words is stored".to_owned(),
        (_, _, Some("no_neighbour"), _) => "nothing is stored in this partition".to_owned(),
        (_, _, Some("below_threshold"), _) => format!("nothing is as near as the floor of {}", report.floor),
        (_, _, Some(guard), _) if guard.starts_with("guard_") => {
            let name = guard.trim_start_matches("guard_");
            let found = evidence(name).map_or(String::new(), |evidence| format!(": {evidence}"));
            format!("the guard of {name} objects{found}")
        }
        (_, _, Some("words_differ"), Some(d)) => format!(
            "nothing but the words speaks for the candidate, and with a difference of kind `{}` a cosine of {:.4} is not \
             enough",
            d.words, d.cosine
        ),
        (_, _, Some("low_probability"), Some(d)) => format!(
            "its answer is right with probability {:.4}; the error budget asks for {}",
            d.probability,
            d.theta.map_or("more than anything has now".to_owned(), |theta| format!("{theta:.4}"))
        ),
        (_, _, Some("error_budget"), _) => {
            "the error budget is zero or broken: only equal requests are served".to_owned()
        }
        (_, _, Some("one_writer"), _) => {
            "only one other key has got this answer so far, and two are asked for".to_owned()
        }
        (_, _, Some("shadow"), _) => "it would be served, but the semantic tier only watches".to_owned(),
        (_, _, Some("too_old"), _) => "what would be served is older than the request allows".to_owned(),
        (_, _, Some("token_limit"), _) => "what would be served is longer than the request allows".to_owned(),
        (_, _, Some("not_stored"), _) => "no equal request is stored, and similarity is not in use here".to_owned(),
        (_, _, Some(other), _) => format!("the request is not looked up by similarity: {other}"),
        (_, _, None, _) => "no equal request is stored".to_owned(),
    }
}

fn hex(digest: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*digest).to_hex().to_string()
}
