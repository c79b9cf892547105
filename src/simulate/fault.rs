//! Faults on order: what a request may ask the simulated upstream to do wrong.
//!
//! A fault is a list of directives (`status=503`, `cut=3`, `crlf` …) separated by `;`, `,`, `+` or space. It comes from the
//! request header `x-simulate`, from a model name `sim-fault-<directives>` (a proxy may drop the header), or from a script.
//! An unknown directive is refused with 400: a test that misspells its fault must not pass by accident.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Deserialize;

use super::options::parse_duration;

/// The prefix of a model name that carries a fault.
pub(super) const MODEL_PREFIX: &str = "sim-fault-";

/// The directives, for the command's help text: one a line, the word first.
pub const FAULT_HELP: &str = "\
Faults, in the request header x-simulate, in a model name sim-fault-…, or in a script; join several with + or ;
  status=503          this error status          retry-after=2       …with this header
  reset               TCP reset before the head  close               orderly close before the head
  hang                never answer               latency=200ms       wait before the head
  chunk-delay=20ms    wait between events        split               each event in two TCP writes
  cut=3               close after 3 events       reset-after=3       TCP reset after 3 events
  stall=3             silence after 3 events     error-event=3       error event after 3 events
  rubbish             200 with an HTML page      empty               200 with no body
  truncate            content-length too long    size=9000000        answer of so many bytes
  tokens=500          answer of so many tokens   finish=length       or finish=content_filter
  crlf                CRLF line ends             comments            a comment before each event
  no-final-blank      last blank line missing    no-done             [DONE] missing
  no-finish           finish_reason missing      no-choices          choices: []
  no-usage            usage missing              usage-every-chunk   running usage on each event
  azure               first event: no choices    times=2             only twice per conversation";

/// What goes wrong instead of a response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BeforeHead {
    /// `status=N`: this status with OpenAI's error body for it.
    Status(u16),
    /// `reset`: TCP reset.
    Reset,
    /// `close`: orderly close.
    Close,
    /// `hang`: no answer, until the client gives up.
    Hang,
}

/// How a body ends early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BreakKind {
    /// `cut=K`: the connection is closed in order, without the chunked terminator.
    Cut,
    /// `reset-after=K`: TCP reset.
    Reset,
    /// `stall=K`: silence.
    Stall,
    /// `error-event=K`: an event with an error member, then an orderly end without `[DONE]`.
    ErrorEvent,
}

/// What replaces a JSON body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyFault {
    /// `rubbish`: 200 with an HTML page.
    Rubbish,
    /// `empty`: 200 with no body.
    Empty,
    /// `truncate`: `content-length` counts the whole body, half of it is sent.
    Truncate,
}

/// One request's faults; the default is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Fault {
    pub(super) before_head: Option<BeforeHead>,
    /// `retry-after=TEXT`, sent as given with an error status.
    pub(super) retry_after: Option<String>,
    /// `latency=D`, instead of the option.
    pub(super) latency: Option<Duration>,
    /// `chunk-delay=D`, instead of the option.
    pub(super) chunk_delay: Option<Duration>,
    /// How the body breaks, and after how many events (half of the bytes for a JSON body).
    pub(super) breaks: Option<(BreakKind, u32)>,
    pub(super) body: Option<BodyFault>,
    /// `tokens=N`: length of the answer.
    pub(super) tokens: Option<u32>,
    /// `size=BYTES`: an oversized, otherwise valid answer.
    pub(super) size: Option<u32>,
    /// `finish=length` or `finish=content_filter`.
    pub(super) finish: Option<&'static str>,
    /// `times=N`: only the first N requests with the same conversation suffer.
    pub(super) times: Option<u32>,
    /// `split`: every event in two TCP writes, inside a UTF-8 sequence where there is one.
    pub(super) split: bool,
    /// `crlf`: events framed with CRLF.
    pub(super) crlf: bool,
    /// `comments`: a comment line before every event.
    pub(super) comments: bool,
    /// `no-final-blank`: the last event lacks its blank line.
    pub(super) no_final_blank: bool,
    /// `no-done`: the stream ends without `[DONE]`.
    pub(super) no_done: bool,
    /// `no-finish`: no choice ever gets a `finish_reason`.
    pub(super) no_finish: bool,
    /// `no-choices`: an answer with `choices: []`.
    pub(super) no_choices: bool,
    /// `no-usage`: usage is never reported.
    pub(super) no_usage: bool,
    /// `azure`: a first event with no choices and `prompt_filter_results`.
    pub(super) azure: bool,
    /// `usage-every-chunk`: running usage on every event.
    pub(super) usage_every_chunk: bool,
}

impl Fault {
    /// Reads a list of directives.
    ///
    /// # Errors
    /// The first directive that is not known or whose value cannot be read.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut fault = Self::default();
        for directive in text.split([';', ',', '+', ' ']).filter(|part| !part.is_empty()) {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            fault.set(name, value).ok_or_else(|| format!("unknown fault `{directive}`"))?;
        }
        Ok(fault)
    }

    fn set(&mut self, name: &str, value: &str) -> Option<()> {
        let count = || value.parse::<u32>().ok();
        match name {
            "status" => self.before_head = Some(BeforeHead::Status(status(value)?)),
            "reset" => self.before_head = Some(BeforeHead::Reset),
            "close" => self.before_head = Some(BeforeHead::Close),
            "hang" => self.before_head = Some(BeforeHead::Hang),
            "retry-after" => self.retry_after = Some(value.to_owned()),
            "latency" => self.latency = Some(parse_duration(value).ok()?),
            "chunk-delay" => self.chunk_delay = Some(parse_duration(value).ok()?),
            "cut" => self.breaks = Some((BreakKind::Cut, count()?)),
            "reset-after" => self.breaks = Some((BreakKind::Reset, count()?)),
            "stall" => self.breaks = Some((BreakKind::Stall, count()?)),
            "error-event" => self.breaks = Some((BreakKind::ErrorEvent, count()?)),
            "rubbish" => self.body = Some(BodyFault::Rubbish),
            "empty" => self.body = Some(BodyFault::Empty),
            "truncate" => self.body = Some(BodyFault::Truncate),
            "tokens" => self.tokens = Some(count()?),
            "size" => self.size = Some(count()?),
            "finish" => self.finish = Some(finish(value)?),
            "times" => self.times = Some(count()?),
            _ => return self.set_switch(name),
        }
        Some(())
    }

    fn set_switch(&mut self, name: &str) -> Option<()> {
        let switch = match name {
            "split" => &mut self.split,
            "crlf" => &mut self.crlf,
            "comments" => &mut self.comments,
            "no-final-blank" => &mut self.no_final_blank,
            "no-done" => &mut self.no_done,
            "no-finish" => &mut self.no_finish,
            "no-choices" => &mut self.no_choices,
            "no-usage" => &mut self.no_usage,
            "azure" => &mut self.azure,
            "usage-every-chunk" => &mut self.usage_every_chunk,
            _ => return None,
        };
        *switch = true;
        Some(())
    }
}

fn status(value: &str) -> Option<u16> {
    value.parse().ok().filter(|status| (400..=599).contains(status))
}

fn finish(value: &str) -> Option<&'static str> {
    ["stop", "length", "content_filter"].into_iter().find(|known| *known == value)
}

/// Rules from a TOML file: the first that matches a request gives its fault.
#[derive(Debug, Default)]
pub(super) struct Script(Vec<Rule>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScriptFile {
    #[serde(default)]
    rule: Vec<RuleText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    path: Option<String>,
    model: Option<String>,
    prompt: Option<String>,
    #[serde(default)]
    skip: u64,
    times: Option<u64>,
    fault: String,
}

#[derive(Debug)]
struct Rule {
    path: Option<String>,
    model: Option<String>,
    prompt: Option<String>,
    skip: u64,
    times: Option<u64>,
    fault: Fault,
    seen: AtomicU64,
}

/// What a rule looks at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    pub(super) path: &'a str,
    pub(super) model: &'a str,
    pub(super) prompt: &'a str,
}

impl Script {
    /// Reads the text of a script file.
    ///
    /// # Errors
    /// What is wrong with it, for a person to read.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let file: ScriptFile = toml::from_str(text).map_err(|error| error.to_string())?;
        let rules = file.rule.into_iter().map(Rule::from_text).collect::<Result<_, _>>()?;
        Ok(Self(rules))
    }

    /// The fault for this request, if a rule fits. Counts the request for that rule.
    pub(super) fn fault_for(&self, subject: Subject<'_>) -> Option<Fault> {
        self.0.iter().filter(|rule| rule.matches(subject)).find_map(Rule::take)
    }
}

impl Rule {
    fn from_text(text: RuleText) -> Result<Self, String> {
        Ok(Self {
            fault: Fault::parse(&text.fault)?,
            path: text.path,
            model: text.model,
            prompt: text.prompt,
            skip: text.skip,
            times: text.times,
            seen: AtomicU64::new(0),
        })
    }

    fn matches(&self, subject: Subject<'_>) -> bool {
        let fits = |pattern: &Option<String>, text: &str| match pattern.as_deref() {
            None => true,
            Some(pattern) => pattern.strip_suffix('*').map_or(pattern == text, |start| text.starts_with(start)),
        };
        fits(&self.path, subject.path)
            && fits(&self.model, subject.model)
            && self.prompt.as_deref().is_none_or(|part| subject.prompt.contains(part))
    }

    fn take(&self) -> Option<Fault> {
        let before = self.seen.fetch_add(1, Ordering::Relaxed);
        let due = before.checked_sub(self.skip)?;
        self.times.is_none_or(|times| due < times).then(|| self.fault.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_are_read_whatever_separates_them() {
        let fault = Fault::parse("status=429+retry-after=2;latency=5ms, crlf").unwrap();
        assert_eq!(fault.before_head, Some(BeforeHead::Status(429)));
        assert_eq!(fault.retry_after.as_deref(), Some("2"));
        assert_eq!(fault.latency, Some(Duration::from_millis(5)));
        assert!(fault.crlf);
        assert_eq!(Fault::parse("").unwrap(), Fault::default());
    }

    #[test]
    fn a_misspelt_fault_is_refused() {
        for bad in ["statsu=500", "status=200", "cut=x", "finish=maybe"] {
            assert!(Fault::parse(bad).is_err(), "{bad}");
        }
        assert!(Script::parse("[[rule]]\nfault = \"hangs\"").is_err());
        assert!(Script::parse("[[rule]]\nfault = \"hang\"\nmodle = \"x\"").is_err());
    }

    #[test]
    fn every_directive_in_the_help_text_is_known() {
        let words = FAULT_HELP.lines().skip(1).flat_map(|line| [line.get(2..22), line.get(49..69)]).flatten();
        let words: Vec<&str> = words.map(str::trim).collect();
        assert_eq!(words.len(), 28);
        for word in words {
            assert_ne!(Fault::parse(word).unwrap(), Fault::default(), "{word}");
        }
    }

    #[test]
    fn a_rule_fires_after_its_skips_and_only_so_many_times() {
        let text = "[[rule]]\nmodel = \"gpt-4o*\"\nprompt = \"order\"\nskip = 1\ntimes = 2\nfault = \"status=503\"";
        let script = Script::parse(text).unwrap();
        let fitting = Subject { path: "/v1/chat/completions", model: "gpt-4o-mini", prompt: "my order" };
        let fired: Vec<bool> = (0..5).map(|_| script.fault_for(fitting).is_some()).collect();
        assert_eq!(fired, [false, true, true, false, false]);
        assert!(script.fault_for(Subject { model: "other", ..fitting }).is_none());
        assert!(script.fault_for(Subject { prompt: "hello", ..fitting }).is_none());
    }
}
