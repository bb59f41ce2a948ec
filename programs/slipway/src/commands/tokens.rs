//! `slipway tokens`.

use clap::Subcommand;
use slipway_api::rest::registry::NewApiToken;

use crate::commands::context::{Context, Paging};
use crate::output::{self, errln, outln};

const SECONDS_PER_DAY: i64 = 24 * 3_600;

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
            let expires_in_s = expires_in_days.map(|days| i64::from(days) * SECONDS_PER_DAY);
            let made = registry.create_token(&NewApiToken { name, principal, expires_in_s }).await?;
            if context.json {
                output::json(&made);
            } else {
                outln!("{}", made.token.unwrap_or_default());
                errln!("the token is not shown again; `slipway tokens revoke {}` revokes it", made.id);
            }
        }
        Command::List { paging } => {
            let answer = registry.tokens(&paging.page()).await?;
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
            registry.revoke_token(&id).await?;
            outln!("token {id} is revoked");
        }
    }
    Ok(())
}
