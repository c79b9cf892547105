//! From evidence to a probability, and from labels to better weights.
//!
//! Logistic regression: P = 1 / (1 + exp(−w·x)). A tenant starts with the weights that ship with the program for this
//! encoder and moves away from them as its own labels come in: the fit maximises the posterior under a Gaussian prior whose
//! mean is the shipped weights (MacKay 1992), by Newton's method, known here as iteratively reweighted least squares.
//!
//! Pure. It must never return weights that are not finite.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::evidence::{INPUT_NAMES, INPUTS, Inputs};

/// One weight for each input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights(pub [f64; INPUTS]);

/// What is known of one candidate: what it looked like, and whether its answer was the right one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// The numbers.
    pub inputs: Inputs,
    /// Whether the answer was right.
    pub right: bool,
}

/// A file of weights, as `remora replay --fit` writes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightsFile {
    /// Embedding space that the cosines came from.
    pub space: String,
    /// Weight by name of the input.
    pub weights: BTreeMap<String, f64>,
    /// Where they come from: files with digests, counts, seed, date, command.
    pub provenance: serde_json::Value,
}

/// A file of weights that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// It cannot be read.
    #[error("{path}: {source}; give a file that `remora replay --fit` has written")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is not a file of weights.
    #[error("{path}: {problem}; write it anew with `remora replay --fit`")]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

const SHIPPED: &str = include_str!("weights.json");

/// Steps of Newton's method; it has converged after five or six.
const STEPS: usize = 12;
/// Bound of w·x: beyond it the probability is 0 or 1 to the last digit.
const STEEPEST: f64 = 30.0;

impl Weights {
    /// The weights that come with the program, if it has any for this embedding space.
    pub fn shipped(space: &str) -> Option<Self> {
        let file: WeightsFile = serde_json::from_str(SHIPPED).ok()?;
        (model_of(&file.space) == model_of(space)).then(|| Self::of_file(&file).ok()).flatten()
    }

    /// Weights for an encoder that nobody has fitted any for: nearness, lead and common words count, carefully.
    pub const fn unfitted() -> Self {
        Self([1.0, 4.0, 2.0, 5.0, 2.0, -0.5, 0.0, 1.0, 1.0, 1.0, -2.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    }

    /// Reads a file of weights.
    ///
    /// # Errors
    /// It cannot be read, or is none, or is for another embedding space.
    pub fn load(path: &Path, space: &str) -> Result<Self, WeightsError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| WeightsError::Read { path: path.to_path_buf(), source })?;
        let wrong = |problem: String| WeightsError::Form { path: path.to_path_buf(), problem };
        let file: WeightsFile = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if model_of(&file.space) != model_of(space) {
            return Err(wrong(format!("the weights are for {}, and the embedder is {space}", file.space)));
        }
        Self::of_file(&file).map_err(wrong)
    }

    fn of_file(file: &WeightsFile) -> Result<Self, String> {
        let mut weights = [0.0; INPUTS];
        for (weight, name) in weights.iter_mut().zip(INPUT_NAMES) {
            *weight = *file.weights.get(name).ok_or_else(|| format!("the weight `{name}` is missing"))?;
        }
        let unknown = file.weights.keys().find(|name| !INPUT_NAMES.contains(&name.as_str()));
        match unknown {
            Some(name) => Err(format!("`{name}` is no weight; there are {}", INPUT_NAMES.join(", "))),
            None if weights.iter().all(|w: &f64| w.is_finite()) => Ok(Self(weights)),
            None => Err("a weight is not finite".to_owned()),
        }
    }

    /// The weights by name.
    pub fn named(&self) -> BTreeMap<String, f64> {
        INPUT_NAMES.iter().map(|name| (*name).to_owned()).zip(self.0).collect()
    }

    /// The same weights with the whole level moved: a negative `by` trusts every candidate less.
    #[must_use]
    pub fn shifted(mut self, by: f64) -> Self {
        if let Some(level) = self.0.first_mut() {
            *level += by;
        }
        self
    }

    /// Probability that the candidate's answer is right.
    pub fn probability(&self, inputs: &Inputs) -> f32 {
        let z = self.0.iter().zip(inputs).map(|(w, x)| w * f64::from(*x)).sum::<f64>();
        #[expect(clippy::cast_possible_truncation, reason = "a number within 0..=1")]
        (sigmoid(z) as f32)
    }

    /// The weights that explain the observations best, held to these by a Gaussian prior of the given `precision` (the
    /// inverse of its variance, in weights): the higher, the more observations it takes to move away.
    #[must_use]
    pub fn fit(&self, observations: &[Observation], precision: f64) -> Self {
        let mut weights = *self;
        for _ in 0..STEPS {
            let mut gradient = [0.0; INPUTS];
            let mut curvature = [[0.0; INPUTS]; INPUTS];
            for ((g, w), prior) in gradient.iter_mut().zip(weights.0).zip(self.0) {
                *g = -precision * (w - prior);
            }
            for (i, row) in curvature.iter_mut().enumerate() {
                if let Some(cell) = row.get_mut(i) {
                    *cell = precision;
                }
            }
            for observation in observations {
                let x = observation.inputs.map(f64::from);
                let p = sigmoid(weights.0.iter().zip(x).map(|(w, x)| w * x).sum());
                let (error, spread) = (f64::from(u8::from(observation.right)) - p, p * (1.0 - p));
                for ((g, row), xi) in gradient.iter_mut().zip(&mut curvature).zip(x) {
                    *g += error * xi;
                    for (cell, xj) in row.iter_mut().zip(x) {
                        *cell += spread * xi * xj;
                    }
                }
            }
            let Some(step) = solve(curvature, gradient) else { return *self };
            let longest = step.iter().fold(0.0_f64, |most, s| most.max(s.abs()));
            // A step that is too long overshoots where the likelihood is flat; a shorter one in the same direction does not.
            let scale = if longest > 4.0 { 4.0 / longest } else { 1.0 };
            for (w, s) in weights.0.iter_mut().zip(step) {
                *w += scale * s;
            }
            if longest < 1e-6 {
                break;
            }
        }
        if weights.0.iter().all(|w| w.is_finite()) { weights } else { *self }
    }
}

/// A space is named `model@revision/dimensions`. A new revision of how texts are read keeps the model's geometry.
fn model_of(space: &str) -> &str {
    space.split('@').next().unwrap_or(space)
}

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z.clamp(-STEEPEST, STEEPEST)).exp())
}

/// Solves `a·x = b` for a symmetric positive definite `a`, by Cholesky's method. Nothing if it is not positive definite.
#[expect(clippy::indexing_slicing, reason = "indices below INPUTS into arrays of that length")]
fn solve(a: [[f64; INPUTS]; INPUTS], b: [f64; INPUTS]) -> Option<[f64; INPUTS]> {
    let mut l = [[0.0; INPUTS]; INPUTS];
    for i in 0..INPUTS {
        for j in 0..=i {
            let sum: f64 = (0..j).map(|k| l[i][k] * l[j][k]).sum();
            let left = a[i][j] - sum;
            if i == j {
                if left <= 0.0 || !left.is_finite() {
                    return None;
                }
                l[i][i] = left.sqrt();
            } else {
                l[i][j] = left / l[j][j];
            }
        }
    }
    let mut y = [0.0; INPUTS];
    for i in 0..INPUTS {
        let sum: f64 = (0..i).map(|k| l[i][k] * y[k]).sum();
        y[i] = (b[i] - sum) / l[i][i];
    }
    let mut x = [0.0; INPUTS];
    for i in (0..INPUTS).rev() {
        let sum: f64 = (i + 1..INPUTS).map(|k| l[k][i] * x[k]).sum();
        x[i] = (y[i] - sum) / l[i][i];
    }
    Some(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Observations drawn from known weights.
    fn drawn(truth: &Weights, count: usize, seed: u64) -> Vec<Observation> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let draw = |_| {
            let mut inputs = [0.0; INPUTS];
            inputs.iter_mut().for_each(|x| *x = rng.f32() * 2.0 - 1.0);
            inputs[0] = 1.0;
            let right = rng.f32() < truth.probability(&inputs);
            Observation { inputs, right }
        };
        (0..count).map(draw).collect()
    }

    #[test]
    fn a_fit_finds_the_weights_that_made_the_labels() {
        let mut truth = Weights([0.0; INPUTS]);
        truth.0[..4].copy_from_slice(&[0.5, 2.0, -1.5, 3.0]);
        let seen = drawn(&truth, 20_000, 5);
        let found = Weights([0.0; INPUTS]).fit(&seen, 0.01);
        let worst = found.0.iter().zip(truth.0).map(|(f, t)| (f - t).abs()).fold(0.0, f64::max);
        assert!(worst < 0.15, "{worst}: {found:?}");
    }

    #[test]
    fn few_labels_hardly_move_a_prior_and_none_do_not() {
        let prior = Weights::unfitted();
        assert_eq!(prior.fit(&[], 2.0), prior);
        let contrary: Vec<Observation> =
            drawn(&prior, 3, 1).into_iter().map(|o| Observation { right: !o.right, ..o }).collect();
        let held = prior.fit(&contrary, 100.0);
        let moved = prior.fit(&contrary, 0.1);
        let distance = |w: &Weights| w.0.iter().zip(prior.0).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
        assert!(distance(&held) < 0.1 && distance(&held) < distance(&moved) / 10.0);
    }

    #[test]
    fn labels_that_a_line_separates_give_finite_weights() {
        let mut seen = drawn(&Weights::unfitted(), 500, 9);
        seen.iter_mut().for_each(|o| o.right = o.inputs[1] > 0.0);
        let found = Weights([0.0; INPUTS]).fit(&seen, 0.001);
        assert!(found.0.iter().all(|w| w.is_finite()) && found.0[1] > 10.0);
    }

    #[test]
    fn the_shipped_weights_are_for_the_built_in_model_only() {
        let space = crate::embed::Space::builtin().to_string();
        let shipped = Weights::shipped(&space).unwrap();
        assert_eq!(Weights::shipped("text-embedding-3-small@1/1536"), None);
        assert!(shipped.0[1] > 0.0 && shipped.0[3] > 0.0, "nearness and lead speak for a candidate: {shipped:?}");
    }

    #[test]
    fn a_file_of_weights_is_read_back_and_a_bad_one_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.json");
        let file = WeightsFile {
            space: "m@1/3".to_owned(),
            weights: Weights::unfitted().named(),
            provenance: serde_json::json!({ "rows": 1 }),
        };
        std::fs::write(&path, serde_json::to_string(&file).unwrap()).unwrap();
        assert_eq!(Weights::load(&path, "m@2/3").unwrap(), Weights::unfitted());
        let told = Weights::load(&path, "other@1/3").unwrap_err().to_string();
        assert!(told.contains("for m@1/3") && told.contains("other@1/3"), "{told}");
        let mut short = file;
        short.weights.remove("margin");
        std::fs::write(&path, serde_json::to_string(&short).unwrap()).unwrap();
        assert!(Weights::load(&path, "m@1/3").unwrap_err().to_string().contains("`margin` is missing"));
        std::fs::write(&path, "{").unwrap();
        assert!(Weights::load(&path, "m@1/3").unwrap_err().to_string().contains("EOF"));
        assert!(Weights::load(&folder.path().join("none"), "m@1/3").unwrap_err().to_string().contains("none"));
    }
}
