//! Lists of embeddings, taken apart and put together again.
//!
//! Embeddings are cached one by one: the answer for a list of inputs is split into items, and a later answer is joined
//! from stored and fresh ones. Invariants: the text of a vector (numbers or base64) is never re-encoded; items stand in the
//! order of the inputs. It must never build a tree of a list: two thousand vectors are three million numbers.

use bytes::Bytes;
use memchr::memchr_iter;

use super::members::{Member, array, get, object, push_string, string, unsigned, without};
use super::replay::BadBody;
use super::usage::Usage;
use super::verdict::{Finish, Finished, NotStorable};

/// A list of embeddings, taken apart.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddingList {
    /// One JSON object per input, in the order of the inputs, without its `index` member. What is stored.
    pub items: Vec<Bytes>,
    /// Model named by the answer; empty if it named none.
    pub model: String,
    /// What upstream said was used.
    pub usage: Option<Usage>,
}

/// Takes a list of embeddings apart.
///
/// # Errors
/// If the answer may not be stored: an error, an item missing, vectors of different or no length.
pub fn split(body: &[u8]) -> Result<EmbeddingList, NotStorable> {
    let text = std::str::from_utf8(body).map_err(|_| NotStorable::InvalidJson)?;
    let members = object(text).ok_or(NotStorable::InvalidJson)?;
    if get(&members, "error").is_some_and(|error| error != "null") {
        return Err(NotStorable::ErrorMember);
    }
    let items = get(&members, "data").and_then(array).filter(|items| !items.is_empty()).ok_or(NotStorable::Empty)?;
    let mut places = vec![None; items.len()];
    let mut length = None;
    for (position, item) in items.into_iter().enumerate() {
        let fields = object(item).ok_or(NotStorable::InvalidJson)?;
        let index = get(&fields, "index").map_or(Some(position as u64), unsigned);
        let index = index.and_then(|index| usize::try_from(index).ok());
        let place = index.and_then(|index| places.get_mut(index)).ok_or(NotStorable::ChoiceMissing)?;
        let item_length = vector_length(&fields).ok_or(NotStorable::Embedding)?;
        if *length.get_or_insert(item_length) != item_length {
            return Err(NotStorable::Embedding);
        }
        let stored = without(item, &fields, "index").ok_or(NotStorable::InvalidJson)?;
        if place.replace(Bytes::from(stored)).is_some() {
            return Err(NotStorable::ChoiceMissing);
        }
    }
    let items = places.into_iter().collect::<Option<Vec<_>>>().ok_or(NotStorable::ChoiceMissing)?;
    let model = get(&members, "model").and_then(string).unwrap_or_default().into_owned();
    Ok(EmbeddingList { items, model, usage: get(&members, "usage").and_then(Usage::from_text) })
}

/// One answer from `items` in the order of the inputs (as from [`split`], fresh or stored). `prompt_tokens` is what the
/// answer is to show as used.
///
/// # Errors
/// If an item is not a JSON object as [`split`] makes them; nothing else of it is checked.
pub fn join(model: &str, items: &[Bytes], prompt_tokens: u64) -> Result<Bytes, BadBody> {
    let mut out = Vec::with_capacity(128 + items.iter().map(|item| item.len() + 20).sum::<usize>());
    out.extend_from_slice(br#"{"object":"list","data":["#);
    for (index, item) in items.iter().enumerate() {
        let members = item.strip_prefix(b"{").filter(|members| members.len() > 1).ok_or(BadBody)?;
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(format!("{{\"index\":{index},").as_bytes());
        out.extend_from_slice(members);
    }
    out.extend_from_slice(br#"],"model":"#);
    push_string(&mut out, model);
    let usage = format!(r#","usage":{{"prompt_tokens":{prompt_tokens},"total_tokens":{prompt_tokens}}}}}"#);
    out.extend_from_slice(usage.as_bytes());
    Ok(out.into())
}

/// [`super::inspect_whole`] for this dialect.
pub(super) fn inspect(body: &Bytes) -> Finished {
    let list = split(body);
    // Usage counts also where the vectors are of no use.
    let members = || object(std::str::from_utf8(body).ok()?);
    let usage = || Usage::from_text(get(&members()?, "usage")?);
    let (usage, model, choices, verdict) = match list {
        Ok(list) => (list.usage, Some(list.model), list.items.len(), Ok(Finish::None)),
        Err(reason) => (usage(), None, 0, Err(reason)),
    };
    let completion = verdict.is_ok().then(|| body.clone());
    Finished { completion, usage, model, output_bytes: 0, choices, verdict }
}

/// Length of an item's vector: numbers in the array, or characters of base64.
fn vector_length(item: &[Member<'_>]) -> Option<usize> {
    let vector = get(item, "embedding")?;
    let (numbers, inner) = match vector.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => (true, inner),
        None => (false, vector.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'))?),
    };
    let allowed = |byte: u8| {
        if numbers {
            byte.is_ascii_digit() || b"+-.eE, \t\r\n".contains(&byte)
        } else {
            byte.is_ascii_alphanumeric() || b"+/=\\".contains(&byte)
        }
    };
    if inner.trim_ascii().is_empty() || !inner.bytes().all(allowed) {
        return None;
    }
    let slashes = memchr_iter(b'\\', inner.as_bytes()).count();
    Some(if numbers { memchr_iter(b',', inner.as_bytes()).count() + 1 } else { inner.len() - slashes })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"{"object":"list","data":[
        {"object":"embedding","index":1,"embedding":[0.10, -2e-3]},
        {"object":"embedding","embedding":[1,2.500],"index":0,"extra":null}
    ],"model":"text-embedding-3-small","usage":{"prompt_tokens":8,"total_tokens":8}}"#;

    #[test]
    fn items_are_sorted_by_index_and_keep_their_number_text() {
        let list = split(LIST.as_bytes()).unwrap();
        assert_eq!(list.items[0], r#"{"object":"embedding","embedding":[1,2.500],"extra":null}"#);
        assert_eq!(list.items[1], r#"{"object":"embedding","embedding":[0.10, -2e-3]}"#);
        assert_eq!((list.model.as_str(), list.usage.unwrap().prompt), ("text-embedding-3-small", 8));
    }

    #[test]
    fn stored_and_fresh_items_join_in_any_order() {
        let mut items = split(LIST.as_bytes()).unwrap().items;
        items.reverse();
        let joined = join("m\"", &items, 5).unwrap();
        let expected = concat!(
            r#"{"object":"list","data":[{"index":0,"object":"embedding","embedding":[0.10, -2e-3]},"#,
            r#"{"index":1,"object":"embedding","embedding":[1,2.500],"extra":null}],"model":"m\"","#,
            r#""usage":{"prompt_tokens":5,"total_tokens":5}}"#
        );
        assert_eq!(joined, expected);
        assert_eq!(split(&joined).unwrap().items, items);
        assert_eq!(join("m", &[Bytes::from_static(b"1")], 0), Err(BadBody));
    }

    #[test]
    fn base64_vectors_are_kept_as_they_are() {
        let body = r#"{"data":[{"index":0,"embedding":"zczMPQAA\/8A="},{"index":1,"embedding":"zczMPQAAwMA="}]}"#;
        let list = split(body.as_bytes()).unwrap();
        assert_eq!(list.items[0], r#"{"embedding":"zczMPQAA\/8A="}"#);
        assert_eq!(list.items.len(), 2);
    }

    #[test]
    fn a_list_with_a_hole_an_odd_vector_or_an_error_is_not_storable() {
        let verdict = |body: &str| split(body.as_bytes()).unwrap_err();
        assert_eq!(verdict(r#"{"data":[{"index":1,"embedding":[1]}]}"#), NotStorable::ChoiceMissing);
        assert_eq!(
            verdict(r#"{"data":[{"index":0,"embedding":[1]},{"index":0,"embedding":[1]}]}"#),
            NotStorable::ChoiceMissing
        );
        assert_eq!(
            verdict(r#"{"data":[{"index":0,"embedding":[1]},{"index":1,"embedding":[1,2]}]}"#),
            NotStorable::Embedding
        );
        for vector in ["[]", "null", "\"\"", "[[1]]", "[null]", "{}", "\"a b\""] {
            let body = format!(r#"{{"data":[{{"index":0,"embedding":{vector}}}]}}"#);
            assert_eq!(verdict(&body), NotStorable::Embedding, "{vector}");
        }
        assert_eq!(verdict(r#"{"data":[]}"#), NotStorable::Empty);
        assert_eq!(verdict(r#"{"error":{"message":"no"}}"#), NotStorable::ErrorMember);
        assert_eq!(verdict(r#"{"data":"#), NotStorable::InvalidJson);
    }

    #[test]
    fn inspection_tells_usage_even_where_the_vectors_are_of_no_use() {
        let body = Bytes::from_static(br#"{"data":[],"usage":{"prompt_tokens":3,"total_tokens":3}}"#);
        let finished = inspect(&body);
        assert_eq!(finished.verdict, Err(NotStorable::Empty));
        assert_eq!(finished.usage.map(|usage| usage.prompt), Some(3));
        let finished = inspect(&Bytes::from_static(LIST.as_bytes())).expecting(3);
        assert_eq!((finished.verdict, finished.completion), (Err(NotStorable::ChoiceMissing), None));
    }
}
