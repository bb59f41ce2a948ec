//! `slipway monitors`.

use clap::Subcommand;
use reqwest::Method;

use super::{Context, Paging, read_json};
use crate::output::{self, outln};

/// See `slipway monitors --help`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// All monitors.
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// One monitor and its state.
    Show {
        /// Monitor name.
        name: String,
    },
    /// Makes a monitor.
    Create {
        /// The monitor's JSON body, or `-` for standard input.
        file: String,
    },
    /// Windows with their scores, the newest first.
    Windows {
        /// Monitor name.
        name: String,
        #[command(flatten)]
        paging: Paging,
    },
    /// What its policy did.
    Actions {
        /// Monitor name.
        name: String,
        #[command(flatten)]
        paging: Paging,
    },
    /// Removes a monitor.
    Delete {
        /// Monitor name.
        name: String,
    },
}

pub(crate) async fn run(context: &Context, command: Command) -> anyhow::Result<()> {
    let monitor = context.drift_monitor()?;
    let monitors = ["api", "v1", "monitors"];
    match command {
        Command::List { paging } => {
            let columns = [
                ("MONITOR", "name"),
                ("DEPLOYMENT", "deployment"),
                ("MODEL", "model"),
                ("BASELINE", "baseline_version"),
                ("STATE", "state"),
                ("REASON", "reason"),
            ];
            output::list(context.json, &monitor.get(&monitors, &paging.query()).await?, "monitors", &columns);
        }
        Command::Show { name } => {
            output::object(context.json, &monitor.get(&["api", "v1", "monitors", &name], &[]).await?);
        }
        Command::Create { file } => {
            let answer = monitor.send(Method::POST, &monitors, Some(&read_json(&file)?)).await?;
            output::object(context.json, &answer);
        }
        Command::Windows { name, paging } => {
            let answer = monitor.get(&["api", "v1", "monitors", &name, "windows"], &paging.query()).await?;
            let columns = [
                ("WINDOW", "sequence"),
                ("CLOSED", "closed_at"),
                ("ROWS", "rows"),
                ("DRIFTED", "drifted"),
                ("SHARE", "scores.share_drifted"),
            ];
            output::list(context.json, &answer, "windows", &columns);
        }
        Command::Actions { name, paging } => {
            let answer = monitor.get(&["api", "v1", "monitors", &name, "actions"], &paging.query()).await?;
            let columns = [
                ("ACTION", "action"),
                ("STATUS", "status"),
                ("RESULT", "result"),
                ("ATTEMPTS", "attempts"),
                ("ERROR", "last_error"),
            ];
            output::list(context.json, &answer, "actions", &columns);
        }
        Command::Delete { name } => {
            monitor.send(Method::DELETE, &["api", "v1", "monitors", &name], None).await?;
            outln!("monitor {name} is gone");
        }
    }
    Ok(())
}
