//! What stands in the path of a request, and behind its `?`, read one by one: a mistake is told with the name of the parameter, in our
//! words.

use axum::extract::{FromRequestParts, Path, Query};
use http::request::Parts;

use super::problem::Problem;
use crate::rem::{Code, Fault};

/// The id of a row in the path. What is no text is no id, as many texts are none.
pub(super) struct Id(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Ok(Self(Path::from_request_parts(parts, state).await.map_or_else(|_| String::new(), |Path(id)| id)))
    }
}

/// The parameters of a request, as they were sent.
pub(super) struct Params(Vec<(String, String)>);

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Query(pairs) = Query::try_from_uri(&parts.uri).map_err(|_| {
            let fault = Fault::new(Code::InvalidArgument, "what stands behind the `?` cannot be read");
            Problem::from(fault.hint("write it as in ?name=value&name=value, each value percent-encoded"))
        })?;
        Ok(Self(pairs))
    }
}

impl Params {
    /// Nothing but these may be there.
    pub(super) fn known(&self, names: &[&str]) -> Result<(), Fault> {
        let Some((name, _)) = self.0.iter().find(|(name, _)| !names.contains(&name.as_str())) else { return Ok(()) };
        let fault = wrong(&short(name), format!("there is no parameter `{}` here", short(name)));
        Err(fault.hint(format!("known are: {}", names.join(", "))))
    }

    /// The text of a parameter, if it is there.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Fault> {
        let mut values = self.0.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(wrong(name, format!("{name} is there twice")).hint("give it once")),
            (value, None) => Ok(value),
        }
    }

    /// A whole number of this range.
    pub(super) fn number(&self, name: &str, least: u32, most: u32) -> Result<Option<u32>, Fault> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let number = text.parse::<u32>().ok().filter(|number| (least..=most).contains(number));
        let detail = || format!("{name} is `{}`; it must be a whole number from {least} to {most}", short(text));
        number.map(Some).ok_or_else(|| wrong(name, detail()))
    }

    /// `true` or `false`; the latter if it is not there.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Fault> {
        match self.text(name)? {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(wrong(name, format!("{name} is `{}`; it must be true or false", short(other)))),
        }
    }
}

fn wrong(name: &str, detail: String) -> Fault {
    Fault::new(Code::InvalidArgument, detail).of(name)
}

/// So much of what somebody sent as an error shows.
fn short(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(64).collect()
}
