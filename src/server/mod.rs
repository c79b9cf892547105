//! The front door: what stands between a TCP socket and the first line of our own code.
//!
//! Both listeners (data plane and admin plane) are a [`Listener`]. A request passes, in this order:
//! connection caps → TLS handshake → HTTP/1 or HTTP/2 → strict check of the head → [`Request`](http::Request) with a
//! [`RequestBody`] → the service → the answer, and the connection is idle again or closed.
//!
//! What holds here, whatever a client sends:
//!
//! - Every wait has a deadline: handshake, first byte, head, body, idle connection, client that does not read.
//! - hyper never sees an HTTP/1 head that two programs could read in two ways; such a head is refused and the
//!   connection closed after the answers that are due before it.
//! - One request cannot end another: a panic is a 500 of that request, a bad certificate file keeps the old one,
//!   a failing `accept` is tried again.
//! - After [`Shutdown::trigger`] nothing new is taken in, and everything is over at the deadline.
//!
//! What this module must never do: read the text of a body, know a route, or know a tenant.

mod accept;
mod body;
mod caps;
mod connection;
mod exchange;
mod guard;
mod listener;
mod paced;
mod reply;
mod shutdown;
mod stats;
mod streams;
mod strict;
mod tally;
mod tls;

#[cfg(test)]
mod tests;

pub use body::{BodyError, RequestBody};
pub use exchange::{ConnInfo, ErrorBody, openai_error_body};
pub use listener::{BindError, Listener};
pub use reply::ReplyBody;
pub use shutdown::{DrainReport, Shutdown};
pub use stats::Stats;
pub use strict::Refusal;
pub use tls::TlsError;
