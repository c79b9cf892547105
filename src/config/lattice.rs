//! Values that are each fine but cannot hold together.
//!
//! Deadlines nest: an outer one must exceed every deadline inside it by more than 10 %, or the outer always fires first
//! and the error names the wrong cause. Sizes nest in the same way, without the margin.

use std::net::SocketAddr;
use std::time::Duration;

use super::model::Config;
use super::problem::{Problem, ProblemKind, Problems, Source};
use super::tree::{self, Map};
use super::units::{show_duration, show_size};

/// Checks all relations. `root` is the merged tree, to say where the values were written.
pub(super) fn check(config: &Config, root: &Map, problems: &mut Problems) {
    let mut check = Check { root, problems };
    check.deadlines(config);
    check.sizes(config);
    check.listeners(config);
    check.shadow(config);
    check.admin_token(config);
}

struct Check<'a> {
    root: &'a Map,
    problems: &'a mut Problems,
}

impl Check<'_> {
    fn deadlines(&mut self, config: &Config) {
        let Config { server, rem, embedding, upstream, .. } = config;
        let (body, body_idle) = (server.deadlines.body, server.deadlines.body_idle);
        self.outlasts(("upstream[0].total", upstream.total), ("upstream[0].first_byte", upstream.first_byte));
        self.outlasts(
            ("upstream[0].total", upstream.total),
            ("upstream[0].first_byte_stream", upstream.first_byte_stream),
        );
        self.outlasts(("upstream[0].total", upstream.total), ("upstream[0].idle", upstream.idle));
        self.outlasts(("upstream[0].first_byte", upstream.first_byte), ("upstream[0].connect", upstream.connect));
        self.outlasts(
            ("upstream[0].first_byte_stream", upstream.first_byte_stream),
            ("upstream[0].connect", upstream.connect),
        );
        self.outlasts(
            ("upstream[0].first_byte_stream", upstream.first_byte_stream),
            ("embedding.deadline", embedding.deadline),
        );
        self.outlasts(("upstream[0].first_byte", upstream.first_byte), ("embedding.deadline", embedding.deadline));
        self.outlasts(("server.deadlines.body", body), ("server.deadlines.body_idle", body_idle));
        self.outlasts(("rem.deadline", rem.deadline), ("rem.sql_time", rem.sql_time));
    }

    fn sizes(&mut self, config: &Config) {
        let (limits, cache) = (&config.server.limits, &config.cache);
        let entry = ("cache.max_entry_bytes", wide(cache.max_entry_bytes));
        let event = ("server.limits.sse_event_bytes", wide(limits.sse_event_bytes));
        let response = ("server.limits.response_bytes", wide(limits.response_bytes));
        self.holds(entry, ("cache.memory_bytes", cache.memory_bytes), show_size);
        self.holds(("cache.memory_bytes", cache.memory_bytes), ("cache.max_bytes", cache.max_bytes), show_size);
        self.holds(entry, response, show_size);
        self.holds(("server.limits.sse_line_bytes", wide(limits.sse_line_bytes)), event, show_size);
        self.holds(event, response, show_size);
        let head = ("server.limits.head_bytes", wide(limits.head_bytes));
        self.holds(("server.limits.uri_bytes", wide(limits.uri_bytes)), head, show_size);
        self.holds(
            ("server.limits.connections_per_ip", wide(limits.connections_per_ip)),
            ("server.limits.connections", wide(limits.connections)),
            |count| count.to_string(),
        );
    }

    fn listeners(&mut self, config: &Config) {
        let (data, admin, rem) = (config.server.listen, config.admin.listen, config.rem.listen);
        self.apart(("admin.listen", admin), ("server.listen", data));
        if config.rem.enabled {
            self.apart(("rem.listen", rem), ("server.listen", data));
            self.apart(("rem.listen", rem), ("admin.listen", admin));
        }
    }

    fn apart(&mut self, (key, address): (&str, SocketAddr), (other, taken): (&str, SocketAddr)) {
        if taken.port() != 0 && taken.port() == address.port() && overlap(taken, address) {
            let message = format!("{address} is already taken by {other} ({taken})");
            self.report(key, other, ProblemKind::Conflict, message, "use another port".to_owned());
        }
    }

    fn shadow(&mut self, config: &Config) {
        if config.store.shadow.as_ref() == Some(&config.store.url) {
            let message = "the shadow is the store itself".to_owned();
            let fix = "name another database, or \"\" for none".to_owned();
            self.report("store.shadow", "store.url", ProblemKind::Conflict, message, fix);
        }
    }

    fn admin_token(&mut self, config: &Config) {
        let listen = config.admin.listen;
        if config.admin.token.is_none() && !listen.ip().is_loopback() {
            let message = format!("the admin plane listens on {listen}, which others can reach, and has no token");
            let fix = "name the token in admin.token_env or admin.token_file, or listen on 127.0.0.1".to_owned();
            self.report("admin.token_env", "admin.listen", ProblemKind::Missing, message, fix);
        }
    }

    fn outlasts(&mut self, (outer, long): (&str, Duration), (inner, short): (&str, Duration)) {
        if long > short.saturating_add(short / 10) {
            return;
        }
        let (long, short) = (show_duration(long), show_duration(short));
        let message = format!("{outer} ({long}) is not more than 10 % above {inner} ({short}), which it contains");
        let fix = format!("raise {outer} or lower {inner}");
        self.report(outer, inner, ProblemKind::Conflict, message, fix);
    }

    fn holds(&mut self, (inner, small): (&str, u64), (outer, large): (&str, u64), show: fn(u64) -> String) {
        if small <= large {
            return;
        }
        let message = format!("{inner} ({}) is more than {outer} ({}), which contains it", show(small), show(large));
        self.report(inner, outer, ProblemKind::Conflict, message, format!("lower {inner} or raise {outer}"));
    }

    /// Reports at `key`, and at the place where somebody last wrote either of the two. Says nothing when one of the two
    /// values is itself in doubt.
    fn report(&mut self, key: &str, other: &str, kind: ProblemKind, message: String, fix: String) {
        if self.problems.touch(key) || self.problems.touch(other) {
            return;
        }
        let written = |path| tree::find(self.root, path).map(|node| &node.source).filter(|at| **at != Source::Default);
        let source = written(key).or_else(|| written(other)).cloned().unwrap_or(Source::Default);
        self.problems.push(Problem { source, key: key.to_owned(), kind, message, fix, suggestion: None });
    }
}

/// Whether one socket would take the other's place.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified()
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
