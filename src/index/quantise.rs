//! How a unit vector is kept: two int8 planes instead of f32.
//!
//! value = scale · (coarse + fine / 254). The *coarse* plane alone ranks candidates (an int8 inner product, see `simd`);
//! both together carry 16 bits a component and give the cosine that is returned, summed in f32. That is 2 bytes a
//! component where int8 beside f32 would be 5; the cosine differs from that of the f32 originals by less than
//! 0.00002 (the test below states it), three orders below what any decision looks at.
//!
//! Each vector has its own scale (its largest component is 127). One scale for the whole space would save four bytes
//! and a multiplication, but must either clip or leave most of the range unused: components of a unit vector of
//! dimension d lie near 1/√d while their limit is 1.
//!
//! The scale also makes up for a length that is not quite 1, so that what is returned is a cosine and not an inner product.

use super::{IndexError, simd};

/// How far from 1 the length of a vector may be.
const NORM_TOLERANCE: f64 = 1e-3;

/// Steps of the fine plane in one step of the coarse plane: residuals lie within half a step, ±127 of these.
const FINE_STEPS: f32 = 254.0;

/// A quantised unit vector.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) scale: f32,
    pub(super) coarse: Vec<i8>,
    pub(super) fine: Vec<i8>,
}

impl Row {
    /// Refuses what is not a unit vector of `dim` finite components.
    pub(super) fn new(vector: &[f32], dim: usize) -> Result<Self, IndexError> {
        let norm = norm_of_unit(vector, dim)?;
        let largest = vector.iter().fold(0.0_f32, |max, v| max.max(v.abs()));
        let step = largest / 127.0;
        let (coarse, fine) = vector.iter().map(|v| split(v / step)).unzip();
        Ok(Self { scale: step / norm, coarse, fine })
    }
}

/// A vector to search for: the original for the cosine, and its quantised form for the ranking.
pub(super) struct Query {
    pub(super) row: Row,
    unit: Vec<f32>,
}

impl Query {
    /// Refuses what is not a unit vector of `dim` finite components.
    pub(super) fn new(vector: &[f32], dim: usize) -> Result<Self, IndexError> {
        let norm = norm_of_unit(vector, dim)?;
        Ok(Self { row: Row::new(vector, dim)?, unit: vector.iter().map(|v| v / norm).collect() })
    }

    /// The approximate cosine, from the coarse planes alone.
    #[inline]
    pub(super) fn rank(&self, scale: f32, coarse: &[i8]) -> f32 {
        coarse_cosine(self.row.scale, &self.row.coarse, scale, coarse)
    }

    /// The cosine, within -1..=1.
    pub(super) fn cosine(&self, scale: f32, coarse: &[i8], fine: &[i8]) -> f32 {
        const LANES: usize = 8;
        let term = |q: f32, c: i8, f: i8| q * (f32::from(c) * FINE_STEPS + f32::from(f));
        let (q_blocks, q_rest) = self.unit.as_chunks::<LANES>();
        let (c_blocks, c_rest) = coarse.as_chunks::<LANES>();
        let (f_blocks, f_rest) = fine.as_chunks::<LANES>();
        // Independent sums, because the compiler may not reorder one long f32 sum and so could not vectorise it.
        let mut sums = [0.0_f32; LANES];
        for ((q, c), f) in q_blocks.iter().zip(c_blocks).zip(f_blocks) {
            for (((sum, q), c), f) in sums.iter_mut().zip(q).zip(c).zip(f) {
                *sum += term(*q, *c, *f);
            }
        }
        let rest: f32 = q_rest.iter().zip(c_rest).zip(f_rest).map(|((q, c), f)| term(*q, *c, *f)).sum();
        ((sums.iter().sum::<f32>() + rest) * (scale / FINE_STEPS)).clamp(-1.0, 1.0)
    }
}

/// The approximate cosine of two quantised vectors, from their coarse planes.
#[inline]
#[expect(clippy::cast_precision_loss, reason = "an inner product of a few thousand int8 pairs needs about 24 bits")]
pub(super) fn coarse_cosine(a_scale: f32, a: &[i8], b_scale: f32, b: &[i8]) -> f32 {
    simd::dot(a, b) as f32 * (a_scale * b_scale)
}

/// Splits a value, in coarse steps, into coarse and fine.
#[expect(clippy::cast_possible_truncation, reason = "both are clamped to the range of an i8 first")]
fn split(steps: f32) -> (i8, i8) {
    let coarse = steps.round().clamp(-127.0, 127.0);
    let fine = ((steps - coarse) * FINE_STEPS).round().clamp(-127.0, 127.0);
    (coarse as i8, fine as i8)
}

fn norm_of_unit(vector: &[f32], dim: usize) -> Result<f32, IndexError> {
    if vector.len() != dim {
        return Err(IndexError::Dimension { expected: dim, found: vector.len() });
    }
    if !vector.iter().all(|v| v.is_finite()) {
        return Err(IndexError::NotFinite);
    }
    let norm = vector.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
    if (norm - 1.0).abs() > NORM_TOLERANCE {
        return Err(IndexError::NotUnit);
    }
    #[expect(clippy::cast_possible_truncation, reason = "a number near 1")]
    Ok(norm as f32)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Points, dot_f64};
    use super::*;

    #[test]
    fn the_cosine_from_two_planes_is_that_of_the_originals() {
        let points = Points::clustered(1, 300, 384);
        let mut worst = 0.0_f64;
        for pair in points.vectors.windows(2) {
            let (a, b) = (&pair[0], &pair[1]);
            let row = Row::new(b, 384).unwrap();
            let query = Query::new(a, 384).unwrap();
            let found = f64::from(query.cosine(row.scale, &row.coarse, &row.fine));
            worst = worst.max((found - dot_f64(a, b)).abs());
        }
        assert!(worst < 2e-5, "worst error of a cosine: {worst:e}");
    }

    #[test]
    fn a_length_within_the_tolerance_does_not_change_the_cosine() {
        let long: Vec<f32> = [0.6, 0.8].iter().map(|v| v * 1.0009).collect();
        let row = Row::new(&long, 2).unwrap();
        let query = Query::new(&[0.8, 0.6], 2).unwrap();
        let found = query.cosine(row.scale, &row.coarse, &row.fine);
        assert!((found - 0.96).abs() < 2e-5, "{found}");
    }

    #[test]
    fn vectors_that_are_not_unit_vectors_are_refused_by_name() {
        assert_eq!(Row::new(&[1.0, 0.0], 3), Err(IndexError::Dimension { expected: 3, found: 2 }));
        assert_eq!(Row::new(&[f32::NAN, 1.0], 2), Err(IndexError::NotFinite));
        assert_eq!(Row::new(&[f32::INFINITY, 1.0], 2), Err(IndexError::NotFinite));
        assert_eq!(Row::new(&[0.0, 0.0], 2), Err(IndexError::NotUnit));
        assert_eq!(Row::new(&[1.0, 0.1], 2), Err(IndexError::NotUnit));
        assert_eq!(Row::new(&[f32::MAX, f32::MAX], 2), Err(IndexError::NotUnit));
        assert_eq!(Row::new(&[], 0), Err(IndexError::NotUnit));
    }
}
