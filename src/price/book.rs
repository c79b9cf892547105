//! The price book: which price a model has at a time.
//!
//! A very name wins over a pattern, a longer pattern over a shorter one, and where two fit equally well the list of the operator
//! wins over the one that comes with the program. A model may be asked for with its provider before it, as in `openai/gpt-4o`:
//! every name of the list has that longer form too. An entry that has no price yet at the time does not fit.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde_json::{Map, Value, json};

use super::Service;
use super::cost::{Price, Rates};
use super::file::{File, PriceError, parse, read};
use crate::clock::UnixMs;
use crate::config::glob_matches;
use crate::store::Tokens;

/// The list that comes with the program.
pub(super) const SHIPPED: &str = include_str!("../../config/prices.json");
/// What messages call it.
pub(super) const SHIPPED_PLACE: &str = "the shipped price list";

/// What stands before the names of a provider's models elsewhere.
const PREFIXES: [(&str, &str); 14] = [
    ("azure", "openai"),
    ("text-completion-openai", "openai"),
    ("gemini", "google"),
    ("models", "google"),
    ("vertex_ai", "google"),
    ("mistralai", "mistral"),
    ("x-ai", "xai"),
    ("cohere_chat", "cohere"),
    ("together_ai", "together"),
    ("fireworks_ai", "fireworks"),
    ("moonshotai", "moonshot"),
    ("z-ai", "zai"),
    ("qwen", "dashscope"),
    ("voyageai", "voyage"),
];

/// Prices by model. It can be replaced while it is used.
#[derive(Debug)]
pub struct PriceBook(ArcSwap<Book>);

#[derive(Debug)]
struct Book {
    version: Arc<str>,
    models: Vec<Listed>,
    /// Models by their very names, those of the operator first.
    exact: HashMap<String, Vec<usize>>,
    /// Patterns and their models, those of the operator first.
    patterns: Vec<(String, usize)>,
    highest: Option<Arc<Price>>,
}

#[derive(Debug)]
struct Listed {
    own: bool,
    provider: Option<String>,
    names: Vec<String>,
    source: Option<String>,
    as_of: Option<String>,
    /// By the time they hold from, the latest first.
    prices: Vec<(UnixMs, Arc<Price>)>,
}

/// One model of a list, with the price it has at a time.
#[derive(Clone, Debug)]
pub struct Listing {
    /// Whether it is in the file of the operator.
    pub own: bool,
    /// Who provides it.
    pub provider: Option<String>,
    /// Names and patterns.
    pub names: Vec<String>,
    /// The page of its provider that the price can be checked against.
    pub source: Option<String>,
    /// Day of the list that the price was taken from.
    pub as_of: Option<String>,
    /// The price.
    pub price: Arc<Price>,
}

impl PriceBook {
    /// The list that comes with the program, with the file of the operator laid over it.
    ///
    /// # Errors
    /// The file cannot be read or is not a price list.
    pub fn load(file: Option<&Path>) -> Result<Self, PriceError> {
        let mut files = Vec::with_capacity(2);
        if let Some(path) = file {
            files.push(parse(&read(path)?, &path.display().to_string())?);
        }
        files.push(parse(SHIPPED, SHIPPED_PLACE)?);
        Ok(Self(ArcSwap::from_pointee(Book::of(&files)?)))
    }

    /// Takes over what another book says; whoever holds a price keeps it.
    pub fn replace(&self, other: &Self) {
        self.0.store(other.0.load_full());
    }

    /// The price of a model at a time.
    pub fn price(&self, model: &str, at: UnixMs) -> Option<Arc<Price>> {
        self.0.load().find(model, at).map(|(_, price)| Arc::clone(price))
    }

    /// The highest price of each kind in the book, for models of which nothing is known.
    pub fn highest(&self) -> Option<Arc<Price>> {
        self.0.load().highest.clone()
    }

    /// Which lists this book is made of.
    pub fn version(&self) -> Arc<str> {
        Arc::clone(&self.0.load().version)
    }

    /// The models with a name that fits a pattern, or all. A pattern without `*` is the name of a model, and gets what is
    /// charged for that.
    pub fn list(&self, pattern: Option<&str>, at: UnixMs) -> Vec<Listing> {
        let book = self.0.load();
        if let Some(model) = pattern.filter(|pattern| !pattern.contains('*')) {
            return book.find(model, at).map(|(listed, price)| listed.listing(price)).into_iter().collect();
        }
        let fits =
            |listed: &&Listed| pattern.is_none_or(|pattern| listed.names.iter().any(|n| glob_matches(pattern, n)));
        let listing = |listed: &Listed| Some(listed.listing(listed.at(at)?));
        book.models.iter().filter(fits).filter_map(listing).collect()
    }
}

impl Book {
    /// Earlier files win.
    fn of(files: &[File]) -> Result<Self, PriceError> {
        let versions: Vec<&str> = files.iter().map(|file| file.version.as_str()).collect();
        let version: Arc<str> = versions.join("+").into();
        let all = || files.iter().flat_map(|file| file.models.iter().map(|model| (file.version.as_str(), model)));
        let mut models: Vec<Listed> = Vec::new();
        for (number, file) in files.iter().enumerate() {
            for (at, model) in file.models.iter().enumerate() {
                let prices = match &model.like {
                    None => model.dated(&file.version),
                    Some(like) => {
                        let other = all().find(|(_, other)| other.like.is_none() && other.names.contains(like));
                        let (version, other) = other.ok_or_else(|| PriceError::Malformed {
                            place: model.place(at),
                            detail: format!("it is `like` {like:?}, but no list has a price by that name"),
                        })?;
                        other.dated(version)
                    }
                };
                models.push(Listed {
                    own: number + 1 < files.len(),
                    provider: model.provider.clone(),
                    names: model.names.clone(),
                    source: model.source.clone(),
                    as_of: model.as_of.clone(),
                    prices: prices.into_iter().map(|(from, price)| (from, Arc::new(price))).collect(),
                });
            }
        }
        let mut exact: HashMap<String, Vec<usize>> = HashMap::new();
        let mut patterns = Vec::new();
        for (at, listed) in models.iter().enumerate() {
            for name in &listed.names {
                if name.contains('*') {
                    patterns.push((name.clone(), at));
                } else {
                    exact.entry(name.clone()).or_default().push(at);
                }
            }
        }
        let prices = models.iter().flat_map(|listed| &listed.prices).map(|(_, price)| &**price);
        let highest = Price::dearest(&version, prices).map(Arc::new);
        Ok(Self { version, models, exact, patterns, highest })
    }

    fn find(&self, model: &str, at: UnixMs) -> Option<(&Listed, &Arc<Price>)> {
        let priced = |listed: usize| {
            let listed = self.models.get(listed)?;
            Some((listed, listed.at(at)?))
        };
        let named = |name: &str| self.exact.get(name).into_iter().flatten().filter_map(|listed| priced(*listed));
        if let Some(found) = named(model).next() {
            return Some(found);
        }
        // `openai/gpt-4o` is `gpt-4o` of OpenAI.
        let split = model.split_once('/').filter(|(prefix, _)| self.is_provider(prefix));
        let provider = split.map(|(prefix, _)| canonical(prefix));
        let of_provider = |listed: &Listed| listed.provider.is_none() || listed.provider.as_deref() == provider;
        if let Some((prefix, bare)) = split {
            let usual = format!("{}/{bare}", canonical(prefix));
            let found = named(&usual).next().or_else(|| named(bare).find(|(listed, _)| of_provider(listed)));
            if found.is_some() {
                return found;
            }
        }
        let mut best: Option<(usize, (&Listed, &Arc<Price>))> = None;
        for (pattern, listed) in &self.patterns {
            let fit = match split {
                _ if glob_matches(pattern, model) => pattern.len(),
                Some((prefix, bare)) if glob_matches(pattern, bare) => prefix.len() + 1 + pattern.len(),
                _ => continue,
            };
            if best.as_ref().is_some_and(|(length, _)| *length >= fit) {
                continue;
            }
            let Some(found) = priced(*listed) else { continue };
            if glob_matches(pattern, model) || of_provider(found.0) {
                best = Some((fit, found));
            }
        }
        best.map(|(_, found)| found)
    }

    fn is_provider(&self, prefix: &str) -> bool {
        let name = canonical(prefix);
        name != prefix || self.models.iter().any(|listed| listed.provider.as_deref() == Some(name))
    }
}

impl Listed {
    fn at(&self, at: UnixMs) -> Option<&Arc<Price>> {
        self.prices.iter().find(|(from, _)| *from <= at).map(|(_, price)| price)
    }

    fn listing(&self, price: &Arc<Price>) -> Listing {
        let Self { own, provider, names, source, as_of, prices: _ } = self;
        Listing {
            own: *own,
            provider: provider.clone(),
            names: names.clone(),
            source: source.clone(),
            as_of: as_of.clone(),
            price: Arc::clone(price),
        }
    }
}

/// The name of a provider in the list.
pub(super) fn canonical(prefix: &str) -> &str {
    PREFIXES.iter().find(|(other, _)| *other == prefix).map_or(prefix, |(_, name)| name)
}

impl Listing {
    /// As the admin API and the command line show it, in dollars for a million tokens.
    pub fn json(&self) -> Value {
        let rates = |rates: &Rates| {
            let kinds = Tokens::KINDS.iter().zip(rates.kinds).map(|(kind, price)| ((*kind).to_owned(), json!(price)));
            kinds.chain([("request".to_owned(), json!(rates.request))]).collect::<Map<_, _>>()
        };
        let sizes = self.price.sizes().map(|(above, served)| {
            let mut shown = Map::new();
            shown.insert("input_tokens_above".to_owned(), above.into());
            shown.insert("standard".to_owned(), rates(&served.standard).into());
            for service in Service::ALL {
                let other = served.by(service);
                if let Some(name) = service.as_str().filter(|_| *other != served.standard) {
                    shown.insert(name.to_owned(), rates(other).into());
                }
            }
            if let Some(fast) = &served.fast {
                shown.insert("fast".to_owned(), rates(fast).into());
            }
            Value::Object(shown)
        });
        json!({
            "provider": self.provider,
            "names": self.names,
            "list": if self.own { "own" } else { "shipped" },
            "version": self.price.version.as_ref(),
            "source": self.source,
            "as_of": self.as_of,
            "max_output": self.price.max_output,
            "prices": sizes.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::day_ms;
    use super::*;
    use crate::config::NanoUsd;

    const NOW: UnixMs = 1_796_000_000_000;

    fn with(own: &str) -> Result<PriceBook, PriceError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("prices.json");
        std::fs::write(&path, own).unwrap();
        PriceBook::load(Some(&path))
    }

    fn models(models: &str) -> PriceBook {
        with(&format!(r#"{{"version":"ours","models":[{models}]}}"#)).unwrap()
    }

    fn input(book: &PriceBook, model: &str) -> Option<i64> {
        book.price(model, NOW).map(|price| price.rates().input().0 / 1_000_000)
    }

    #[test]
    fn the_shipped_list_prices_models_and_their_dated_names() {
        let book = PriceBook::load(None).unwrap();
        let mini = book.price("gpt-4o-mini", 0).unwrap();
        assert_eq!(book.price("gpt-4o-mini-2024-07-18", 0), Some(mini.clone()));
        assert_ne!(book.price("gpt-4o", 0), Some(mini.clone()));
        assert_eq!(book.price("gpt-4o-audio-preview", 0), None, "an audio model is not billed like its kin");
        assert_eq!(book.price("made-up", 0), None);
        // 1,000 uncached, 2,000 cached, 500 out: 0.00015 + 0.00015 + 0.0003 dollars.
        let tokens = Tokens { input: 1_000, cache_read: 2_000, output: 500, ..Tokens::default() };
        assert_eq!(mini.cost(&tokens, Service::Standard), NanoUsd(600_000));
        assert!(book.list(None, NOW).len() >= 150, "{}", book.list(None, NOW).len());
    }

    #[test]
    fn a_published_price_is_met_to_the_nano_dollar() {
        let book = PriceBook::load(None).unwrap();
        let cost = |model: &str, counts: [u64; 10], service| {
            book.price(model, NOW).unwrap().cost(&Tokens::of(counts), service).0
        };
        // Writing to Anthropic's cache costs 1.25 times the input, for an hour twice; reading a tenth.
        let claude = cost("claude-haiku-4-5", [1_000, 1_000, 1_000, 1_000, 1_000, 0, 0, 0, 0, 0], Service::Standard);
        assert_eq!(claude, 1_000_000 + 100_000 + 1_250_000 + 2_000_000 + 5_000_000);
        // Gemini above 200,000 tokens of input.
        let pro = |input| cost("gemini-2.5-pro", [input, 0, 0, 0, 1_000, 0, 0, 0, 0, 0], Service::Standard);
        assert_eq!(pro(200_000), 250_000_000 + 10_000_000);
        assert_eq!(pro(200_001), 500_002_500 + 15_000_000);
        // Half of the price in a batch.
        assert_eq!(cost("gpt-4o", [1_000, 0, 0, 0, 1_000, 0, 0, 0, 0, 0], Service::Batch), 6_250_000);
        // Sound has its own price, pictures too.
        assert_eq!(cost("gpt-audio", [0, 0, 0, 0, 0, 0, 1_000, 1_000, 0, 0], Service::Standard), 96_000_000);
        assert_eq!(cost("gemini-2.5-flash-image", [0, 0, 0, 0, 0, 0, 0, 0, 0, 1_290], Service::Standard), 38_700_000);
        assert_eq!(
            cost("text-embedding-3-small", [1_000_000, 0, 0, 0, 0, 0, 0, 0, 0, 0], Service::Standard),
            20_000_000
        );
    }

    #[test]
    fn writing_for_an_hour_costs_twice_the_input_whatever_the_size_and_in_a_batch_too() {
        let book = PriceBook::load(None).unwrap();
        let long = |service| {
            let price = book.price("claude-haiku-5-5", NOW).unwrap();
            price.cost(&Tokens { cache_write_1h: 200_000, ..Tokens::default() }, service).0
        };
        assert_eq!((long(Service::Standard), long(Service::Batch)), (200_000_000, 100_000_000));
        let mut in_batches = 0;
        for listing in book.list(None, NOW).iter().filter(|listing| listing.provider.as_deref() == Some("anthropic")) {
            for (above, served) in listing.price.sizes() {
                let [input, _, write, hour, ..] = served.standard.kinds;
                let [batch, _, _, hour_in_batch, ..] = served.batch.kinds;
                if hour > write && batch < input {
                    assert_eq!(hour_in_batch, batch.plus(batch), "{:?} above {above}", listing.names);
                    in_batches += 1;
                }
            }
        }
        assert!(in_batches > 10, "{in_batches}");
    }

    #[test]
    fn fast_mode_inference_in_the_us_and_searches_of_anthropics_are_billed_as_told() {
        let book = PriceBook::load(None).unwrap();
        let cost = |model: &str, usage: Value| {
            let usage = crate::dialect::Usage::of_document(&json!({ "usage": usage })).unwrap();
            book.price(model, NOW).unwrap().billed(&usage.tokens, usage.billed_as().as_deref())
        };
        let usage = |more: Value| {
            let mut usage = json!({"input_tokens": 1_000, "cache_read_input_tokens": 1_000, "output_tokens": 100});
            usage.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            usage
        };
        let plain = 5_000_000 + 500_000 + 2_500_000;
        for (more, told) in [
            (json!({"speed": "standard", "inference_geo": "global"}), plain),
            (json!({"speed": "fast"}), 2 * plain),
            (json!({"inference_geo": "us"}), plain / 10 * 11),
            (json!({"speed": "fast", "inference_geo": "us"}), plain / 10 * 22),
            (json!({"server_tool_use": {"web_search_requests": 3}}), plain + 30_000_000),
        ] {
            assert_eq!(cost("claude-opus-5", usage(more.clone())), Some(NanoUsd(told)), "{more}");
        }
        assert_eq!(cost("claude-haiku-4-5", usage(json!({"speed": "fast"}))), None, "nobody says what that costs");
    }

    #[test]
    fn a_very_name_wins_then_the_longest_pattern_then_the_operators_list() {
        let book = models(
            r#"{"names":["gpt-4o*"],"input":"1","output":"2"}, {"names":["gpt-4o-a*"],"input":"3","output":"2"},
               {"names":["o3"],"input":"4","output":"2"}"#,
        );
        assert_eq!(input(&book, "gpt-4o"), Some(2_500), "the very name wins over a pattern");
        assert_eq!(input(&book, "gpt-4o-zeta"), Some(1_000));
        assert_eq!(input(&book, "gpt-4o-audio-preview"), Some(3_000));
        assert_eq!(input(&book, "o3"), Some(4_000));
        assert!(book.version().starts_with("ours+") && book.price("o3", NOW).unwrap().version.starts_with("ours#"));
    }

    #[test]
    fn a_model_may_be_named_with_its_provider_but_not_with_another() {
        let book = models(
            r#"{"names":["mine"],"input":"1","output":"2"}, {"provider":"groq","names":["theirs*"],"input":"3","output":"2"},
               {"names":["openai/o3"],"input":"5","output":"2"}, {"names":["*"],"input":"7","output":"2"}"#,
        );
        for (model, price) in [
            ("openai/gpt-4o", 2_500),
            ("azure/gpt-4o", 2_500),
            ("models/gemini-2.5-pro", 1_250),
            ("openai/mine", 1_000),
            ("groq/theirs-2", 3_000),
            ("openai/o3", 5_000),
            ("o3", 2_000),
            ("groq/gpt-4o", 7_000),
            ("openai/theirs-2", 7_000),
            ("nobody/mine", 7_000),
        ] {
            assert_eq!(input(&book, model), Some(price), "{model}");
        }
    }

    #[test]
    fn a_price_counts_from_its_day_on_and_what_counted_before_stays() {
        let book = models(
            r#"{"names":["m"],"prices":[{"from":"2026-10-01","input":"2","output":"2"},{"input":"1","output":"2"},
                 {"from":"2026-11-01","input":"3","output":"2"}]},
               {"names":["gpt-4o"],"prices":[{"from":"2026-10-01","input":"2","output":"2"}]}"#,
        );
        let october = day_ms("2026-10-01").unwrap();
        let at = |model: &str, at| book.price(model, at).unwrap();
        assert_eq!(at("m", 0).rates().input(), NanoUsd::dollars(1));
        assert_eq!(at("m", october - 1).rates().input(), NanoUsd::dollars(1));
        assert_eq!(at("m", october).rates().input(), NanoUsd::dollars(2));
        assert_eq!(at("m", NOW).rates().input(), NanoUsd::dollars(3));
        assert!(at("m", october).version.starts_with("ours@2026-10-01#"), "{}", at("m", october).version);
        assert_eq!(at("gpt-4o", october - 1).rates().input(), NanoUsd(2_500_000_000), "the shipped list until then");
        assert_eq!(at("gpt-4o", october).rates().input(), NanoUsd::dollars(2));
    }

    #[test]
    fn a_deployment_may_cost_what_another_model_costs() {
        let book = models(r#"{"names":["chat-prod*"],"like":"gpt-4o"}"#);
        assert_eq!(book.price("chat-prod-eu", NOW), book.price("gpt-4o", NOW));
        let error = with(r#"{"version":"v","models":[{"names":["a"],"like":"nothing"}]}"#).unwrap_err().to_string();
        assert!(error.contains("models[0] (a)") && error.contains("nothing"), "{error}");
    }

    #[test]
    fn a_book_is_replaced_whole_and_equal_prices_have_equal_digests() {
        let book = models(r#"{"names":["m"],"input":"1","output":"2"}"#);
        let held = book.price("m", NOW).unwrap();
        let (same, other) = (
            with(r#"{"version":"later","models":[{"names":["m"],"input":"1.00","output":"2","cache_read":"1"}]}"#),
            with(r#"{"version":"later","models":[{"names":["m"],"input":"1","output":"2.000000001"}]}"#),
        );
        let digest = |book: &PriceBook| book.price("m", NOW).unwrap().version.split_once('#').unwrap().1.to_owned();
        assert_eq!(digest(&book), digest(&same.unwrap()));
        let other = other.unwrap();
        assert_ne!(digest(&book), digest(&other));
        book.replace(&other);
        assert_eq!(book.price("m", NOW), other.price("m", NOW));
        assert!(held.version.starts_with("ours#"));
    }

    #[test]
    fn nothing_is_dearer_than_the_highest_price() {
        let book = PriceBook::load(None).unwrap();
        let highest = book.highest().unwrap();
        for listing in book.list(None, NOW) {
            assert!(
                listing.price.worst(1_000_000, 1_000_000) <= highest.worst(1_000_000, 1_000_000),
                "{:?}",
                listing.names
            );
        }
        assert!(highest.version.starts_with("max:"));
    }
}
