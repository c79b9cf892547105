//! A database that is killed at any moment: what was committed is there again. Tests only.
