//! Simulated embeddings: unit vectors drawn from a hash of model and text. Equal texts have equal vectors; any other two are
//! nearly orthogonal, so they say nothing about meaning.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::error::ApiError;
use super::request::EmbeddingRequest;
use super::tokens;
use super::wire::to_json;

/// Most inputs in one request, as with OpenAI.
const MAX_INPUTS: usize = 2048;

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Item>,
    model: &'a str,
    usage: EmbeddingUsage,
}

#[derive(Serialize)]
struct Item {
    object: &'static str,
    index: usize,
    embedding: Vector,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Vector {
    Float(Vec<f32>),
    Base64(String),
}

#[derive(Serialize)]
struct EmbeddingUsage {
    prompt_tokens: u32,
    total_tokens: u32,
}

/// The response body.
///
/// # Errors
/// 400 for an empty input, too many inputs, an unknown format, or more dimensions than the model has.
pub(super) fn body(request: &EmbeddingRequest<'_>) -> Result<Vec<u8>, ApiError> {
    let inputs = request.inputs()?;
    if inputs.len() > MAX_INPUTS {
        return Err(ApiError::bad_request(Some("input"), format!("at most {MAX_INPUTS} inputs")));
    }
    let dimensions = dimensions(request)?;
    let as_base64 = match request.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => return Err(ApiError::bad_request(Some("encoding_format"), "must be float or base64")),
    };
    let item = |(index, text): (usize, &std::borrow::Cow<'_, str>)| {
        let vector = vector(&request.model, text, dimensions);
        let embedding = if as_base64 { Vector::Base64(base64(&vector)) } else { Vector::Float(vector) };
        Item { object: "embedding", index, embedding }
    };
    let prompt_tokens = inputs.iter().map(|text| tokens::count(text)).sum();
    Ok(to_json(&List {
        object: "list",
        data: inputs.iter().enumerate().map(item).collect(),
        model: &request.model,
        usage: EmbeddingUsage { prompt_tokens, total_tokens: prompt_tokens },
    }))
}

fn dimensions(request: &EmbeddingRequest<'_>) -> Result<usize, ApiError> {
    let native = if request.model.contains("-large") { 3072 } else { 1536 };
    match request.dimensions {
        None => Ok(native as usize),
        Some(asked) if (1..=native).contains(&asked) => Ok(asked as usize),
        Some(_) => Err(ApiError::bad_request(Some("dimensions"), format!("dimensions must be 1 to {native}"))),
    }
}

/// A vector of length 1, the same for the same model and text.
fn vector(model: &str, text: &str, dimensions: usize) -> Vec<f32> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(model.as_bytes()).update(&[0]).update(text.as_bytes());
    let mut bytes = vec![0; dimensions * 2];
    hasher.finalize_xof().fill(&mut bytes);
    let drawn = bytes.as_chunks::<2>().0.iter().map(|pair| f32::from(i16::from_le_bytes(*pair)) + 0.5);
    let mut vector: Vec<f32> = drawn.collect();
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.iter_mut().for_each(|x| *x /= length);
    vector
}

fn base64(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn embed(rest: &str) -> Result<Value, ApiError> {
        let text = format!(r#"{{"model":"text-embedding-3-small",{rest}}}"#);
        body(&EmbeddingRequest::parse(text.as_bytes())?).map(|bytes| serde_json::from_slice(&bytes).unwrap())
    }

    fn floats(value: &Value) -> Vec<f32> {
        serde_json::from_value(value["embedding"].clone()).unwrap()
    }

    #[test]
    fn vectors_have_length_one_and_depend_on_the_text_only() {
        let all = embed(r#""input":["a","b","a"]"#).unwrap();
        let [a, b, again] = [0, 1, 2].map(|i| floats(&all["data"][i]));
        assert_eq!(a.len(), 1536);
        assert!((a.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-4);
        assert_eq!(a, again);
        assert_ne!(a, b);
        assert_eq!(all["usage"]["total_tokens"], 3);
    }

    #[test]
    fn base64_holds_the_same_numbers() {
        let float = floats(&embed(r#""input":"a","dimensions":8"#).unwrap()["data"][0]);
        let text = embed(r#""input":"a","dimensions":8,"encoding_format":"base64""#).unwrap();
        let bytes = STANDARD.decode(text["data"][0]["embedding"].as_str().unwrap()).unwrap();
        let decoded: Vec<f32> = bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        assert_eq!(decoded, float);
    }

    #[test]
    fn impossible_requests_are_refused() {
        for bad in [r#""input":[]"#, r#""input":"a","dimensions":4000"#, r#""input":"a","encoding_format":"hex""#] {
            assert_eq!(embed(bad).unwrap_err().status, 400, "{bad}");
        }
    }
}
