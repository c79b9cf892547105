//! The arithmetic: what tokens cost at a price, and the most that they may cost.
//!
//! A price is resolved when the list is read: for each tier of input size and each tier of service there is one price of each kind,
//! so that a request is one multiplication for each kind, and one rounding.

use std::sync::Arc;

use super::Service;
use crate::config::NanoUsd;
use crate::store::Tokens;

/// Tokens that a price is for.
const MILLION: i128 = 1_000_000;
/// What Anthropic charges for tokens of inference in the United States alone: eleven tenths of the price.
/// <https://platform.claude.com/docs/en/build-with-claude/data-residency>
const US: i128 = 11;
const TENTHS: i128 = 10;
/// What Anthropic charges for a search of the web: ten dollars for a thousand.
/// <https://platform.claude.com/docs/en/about-claude/pricing>
const SEARCH: i128 = 10_000_000;
/// Kinds of tokens.
pub(super) const KINDS: usize = Tokens::KINDS.len();

/// One price of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Nano-dollars for a million tokens, in the order of [`Tokens::KINDS`].
    pub kinds: [NanoUsd; KINDS],
    /// Nano-dollars for each call.
    pub request: NanoUsd,
}

impl Rates {
    /// Input that is neither read from nor written to the provider's cache.
    pub fn input(&self) -> NanoUsd {
        let [input, ..] = self.kinds;
        input
    }

    /// Input read from the provider's cache.
    pub fn cache_read(&self) -> NanoUsd {
        let [_, read, ..] = self.kinds;
        read
    }

    /// Input written to the provider's cache.
    pub fn cache_write(&self) -> NanoUsd {
        let [_, _, write, ..] = self.kinds;
        write
    }

    /// Output without reasoning.
    pub fn output(&self) -> NanoUsd {
        let [_, _, _, _, output, ..] = self.kinds;
        output
    }

    /// The dearer one of each kind.
    #[must_use]
    fn dearer(mut self, other: &Self) -> Self {
        for (mine, theirs) in self.kinds.iter_mut().zip(other.kinds) {
            *mine = theirs.max(*mine);
        }
        self.request = self.request.max(other.request);
        self
    }

    /// With searches of the web, and with the tokens at so many tenths of their price.
    fn cost(&self, tokens: &Tokens, tenths: i128, searches: u64) -> NanoUsd {
        let each = tokens.counts().into_iter().zip(self.kinds);
        let sum: i128 = each.map(|(count, price)| i128::from(count) * i128::from(price.0)).sum();
        let apart = i128::from(self.request.0) + i128::from(searches) * SEARCH;
        rounded(sum * tenths + apart * MILLION * TENTHS, MILLION * TENTHS)
    }
}

/// The rates of each tier of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Served {
    pub(super) standard: Rates,
    pub(super) batch: Rates,
    pub(super) flex: Rates,
    pub(super) priority: Rates,
    /// Anthropic's fast mode, where it has a price.
    pub(super) fast: Option<Rates>,
}

impl Served {
    /// The same whatever the service.
    fn all(rates: Rates) -> Self {
        Self { standard: rates, batch: rates, flex: rates, priority: rates, fast: None }
    }

    pub(super) fn by(&self, service: Service) -> &Rates {
        match service {
            Service::Standard => &self.standard,
            Service::Batch => &self.batch,
            Service::Flex => &self.flex,
            Service::Priority => &self.priority,
        }
    }

    fn dearest(&self) -> Rates {
        let usual = self.standard.dearer(&self.batch).dearer(&self.flex).dearer(&self.priority);
        self.fast.map_or(usual, |fast| usual.dearer(&fast))
    }
}

/// What one model costs from one day on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    /// Which price this is, for the ledger: the version of the list, the day it holds from if that is said, and a digest of
    /// the numbers, as in `2026-11-26@2026-10-01#9f3c21`. Two that end in the same digest are the same price.
    pub version: Arc<str>,
    /// Most output tokens of one answer, if that is known.
    pub max_output: Option<u64>,
    /// Tokens may turn out to be dearer for where they were made.
    us: bool,
    served: Served,
    /// What counts instead for all tokens of a request with more input than so many tokens; by size.
    tiers: Vec<(u64, Served)>,
}

impl Price {
    /// `version` is that of the list, `from` the day it holds from. Tiers must be in the order of their sizes.
    pub(super) fn new(
        list: &str,
        from: Option<&str>,
        max_output: Option<u64>,
        served: Served,
        tiers: Vec<(u64, Served)>,
    ) -> Self {
        let mut hasher = blake3::Hasher::new();
        for (above, served) in std::iter::once(&(0, served)).chain(&tiers) {
            hasher.update(&above.to_le_bytes());
            for rates in Service::ALL.map(|service| served.by(service)).into_iter().chain(&served.fast) {
                for price in rates.kinds.iter().chain([&rates.request]) {
                    hasher.update(&price.0.to_le_bytes());
                }
            }
        }
        let digest = hasher.finalize().to_hex();
        let digest = digest.get(..6).unwrap_or_default();
        let version = match from {
            Some(from) => format!("{list}@{from}#{digest}"),
            None => format!("{list}#{digest}"),
        };
        Self { version: version.into(), max_output, us: false, served, tiers }
    }

    /// Says whether its tokens may turn out to be dearer for where they were made.
    pub(super) fn dearer_in_the_us(self, us: bool) -> Self {
        Self { us, ..self }
    }

    /// The usual rates: standard service, input of any size below the first tier.
    pub fn rates(&self) -> &Rates {
        &self.served.standard
    }

    /// Sizes of input above which something else counts, with 0 for what counts below the first.
    pub(super) fn sizes(&self) -> impl Iterator<Item = (u64, &Served)> {
        std::iter::once((0, &self.served)).chain(self.tiers.iter().map(|(above, served)| (*above, served)))
    }

    /// What these tokens cost in one call.
    pub fn cost(&self, tokens: &Tokens, service: Service) -> NanoUsd {
        self.sized(tokens).by(service).cost(tokens, TENTHS, 0)
    }

    /// The same for what a provider has billed, by the word of the ledger for it ([`crate::dialect::Usage::billed_as`]). `None` if
    /// there is no price for that: fast mode of a model that is not known to have one is dearer than anything that could be said.
    pub fn billed(&self, tokens: &Tokens, service: Option<&str>) -> Option<NanoUsd> {
        let served = self.sized(tokens);
        let (mut rates, mut tenths, mut searches) = (&served.standard, TENTHS, 0);
        for part in service.unwrap_or_default().split('+') {
            match part.strip_prefix("search:") {
                Some(count) => searches = count.parse().ok()?,
                None if part == "us" => tenths = US,
                None if part == "fast" => rates = served.fast.as_ref()?,
                None => rates = served.by(Service::from_name(Some(part))),
            }
        }
        Some(rates.cost(tokens, tenths, searches))
    }

    fn sized(&self, tokens: &Tokens) -> &Served {
        let input = tokens.input_sum();
        let tier = self.tiers.iter().rev().find(|(above, _)| input > *above).map(|(_, served)| served);
        tier.unwrap_or(&self.served)
    }

    /// The most that so many tokens may cost, whatever kinds they turn out to be and whatever service they are billed by, where
    /// it has a price. Fewer tokens never cost more than that either. Searches of the web are not in it: how many there will be
    /// nobody knows.
    pub fn worst(&self, input: u64, output: u64) -> NanoUsd {
        let tiers = self.tiers.iter().filter(|(above, _)| input > *above).map(|(_, served)| served);
        let rates = tiers.fold(self.served.dearest(), |dearest, served| dearest.dearer(&served.dearest()));
        let [plain, read, write, write_1h, text, reasoning, audio_in, audio_out, image_in, image_out] = rates.kinds;
        let most = |prices: &[NanoUsd]| i128::from(prices.iter().map(|price| price.0).max().unwrap_or(0));
        let sum = i128::from(input) * most(&[plain, read, write, write_1h, audio_in, image_in])
            + i128::from(output) * most(&[text, reasoning, audio_out, image_out]);
        let tenths = if self.us { US } else { TENTHS };
        let request = i128::from(rates.request.0) * MILLION * TENTHS;
        rounded(sum * tenths + request, MILLION * TENTHS).plus(NanoUsd(1))
    }

    /// One that is as dear as the dearest of these in each kind, whatever the service and the size.
    pub(super) fn dearest<'a>(list: &str, prices: impl Iterator<Item = &'a Self>) -> Option<Self> {
        let mut us = false;
        let each = prices.map(|price| {
            us |= price.us;
            let rates = price.sizes().map(|(_, served)| served.dearest());
            (rates.reduce(|one, other| one.dearer(&other)), price.max_output)
        });
        let (rates, max_output) = each.reduce(|(one, longest), (other, long)| match (one, other) {
            (Some(one), Some(other)) => (Some(one.dearer(&other)), longest.max(long)),
            (one, other) => (one.or(other), longest.max(long)),
        })?;
        let dearest = Self::new(&format!("max:{list}"), None, max_output, Served::all(rates?), Vec::new());
        Some(Self { us, ..dearest })
    }
}

/// Parts of nano-dollars as nano-dollars, half to even.
fn rounded(sum: i128, parts: i128) -> NanoUsd {
    let (whole, rest) = (sum / parts, sum % parts);
    let up = rest * 2 > parts || (rest * 2 == parts && whole % 2 == 1);
    NanoUsd(i64::try_from(whole + i128::from(up)).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::array::uniform;
    use proptest::prelude::*;

    use super::*;

    fn rates(kinds: [i64; KINDS], request: i64) -> Rates {
        Rates { kinds: kinds.map(NanoUsd), request: NanoUsd(request) }
    }

    fn flat(input: i64) -> Price {
        let served = Served::all(rates([input, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0));
        Price::new("v", None, None, served, Vec::new())
    }

    #[test]
    fn half_a_nano_dollar_goes_to_the_even_side() {
        let one = Tokens { input: 1, ..Tokens::default() };
        for (price, cost) in [(500_000, 0), (1_500_000, 2), (500_001, 1), (2_500_000, 2)] {
            assert_eq!(flat(price).cost(&one, Service::Standard), NanoUsd(cost), "{price}");
        }
    }

    #[test]
    fn every_kind_has_its_own_price_and_the_sum_is_rounded_once() {
        let price = Price::new(
            "v",
            None,
            None,
            Served::all(rates(
                [300_000, 300_000, 300_000, 300_000, 300_000, 300_000, 300_000, 300_000, 300_000, 300_000],
                7,
            )),
            Vec::new(),
        );
        // Ten times 0.3 nano-dollars: rounded one by one it would be nothing.
        assert_eq!(price.cost(&Tokens::of([1; KINDS]), Service::Standard), NanoUsd(10));
        for kind in 0..KINDS {
            let mut counts = [0; KINDS];
            counts[kind] = 1_000_000;
            let mut prices = [0; KINDS];
            prices[kind] = 42;
            let price = Price::new("v", None, None, Served::all(rates(prices, 0)), Vec::new());
            assert_eq!(price.cost(&Tokens::of(counts), Service::Flex), NanoUsd(42), "{}", Tokens::KINDS[kind]);
        }
    }

    #[test]
    fn what_is_told_beside_the_tier_is_billed_and_what_has_no_price_is_not_cheap() {
        let mut served = Served::all(rates([5_000_000_000, 0, 0, 0, 25_000_000_000, 0, 0, 0, 0, 0], 0));
        served.fast = Some(rates([10_000_000_000, 0, 0, 0, 50_000_000_000, 0, 0, 0, 0, 0], 0));
        let price = Price::new("v", None, None, served, Vec::new());
        let tokens = Tokens { input: 1_000, output: 100, ..Tokens::default() };
        for (word, cost) in [
            (None, 7_500_000),
            (Some("priority"), 7_500_000),
            (Some("us"), 8_250_000),
            (Some("fast"), 15_000_000),
            (Some("fast+us+search:2"), 16_500_000 + 20_000_000),
            (Some("search:3"), 7_500_000 + 30_000_000),
        ] {
            assert_eq!(price.billed(&tokens, word), Some(NanoUsd(cost)), "{word:?}");
        }
        assert_eq!(flat(5).billed(&tokens, Some("fast+us")), None);
        let one = Tokens { input: 5, ..Tokens::default() };
        assert_eq!(flat(1_000_000).billed(&one, Some("us")), Some(NanoUsd(6)), "5.5 nano-dollars, half to even");
    }

    fn any_rates() -> impl Strategy<Value = Rates> {
        (uniform::<_, KINDS>(0_i64..100_000_000_000), 0_i64..1_000_000)
            .prop_map(|(kinds, request)| rates(kinds, request))
    }

    fn any_served() -> impl Strategy<Value = Served> {
        (any_rates(), any_rates(), any_rates(), any_rates(), proptest::option::of(any_rates()))
            .prop_map(|(standard, batch, flex, priority, fast)| Served { standard, batch, flex, priority, fast })
    }

    fn any_price() -> impl Strategy<Value = Price> {
        let tiers = proptest::collection::vec((1_u64..2_000_000, any_served()), 0..3);
        (any_served(), tiers).prop_map(|(served, mut tiers)| {
            tiers.sort_by_key(|(above, _)| *above);
            Price { us: true, ..Price::new("v", None, None, served, tiers) }
        })
    }

    proptest! {
        #[test]
        fn the_worst_case_is_never_less_than_the_cost(
            price in any_price(),
            counts in uniform::<_, KINDS>(0_u64..500_000),
            more in (0_u64..1_000_000, 0_u64..1_000_000),
        ) {
            let tokens = Tokens::of(counts);
            let (input, output) = (tokens.input_sum(), tokens.sum() - tokens.input_sum());
            for service in Service::ALL {
                let cost = price.cost(&tokens, service);
                prop_assert!(cost <= price.worst(input, output), "{service:?}");
                prop_assert!(cost <= price.worst(input + more.0, output + more.1), "{service:?}, held for more");
            }
            for word in ["us", "fast", "fast+us", "priority+us", "batch+us"] {
                let Some(cost) = price.billed(&tokens, Some(word)) else { continue };
                prop_assert!(cost <= price.worst(input + more.0, output + more.1), "{word}");
            }
        }

        #[test]
        fn the_dearest_price_is_never_less_than_any(
            prices in proptest::collection::vec(any_price(), 1..4),
            counts in uniform::<_, KINDS>(0_u64..500_000),
        ) {
            let dearest = Price::dearest("v", prices.iter()).unwrap();
            for (price, service) in prices.iter().zip(Service::ALL.into_iter().cycle()) {
                let tokens = Tokens::of(counts);
                prop_assert!(price.cost(&tokens, service) <= dearest.cost(&tokens, Service::Standard));
                prop_assert!(price.worst(tokens.input_sum(), 9) <= dearest.worst(tokens.input_sum(), 9));
            }
        }
    }
}
