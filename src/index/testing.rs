//! Made-up prompts: seeded unit vectors shaped like those of a sentence encoder. Shared by the tests and the bench.
//!
//! Sentences lie in clusters (paraphrases, about twenty to a cluster, cosine near 0.8 to each other) in a space of far
//! fewer directions than the vectors have components. Independent random vectors would be easier for a scan and harder for a graph
//! than anything a cache sees.

/// Directions in which the centres of clusters differ.
const LATENT: usize = 32;
/// Points of a cluster.
const PER_CLUSTER: usize = 20;

/// Vectors of length 1.
pub(crate) struct Points {
    pub(crate) vectors: Vec<Vec<f32>>,
}

impl Points {
    /// `count` vectors of `dim` components; neighbours in the list belong to different clusters.
    pub(crate) fn clustered(seed: u64, count: usize, dim: usize) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let basis: Vec<Vec<f32>> = (0..LATENT).map(|_| gaussian(&mut rng, dim)).collect();
        let clusters = (count / PER_CLUSTER).max(1);
        let centres: Vec<Vec<f32>> = (0..clusters).map(|_| gaussian(&mut rng, LATENT)).collect();
        let vectors = centres.iter().cycle().take(count).map(|centre| around(&mut rng, centre, &basis, dim)).collect();
        Self { vectors }
    }
}

fn around(rng: &mut fastrand::Rng, centre: &[f32], basis: &[Vec<f32>], dim: usize) -> Vec<f32> {
    let mut vector: Vec<f32> = gaussian(rng, dim).iter().map(|noise| noise * 1.7).collect();
    let wander = gaussian(rng, LATENT);
    for ((at, off), direction) in centre.iter().zip(&wander).zip(basis) {
        for (sum, part) in vector.iter_mut().zip(direction) {
            *sum += (at + 0.35 * off) * part;
        }
    }
    unit(vector)
}

/// The vector brought to length 1.
pub(crate) fn unit(vector: Vec<f32>) -> Vec<f32> {
    let norm = vector.iter().map(|v| v * v).sum::<f32>().sqrt();
    vector.into_iter().map(|v| v / norm).collect()
}

/// The inner product, without rounding that matters.
pub(crate) fn dot_f64(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
}

/// Normally distributed numbers (Box and Muller).
fn gaussian(rng: &mut fastrand::Rng, count: usize) -> Vec<f32> {
    let one = |rng: &mut fastrand::Rng| {
        let radius = (-2.0 * (1.0 - rng.f32()).ln()).sqrt();
        radius * (std::f32::consts::TAU * rng.f32()).cos()
    };
    (0..count).map(|_| one(rng)).collect()
}
