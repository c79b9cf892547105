//! The curve of vCache: the probability that an entry's answer is right, as a sigmoid of the similarity, fitted to what
//! was observed of that entry; and quantiles of the normal distribution.
//!
//! Pure functions. A fit that has no finite maximum (all right ones above all wrong ones) ends at a steep curve between
//! the two, never in an infinity.

/// Whether the answer was right at this similarity.
pub(super) type Observation = (f64, bool);

/// P(right | s) = 1 / (1 + exp(−γ·(s − t))).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Curve {
    /// Where it passes one half, 0–1.
    pub(super) t: f64,
    /// Steepness, above 0.
    pub(super) gamma: f64,
    /// Variance of the estimate of `t`.
    pub(super) variance: f64,
}

const STEPS: usize = 200;
/// The mean gradient at which a fit is done.
const TOLERANCE: f64 = 1e-8;
const LEAST_GAMMA: f64 = 1e-6;

pub(super) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

impl Curve {
    /// Maximum likelihood by Newton's method with halved steps. `None` without both a right and a wrong observation.
    pub(super) fn fit(observations: &[Observation]) -> Option<Self> {
        let of = |wanted: bool| observations.iter().filter(move |(_, right)| *right == wanted).map(|(s, _)| *s);
        let lowest_right = of(true).reduce(f64::min)?;
        let highest_wrong = of(false).reduce(f64::max)?;
        let (intercept, slope) = maximise(observations);
        let gamma = slope.max(LEAST_GAMMA);
        let t = (-intercept / gamma).clamp(0.0, 1.0);
        let variance = if lowest_right > highest_wrong {
            separated(observations.len())
        } else {
            delta_method(observations, intercept, gamma).unwrap_or(1.0)
        };
        Some(Self { t, gamma, variance })
    }
}

/// Intercept and slope of the logistic regression of right on similarity.
fn maximise(observations: &[Observation]) -> (f64, f64) {
    let n = observations.len() as f64;
    let loss = |b: (f64, f64)| -> f64 {
        let of = |(s, right): &Observation| {
            let x = b.0 + b.1 * s;
            // log(1 + e^±x) without overflow.
            let x = if *right { -x } else { x };
            x.max(0.0) + (-x.abs()).exp().ln_1p()
        };
        observations.iter().map(of).sum()
    };
    let mut b = (0.0, 0.0);
    let mut best = loss(b);
    for _ in 0..STEPS {
        let mut gradient = (0.0, 0.0);
        for (s, right) in observations {
            let residual = sigmoid(b.0 + b.1 * s) - f64::from(u8::from(*right));
            gradient = (gradient.0 + residual, gradient.1 + residual * s);
        }
        if gradient.0.abs().max(gradient.1.abs()) / n <= TOLERANCE {
            break;
        }
        let (h00, h01, h11) = information(observations, b.0, b.1);
        let determinant = h00 * h11 - h01 * h01;
        if !(determinant > 0.0 && determinant.is_finite()) {
            break;
        }
        let step =
            ((h11 * gradient.0 - h01 * gradient.1) / determinant, (h00 * gradient.1 - h01 * gradient.0) / determinant);
        let Some(next) =
            (0..30).map(|k| 0.5_f64.powi(k)).map(|k| (b.0 - k * step.0, b.1 - k * step.1)).find(|b| loss(*b) < best)
        else {
            break;
        };
        (b, best) = (next, loss(next));
    }
    b
}

/// The Fisher information of intercept and slope: (00, 01, 11).
fn information(observations: &[Observation], intercept: f64, slope: f64) -> (f64, f64, f64) {
    observations.iter().fold((0.0, 0.0, 0.0), |(h00, h01, h11), (s, _)| {
        let p = sigmoid(intercept + slope * s);
        let weight = p * (1.0 - p);
        (h00 + weight, h01 + weight * s, h11 + weight * s * s)
    })
}

/// Variance of t = −intercept / γ by the delta method.
fn delta_method(observations: &[Observation], intercept: f64, gamma: f64) -> Option<f64> {
    let (h00, h01, h11) = information(observations, intercept, gamma);
    let determinant = h00 * h11 - h01 * h01;
    let (g0, g1) = (-1.0 / gamma, intercept / (gamma * gamma));
    let variance = (g0 * g0 * h11 - 2.0 * g0 * g1 * h01 + g1 * g1 * h00) / determinant;
    (determinant > 0.0 && variance.is_finite()).then_some(variance.max(0.0))
}

/// Variance of t where a gap parts the right from the wrong among `n` observations. The information is then 0 and the
/// delta method says nothing; the paper gives no formula, and the authors' program a table by n from a simulation. Here:
/// the mean square distance of t from the edge of the gap it lies in, if the observations fall anywhere in 0–1. That gap
/// is Beta(2, n) wide, so the mean of its square is 6/((n+2)(n+3)), and t is uniform in it, which takes a third.
fn separated(n: usize) -> f64 {
    let n = n as f64;
    2.0 / ((n + 2.0) * (n + 3.0))
}

/// The quantile of the standard normal distribution, 0 < p < 1: algorithm AS 241, PPND7 (Wichura 1988, Applied
/// Statistics 37:477), good to about seven digits.
pub(super) fn normal_quantile(p: f64) -> f64 {
    let polynomial = |coefficients: &[f64], x: f64| coefficients.iter().rev().fold(0.0, |sum, c| sum * x + c);
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        let r = 0.180_625 - q * q;
        return q * polynomial(&[3.387_132_717_9, 50.434_271_938, 159.291_132_02, 59.109_374_720], r)
            / polynomial(&[1.0, 17.895_169_469, 78.757_757_664, 67.187_563_600], r);
    }
    let r = (-p.min(1.0 - p).ln()).sqrt();
    let size = if r <= 5.0 {
        let r = r - 1.6;
        polynomial(&[1.423_437_277_7, 2.756_815_390_0, 1.306_728_481_6, 0.170_238_211_03], r)
            / polynomial(&[1.0, 0.737_001_642_50, 0.120_211_329_75], r)
    } else {
        let r = r - 5.0;
        polynomial(&[6.657_905_115_0, 3.081_226_386_0, 0.428_682_943_37, 0.017_337_203_997], r)
            / polynomial(&[1.0, 0.241_978_942_25, 0.012_258_202_635], r)
    };
    size.copysign(q)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        let rows = [
            (0.5, 0.0),
            (0.975, 1.959_964),
            (0.025, -1.959_964),
            (0.8, 0.841_621),
            (0.001, -3.090_232),
            (1e-6, -4.753_424),
            (1e-15, -7.941_345),
        ];
        for (p, z) in rows {
            assert!((normal_quantile(p) - z).abs() < 2e-6, "{p}: {}", normal_quantile(p));
        }
    }

    #[test]
    fn a_fit_finds_the_maximum_that_can_be_computed_by_hand() {
        // Two similarities with 1 of 4 and 3 of 4 right: the curve passes both proportions exactly, so
        // γ·(0.6 − t) = −ln 3 and γ·(0.8 − t) = ln 3.
        let at = |s: f64, right: usize| (0..4).map(move |i| (s, i < right));
        let observations: Vec<_> = at(0.6, 1).chain(at(0.8, 3)).collect();
        let curve = Curve::fit(&observations).unwrap();
        assert!((curve.t - 0.7).abs() < 1e-6 && (curve.gamma - 10.0 * 3f64.ln()).abs() < 1e-5, "{curve:?}");
        // By symmetry t̂ has the variance of the intercept at the centre over γ²: 1 / (8 · 3/16) / γ².
        let variance = 1.0 / (8.0 * 3.0 / 16.0) / curve.gamma.powi(2);
        assert!((curve.variance - variance).abs() < 1e-8, "{} {variance}", curve.variance);
    }

    #[test]
    fn where_a_gap_parts_them_the_curve_is_steep_inside_it() {
        let curve = Curve::fit(&[(0.0, false), (0.7, false), (0.9, true), (1.0, true)]).unwrap();
        assert!(curve.t > 0.75 && curve.t < 0.85 && curve.gamma > 100.0, "{curve:?}");
        assert!((curve.variance - 2.0 / 42.0).abs() < 1e-12);
        let wide = Curve::fit(&[(0.0, false), (0.9, true), (0.92, true), (0.95, true), (1.0, true)]).unwrap();
        assert!((wide.variance - 2.0 / 56.0).abs() < 1e-12);
        assert!(wide.gamma.is_finite() && wide.t > 0.3 && wide.t < 0.6, "{wide:?}");
    }

    #[test]
    fn a_curve_that_falls_is_kept_flat_and_one_sided_observations_have_none() {
        let falling =
            Curve::fit(&[(0.2, true), (0.3, true), (0.8, false), (0.9, false), (0.5, true), (0.5, false)]).unwrap();
        assert!(falling.gamma <= 1e-5 && falling.variance.is_finite());
        assert_eq!(Curve::fit(&[(0.5, true), (0.9, true)]), None);
        assert_eq!(Curve::fit(&[]), None);
    }
}
