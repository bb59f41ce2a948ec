//! `slipway grants` and `slipway whoami`.

use clap::Subcommand;
use reqwest::Method;
use serde_json::json;

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
        /// Role: viewer reads; editor also writes; deployer also sets aliases and stages; admin does everything.
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

const GRANTS: [&str; 3] = ["api", "v1", "grants"];

pub(crate) async fn run(context: &Context, command: Command) -> anyhow::Result<()> {
    let registry = context.registry()?;
    match command {
        Command::List { subject, paging } => {
            let mut query = paging.query();
            query.extend(subject.map(|subject| ("subject", subject)));
            let answer = registry.get(&GRANTS, &query).await?;
            let columns =
                [("SUBJECT", "subject"), ("ROLE", "role"), ("ON", "scope"), ("GRANTED BY", "granted_by")];
            output::list(context.json, &answer, "grants", &columns);
        }
        Command::Set { subject, role, on } => {
            let body = json!({"subject": subject, "role": role, "scope": on});
            registry.send(Method::PUT, &GRANTS, Some(&body)).await?;
            outln!("{subject} has the role {role} on {on}");
        }
        Command::Remove { subject, on } => {
            let query = [("subject", subject.clone()), ("scope", on.clone())];
            registry.delete(&GRANTS, &query).await?;
            outln!("{subject} has no role of its own on {on}");
        }
    }
    Ok(())
}

pub(crate) async fn whoami(context: &Context) -> anyhow::Result<()> {
    output::object(context.json, &context.registry()?.get(&["api", "v1", "me"], &[]).await?);
    Ok(())
}
