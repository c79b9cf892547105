//! Listeners: accept loop, TLS, strict HTTP checks, drain.
