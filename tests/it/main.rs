//! Everything that is tested from outside: one binary, a module for each behaviour.

#[cfg(test)]
mod arrows;
