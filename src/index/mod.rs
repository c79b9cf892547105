//! Vector indexes.
