//! The command line. Exit codes: 0 done, 1 failed, 2 wrong usage, 141 nobody reads what is printed.

#[macro_use]
mod out;

mod alerts;
mod api;
mod audit;
mod budget;
mod cache;
mod check;
mod explain;
mod invalidate;
mod key;
mod learning;
mod migrate;
mod prices;
mod reload;
mod rem;
mod replay;
mod request;
mod savings;
mod secrets;
mod serve;
mod table;
mod tenant;
mod terms;
mod token;
mod transfer;
mod usage;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::simulate;

/// A semantic-caching reverse proxy for LLM APIs.
#[derive(Parser)]
#[command(name = "remora", version, about, after_help = EXAMPLE)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLE: &str = "Example:\n  remora serve\n  OPENAI_BASE_URL=http://127.0.0.1:8080/v1 python my_app.py";

#[derive(Subcommand)]
enum Command {
    /// Run the proxy. Without a config file it listens on 127.0.0.1:8080 and forwards to api.openai.com.
    #[command(after_help = "Example:\n  remora serve --upstream http://127.0.0.1:9000/v1 --store sqlite://remora.db")]
    Serve(serve::Serve),
    /// Validate the configuration; lists every problem with file, key and fix.
    #[command(after_help = "Example:\n  remora check --config remora.toml")]
    Check(check::Check),
    /// Run an OpenAI-compatible upstream that answers without a model, for trying out, tests and benchmarks.
    #[command(after_help = simulate::FAULT_HELP)]
    Simulate(simulate::Options),
    /// Look into the cache of a running proxy, or take things out of it.
    #[command(subcommand)]
    Cache(cache::Command),
    /// Show what was changed through the admin plane, by whom and why, and prove that it is all there.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Report who used and paid what: by tenant, key, user, model, tag, route and time.
    #[command(after_help = usage::EXAMPLES)]
    Usage(Box<usage::Usage>),
    /// Report what the cache has saved, against the target and against what it would have cost without.
    #[command(after_help = savings::EXAMPLES)]
    Savings(savings::Savings),
    /// Show the ledger row of a request, the latest rows, or those that made up a sum.
    #[command(after_help = request::EXAMPLES)]
    Request(Box<request::Request>),
    /// Judge the cache on recorded data, beside fixed thresholds and vCache.
    #[command(after_help = replay::EXAMPLES)]
    Replay(Box<replay::Replay>),
    /// Bring the database schema up to date or back.
    #[command(after_help = "Example:\n  remora migrate status --store sqlite://remora.db")]
    Migrate(migrate::Migrate),
    /// Bring one database up to date with another, as in moving from SQLite to PostgreSQL.
    #[command(after_help = transfer::COPY_EXAMPLES)]
    Copy(transfer::Copy),
    /// Write all of a database to one file.
    #[command(after_help = transfer::BACKUP_EXAMPLES)]
    Backup(transfer::Backup),
    /// Write what is in a backup to a database.
    #[command(after_help = transfer::RESTORE_EXAMPLES)]
    Restore(transfer::Restore),
    /// Make and change tenants of a running proxy, one by one or many from a file; delete a tenant's data.
    #[command(subcommand)]
    Tenant(Box<tenant::Command>),
    /// Make, change, rotate and revoke the virtual keys of tenants.
    #[command(subcommand)]
    Key(Box<key::Command>),
    /// Make and remove admin tokens.
    #[command(subcommand)]
    Token(token::Command),
    /// Show what is spent and left of budgets.
    #[command(subcommand)]
    Budget(budget::Command),
    /// Show alerts, or send one to try the channels out.
    #[command(subcommand)]
    Alerts(alerts::Command),
    /// Show, check and import prices; price the ledger anew after one was wrong.
    #[command(subcommand)]
    Prices(prices::Command),
    /// Ask the cache's own data by name, by meaning, along edges or by SQL; without a query, at a prompt or from standard input.
    #[command(after_help = rem::EXAMPLES)]
    Rem(Box<rem::Rem>),
    /// Have a running proxy read its configuration file again.
    #[command(after_help = reload::EXAMPLE)]
    Reload(reload::Reload),
    /// Wrap the data keys of sealed tenants by a new master key.
    #[command(after_help = tenant::ROTATE_EXAMPLE)]
    RotateMaster(tenant::RotateMaster),
}

/// Where the running proxy's admin plane is.
#[derive(Args, Clone)]
struct AdminAt {
    /// Address of the admin plane of the running proxy.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8081", env = "REMORA_ADMIN_URL")]
    admin: String,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// Runs the program with the arguments of this process.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("the runtime cannot be started: {error}")),
    };
    let done = runtime.block_on(async {
        match cli.command {
            Command::Serve(serve) => serve.run().await,
            Command::Check(check) => check.run(),
            Command::Simulate(options) => simulate::run(options).await.map_err(|error| error.to_string()),
            Command::Cache(command) => command.run().await,
            Command::Audit(command) => command.run().await,
            Command::Usage(usage) => usage.run().await,
            Command::Savings(savings) => savings.run().await,
            Command::Request(request) => request.run().await,
            Command::Replay(replay) => replay.run().await,
            Command::Migrate(migrate) => migrate.run().await,
            Command::Copy(copy) => copy.run().await,
            Command::Backup(backup) => backup.run().await,
            Command::Restore(restore) => restore.run().await,
            Command::Tenant(command) => command.run().await,
            Command::Key(command) => command.run().await,
            Command::Token(command) => command.run().await,
            Command::Budget(command) => command.run().await,
            Command::Alerts(command) => command.run().await,
            Command::Prices(command) => command.run().await,
            Command::Rem(rem) => rem.run().await,
            Command::Reload(reload) => reload.run().await,
            Command::RotateMaster(rotate) => rotate.run().await,
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => failed(&message),
    }
}

fn failed(message: &str) -> ExitCode {
    if !message.is_empty() {
        eprintln!("remora: {message}");
    }
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// Every command without commands of its own, with its name as it is typed.
    fn leaves(command: &clap::Command, name: &str, found: &mut Vec<(String, clap::Command)>) {
        if !command.has_subcommands() {
            found.push((name.to_owned(), command.clone()));
        }
        for inner in command.get_subcommands() {
            leaves(inner, &format!("{name} {}", inner.get_name()), found);
        }
    }

    #[test]
    fn every_command_that_asks_a_running_proxy_has_json_and_an_example_of_itself() {
        let mut found = Vec::new();
        Cli::command().debug_assert();
        leaves(&Cli::command(), "remora", &mut found);
        let new = [
            "rem", "tenant", "key", "token", "budget", "alerts", "audit", "prices", "reload", "usage", "savings",
            "request",
        ];
        found.retain(|(name, command)| {
            let asks =
                command.get_arguments().any(|argument| argument.get_id() == "admin" || argument.get_id() == "rem");
            asks && name.split(' ').nth(1).is_some_and(|first| new.contains(&first))
        });
        assert!(found.len() >= 31, "{}", found.len());
        for (name, command) in found {
            assert!(command.get_arguments().any(|argument| argument.get_id() == "json"), "{name}");
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let example = help.split("Example").last().unwrap_or_default();
            assert!(example.contains(&format!("\n  {name}")) || example.contains(&name), "{name}: {help}");
        }
    }
}
