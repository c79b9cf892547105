//! The front door from outside: raw bytes in, what the service saw and what came back out.
