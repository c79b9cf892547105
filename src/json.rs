//! Strict JSON reading with limits and byte positions.
