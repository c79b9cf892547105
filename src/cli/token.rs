//! `remora token`: who may ask the admin API.

use clap::{Args, Subcommand, ValueEnum};
use http::Method;
use serde_json::{Map, Value, json};

use super::AdminAt;
use super::api::{ask, escape, list};
use super::cache::print_json;
use super::key::age;
use super::table::{Table, members, none, text, time};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Make an admin token. It is printed once.
    #[command(after_help = CREATE)]
    Create(Create),
    /// List all admin tokens, without their secrets.
    #[command(after_help = "Example:\n  remora token list")]
    List(AdminAt),
    /// Refuse an admin token for good.
    #[command(after_help = "Example:\n  remora token remove dashboard")]
    Remove(Remove),
}

const CREATE: &str = "\
Roles: a viewer reads; an operator also changes tenants, keys and the cache; an owner also makes tokens, reloads the
configuration and deletes tenants with their data. With --tenant the token is good for that tenant alone.
The commands take the token from REMORA_ADMIN_TOKEN.

Examples:
  remora token create dashboard --role viewer
  remora token create acme-team --role operator --tenant acme --expires-in 90d --quiet > acme.token";

#[derive(Clone, Copy, ValueEnum)]
enum Role {
    Viewer,
    Operator,
    Owner,
}

#[derive(Args)]
pub(super) struct Create {
    /// Unique name; the audit names it as who did something.
    name: String,
    /// What it may do.
    #[arg(long)]
    role: Role,
    /// The one tenant it is good for.
    #[arg(long)]
    tenant: Option<String>,
    /// How long it is good for, as in 90d [default: for ever].
    #[arg(long, value_name = "AGE", value_parser = age)]
    expires_in: Option<String>,
    /// Print the token alone, to be piped to where it is to be kept.
    #[arg(long, short, conflicts_with = "json")]
    quiet: bool,
    #[command(flatten)]
    at: AdminAt,
}

#[derive(Args)]
pub(super) struct Remove {
    /// The token's name.
    name: String,
    #[command(flatten)]
    at: AdminAt,
}

impl Command {
    pub(super) async fn run(self) -> Result<(), String> {
        match self {
            Self::Create(create) => create.run().await,
            Self::List(at) => {
                let tokens = list(&at, "/admin/v1/tokens", "tokens").await?;
                if at.json {
                    print_json(&json!({ "tokens": tokens, "next": null }));
                } else {
                    print!("{}", table(&tokens));
                }
                Ok(())
            }
            Self::Remove(Remove { name, at }) => {
                let path = format!("/admin/v1/tokens/{}", escape(&name));
                let removed = ask(&at, Method::DELETE, &path, None).await?;
                if at.json {
                    print_json(&removed);
                } else {
                    println!("{name} is removed: all replicas refuse it within a second.");
                }
                Ok(())
            }
        }
    }
}

impl Create {
    async fn run(self) -> Result<(), String> {
        let Self { name, role, tenant, expires_in, quiet, at } = self;
        let role = match role {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Owner => "owner",
        };
        let mut body = Map::new();
        body.insert("name".to_owned(), name.into());
        body.insert("role".to_owned(), role.into());
        let given = [("tenant", tenant), ("expires_in", expires_in)];
        body.extend(given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))));
        let made = ask(&at, Method::POST, "/admin/v1/tokens", Some(&body.into())).await?;
        if at.json {
            print_json(&made);
            return Ok(());
        }
        let secret = made.get("secret").and_then(Value::as_str).ok_or("the answer has no secret")?;
        if quiet {
            println!("{secret}");
            return Ok(());
        }
        let token = made.get("token").unwrap_or(&Value::Null);
        let shown = [
            ("token", text(token, "name")),
            ("role", text(token, "role")),
            ("tenant", scope(token)),
            ("expires", time(token.get("expires_at"))),
        ];
        println!("{}\n{secret}\n\nThe token is shown this once: only a hash of it is kept.", members(&shown));
        Ok(())
    }
}

fn table(tokens: &[Value]) -> String {
    let mut table = Table::new(&["token", "id", "role", "tenant", "expires", "created", "last used"]);
    for token in tokens {
        table.row(vec![
            text(token, "name"),
            text(token, "id"),
            text(token, "role"),
            scope(token),
            time(token.get("expires_at")),
            time(token.get("created_at")),
            time(token.get("used_at")),
        ]);
    }
    if table.is_empty() { "There are no tokens; `remora token create` makes one.\n".to_owned() } else { table.text() }
}

fn scope(token: &Value) -> String {
    let tenant = text(token, "tenant");
    if tenant == none() { "all".to_owned() } else { tenant }
}
