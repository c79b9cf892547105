//! How sure one may be of a share that was counted on a sample.
//!
//! Used wherever the program reports how often the cache is wrong. Pure.

/// A share and the interval it lies in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Counted share, 0 if nothing was counted.
    pub share: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end; 1 if nothing was counted.
    pub high: f64,
}

/// Normal quantile of a two-sided 95 % interval.
pub const Z95: f64 = 1.959_964;
/// The same at 99 %.
pub const Z99: f64 = 2.575_829;

impl Interval {
    /// Wilson's score interval for `hits` of `of` (E. B. Wilson, JASA 22, 1927). Unlike the textbook interval it stays
    /// within 0..=1 and means something when nothing, or everything, was hit.
    pub fn wilson(hits: u64, of: u64, z: f64) -> Self {
        if of == 0 {
            return Self { share: 0.0, low: 0.0, high: 1.0 };
        }
        let (n, share) = (of as f64, hits as f64 / of as f64);
        let centre = share + z * z / (2.0 * n);
        let spread = z * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
        let scale = 1.0 + z * z / n;
        Self { share, low: ((centre - spread) / scale).max(0.0), high: ((centre + spread) / scale).min(1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_intervals() {
        // Worked out apart from this code.
        let rows = [
            (0, 0, 0.0, 1.0),
            (0, 10, 0.0, 0.277_533),
            (10, 10, 0.722_467, 1.0),
            (5, 10, 0.236_593, 0.763_407),
            (3, 200, 0.005_115, 0.043_167),
        ];
        for (hits, of, low, high) in rows {
            let found = Interval::wilson(hits, of, Z95);
            assert!((found.low - low).abs() < 1e-4 && (found.high - high).abs() < 1e-4, "{hits}/{of}: {found:?}");
        }
    }
}
