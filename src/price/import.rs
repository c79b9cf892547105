//! Price lists of LiteLLM (`model_prices_and_context_window.json`) in our form.
//!
//! There a price is dollars for one token, as a floating-point number in text (`1.5e-07`). It is read from its digits and moved by
//! powers of ten, so nothing is lost on the way; what is finer than a nano-dollar for a million tokens is rounded, half to even.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};

use super::book::canonical;
use super::file::{File, Model, Row};
use crate::config::NanoUsd;

/// Digits between a dollar for one token and a nano-dollar for a million.
const TO_NANO_PER_MILLION: i64 = 15;
/// Digits between a dollar and a nano-dollar.
const TO_NANO: i64 = 9;
/// The entry that explains the form.
const SPECIMEN: &str = "sample_spec";

/// What came of an import.
#[derive(Debug)]
pub struct Imported {
    /// The list in our form, as JSON.
    pub text: String,
    /// Models in it.
    pub models: usize,
    /// Entries that were left out, by reason.
    pub skipped: BTreeMap<&'static str, usize>,
    /// Members about prices that are not understood, by name and how many entries have them.
    pub unread: BTreeMap<String, usize>,
    /// Prices that were rounded to a nano-dollar for a million tokens.
    pub rounded: usize,
}

/// Reads a list of LiteLLM. `version` is what the ledger calls it.
///
/// # Errors
/// It is not a JSON object of models.
pub fn import(text: &str, version: &str) -> Result<Imported, String> {
    let list: Map<String, Value> = serde_json::from_str(text)
        .map_err(|error| format!("not a price list of LiteLLM, which is a JSON object of models: {error}"))?;
    let bare = bare_names(&list);
    let mut importer = Importer::default();
    let mut models = Vec::new();
    for (name, entry) in &list {
        match importer.model(name, entry, &list, &bare) {
            Ok(model) => models.push(model),
            Err(reason) => *importer.skipped.entry(reason).or_default() += 1,
        }
    }
    let count = models.len();
    let source = "imported from a price list of LiteLLM".to_owned();
    let text = serde_json::to_string_pretty(&File { version: version.to_owned(), source, models });
    let Importer { skipped, unread, rounded } = importer;
    Ok(Imported { text: text.map_err(|error| error.to_string())? + "\n", models: count, skipped, unread, rounded })
}

/// How many entries would have a name without the provider before it.
fn bare_names(list: &Map<String, Value>) -> HashMap<&str, usize> {
    let mut names: HashMap<&str, usize> = HashMap::new();
    for (name, entry) in list {
        let (_, bare) = split(name, entry);
        *names.entry(bare).or_default() += 1;
    }
    names
}

/// The provider of an entry as we call it, and its name without that before it.
fn split<'a>(name: &'a str, entry: &'a Value) -> (Option<&'a str>, &'a str) {
    let provider = entry.get("litellm_provider").and_then(Value::as_str).map(canonical);
    match name.split_once('/') {
        Some((prefix, bare)) if Some(canonical(prefix)) == provider && !bare.is_empty() => (provider, bare),
        _ => (provider, name),
    }
}

#[derive(Default)]
struct Importer {
    skipped: BTreeMap<&'static str, usize>,
    unread: BTreeMap<String, usize>,
    rounded: usize,
}

impl Importer {
    fn model(
        &mut self,
        name: &str,
        entry: &Value,
        list: &Map<String, Value>,
        bare_names: &HashMap<&str, usize>,
    ) -> Result<Model, &'static str> {
        if name == SPECIMEN {
            return Err("the specimen that explains the form");
        }
        if name.is_empty() || name.contains('*') {
            return Err("a name that would be a pattern here");
        }
        let target = entry.get("alias_of").and_then(Value::as_str).and_then(|other| list.get(other));
        let Some(members) = target.unwrap_or(entry).as_object() else { return Err("not an object") };
        let row = self.row(members)?;
        let (provider, bare) = split(name, entry);
        let mut names = vec![name.to_owned()];
        if bare != name && bare_names.get(bare) == Some(&1) && !list.contains_key(bare) {
            names.push(bare.to_owned());
        }
        let max_output = members.get("max_output_tokens").and_then(whole);
        let mut model = Model::of(provider.map(str::to_owned), names, max_output, vec![row]);
        model.source = members.get("source").and_then(Value::as_str).map(str::to_owned);
        Ok(model)
    }

    fn row(&mut self, members: &Map<String, Value>) -> Result<Row, &'static str> {
        let mut row = Row::default();
        for (name, value) in members {
            match Place::of(name) {
                Some(place) => {
                    let digits = if place.kind == "request" { TO_NANO } else { TO_NANO_PER_MILLION };
                    if value.is_null() {
                        continue;
                    }
                    let (price, exact) = price(value, digits).ok_or("a price that is not a number of dollars")?;
                    self.rounded += usize::from(!exact);
                    // Some entries write 0 for a cache that is filled at the price of input.
                    if place.kind != "cache_write" || price.0 > 0 {
                        place.set(&mut row, price);
                    }
                }
                None if name == "tiered_pricing" => self.tiers(&mut row, value)?,
                None if name.contains("cost") || name.contains("pric") => {
                    *self.unread.entry(name.clone()).or_default() += 1;
                }
                None => {}
            }
        }
        row.above.sort_by_key(|tier| tier.input_tokens);
        mended(&mut row, members)?;
        let mode = members.get("mode").and_then(Value::as_str);
        if row.input.is_some() && row.output.is_none() {
            // Pictures and sounds have no text beside them; vectors and verdicts have no output at all.
            let other = row.image_output.or(row.audio_output);
            let none = matches!(mode, Some("embedding" | "rerank" | "moderation" | "audio_transcription"));
            row.output = other.or_else(|| none.then_some(NanoUsd(0)));
        }
        match (row.input, row.output) {
            (None, None) => Err("no price for tokens: billed by picture, second, character, page or call"),
            (None, Some(_)) | (Some(_), None) => Err("a price for input or for output only"),
            _ if row.amounts().iter().all(|price| price.0 == 0) => Err("all prices are zero, which may mean unknown"),
            _ => Ok(row),
        }
    }

    /// `[{ "range": [from, to], prices }]`: the first is the usual price.
    fn tiers(&mut self, row: &mut Row, value: &Value) -> Result<(), &'static str> {
        for tier in value.as_array().into_iter().flatten() {
            let members = tier.as_object().ok_or("tiers in a form that is not known")?;
            let from = members
                .get("range")
                .and_then(|range| whole(range.get(0)?))
                .ok_or("tiers in a form that is not known")?;
            let (mut inner, mut known) = (Row::default(), false);
            for (name, value) in members.iter().filter(|(name, _)| *name != "range") {
                let Some(place) = Place::of(name).filter(|place| place.above.is_none()) else {
                    *self.unread.entry(format!("tiered_pricing.{name}")).or_default() += 1;
                    continue;
                };
                let (price, exact) =
                    price(value, TO_NANO_PER_MILLION).ok_or("a price that is not a number of dollars")?;
                self.rounded += usize::from(!exact);
                let target = if from == 0 { &mut *row } else { &mut inner };
                place.set(target, price);
                known = true;
            }
            if from > 0 && known {
                row.above.push(Row { input_tokens: Some(from), ..inner });
            }
        }
        Ok(())
    }
}

/// What the form says in another way, or has wrong; `scripts/prices.py` does the same.
fn mended(row: &mut Row, members: &Map<String, Value>) -> Result<(), &'static str> {
    if row.cache_read.is_none() && row.cache_write.zip(row.input).is_some_and(|(write, input)| write < input) {
        // Writing is never cheaper than not writing: it is the price of reading, in the wrong place.
        row.cache_read = row.cache_write.take();
    }
    if members.get("litellm_provider").and_then(Value::as_str) == Some("anthropic") {
        let hour = row.cache_write_1h;
        for size in &mut row.above {
            hour_in_batch(size.cache_write_1h.or(hour), size.batch.as_deref_mut());
        }
        hour_in_batch(hour, row.batch.as_deref_mut());
    }
    let Some(times) = members.get("provider_specific_entry").and_then(|entry| entry.get("fast")) else { return Ok(()) };
    // Anthropic's fast mode is a multiple of the price of all tokens.
    let (times, _) = price(times, TO_NANO).ok_or("a price that is not a number of dollars")?;
    let of = |price: Option<NanoUsd>| {
        let product = i128::from(price?.0) * i128::from(times.0) / 10_i128.pow(9);
        i64::try_from(product).ok().map(NanoUsd)
    };
    let Row { input, cache_read, cache_write, cache_write_1h, output, reasoning, .. } = &*row;
    let fast = Row {
        input: of(*input),
        cache_read: of(*cache_read),
        cache_write: of(*cache_write),
        cache_write_1h: of(*cache_write_1h),
        output: of(*output),
        reasoning: of(*reasoning),
        ..Row::default()
    };
    row.fast = Some(Box::new(fast));
    Ok(())
}

/// "Multipliers stack with the batch discount": what has a price for an hour's cache costs twice the input in a batch too.
fn hour_in_batch(hour: Option<NanoUsd>, batch: Option<&mut Row>) {
    if let (Some(_), Some(batch)) = (hour, batch)
        && let Some(input) = batch.input
    {
        batch.cache_write_1h.get_or_insert(input.plus(input));
    }
}

/// Where a member of LiteLLM's form belongs in ours.
struct Place {
    kind: &'static str,
    above: Option<u64>,
    service: Option<&'static str>,
}

impl Place {
    fn of(name: &str) -> Option<Self> {
        let services = [("_batches", "batch"), ("_flex", "flex"), ("_priority", "priority")];
        let found = services.iter().find_map(|(end, service)| Some((name.strip_suffix(end)?, *service)));
        let (name, service) = found.map_or((name, None), |(name, service)| (name, Some(service)));
        let size = name.strip_suffix("k_tokens").and_then(|name| name.rsplit_once("_above_"));
        let (name, above) = match size {
            Some((name, thousands)) => (name, Some(thousands.parse::<u64>().ok()?.checked_mul(1_000)?)),
            None => (name, None),
        };
        let kind = match name {
            "input_cost_per_token" => "input",
            "cache_read_input_token_cost" => "cache_read",
            "cache_creation_input_token_cost" => "cache_write",
            "cache_creation_input_token_cost_above_1hr" => "cache_write_1h",
            "output_cost_per_token" => "output",
            "output_cost_per_reasoning_token" => "reasoning",
            "input_cost_per_audio_token" => "audio_input",
            "output_cost_per_audio_token" => "audio_output",
            "input_cost_per_image_token" => "image_input",
            "output_cost_per_image_token" => "image_output",
            "input_cost_per_request" => "request",
            _ => return None,
        };
        Some(Self { kind, above, service })
    }

    fn set(&self, row: &mut Row, price: NanoUsd) {
        let sized = match self.above {
            None => Some(row),
            Some(above) => {
                let at = row.above.iter().position(|tier| tier.input_tokens == Some(above)).unwrap_or_else(|| {
                    row.above.push(Row { input_tokens: Some(above), ..Row::default() });
                    row.above.len() - 1
                });
                row.above.get_mut(at)
            }
        };
        let Some(sized) = sized else { return };
        let row = match self.service {
            Some("batch") => sized.batch.get_or_insert_default(),
            Some("flex") => sized.flex.get_or_insert_default(),
            Some(_) => sized.priority.get_or_insert_default(),
            None => sized,
        };
        let member = match self.kind {
            "input" => &mut row.input,
            "cache_read" => &mut row.cache_read,
            "cache_write" => &mut row.cache_write,
            "cache_write_1h" => &mut row.cache_write_1h,
            "output" => &mut row.output,
            "reasoning" => &mut row.reasoning,
            "audio_input" => &mut row.audio_input,
            "audio_output" => &mut row.audio_output,
            "image_input" => &mut row.image_input,
            "image_output" => &mut row.image_output,
            _ => &mut row.request,
        };
        *member = Some(price);
    }
}

/// A number, or a text of one, times ten to the power of `digits`, and whether that is exact.
fn price(value: &Value, digits: i64) -> Option<(NanoUsd, bool)> {
    match value {
        Value::Number(number) => decimal(number.as_str(), digits),
        Value::String(text) => decimal(text.trim(), digits),
        _ => None,
    }
}

/// The same of text like `1.5e-07`; half to even where it is not exact. Nothing below zero is a price.
fn decimal(text: &str, digits: i64) -> Option<(NanoUsd, bool)> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{part}");
    if all.is_empty() || all.len() > 36 || !all.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: i128 = all.parse().ok()?;
    let places = i64::try_from(part.len()).ok()?;
    let shift = exponent.parse::<i64>().ok()?.checked_add(digits)?.checked_sub(places)?;
    let (amount, exact) = if number == 0 {
        (0, true)
    } else if shift >= 0 {
        (number.checked_mul(10_i128.checked_pow(u32::try_from(shift).ok()?)?)?, true)
    } else {
        match u32::try_from(shift.unsigned_abs()).ok().and_then(|shift| 10_i128.checked_pow(shift)) {
            None => (0, false),
            Some(divisor) => {
                let (amount, rest) = (number / divisor, number % divisor);
                let up = rest > divisor - rest || (rest == divisor - rest && amount % 2 == 1);
                (amount + i128::from(up), rest == 0)
            }
        }
    };
    Some((NanoUsd(i64::try_from(amount).ok()?), exact))
}

/// A whole number, also if it is written as `8192.0` or as text.
fn whole(value: &Value) -> Option<u64> {
    let (number, exact) = price(value, 0)?;
    u64::try_from(number.0).ok().filter(|_| exact)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::UnixMs;
    use crate::price::{PriceBook, Service};
    use crate::store::Tokens;

    const EXCERPT: &str = include_str!("../../tests/data/litellm_prices.json");
    const NOW: UnixMs = 1_796_000_000_000;

    fn book(text: &str) -> PriceBook {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("prices.json");
        std::fs::write(&path, import(text, "litellm").unwrap().text).unwrap();
        PriceBook::load(Some(&path)).unwrap()
    }

    #[test]
    fn every_kind_of_price_of_an_excerpt_arrives() {
        let book = book(EXCERPT);
        let cost = |model: &str, kind: &str, input: u64, service| {
            let price = book.price(model, NOW).unwrap();
            assert!(price.version.starts_with("litellm#"), "{model} is from the shipped list");
            let mut counts = [0; 10];
            counts[Tokens::KINDS.iter().position(|name| *name == kind).unwrap()] = 1_000_000;
            counts[0] += input;
            let without = Tokens { input, ..Tokens::default() };
            let more = if input == 0 { 0 } else { price.cost(&without, service).0 };
            (price.cost(&Tokens::of(counts), service).0 - more) / 1_000
        };
        use Service::{Batch, Flex, Priority, Standard};
        for (model, kind, service, micros) in [
            ("gpt-5", "input", Standard, 1_250_000),
            ("gpt-5", "cache_read", Flex, 62_500),
            ("gpt-5", "output", Batch, 5_000_000),
            ("gpt-5", "output", Priority, 20_000_000),
            ("claude-haiku-4-5", "cache_write", Standard, 1_250_000),
            ("claude-haiku-4-5", "cache_write_1h", Standard, 2_000_000),
            ("anthropic/claude-haiku-4-5", "cache_read", Standard, 100_000),
            ("gemini/gemini-2.5-flash", "audio_input", Standard, 1_000_000),
            ("gemini-2.5-flash", "reasoning", Standard, 2_500_000),
            ("gemini/gemini-2.5-flash-image", "image_output", Standard, 30_000_000),
            ("gpt-audio", "audio_output", Standard, 64_000_000),
            ("text-embedding-3-small", "input", Batch, 10_000),
        ] {
            assert_eq!(cost(model, kind, 0, service), micros, "{model} {kind} {service:?}");
        }
        assert_eq!(cost("gemini-2.5-pro", "output", 200_001, Standard), 15_000_000, "above 200,000 tokens of input");
        let call = book.price("perplexity/pplx-70b-online", NOW).unwrap();
        assert_eq!(call.cost(&Tokens::default(), Standard), NanoUsd(5_000_000));
        let tiered = book.price("dashscope/qwen-flash", NOW).unwrap();
        assert_eq!(tiered.cost(&Tokens { input: 300_000, ..Tokens::default() }, Standard), NanoUsd(75_000_000));
    }

    #[test]
    fn what_the_form_has_wrong_or_says_in_another_way_is_mended() {
        let list = r#"{
            "swapped":{"input_cost_per_token":3e-6,"output_cost_per_token":9e-6,"cache_creation_input_token_cost":1e-6},
            "claude":{"litellm_provider":"anthropic","input_cost_per_token":5e-6,"output_cost_per_token":25e-6,
                "cache_creation_input_token_cost_above_1hr":10e-6,"input_cost_per_token_batches":2.5e-6,
                "input_cost_per_token_above_1k_tokens":20e-6,"input_cost_per_token_above_1k_tokens_batches":10e-6,
                "cache_creation_input_token_cost_above_1hr_above_1k_tokens":40e-6,
                "provider_specific_entry":{"us":1.1,"fast":2.0}}}"#;
        let book = book(list);
        let cost = |model: &str, tokens: Tokens, word: Option<&str>| {
            book.price(model, NOW).unwrap().billed(&tokens, word).map(|cost| cost.0 / 1_000_000)
        };
        let (read, write) =
            (Tokens { cache_read: 1_000, ..Tokens::default() }, Tokens { cache_write: 1_000, ..Tokens::default() });
        assert_eq!((cost("swapped", read, None), cost("swapped", write, None)), (Some(1), Some(3)));
        let hour = Tokens { cache_write_1h: 1_000, ..Tokens::default() };
        assert_eq!(
            ["batch", "fast", "priority"].map(|word| cost("claude", hour, Some(word))),
            [Some(5), Some(20), Some(10)]
        );
        let long = Tokens { cache_write_1h: 2_000, ..Tokens::default() };
        assert_eq!(["batch", "priority"].map(|word| cost("claude", long, Some(word))), [Some(40), Some(80)]);
        let output = Tokens { output: 1_000, ..Tokens::default() };
        assert_eq!((cost("claude", output, Some("fast+us")), cost("swapped", output, Some("fast"))), (Some(55), None));
    }

    #[test]
    fn a_short_name_is_given_only_if_no_other_entry_has_it() {
        let entry = |provider: &str, price: u32| {
            format!(
                r#"{{"litellm_provider":"{provider}","input_cost_per_token":{price}e-6,"output_cost_per_token":0,"cache_creation_input_token_cost":0}}"#
            )
        };
        let list =
            [("resale/maker/m", entry("resale", 1)), ("maker/m", entry("maker", 2)), ("resale/n", entry("resale", 3))];
        let list: Vec<String> = list.iter().map(|(name, entry)| format!("{name:?}:{entry}")).collect();
        let book = book(&format!("{{{}}}", list.join(",")));
        for (model, dollars) in [("resale/maker/m", 1), ("maker/m", 2), ("m", 2), ("n", 3), ("resale/n", 3)] {
            let price = book.price(model, NOW).unwrap();
            assert_eq!(price.rates().input(), NanoUsd::dollars(dollars), "{model}");
            assert_eq!(price.rates().cache_write(), price.rates().input(), "a cache is not filled for nothing");
        }
    }

    #[test]
    fn what_is_left_out_and_not_understood_is_counted() {
        let imported = import(EXCERPT, "litellm").unwrap();
        let skipped: Vec<(&str, usize)> = imported.skipped.iter().map(|(reason, count)| (*reason, *count)).collect();
        assert_eq!(
            skipped,
            [
                ("all prices are zero, which may mean unknown", 1),
                ("no price for tokens: billed by picture, second, character, page or call", 2),
                ("the specimen that explains the form", 1),
            ]
        );
        assert_eq!(imported.unread.get("search_context_cost_per_query"), Some(&6), "{:?}", imported.unread);
        let entries = serde_json::from_str::<Map<String, Value>>(EXCERPT).unwrap().len();
        assert_eq!(imported.models + skipped.iter().map(|(_, count)| count).sum::<usize>(), entries);
        assert!(import("[]", "v").is_err() && import(r#"{"m":1}"#, "v").unwrap().models == 0);
    }

    #[test]
    fn prices_are_read_from_their_digits() {
        for (text, nano, exact) in [
            ("1.5e-07", 150_000_000, true),
            ("0.000005", 5_000_000_000, true),
            ("3E-6", 3_000_000_000, true),
            ("0", 0, true),
            ("0.0", 0, true),
            ("1e-400", 0, false),
            ("5.5000000000000003e-07", 550_000_000, false),
            ("2.9999999999999997e-07", 300_000_000, false),
            ("2.5e-15", 2, false),
            ("3.5e-15", 4, false),
            ("1e-15", 1, true),
        ] {
            assert_eq!(decimal(text, TO_NANO_PER_MILLION), Some((NanoUsd(nano), exact)), "{text}");
        }
        for text in ["-1e-6", "", "e5", ".", "NaN", "1e", "1e99", "0x1", "1e9999999999999999999"] {
            assert_eq!(decimal(text, TO_NANO_PER_MILLION), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_digit_is_lost_however_a_price_is_written(nano in 0_i64..1_000_000_000_000_000, zeros in 0_usize..6) {
            let scientific = format!("{nano}{}e-{}", "0".repeat(zeros), 15 + zeros);
            let padded = format!("{nano:016}");
            let (whole, part) = padded.split_at(padded.len() - 15);
            for text in [scientific, format!("{whole}.{part}"), format!("{whole}.{part}{}", "0".repeat(zeros))] {
                prop_assert_eq!(decimal(&text, TO_NANO_PER_MILLION), Some((NanoUsd(nano), true)), "{}", text);
            }
        }
    }
}
