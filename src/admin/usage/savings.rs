//! What the cache has saved, against the target, and against what: a saving is only as good as the bill that it is held against, so
//! the answer says in words what that bill is.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::auth::Who;
use super::super::times::shown;
use super::super::{Admin, Problem};
use super::{Params, Question, grain, put_money, wrong};
use crate::config::{NanoUsd, Savings, show_duration};
use crate::ids::TenantId;
use crate::store::{Sums, UsageRow};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Asked {
    from: Option<String>,
    to: Option<String>,
    tenant: Option<String>,
    slot: Option<String>,
}

/// `GET /admin/v1/savings`
pub(in super::super) async fn savings(
    State(state): State<Admin>,
    who: Who,
    ask: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(Asked { from, to, tenant, slot }) = ask?;
    let tenant = who.narrowed(tenant.map(TenantId::new))?;
    let params = Params::of_span(from, to, tenant.as_ref().map(|tenant| tenant.as_str().to_owned()), slot);
    let question = Question::of(&params, state.clock.now_ms(), false)?;
    let rows = state.stores.usage.usage(&question.ask).await?;
    if question.is_exceeded(&rows) {
        return Err(wrong(
            "slot",
            &format!("these are more than {} slots; use slot=day, or ask about less time", question.most),
        ));
    }
    let total = rows.iter().fold(Sums::default(), |sum, row| sum.plus(&row.sums));
    let mut answer = Map::new();
    answer.insert("from".to_owned(), shown(question.ask.since).into());
    answer.insert("to".to_owned(), shown(question.ask.until).into());
    answer.insert("grain".to_owned(), grain(question.grain).into());
    answer.insert("tenant".to_owned(), tenant.map(|tenant| tenant.as_str().to_owned()).into());
    answer.extend(held_against(&total, state.savings.target));
    if question.ask.slot.is_some() {
        let slot = |row: &UsageRow| {
            let mut members = Map::new();
            members.insert("slot".to_owned(), row.slot.map(shown).into());
            members.extend(held_against(&row.sums, state.savings.target));
            Value::from(members)
        };
        answer.insert("slots".to_owned(), rows.iter().map(slot).collect());
    }
    answer.insert("explained".to_owned(), explained(&total, &state.savings).into());
    Ok(Json(answer.into()))
}

/// What the same answers would have cost without the cache.
fn counterfactual(sums: &Sums) -> i64 {
    sums.cost.saturating_add(sums.saved_gross)
}

/// What is missing between the two bills and the net saving: rows of which a part has no price. Nothing if all have.
fn unmatched(sums: &Sums) -> i64 {
    sums.saved_net.saturating_sub(counterfactual(sums).saturating_sub(sums.total()))
}

/// The part of the bill without Remora that was saved; `None` where there would have been no bill.
#[expect(clippy::cast_precision_loss, reason = "a ratio has no such digits")]
fn ratio(sums: &Sums) -> Option<f64> {
    let without = counterfactual(sums);
    (without > 0).then(|| sums.saved_net as f64 / without as f64)
}

/// All that may have been billed: requests, and hits asked again.
fn rows(sums: &Sums) -> u64 {
    sums.requests.saturating_add(sums.checks)
}

fn held_against(sums: &Sums, target: f64) -> Map<String, Value> {
    let ratio = ratio(sums);
    let share = |part: u64| {
        #[expect(clippy::cast_precision_loss, reason = "a ratio has no such digits")]
        let share = (rows(sums) > 0).then(|| part as f64 / rows(sums) as f64);
        share
    };
    let mut members = Map::new();
    for (name, amount) in [
        ("spend", sums.total()),
        ("answers", sums.cost),
        ("embedding", sums.embedding),
        ("check", sums.check),
        ("counterfactual", counterfactual(sums)),
        ("saved_gross", sums.saved_gross),
        ("saved_net", sums.saved_net),
        ("unmatched", unmatched(sums)),
    ] {
        put_money(&mut members, name, NanoUsd(amount));
    }
    for (name, value) in [
        ("ratio", json!(ratio)),
        ("target", json!(target)),
        ("met", json!(ratio.map(|ratio| ratio >= target))),
        ("requests", json!(sums.requests)),
        ("hits", json!({ "exact": sums.hits_exact, "semantic": sums.hits_semantic })),
        ("coalesced", json!(sums.coalesced)),
        ("checks", json!(sums.checks)),
        (
            "caveats",
            json!({
                "unpriced": sums.unpriced,
                "unpriced_share": share(sums.unpriced),
                "estimated": sums.estimated,
                "estimated_share": share(sums.estimated),
            }),
        ),
    ] {
        members.insert(name.to_owned(), value);
    }
    members
}

/// The same in words: which rows, which prices, what was taken off.
fn explained(sums: &Sums, settings: &Savings) -> Vec<String> {
    let usd = |nano: i64| format!("{} USD", NanoUsd(nano));
    let discount = if settings.prompt_cache_ttl.is_zero() {
        "The provider's own prompt cache is left out ([savings] prompt_cache_ttl is 0s), so the saving may be stated too high.".to_owned()
    } else {
        format!(
            "The provider's own prompt cache is estimated. Where this replica was asked for the same beginning (all but the last user turn) \
             within {} and the input has at least {} tokens, or is marked where the provider wants that, it counts at the price of cached input, \
             the last turn included, which is too little. Else input that is not marked counts in full, also what the provider knew from \
             other conversations, users or replicas or from before a restart, which is too much.",
            show_duration(settings.prompt_cache_ttl),
            settings.prompt_cache_from
        )
    };
    let mut text = vec![
        format!(
            "Without Remora the same answers would have cost {}: the {} that were paid for answers, retries and failed calls that were \
             billed included, and {} for the answers that no provider was asked for.",
            usd(counterfactual(sums)),
            usd(sums.cost),
            usd(sums.saved_gross)
        ),
        format!(
            "Those are {} exact hits, {} semantic hits and {} requests that joined an equal one in flight. Each counts the tokens of the \
             stored answer at the price of its model at the time of the hit.",
            sums.hits_exact, sums.hits_semantic, sums.coalesced
        ),
        discount,
        format!(
            "With Remora {} were paid: {} for answers, {} for vectors of prompts, {} for asking again to check {} hits.",
            usd(sums.total()),
            usd(sums.cost),
            usd(sums.embedding),
            usd(sums.check),
            sums.checks
        ),
        format!(
            "Net saved is gross less vectors and checks: {}. The ratio is net saved divided by what it would have cost.",
            usd(sums.saved_net)
        ),
    ];
    if unmatched(sums) != 0 {
        text.push(format!(
            "The two bills differ by {} from the net saving, because a part of some requests has no price: such a row has no net saving, \
             but what is known of it is in the other sums.",
            usd(unmatched(sums))
        ));
    }
    if sums.unpriced > 0 {
        text.push(format!(
            "{} of {} requests and checks were billed by a provider at a price that is not known: they are in neither bill. `remora prices` says \
             how to add the price.",
            sums.unpriced,
            rows(sums)
        ));
    }
    if sums.estimated > 0 {
        text.push(format!(
            "The tokens of {} of {} requests and checks were counted here, because the provider did not tell them.",
            sums.estimated,
            rows(sums)
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn settings() -> Savings {
        Savings { target: 0.3, prompt_cache_ttl: Duration::from_secs(300), prompt_cache_from: 1_024 }
    }

    #[test]
    fn the_target_is_met_from_the_very_ratio_on_and_nothing_is_met_where_nothing_was_used() {
        // 70 paid for answers, 33 not paid, 3 paid for checks and vectors: 30 of 103.
        let sums = Sums { cost: 70, saved_gross: 33, saved_net: 30, check: 2, embedding: 1, ..Sums::default() };
        let told = held_against(&sums, 30.0 / 103.0);
        assert_eq!((&told["counterfactual_nano_usd"], &told["spend_nano_usd"]), (&json!(103), &json!(73)));
        assert_eq!((&told["met"], &told["unmatched_nano_usd"]), (&json!(true), &json!(0)));
        assert_eq!(held_against(&sums, 0.2913)["met"], json!(false));
        let nothing = held_against(&Sums::default(), 0.3);
        assert_eq!((&nothing["ratio"], &nothing["met"]), (&Value::Null, &Value::Null));
    }

    #[test]
    fn the_words_have_the_numbers_and_the_caveats_only_where_there_are_some() {
        let sums =
            Sums { cost: 2_000_000_000, saved_gross: 1_500_000_000, saved_net: 1_250_000_000, ..Sums::default() };
        let sums = Sums { embedding: 250_000_000, hits_semantic: 12, requests: 40, ..sums };
        let words = explained(&sums, &settings()).join("\n");
        for part in [
            "3.50 USD",
            "1.50 USD",
            "2.25 USD were paid",
            "0.25 USD for vectors",
            "12 semantic hits",
            "5m",
            "1024 tokens",
        ] {
            assert!(words.contains(part), "{part}: {words}");
        }
        assert!(
            !words.contains("not known") && !words.contains("counted here") && !words.contains("no price"),
            "{words}"
        );
        let unsure = Sums { unpriced: 3, estimated: 4, checks: 1, saved_net: 1_000_000_000, ..sums };
        let words = explained(&unsure, &settings()).join("\n");
        for part in ["3 of 41 requests", "4 of 41 requests", "-0.25 USD from the net saving"] {
            assert!(words.contains(part), "{part}: {words}");
        }
        let off = Savings { prompt_cache_ttl: Duration::ZERO, ..settings() };
        assert!(explained(&sums, &off).join("\n").contains("left out"));
    }

    proptest! {
        #[test]
        fn what_is_saved_is_the_difference_of_the_two_bills(
            rows in proptest::collection::vec([0_i64..1 << 40, 0..1 << 40, 0..1 << 30, 0..1 << 30], 0..20)
        ) {
            let sum = |at: usize| rows.iter().map(|row| row[at]).sum::<i64>();
            let (cost, gross, embedding, check) = (sum(0), sum(1), sum(2), sum(3));
            let sums =
                Sums { cost, check, embedding, saved_gross: gross, saved_net: gross - embedding - check, ..Sums::default() };
            prop_assert_eq!(unmatched(&sums), 0);
            prop_assert_eq!(counterfactual(&sums) - sums.total(), sums.saved_net);
        }
    }
}
