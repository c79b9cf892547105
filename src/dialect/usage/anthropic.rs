//! Anthropic's shape: `input_tokens` is what was neither read from nor written to the prompt cache.

use serde_json::Value;

use super::{Claim, Extras, Usage, largest, service, told, written};

const READ: &str = "cache_read_input_tokens";
const WRITTEN: &str = "cache_creation_input_tokens";

/// Whether a usage with `input_tokens` is Anthropic's; OpenAI's Responses have the same name for another sum.
pub(super) fn is_of(usage: &Value) -> bool {
    [READ, WRITTEN, "cache_creation", "server_tool_use", "inference_geo"].iter().any(|name| usage.get(name).is_some())
}

/// What has been told so far. A stream tells usage several times, and each time the whole of it: at the start, with each
/// `message_delta`. So counts take the place of earlier ones and are never added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::dialect) struct Told {
    input: Option<u64>,
    read: Option<u64>,
    /// For five minutes, for an hour.
    written: Option<(u64, u64)>,
    output: Option<u64>,
    thinking: Option<u64>,
    service: Option<&'static str>,
    extras: Extras,
}

impl Told {
    /// Reads one `usage`.
    pub(in crate::dialect) fn of(usage: &Value) -> Self {
        let sum = told(usage, &format!("/{WRITTEN}"));
        let split = usage.get("cache_creation").is_some_and(Value::is_object);
        Self {
            input: told(usage, "/input_tokens"),
            read: told(usage, &format!("/{READ}")),
            written: (sum.is_some() || split).then(|| written(usage, sum.unwrap_or(0), "/cache_creation")),
            output: told(usage, "/output_tokens"),
            thinking: Some(largest(
                usage,
                &["/output_tokens_details/thinking_tokens", "/output_tokens_details/reasoning_tokens"],
            )),
            service: usage.get("service_tier").and_then(Value::as_str).and_then(service),
            extras: Extras::of(usage),
        }
    }

    /// Takes what is told next. A count that was told stays where the next telling has none or 0: who translates from other
    /// formats fills in zeros.
    pub(in crate::dialect) fn take(&mut self, next: Self) {
        let later = |now: Option<u64>, next: Option<u64>| next.filter(|count| *count > 0).or(now).or(next);
        self.read = later(self.read, next.read);
        self.written = match next.written {
            // The split is told at the start only, and the sum may have grown since.
            Some((0, 0)) => self.written.or(next.written),
            Some((sum, 0)) => {
                let hour = self.written.map_or(0, |(_, hour)| hour).min(sum);
                Some((sum - hour, hour))
            }
            Some(_) => next.written,
            None => self.written,
        };
        // LiteLLM tells the input without cached tokens at the start and with them at the end.
        let with_cache = self.input.map(|input| input.saturating_add(self.cached()));
        if next.input != with_cache {
            self.input = later(self.input, next.input);
        }
        self.output = later(self.output, next.output);
        self.thinking = later(self.thinking, next.thinking);
        self.service = next.service.or(self.service);
        self.extras.take(next.extras);
    }

    /// Input tokens, if they have been told.
    pub(in crate::dialect) fn usage(&self) -> Option<Usage> {
        if self.input.is_none() && self.output.is_none() {
            return None;
        }
        let (cache_write, cache_write_1h) = self.written.unwrap_or_default();
        let claim = Claim {
            prompt: self.input.unwrap_or(0).saturating_add(self.cached()),
            completion: self.output.unwrap_or(0),
            cache_read: self.read.unwrap_or(0),
            cache_write,
            cache_write_1h,
            reasoning: self.thinking.unwrap_or(0),
            ..Claim::default()
        };
        Some(self.extras.on(Usage { service: self.service, ..claim.settle() }))
    }

    fn all_written(&self) -> Option<u64> {
        self.written.map(|(five, hour)| five.saturating_add(hour))
    }

    fn cached(&self) -> u64 {
        self.read.unwrap_or(0).saturating_add(self.all_written().unwrap_or(0))
    }
}
