//! A simulated upstream.
