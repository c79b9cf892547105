//! Embeddings: each input item is looked up by itself; only those that are missing go upstream.
//!
//! An item is stored as a whole answer with that one item, so that its model and its tokens are kept with it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use tokio::time::{Instant, timeout, timeout_at};

use super::forward::is_coded;
use super::limits::Needs;
use super::refusal::Refusal;
use super::reply::{Body, Served, json};
use super::tab::Tab;
use super::{DataPlane, Exchange};
use crate::cache::outcome::{Outcome, Reason, Tier};
use crate::cache::policy::{Plan, Traits, share};
use crate::cache::{self, Ask, Epoch, FreshItem, Hit};
use crate::call::{BadCall, EmbeddingsCall, Scope};
use crate::config::CacheMode;
use crate::dialect::embeddings::{EmbeddingList, join, split};
use crate::price::{PromptCache, Service};
use crate::server::RequestBody;
use crate::store::{Digest, Tokens};
use crate::telemetry::trace::Stage;
use crate::upstream::UpstreamError;
use crate::upstream::headers::towards_client;

/// Longest wait for all items that have to be read from the store.
const LOOKUP: Duration = Duration::from_millis(250);

/// An embeddings request with everything that has been decided about it.
struct Asked {
    exchange: Exchange,
    call: EmbeddingsCall,
    plan: Plan,
    keys: Vec<Digest>,
    epoch: Epoch,
}

impl DataPlane {
    pub(super) async fn embeddings(
        self: &Arc<Self>,
        mut exchange: Exchange,
        body: RequestBody,
    ) -> Result<Response<Body>, Refusal> {
        let stage = exchange.record.stage(Stage::Read);
        let body = self.read(&exchange.headers, body).await?;
        let call = match EmbeddingsCall::read(&body, &self.limits) {
            Err(BadCall::Foreign) => return self.pass(exchange, RequestBody::from_bytes(body)).await,
            read => read?,
        };
        exchange.principal.may_use(&call.model)?;
        exchange.controls = std::mem::take(&mut exchange.controls).or(call.controls.clone());
        let asked = self.plan_items(exchange, call);
        drop(stage);
        self.may_hit(&asked.exchange, &asked.call.model).await?;
        let record = asked.exchange.record.clone();
        record.with(|row| row.model_asked = Some(asked.call.model.clone()));
        if !asked.plan.is_bypass() {
            record.cacheable();
        }
        let stage = record.stage(Stage::Lookup);
        let known = self.known(&asked).await;
        drop(stage);
        let missing: Vec<usize> =
            known.iter().enumerate().filter(|(_, hit)| hit.is_none()).map(|(index, _)| index).collect();
        if missing.is_empty()
            && let Some(reply) = self.all_known(&asked, &known)
        {
            return Ok(reply);
        }
        if asked.plan.only_if_cached {
            return Err(Refusal::only_if_cached());
        }
        // Twice, because what is known may not go with the fresh items, and then all are asked for.
        self.admit(&asked.exchange, &asked.call.model, Needs::of_bytes(asked.call.body.len().saturating_mul(2)))
            .await?;
        let total = self.total(&asked.exchange);
        timeout(total, self.fetch_items(asked, known, missing)).await.unwrap_or(Err(UpstreamError::TotalTimeout.into()))
    }

    fn plan_items(&self, exchange: Exchange, call: EmbeddingsCall) -> Asked {
        let settings = self.cache.settings();
        let principal = &exchange.principal;
        let mut plan = Plan::of(settings, principal, &exchange.controls, Traits::default());
        let user = exchange.controls.user.as_deref().or(call.user.as_deref());
        let share = share(principal.cache().share.unwrap_or(settings.share), &principal.key, user);
        if share.is_none() {
            plan = Plan { read: CacheMode::Off, store: false, refresh: false, why_not: Some(Reason::Off), ..plan };
        }
        let scope = Scope {
            tenant: &principal.tenant,
            namespace: exchange.controls.namespace.as_deref().unwrap_or_default(),
            share: share.as_deref().unwrap_or_default(),
            upstream: &self.upstream.place(),
            dialect: exchange.dialect,
            variant: &exchange.variant(),
        };
        let key = |item: &crate::call::Item| scope.item_key(self.cache.secret(), &call.rest, &item.canonical);
        let keys = call.items.iter().map(key).collect();
        Asked { plan, keys, exchange, call, epoch: self.cache.epoch() }
    }

    async fn known(&self, asked: &Asked) -> Vec<Option<Hit>> {
        if asked.plan.read == CacheMode::Off {
            return asked.keys.iter().map(|_| None).collect();
        }
        let ask = Ask { token_limit: None, max_age: asked.plan.max_age };
        let mut known = Vec::with_capacity(asked.keys.len());
        // One deadline for all reads from the store. After it what is in memory is still found, since that needs no wait.
        let until = Instant::now() + LOOKUP;
        for key in &asked.keys {
            let found = timeout_at(until, self.cache.exact(&asked.exchange.principal.tenant, key, ask)).await;
            known.push(found.ok().and_then(Result::ok));
        }
        known
    }

    fn all_known(&self, asked: &Asked, known: &[Option<Hit>]) -> Option<Response<Body>> {
        let hits: Vec<&Hit> = known.iter().flatten().collect();
        let lists: Vec<EmbeddingList> = hits.iter().filter_map(|hit| stored(hit)).collect();
        let first = lists.first().filter(|_| lists.len() == known.len())?;
        // Vectors of different models do not belong into one list, whatever name they were asked for by.
        if lists.iter().any(|list| list.model != first.model) {
            return None;
        }
        let tokens = lists.iter().map(prompt_tokens).fold(0, u64::saturating_add);
        let items: Vec<Bytes> = lists.iter().flat_map(|list| list.items.iter().cloned()).collect();
        let body = join(&first.model, &items, tokens).ok()?;
        let oldest = hits.iter().min_by_key(|hit| hit.meta.created_at)?;
        let now = self.clock.now_ms();
        let age = Duration::from_millis(now.saturating_sub(oldest.meta.created_at));
        self.metrics.served(Tier::Exact.as_str(), age);
        let record = &asked.exchange.record;
        record.outcome(Outcome::Hit, Some(Tier::Exact), None);
        record.entry(oldest.meta.id);
        let price = self.prices.price(&asked.call.model, now);
        let told = Tokens { input: tokens, ..Tokens::default() };
        record.replayed(Some(told), price.as_deref(), Service::Standard, PromptCache { warm: false, from: 0 });
        self.count_hit(&asked.exchange, tokens);
        record.with(|row| row.model_answered = Some(first.model.clone()));
        let mut reply = json(StatusCode::OK, body, record);
        let served = Served {
            outcome: Some(Outcome::Hit),
            tier: Some(Tier::Exact),
            entry: Some(oldest.meta.id),
            age: Some(age),
            ttl: Some(Duration::from_millis(oldest.meta.expires_at.saturating_sub(now))),
            ..Served::default()
        };
        served.write(reply.headers_mut(), record);
        Some(reply)
    }

    async fn fetch_items(
        &self,
        asked: Asked,
        known: Vec<Option<Hit>>,
        missing: Vec<usize>,
    ) -> Result<Response<Body>, Refusal> {
        let all = missing.len() == known.len() || missing.is_empty();
        let body = if all { asked.call.body.clone() } else { asked.call.body_for(&missing) };
        let record = asked.exchange.record.clone();
        let mut tab = Tab::open(record.clone(), asked.call.model.clone(), body, 0);
        let answer = match self.ask(&asked.exchange, tab.outgoing(), true).await {
            Ok(answer) => answer,
            Err(error) => {
                tab.failed(error);
                return Err(error.into());
            }
        };
        let (head, body) = answer.response.into_parts();
        if !head.status.is_success() {
            tab.close();
        }
        let coded = is_coded(&head.headers);
        let began = Instant::now();
        let whole = self.read_whole(body, |_| {}).await?;
        drop(answer.permit);
        record.upstream_waited(began.elapsed());
        let (outcome, reason) = match (asked.plan.why_not, asked.plan.refresh) {
            (Some(reason), true) => (Outcome::Refresh, Some(reason)),
            (Some(reason), false) => (Outcome::Bypass, Some(reason)),
            _ => (Outcome::Miss, Some(Reason::NotStored)),
        };
        let mut served = Served { outcome: Some(outcome), reason, ..Served::default() };
        record.outcome(outcome, None, reason);
        let fresh = if head.status == StatusCode::OK && !coded { Some(split(&whole)) } else { None };
        if fresh.is_none() && !head.status.is_success() {
            record.outcome(Outcome::Failed, None, reason);
        }
        let body = match fresh {
            Some(Ok(list)) => {
                tab.answered(list.usage, &[]);
                self.take_in_items(&asked, if all { None } else { Some(&missing) }, &list, &mut served);
                match if all { Some(whole) } else { merge(&known, &missing, &list) } {
                    Some(body) => body,
                    None => return self.fetch_all(asked).await,
                }
            }
            Some(Err(_)) if !all => {
                // What this call may have cost belongs to it, and not to the next.
                drop(tab);
                return self.fetch_all(asked).await;
            }
            Some(Err(why)) => {
                if serde_json::from_slice::<serde::de::IgnoredAny>(&whole).is_err() {
                    return Err(UpstreamError::Rubbish.into());
                }
                served.reason = Some(Reason::NotStorable(why));
                whole
            }
            None => whole,
        };
        let mut reply = json(head.status, body, &record);
        *reply.headers_mut() = towards_client(&head.headers);
        served.write(reply.headers_mut(), &record);
        Ok(reply)
    }

    /// Asks for all items, as if none were known: those that are cannot be joined with what upstream says now.
    async fn fetch_all(&self, asked: Asked) -> Result<Response<Body>, Refusal> {
        let known = asked.keys.iter().map(|_| None).collect();
        Box::pin(self.fetch_items(asked, known, Vec::new())).await
    }

    /// Accounts for fresh items and stores them. `missing` tells which inputs they answer, all if `None`.
    fn take_in_items(&self, asked: &Asked, missing: Option<&[usize]>, list: &EmbeddingList, served: &mut Served) {
        let record = &asked.exchange.record;
        record.with(|row| row.model_answered = Some(list.model.clone()));
        let _stage = record.stage(Stage::Store);
        let asked_for: Vec<usize> = missing.map_or_else(|| (0..asked.keys.len()).collect(), <[usize]>::to_vec);
        if !asked.plan.store || asked_for.len() != list.items.len() {
            return;
        }
        let sizes: Vec<usize> =
            asked_for.iter().map(|i| asked.call.items.get(*i).map_or(0, |item| item.canonical.len())).collect();
        let shares = apportion(prompt_tokens(list), &sizes);
        for ((index, item), tokens) in asked_for.iter().zip(&list.items).zip(shares) {
            let Some(key) = asked.keys.get(*index) else { continue };
            let Ok(body) = join(&list.model, std::slice::from_ref(item), tokens) else { continue };
            let stored = self.cache.commit_item(FreshItem {
                tenant: asked.exchange.principal.tenant.clone(),
                writer: asked.exchange.principal.key.clone(),
                key: *key,
                namespace: asked.exchange.controls.namespace.clone().unwrap_or_default(),
                model: asked.call.model.clone(),
                body,
                tags: asked.exchange.controls.tags.clone(),
                ttl: asked.plan.ttl,
                epoch: asked.epoch,
            });
            match stored {
                Ok(entry) => {
                    served.stored = Some(true);
                    served.entry.get_or_insert(entry);
                }
                Err(reason) => self.metrics.not_stored(reason.as_str()),
            }
        }
        if let Some(entry) = served.entry {
            record.entry(entry);
        }
    }
}

/// Cached and fresh items in the order of the inputs. The tokens shown are those that were billed for now.
fn merge(known: &[Option<Hit>], missing: &[usize], fresh: &EmbeddingList) -> Option<Bytes> {
    if missing.len() != fresh.items.len() {
        return None;
    }
    let mut fresh_items = fresh.items.iter();
    let items: Option<Vec<Bytes>> = known
        .iter()
        .map(|hit| match hit {
            Some(hit) => stored(hit).filter(|list| list.model == fresh.model)?.items.into_iter().next(),
            None => fresh_items.next().cloned(),
        })
        .collect();
    join(&fresh.model, &items?, prompt_tokens(fresh)).ok()
}

fn stored(hit: &Hit) -> Option<EmbeddingList> {
    match hit.body.as_ref() {
        cache::Body::Item(bytes) => split(bytes).ok(),
        cache::Body::Completion(_) => None,
    }
}

fn prompt_tokens(list: &EmbeddingList) -> u64 {
    list.usage.map_or(0, |usage| usage.prompt)
}

/// Splits the tokens of a batch over its items by their length; the parts add up to the whole.
fn apportion(total: u64, sizes: &[usize]) -> Vec<u64> {
    let all: u128 = sizes.iter().map(|size| *size as u128).sum::<u128>().max(1);
    let mut seen: u128 = 0;
    let mut given: u64 = 0;
    sizes
        .iter()
        .map(|size| {
            seen += *size as u128;
            let until = u64::try_from(u128::from(total) * seen / all).unwrap_or(total);
            let part = until.saturating_sub(given);
            given = until;
            part
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::apportion;

    #[test]
    fn tokens_of_a_batch_are_split_without_loss() {
        for (total, sizes) in [(10, vec![1, 1, 1]), (0, vec![5, 5]), (7, vec![100]), (u64::MAX, vec![1, 2, 3])] {
            assert_eq!(apportion(total, &sizes).iter().sum::<u64>(), total, "{total} {sizes:?}");
        }
        assert_eq!(apportion(10, &[1, 4]), [2, 8]);
    }
}
