//! What a learner knows, as text that survives a restart.
//!
//! JSON with all real numbers packed as base64 of their bytes, so that not a bit is lost: 4,000 labels are 410 KB. A state that was learnt
//! in another embedding space, or with other inputs, is worth nothing and is refused; the learner then begins anew.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use serde::{Deserialize, Serialize};

use super::evidence::{INPUT_NAMES, INPUTS};
use super::learner::{AUDITS, LABELS, Learner, Stage, WINDOW};
use super::weights::{Observation, Weights};

/// Bytes of a packed observation: its inputs and whether it was right.
const PACKED: usize = INPUTS * 4 + 1;

/// A saved state that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadState {
    /// It is not what this program writes.
    #[error("the saved state of a learner cannot be read: {0}")]
    Form(String),
    /// It was learnt on other numbers.
    #[error("the saved state of a learner is for {found}, and not for {expected}")]
    Other {
        /// What it says.
        found: String,
        /// What was asked for.
        expected: String,
    },
}

/// See the module.
#[derive(Debug, Serialize, Deserialize)]
pub struct Saved {
    space: String,
    inputs: Vec<String>,
    /// The weights, the scale and the threshold.
    numbers: String,
    stage: String,
    seen: u64,
    labelled: u64,
    since_fit: u32,
    since_turn: (u64, u64),
    window: String,
    labels: String,
    audits: String,
}

impl Learner {
    /// The state as text.
    pub fn save(&self, space: &str) -> String {
        let window: Vec<u8> =
            self.window.iter().flat_map(|(p, served)| p.to_le_bytes().into_iter().chain([u8::from(*served)])).collect();
        let saved = Saved {
            space: space.to_owned(),
            inputs: INPUT_NAMES.iter().map(|name| (*name).to_owned()).collect(),
            numbers: BASE64.encode(
                self.weights
                    .0
                    .into_iter()
                    .chain([self.scale, self.theta.into()])
                    .flat_map(f64::to_le_bytes)
                    .collect::<Vec<u8>>(),
            ),
            stage: self.stage.as_str().to_owned(),
            seen: self.seen,
            labelled: self.labelled,
            since_fit: self.since_fit,
            since_turn: self.since_turn,
            window: BASE64.encode(window),
            labels: pack(self.labels.iter()),
            audits: pack(self.audits.iter()),
        };
        // A struct of numbers and texts always serialises.
        serde_json::to_string(&saved).unwrap_or_default()
    }

    /// The learner that [`Self::save`] has written.
    ///
    /// # Errors
    /// The text is damaged, or the state was learnt in another embedding space or from other inputs.
    pub fn restore(text: &str, space: &str, prior: Option<Weights>) -> Result<Self, BadState> {
        let form = |problem: &dyn ToString| BadState::Form(problem.to_string());
        let saved: Saved = serde_json::from_str(text).map_err(|error| form(&error))?;
        if saved.space != space {
            return Err(BadState::Other { found: saved.space, expected: space.to_owned() });
        }
        if saved.inputs != INPUT_NAMES {
            return Err(BadState::Other { found: saved.inputs.join(" "), expected: INPUT_NAMES.join(" ") });
        }
        let stage = Stage::ALL.into_iter().find(|stage| stage.as_str() == saved.stage);
        let window = BASE64.decode(&saved.window).map_err(|error| form(&error))?;
        let (entries, rest) = window.as_chunks::<5>();
        let numbers = BASE64.decode(&saved.numbers).map_err(|error| form(&error))?;
        let numbers: Vec<f64> = numbers.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
        let damaged = || form(&"it is damaged");
        let (weights, [scale, theta]) = numbers.split_last_chunk::<2>().ok_or_else(damaged)?;
        let weights = <[f64; INPUTS]>::try_from(weights).map_err(|_| damaged())?;
        if !rest.is_empty() || !scale.is_finite() || theta.is_nan() || weights.iter().any(|w| !w.is_finite()) {
            return Err(damaged());
        }
        let mut learner = Self::new(prior);
        learner.weights = Weights(weights);
        learner.stage = stage.ok_or_else(|| form(&format!("there is no stage {}", saved.stage)))?;
        #[expect(clippy::cast_possible_truncation, reason = "it was an f32")]
        {
            learner.theta = *theta as f32;
        }
        learner.scale = *scale;
        (learner.seen, learner.labelled) = (saved.seen, saved.labelled);
        (learner.since_fit, learner.since_turn) = (saved.since_fit, saved.since_turn);
        let entry = |[a, b, c, d, served]: &[u8; 5]| (f32::from_le_bytes([*a, *b, *c, *d]), *served != 0);
        learner.window = entries.iter().map(entry).take(WINDOW).collect();
        learner.labels = unpack(&saved.labels).map_err(|error| form(&error))?.into_iter().take(LABELS).collect();
        learner.audits = unpack(&saved.audits).map_err(|error| form(&error))?.into_iter().take(AUDITS).collect();
        Ok(learner)
    }
}

fn pack<'a>(observations: impl Iterator<Item = &'a Observation>) -> String {
    let mut bytes = Vec::new();
    for observation in observations {
        bytes.extend(observation.inputs.iter().flat_map(|x| x.to_le_bytes()));
        bytes.push(u8::from(observation.right));
    }
    BASE64.encode(bytes)
}

fn unpack(text: &str) -> Result<Vec<Observation>, String> {
    let bytes = BASE64.decode(text).map_err(|error| error.to_string())?;
    let (rows, rest) = bytes.as_chunks::<PACKED>();
    if !rest.is_empty() {
        return Err("a list of labels has been cut".to_owned());
    }
    let row = |row: &[u8; PACKED]| {
        let mut inputs = [0.0; INPUTS];
        let (numbers, right) = row.as_chunks::<4>();
        for (input, number) in inputs.iter_mut().zip(numbers) {
            *input = f32::from_le_bytes(*number);
        }
        Observation { inputs, right: right.first().is_some_and(|r| *r != 0) }
    };
    let rows: Vec<Observation> = rows.iter().map(row).collect();
    if rows.iter().any(|row| row.inputs.iter().any(|x| !x.is_finite())) {
        return Err("a label is not finite".to_owned());
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::super::learner::Source;
    use super::*;

    #[test]
    fn a_state_is_read_back_as_it_was_and_goes_on_the_same() {
        let prior = Some(Weights::unfitted());
        let mut learner = Learner::new(prior);
        let mut rng = fastrand::Rng::with_seed(3);
        for n in 0..700_u32 {
            let mut inputs = [0.0; INPUTS];
            inputs.iter_mut().for_each(|x| *x = rng.f32());
            let source = if n % 9 == 0 { Source::Audit } else { Source::Miss };
            let (fit, _) = learner.label(Observation { inputs, right: rng.f32() < 0.8 }, source, 0.01);
            learner.note(None, 0.01);
            if fit {
                let weights = learner.lesson().fit();
                learner.learnt(weights);
            }
        }
        let text = learner.save("m@1/3");
        let mut again = Learner::restore(&text, "m@1/3", prior).unwrap();
        assert_eq!(again, learner);
        assert_eq!(again.lesson().fit(), learner.lesson().fit());
    }

    #[test]
    fn a_state_that_does_not_fit_is_refused() {
        let text = Learner::new(None).save("m@1/3");
        assert!(matches!(Learner::restore(&text, "m@2/3", None), Err(BadState::Other { .. })));
        assert!(matches!(Learner::restore(&text[1..], "m@1/3", None), Err(BadState::Form(_))));
        assert!(matches!(Learner::restore(&text.replace("cold", "hot"), "m@1/3", None), Err(BadState::Form(_))));
        let cut = text.replace("\"labels\":\"\"", "\"labels\":\"AAAA\"");
        assert!(matches!(Learner::restore(&cut, "m@1/3", None), Err(BadState::Form(_))));
        let other = text.replace("margin", "gap");
        assert!(matches!(Learner::restore(&other, "m@1/3", None), Err(BadState::Other { .. })));
    }
}
