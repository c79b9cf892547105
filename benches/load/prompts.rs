//! Requests as bytes, and the prompts in them.

/// What a request asks of the cache, in headers. Empty: whatever the configuration allows.
pub(crate) const EXACT: &str = "x-remora-cache: exact\r\n";
/// Looks up but stores nothing: an answer that lives for no time.
pub(crate) const EXACT_UNSTORED: &str = "x-remora-cache: exact\r\nx-remora-ttl: 0\r\n";
/// Neither looks up nor stores.
pub(crate) const BYPASS: &str = "cache-control: no-store\r\n";

const VERBS: [&str; 12] =
    ["clean", "repair", "choose", "store", "paint", "sell", "insure", "move", "measure", "replace", "polish", "rent"];
const THINGS: [&str; 50] = [
    "a leather sofa",
    "an old piano",
    "a mountain bike",
    "a wooden table",
    "a wool carpet",
    "a kitchen knife",
    "a garden shed",
    "a sailing boat",
    "a camping tent",
    "a steel bathtub",
    "a bedroom mirror",
    "a brass lamp",
    "a coffee machine",
    "a sewing machine",
    "a laser printer",
    "a swimming pool",
    "a motorcycle helmet",
    "a violin bow",
    "a fishing rod",
    "a marble floor",
    "a glass door",
    "a velvet curtain",
    "a stone wall",
    "a tin roof",
    "a copper pan",
    "a cotton mattress",
    "a silk scarf",
    "a chess set",
    "a fish tank",
    "a bird cage",
    "a dog kennel",
    "a horse saddle",
    "a snow shovel",
    "a chain saw",
    "a ceiling fan",
    "a gas heater",
    "an electric kettle",
    "a pocket watch",
    "a diamond ring",
    "a pearl necklace",
    "a picture frame",
    "a bronze statue",
    "a porcelain vase",
    "a bamboo fence",
    "a rubber raft",
    "a concrete path",
    "a cast iron stove",
    "a film camera",
    "a record player",
    "a telescope lens",
];
/// Ways to ask the same. The first is the one that is stored.
const FORMS: [&str; 4] = ["How do I", "How can I", "How should I", "How could I"];

/// Number of different prompts that [`paraphrase`] has for each way to ask.
pub(crate) const TOPICS: usize = VERBS.len() * THINGS.len();

/// Number of ways to ask that are not stored.
pub(crate) const VARIANTS: usize = FORMS.len() - 1;

/// Prompt `topic` in its stored form (0) or another one. Each is a text of its own, so each costs an inference.
pub(crate) fn paraphrase(topic: usize, form: usize) -> String {
    let pick = |list: &[&'static str], at: usize| list.get(at % list.len()).copied().unwrap_or_default();
    let (verb, thing) = (pick(&VERBS, topic / THINGS.len()), pick(&THINGS, topic));
    format!("{} {verb} {thing} at home without spending much money?", pick(&FORMS, form))
}

/// A prompt of about fifty bytes that no other number has.
pub(crate) fn numbered(number: usize) -> String {
    format!("Tell me about item {number:08} of the catalogue, please.")
}

/// A chat request.
pub(crate) fn chat(prompt: &str, headers: &str, stream: bool) -> Vec<u8> {
    let stream = if stream { r#""stream":true,"# } else { "" };
    let body = format!(r#"{{"model":"gpt-4o-mini",{stream}"messages":[{{"role":"user","content":"{prompt}"}}]}}"#);
    let length = body.len();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: benchmark\r\nauthorization: Bearer sk-benchmark-0123456789\r\n\
         accept: */*\r\nuser-agent: remora-load\r\ncontent-type: application/json\r\n{headers}\
         content-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}
