//! `remora key`: virtual keys of tenants of a running proxy.
//!
//! A secret is printed once, when it is made, and nowhere else.

use std::str::FromStr;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};

use super::AdminAt;
use super::api::{ask, escape, list, tenant_path};
use super::cache::print_json;
use super::tenant::{key_text, keys_text};
use super::terms::LimitArgs;
use crate::config::{Right, parse_duration};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Make a key. Its secret is printed once.
    #[command(after_help = CREATE)]
    Create(Create),
    /// List the keys of a tenant, or of all.
    #[command(after_help = "Examples:\n  remora key list\n  remora key list acme")]
    List(List),
    /// Show a key.
    #[command(after_help = "Example:\n  remora key show acme/app")]
    Show(Named),
    /// Change what a key may do. What is not given stays.
    #[command(after_help = SET)]
    Set(Set),
    /// Make a new secret for a key. The old one is good for the overlap. Prints the new one once.
    #[command(after_help = ROTATE)]
    Rotate(Rotate),
    /// Refuse a key for good. All replicas obey within a second.
    #[command(after_help = "Example:\n  remora key revoke acme/app")]
    Revoke(Named),
}

const CREATE: &str = "\
Examples:
  remora key create acme/app
  remora key create acme/batch --model 'gpt-4o*' --rpm 60 --expires-in 90d
  remora key create acme/ci --quiet > ci.key";

const SET: &str = "\
Examples:
  remora key set acme/app --rpm 120 --tpm none
  remora key set acme/app --model gpt-4o-mini --model 'text-embedding-3-*' --right cache:inspect
  remora key set acme/app --disable";

const ROTATE: &str = "\
Examples:
  remora key rotate acme/app --overlap 24h
  remora key rotate acme/app --overlap 0s --expires-in 90d --quiet > app.key";

/// A key and whose it is.
#[derive(Clone)]
struct KeyName {
    tenant: String,
    key: String,
}

impl FromStr for KeyName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text.split_once('/') {
            Some((tenant, key)) if !tenant.is_empty() && !key.is_empty() => {
                Ok(Self { tenant: tenant.to_owned(), key: key.to_owned() })
            }
            _ => Err("write the tenant and the key, as in acme/app"),
        }
    }
}

impl KeyName {
    fn path(&self, rest: &str) -> String {
        tenant_path(&self.tenant, &format!("/keys/{}{rest}", escape(&self.key)))
    }
}

#[derive(Args)]
pub(super) struct Create {
    /// Tenant and name of the new key, as in acme/app.
    #[arg(value_name = "TENANT/KEY")]
    name: KeyName,
    #[command(flatten)]
    terms: Terms,
    /// How long the key is good for, as in 90d [default: for ever].
    #[arg(long, value_name = "AGE", value_parser = age)]
    expires_in: Option<String>,
    /// Serve it the answers that a key of this name has left; without it they are a reason to refuse.
    #[arg(long)]
    adopt_data: bool,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
pub(super) struct List {
    /// Only keys of this tenant.
    tenant: Option<String>,
    #[command(flatten)]
    at: AdminAt,
}

#[derive(Args)]
pub(super) struct Named {
    /// Tenant and key, as in acme/app; the key by its name or its id.
    #[arg(value_name = "TENANT/KEY")]
    name: KeyName,
    #[command(flatten)]
    at: AdminAt,
}

#[derive(Args)]
pub(super) struct Set {
    /// Tenant and key, as in acme/app; the key by its name or its id.
    #[arg(value_name = "TENANT/KEY")]
    name: KeyName,
    #[command(flatten)]
    terms: Terms,
    /// Accept the key again.
    #[arg(long, conflicts_with = "disable")]
    enable: bool,
    /// Refuse the key until it is enabled.
    #[arg(long)]
    disable: bool,
    #[command(flatten)]
    at: AdminAt,
}

#[derive(Args)]
pub(super) struct Rotate {
    /// Tenant and key, as in acme/app; the key by its name or its id.
    #[arg(value_name = "TENANT/KEY")]
    name: KeyName,
    /// How long the old secret is good for beside the new one.
    #[arg(long, value_name = "AGE", default_value = "24h", value_parser = age)]
    overlap: String,
    /// How long the new secret is good for, as in 90d [default: as long as the old one was given].
    #[arg(long, value_name = "AGE", value_parser = age)]
    expires_in: Option<String>,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
struct Terms {
    /// Models the key may use, as a glob; may be given several times. Replaces those it has [default: all].
    #[arg(long = "model", value_name = "GLOB")]
    models: Vec<String>,
    /// Routes the key may use, as a glob over the path, as in '/v1/chat/*'; like --model.
    #[arg(long = "route", value_name = "GLOB")]
    routes: Vec<String>,
    /// What else the key may do: cache:inspect, rem, or `none`; may be given several times. Replaces what it had.
    #[arg(long = "right", value_name = "RIGHT", value_parser = right)]
    rights: Vec<String>,
    #[command(flatten)]
    limits: LimitArgs,
}

#[derive(Args)]
struct Output {
    /// Print the secret alone, to be piped to where it is to be kept.
    #[arg(long, short, conflicts_with = "json")]
    quiet: bool,
    #[command(flatten)]
    at: AdminAt,
}

impl Command {
    pub(super) async fn run(self) -> Result<(), String> {
        match self {
            Self::Create(create) => create.run().await,
            Self::List(list) => list.run().await,
            Self::Show(Named { name, at }) => {
                let key = ask(&at, Method::GET, &name.path(""), None).await?;
                shown(&key, &at);
                Ok(())
            }
            Self::Set(set) => set.run().await,
            Self::Rotate(Rotate { name, overlap, expires_in, output }) => {
                let mut body = json!({ "overlap": overlap });
                if let (Some(age), Some(members)) = (expires_in, body.as_object_mut()) {
                    members.insert("expires_in".to_owned(), age.into());
                }
                let made = ask(&output.at, Method::POST, &name.path("/rotate"), Some(&body)).await?;
                output.print(&made)
            }
            Self::Revoke(Named { name, at }) => {
                let revoked = ask(&at, Method::DELETE, &name.path(""), None).await?;
                if at.json {
                    print_json(&revoked);
                } else {
                    println!("{}/{} is revoked: all replicas refuse it within a second.", name.tenant, name.key);
                }
                Ok(())
            }
        }
    }
}

impl Create {
    async fn run(self) -> Result<(), String> {
        let Self { name, terms, expires_in, adopt_data, output } = self;
        let mut body = terms.patch();
        if adopt_data {
            body.insert("adopt_data".to_owned(), true.into());
        }
        body.insert("name".to_owned(), name.key.into());
        if let Some(expires_in) = expires_in {
            body.insert("expires_in".to_owned(), expires_in.into());
        }
        let made = ask(&output.at, Method::POST, &tenant_path(&name.tenant, "/keys"), Some(&body.into())).await?;
        output.print(&made)
    }
}

impl List {
    async fn run(self) -> Result<(), String> {
        let Self { tenant, at } = self;
        let tenants = match tenant {
            Some(tenant) => vec![tenant],
            None => {
                let all = list(&at, "/admin/v1/tenants", "tenants").await?;
                all.iter().filter_map(|tenant| Some(tenant.get("name")?.as_str()?.to_owned())).collect()
            }
        };
        let mut keys = Vec::new();
        for tenant in &tenants {
            keys.extend(list(&at, &tenant_path(tenant, "/keys"), "keys").await?);
        }
        if at.json {
            print_json(&json!({ "keys": keys, "next": null }));
        } else if keys.is_empty() {
            println!("There are no keys; `remora key create` makes one.");
        } else {
            print!("{}", keys_text(&keys));
        }
        Ok(())
    }
}

impl Set {
    async fn run(self) -> Result<(), String> {
        let Self { name, terms, enable, disable, at } = self;
        let mut patch = terms.patch();
        if enable || disable {
            patch.insert("enabled".to_owned(), enable.into());
        }
        if patch.is_empty() {
            return Err("nothing to change; `remora key set --help` shows what can be".to_owned());
        }
        let changed = ask(&at, Method::PATCH, &name.path(""), Some(&patch.into())).await?;
        shown(&changed, &at);
        Ok(())
    }
}

impl Terms {
    fn patch(self) -> Map<String, Value> {
        let Self { models, routes, rights, limits } = self;
        let mut patch = Map::new();
        for (name, given) in [("models", models), ("routes", routes), ("rights", rights)] {
            if !given.is_empty() {
                let given: Vec<_> = given.into_iter().filter(|text| name != "rights" || text != "none").collect();
                patch.insert(name.to_owned(), given.into());
            }
        }
        limits.patch(&mut patch);
        patch
    }
}

impl Output {
    /// The key that was made, and its secret.
    fn print(&self, made: &Value) -> Result<(), String> {
        if self.at.json {
            print_json(made);
            return Ok(());
        }
        let secret = made.get("secret").and_then(Value::as_str).ok_or("the answer has no secret")?;
        if self.quiet {
            println!("{secret}");
            return Ok(());
        }
        if let Some(key) = made.get("key") {
            print!("{}", key_text(key));
        }
        println!("\n{secret}\n\nThe secret is shown this once: only a hash of it is kept.");
        Ok(())
    }
}

fn shown(key: &Value, at: &AdminAt) {
    if at.json {
        print_json(key);
    } else {
        print!("{}", key_text(key));
    }
}

pub(super) fn age(text: &str) -> Result<String, String> {
    match parse_duration(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err("write a whole number and a unit, as in 12h or 90d".to_owned()),
    }
}

fn right(text: &str) -> Result<String, String> {
    let known = text == "none" || Right::ALL.iter().any(|right| right.as_str() == text);
    let names = Right::ALL.map(Right::as_str).join(", ");
    if known { Ok(text.to_owned()) } else { Err(format!("the rights are {names}, or none")) }
}
