//! `slipway tokens`.

use clap::Subcommand;
use reqwest::Method;
use serde_json::json;

use crate::commands::context::{Context, Paging};
use crate::output::{self, errln, outln};

const SECONDS_PER_DAY: u64 = 24 * 3_600;

/// See `slipway tokens --help`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Creates a token and prints it. It is not shown again.
    Create {
        /// Name, e.g. "training jobs".
        name: String,
        /// Principal that the token authenticates.
        #[arg(long, value_name = "PRINCIPAL")]
        principal: String,
        /// Days until the token expires [default: never].
        #[arg(long, value_name = "DAYS")]
        expires_in_days: Option<u32>,
    },
    /// Lists tokens without their secrets, newest first.
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Revokes a token immediately.
    Revoke {
        /// Token ID, which is also the middle part of the token.
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
                outln!("{}", output::cell(&made, "token"));
                errln!(
                    "the token is not shown again; `slipway tokens revoke {}` revokes it",
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
            outln!("token {id} is revoked");
        }
    }
    Ok(())
}
