//! `slipway tokens`.

use clap::Subcommand;
use reqwest::Method;
use serde_json::json;

use super::{Context, Paging};
use crate::output;

const SECONDS_PER_DAY: u64 = 24 * 3_600;

/// See `slipway tokens --help`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Makes a token and shows it, this once.
    Create {
        /// What it is for, e.g. "training jobs".
        name: String,
        /// Whose it is: what was granted to this principal holds for it.
        #[arg(long, value_name = "PRINCIPAL")]
        principal: String,
        /// It ends after so many days; without it, when it is revoked.
        #[arg(long, value_name = "DAYS")]
        expires_in_days: Option<u32>,
    },
    /// All tokens, the newest first, without their secrets.
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Ends a token at once.
    Revoke {
        /// Its id, which is also the middle part of the token.
        id: String,
    },
}

pub(crate) async fn run(context: &Context, command: Command) -> anyhow::Result<()> {
    let registry = context.registry()?;
    match command {
        Command::Create { name, principal, expires_in_days } => {
            let life_s = expires_in_days.map(|days| u64::from(days) * SECONDS_PER_DAY);
            let body = json!({"name": name, "principal": principal, "expires_in_s": life_s});
            let made = registry.send(Method::POST, &["api", "v1", "tokens"], Some(&body)).await?;
            if context.json {
                output::json(&made);
            } else {
                println!("{}", output::cell(&made, "token"));
                eprintln!(
                    "keep it: it is not shown again; `slipway tokens revoke {}` ends it",
                    output::cell(&made, "id")
                );
            }
        }
        Command::List { paging } => {
            let answer = registry.get(&["api", "v1", "tokens"], &paging.query()).await?;
            let columns = [
                ("ID", "id"),
                ("NAME", "name"),
                ("PRINCIPAL", "principal"),
                ("CREATED BY", "created_by"),
                ("EXPIRES", "expires_at_unix_ms"),
                ("LAST USED", "last_used_at_unix_ms"),
            ];
            output::list(context.json, &answer, "tokens", &columns);
        }
        Command::Revoke { id } => {
            registry.send(Method::DELETE, &["api", "v1", "tokens", &id], None).await?;
            println!("token {id} is revoked");
        }
    }
    Ok(())
}
