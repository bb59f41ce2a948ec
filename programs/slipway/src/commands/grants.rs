//! `slipway grants` and `slipway whoami`.

use clap::Subcommand;
use slipway_api::rest::registry::{GrantsQuery, NewGrant, WhichGrant};

use crate::commands::context::{Context, Paging};
use crate::output::{self, outln};

/// See `slipway grants --help`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lists grants.
    List {
        /// Only grants of this principal, or of a group as group:NAME.
        #[arg(long, value_name = "WHO")]
        subject: Option<String>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Grants a role in a scope, replacing the previous one.
    Set {
        /// Principal, or a group as group:NAME.
        subject: String,
        /// Role: viewer reads; editor also writes; deployer also sets aliases and stages; admin does
        /// everything.
        role: String,
        /// Scope: * for everything, experiment:ID, or model:NAME.
        #[arg(long, value_name = "SCOPE", default_value = "*")]
        on: String,
    },
    /// Removes a grant.
    Remove {
        /// Principal, or a group as group:NAME.
        subject: String,
        /// Scope of the grant: *, experiment:ID, or model:NAME.
        #[arg(long, value_name = "SCOPE", default_value = "*")]
        on: String,
    },
}

pub(crate) async fn run(context: &Context, command: Command) -> anyhow::Result<()> {
    let registry = context.registry()?;
    match command {
        Command::List { subject, paging } => {
            let page = paging.page();
            let query = GrantsQuery { subject, limit: page.limit, page_token: page.page_token };
            let answer = registry.grants(&query).await?;
            let columns =
                [("SUBJECT", "subject"), ("ROLE", "role"), ("ON", "scope"), ("GRANTED BY", "granted_by")];
            output::list(context.json, &answer, "grants", &columns);
        }
        Command::Set { subject, role, on } => {
            let granted = registry.put_grant(&NewGrant { subject, role, scope: on }).await?;
            outln!("{} has the role {} on {}", granted.subject, granted.role, granted.scope);
        }
        Command::Remove { subject, on } => {
            let which = WhichGrant { subject, scope: on };
            registry.delete_grant(&which).await?;
            outln!("{} has no role of its own on {}", which.subject, which.scope);
        }
    }
    Ok(())
}

pub(crate) async fn whoami(context: &Context) -> anyhow::Result<()> {
    output::object(context.json, &context.registry()?.me().await?);
    Ok(())
}
