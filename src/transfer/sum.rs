//! A digest of many rows that does not depend on their order.
//!
//! The sum of the hashes of all rows in four lanes of 64 bits: unlike with XOR, a row that is there twice does not vanish.
//! It tells accidents, not attacks.

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    /// Rows.
    pub(super) rows: u64,
    lanes: [u64; 4],
}

impl Sum {
    /// Adds a row by its hash.
    pub(super) fn add(&mut self, digest: &[u8; 32]) {
        self.rows += 1;
        for (lane, part) in self.lanes.iter_mut().zip(digest.chunks_exact(8)) {
            *lane = lane.wrapping_add(<[u8; 8]>::try_from(part).map_or(0, u64::from_le_bytes));
        }
    }

    /// 64 hexadecimal digits.
    pub(super) fn hex(&self) -> String {
        self.lanes.iter().map(|lane| format!("{:016x}", lane.swap_bytes())).collect()
    }
}
