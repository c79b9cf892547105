//! The effective configuration as TOML, for `remora check --print`. Secrets come out as `***`.
//!
//! Every struct is taken apart field by field, so that a new field does not compile until it is printed.

mod tenants;

use std::fmt::{Display, Write as _};
use std::path::Path;
use std::time::Duration;

use super::model::*;
use super::units::{show_duration, show_size};
use super::{
    Alerts, Email, LogFormat, RateSettings, Rem, Savings, Seal, Secret, Telemetry, UnknownPrice, Webhook, WebhookFormat,
};

impl Config {
    /// The configuration as it runs, defaults and overrides included, as TOML. Without secrets in it, the text can be
    /// loaded again and gives the same configuration.
    pub fn render(&self) -> String {
        let Self {
            server,
            admin,
            rem,
            store,
            redis,
            limits,
            embedding,
            cache,
            upstream,
            prices,
            savings,
            alerts,
            tenants,
            telemetry,
        } = self;
        let mut out = Out(String::new());
        out.server(server);
        out.admin(admin);
        out.rem(rem);
        out.store(store);
        out.redis(redis.as_ref());
        out.rates(limits);
        out.embedding(embedding);
        out.cache(cache);
        out.upstream(upstream);
        out.prices(prices);
        out.savings(savings);
        out.alerts(alerts);
        out.telemetry(telemetry);
        for tenant in tenants {
            out.tenant(tenant);
        }
        out.0
    }
}

/// The text so far.
struct Out(String);

impl Out {
    fn server(&mut self, server: &Server) {
        let Server { listen, tls, passthrough, drain, limits, deadlines } = server;
        self.head("[server]");
        self.text("listen", listen);
        self.raw("passthrough", passthrough);
        self.duration("drain", *drain);
        self.tls("[server.tls]", tls.as_ref());
        self.limits(limits);
        self.deadlines(deadlines);
    }

    fn limits(&mut self, limits: &Limits) {
        let Limits {
            connections,
            connections_per_ip,
            h2_streams,
            head_bytes,
            headers,
            uri_bytes,
            body_bytes,
            json_depth,
            json_keys,
            json_array,
            json_string,
            messages,
            tools,
            choices,
            stop,
            response_bytes,
            sse_line_bytes,
            sse_event_bytes,
        } = limits;
        self.head("[server.limits]");
        self.raw("connections", connections);
        self.raw("connections_per_ip", connections_per_ip);
        self.raw("h2_streams", h2_streams);
        self.bytes("head_bytes", *head_bytes);
        self.raw("headers", headers);
        self.bytes("uri_bytes", *uri_bytes);
        self.bytes("body_bytes", *body_bytes);
        self.raw("json_depth", json_depth);
        self.raw("json_keys", json_keys);
        self.raw("json_array", json_array);
        self.bytes("json_string", *json_string);
        self.raw("messages", messages);
        self.raw("tools", tools);
        self.raw("choices", choices);
        self.raw("stop", stop);
        self.bytes("response_bytes", *response_bytes);
        self.bytes("sse_line_bytes", *sse_line_bytes);
        self.bytes("sse_event_bytes", *sse_event_bytes);
    }

    fn deadlines(&mut self, deadlines: &Deadlines) {
        let Deadlines { tls, head, body_idle, body, keep_alive, write_stall } = deadlines;
        self.head("[server.deadlines]");
        self.duration("tls", *tls);
        self.duration("head", *head);
        self.duration("body_idle", *body_idle);
        self.duration("body", *body);
        self.duration("keep_alive", *keep_alive);
        self.duration("write_stall", *write_stall);
    }

    fn admin(&mut self, admin: &Admin) {
        let Admin { listen, tls, token } = admin;
        self.head("[admin]");
        self.text("listen", listen);
        self.secret("token", token.as_ref());
        self.tls("[admin.tls]", tls.as_ref());
    }

    fn rem(&mut self, rem: &Rem) {
        let Rem { enabled, listen, tls, fill, embed, keep, deadline, sql_rows, sql_bytes, sql_time } = rem;
        self.head("[rem]");
        self.raw("enabled", enabled);
        self.text("listen", listen);
        self.raw("fill", fill);
        self.text("embed", embed.as_str());
        self.duration("keep", *keep);
        self.duration("deadline", *deadline);
        self.raw("sql_rows", sql_rows);
        self.text("sql_bytes", show_size(*sql_bytes));
        self.duration("sql_time", *sql_time);
        self.tls("[rem.tls]", tls.as_ref());
    }

    fn store(&mut self, store: &Store) {
        let Store {
            url,
            shadow,
            migrate,
            secret_file,
            flush,
            start_wait,
            blind,
            journal_dir,
            journal_bytes,
            journal_sync,
            seal,
            master_key,
            previous_master_key,
        } = store;
        self.head("[store]");
        self.text("url", url);
        self.text("shadow", shadow.as_ref().map(ToString::to_string).unwrap_or_default());
        self.text(
            "migrate",
            match migrate {
                Migrate::Auto => "auto",
                Migrate::Manual => "manual",
            },
        );
        self.text("secret_file", secret_file.as_deref().unwrap_or(Path::new("")).display());
        self.duration("flush", *flush);
        self.duration("start_wait", *start_wait);
        self.duration("blind", *blind);
        self.text("journal_dir", journal_dir.display());
        self.text("journal_bytes", show_size(*journal_bytes));
        self.text("journal_sync", if *journal_sync { "on" } else { "off" });
        self.text("seal", if *seal == Seal::All { "all" } else { "none" });
        self.list("seal_tenants", if let Seal::Tenants(names) = seal { names } else { &[] });
        for (name, key) in [("master_key", master_key), ("previous_master_key", previous_master_key)] {
            if key.is_some() {
                self.text(name, "***");
            }
        }
    }

    fn redis(&mut self, redis: Option<&Redis>) {
        self.head("[redis]");
        let Some(redis) = redis else {
            self.text("url", "");
            return;
        };
        let Redis { url, password, ca_file, cluster, deadline, in_flight, queue, exact_ttl, lease_wait } = redis;
        self.text("url", url);
        self.secret("password", password.as_ref());
        if let Some(file) = ca_file {
            self.path("ca_file", file);
        }
        self.raw("cluster", cluster);
        self.duration("deadline", *deadline);
        self.raw("in_flight", in_flight);
        self.raw("queue", queue);
        self.duration("exact_ttl", *exact_ttl);
        self.duration("lease_wait", *lease_wait);
    }

    fn embedding(&mut self, embedding: &Embedding) {
        let Embedding { kind, deadline, threads, queue, cache_entries } = embedding;
        self.head("[embedding]");
        match kind {
            EmbeddingKind::Builtin => self.text("kind", "builtin"),
            EmbeddingKind::OpenAi { url, model, api_key, dimensions } => {
                self.text("kind", "openai");
                self.text("url", url);
                self.text("model", model);
                self.secret("api_key", api_key.as_ref());
                self.raw("dimensions", dimensions);
            }
        }
        self.duration("deadline", *deadline);
        self.raw("threads", threads);
        self.raw("queue", queue);
        self.raw("cache_entries", cache_entries);
    }

    fn cache(&mut self, cache: &Cache) {
        let Cache {
            mode,
            ttl,
            similarity,
            share,
            max_temperature,
            max_entries,
            max_bytes,
            memory_bytes,
            index_bytes,
            max_entry_bytes,
            guards_off,
            hnsw_from,
            max_error_rate,
            weights_file,
            record_prompts,
            keep_decisions,
            two_writers,
            writes_per_minute,
            writer_share,
            probe_alarm,
            audit: Audit { rate, per_hour, tokens_per_day },
        } = cache;
        self.head("[cache]");
        self.text("mode", mode_name(*mode));
        self.duration("ttl", *ttl);
        self.raw("similarity", format_args!("{similarity:?}"));
        self.text("share", share_name(*share));
        self.raw("max_temperature", format_args!("{max_temperature:?}"));
        self.raw("max_entries", max_entries);
        self.text("max_bytes", show_size(*max_bytes));
        self.text("memory_bytes", show_size(*memory_bytes));
        self.text("index_bytes", show_size(*index_bytes));
        self.bytes("max_entry_bytes", *max_entry_bytes);
        self.list("guards_off", guards_off);
        self.raw("hnsw_from", hnsw_from);
        self.raw("max_error_rate", format_args!("{max_error_rate:?}"));
        if let Some(file) = weights_file {
            self.path("weights_file", file);
        }
        self.raw("record_prompts", record_prompts);
        self.duration("keep_decisions", *keep_decisions);
        self.raw("two_writers", two_writers);
        self.raw("writes_per_minute", writes_per_minute);
        self.raw("writer_share", format_args!("{writer_share:?}"));
        self.raw("probe_alarm", probe_alarm);
        self.head("[cache.audit]");
        self.raw("rate", format_args!("{rate:?}"));
        self.raw("per_hour", per_hour);
        self.raw("tokens_per_day", tokens_per_day);
    }

    fn rates(&mut self, rates: &RateSettings) {
        let RateSettings { hold, reconcile, deadline, offline_share, offline_usd, queue } = rates;
        self.head("[limits]");
        self.duration("hold", *hold);
        self.duration("reconcile", *reconcile);
        self.duration("deadline", *deadline);
        self.raw("offline_share", format_args!("{offline_share:?}"));
        self.text("offline_usd", offline_usd);
        self.raw("queue", queue);
    }

    fn upstream(&mut self, upstream: &Upstream) {
        let Upstream {
            name,
            url,
            api_key,
            ca_file,
            connect,
            first_byte_stream,
            first_byte,
            idle,
            total,
            max_in_flight,
            trace_context,
        } = upstream;
        self.head("[[upstream]]");
        self.text("name", name);
        self.text("url", url);
        self.secret("api_key", api_key.as_ref());
        if let Some(file) = ca_file {
            self.path("ca_file", file);
        }
        self.duration("connect", *connect);
        self.duration("first_byte_stream", *first_byte_stream);
        self.duration("first_byte", *first_byte);
        self.duration("idle", *idle);
        self.duration("total", *total);
        self.raw("max_in_flight", max_in_flight);
        self.raw("trace_context", trace_context);
    }

    fn savings(&mut self, savings: &Savings) {
        let Savings { target, prompt_cache_ttl, prompt_cache_from } = savings;
        self.head("[savings]");
        self.raw("target", format_args!("{target:?}"));
        self.duration("prompt_cache_ttl", *prompt_cache_ttl);
        self.raw("prompt_cache_from", prompt_cache_from);
    }

    fn prices(&mut self, prices: &Prices) {
        let Prices { file, unknown, assumed_output } = prices;
        self.head("[prices]");
        if let Some(file) = file {
            self.path("file", file);
        }
        let policy = match unknown {
            UnknownPrice::Deny => "deny",
            UnknownPrice::Allow => "allow",
            UnknownPrice::AssumeMax => "assume_max",
        };
        self.text("unknown", policy);
        self.raw("assumed_output", assumed_output);
    }

    fn alerts(&mut self, alerts: &Alerts) {
        let Alerts { webhook, slack, email, rejections, forecast, anomaly, anomaly_floor, retry, keep } = alerts;
        self.head("[alerts]");
        let format = webhook.as_ref().map_or(WebhookFormat::Remora, |webhook| webhook.format);
        self.text("webhook", webhook.as_ref().map_or("", |webhook| webhook.url.as_str()));
        self.text("webhook_format", format.as_str());
        if let Some(Webhook { url: _, format: _, secret }) = webhook {
            self.secret("webhook_secret", Some(secret));
        }
        self.secret("slack", slack.as_ref());
        self.raw("rejections", rejections.unwrap_or_default());
        self.raw("forecast", forecast);
        self.raw("anomaly", format_args!("{:?}", anomaly.unwrap_or_default()));
        self.text("anomaly_floor", anomaly_floor);
        self.duration("retry", *retry);
        self.duration("keep", *keep);
        self.head("[alerts.email]");
        let Some(Email { host, port, tls, login, from, to }) = email else {
            self.text("smtp", "");
            return;
        };
        let bracketed = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        self.text("smtp", format_args!("{bracketed}:{port}"));
        self.text("tls", tls.as_str());
        self.text("user", login.as_ref().map_or("", |(user, _)| user.as_str()));
        self.secret("password", login.as_ref().map(|(_, password)| password));
        self.text("from", from);
        self.list("to", to);
    }

    fn telemetry(&mut self, telemetry: &Telemetry) {
        let Telemetry { log, format, models, otlp, otlp_headers, trace_ratio, trace_queue } = telemetry;
        self.head("[telemetry]");
        self.text("log", log);
        self.text(
            "format",
            match format {
                LogFormat::Text => "text",
                LogFormat::Json => "json",
            },
        );
        self.list("models", models);
        self.text("otlp", otlp.as_deref().unwrap_or_default());
        self.secret("otlp_headers", otlp_headers.first().map(|(_, secret)| secret));
        self.raw("trace_ratio", format_args!("{trace_ratio:?}"));
        self.raw("trace_queue", trace_queue);
    }

    fn tls(&mut self, head: &str, tls: Option<&Tls>) {
        if let Some(Tls { cert, key }) = tls {
            self.head(head);
            self.path("cert", cert);
            self.path("key", key);
        }
    }

    fn head(&mut self, head: &str) {
        let gap = if self.0.is_empty() { "" } else { "\n" };
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(self.0, "{gap}{head}");
    }

    fn raw(&mut self, key: &str, value: impl Display) {
        let _ = writeln!(self.0, "{key} = {value}");
    }

    fn text(&mut self, key: &str, value: impl Display) {
        self.raw(key, toml::Value::String(value.to_string()));
    }

    fn path(&mut self, key: &str, value: &Path) {
        self.text(key, value.display());
    }

    fn duration(&mut self, key: &str, value: Duration) {
        self.text(key, show_duration(value));
    }

    fn bytes(&mut self, key: &str, value: usize) {
        self.text(key, show_size(u64::try_from(value).unwrap_or(u64::MAX)));
    }

    fn list(&mut self, key: &str, values: &[String]) {
        self.raw(key, toml::Value::Array(values.iter().cloned().map(toml::Value::String).collect()));
    }

    fn secret(&mut self, key: &str, secret: Option<&Secret>) {
        if secret.is_some() {
            self.text(key, "***");
        }
    }
}

fn mode_name(mode: CacheMode) -> &'static str {
    match mode {
        CacheMode::Off => "off",
        CacheMode::Exact => "exact",
        CacheMode::Shadow => "shadow",
        CacheMode::Semantic => "semantic",
    }
}

fn share_name(share: Share) -> &'static str {
    match share {
        Share::Key => "key",
        Share::Tenant => "tenant",
        Share::User => "user",
    }
}
