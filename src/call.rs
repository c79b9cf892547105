//! One normalised request.
