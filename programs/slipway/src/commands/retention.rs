//! `slipway retention`.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use slipway_api::rest::registry::ApplyQuery;

use crate::commands::context::{Context, Paging, read_json};
use crate::output::{self, outln};

/// Items per request, so that no request takes long.
const AT_ONCE: u32 = 200;
/// Maximum number of items shown.
const MAX_SHOWN: usize = 1_000;

/// See `slipway retention --help`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Creates or replaces a rule. It applies to what meets all of its conditions.
    Set(Box<Set>),
    /// Lists rules.
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Shows what a rule would archive or delete, with the reasons; with --yes, applies the rule.
    ///
    /// The command can be interrupted and run again.
    Run {
        /// Name of the rule.
        name: String,
        /// Only shows what would be archived or deleted (the default).
        #[arg(long, conflicts_with = "yes")]
        dry_run: bool,
        /// Archives or deletes it.
        #[arg(long)]
        yes: bool,
    },
    /// Deletes a rule. What it archived stays archived.
    Remove {
        /// Name of the rule.
        name: String,
    },
}

/// A rule, in flags or as a file.
#[derive(Debug, Args)]
pub struct Set {
    /// Name of the rule.
    name: String,
    /// JSON or YAML file with the rule, or `-` for standard input, instead of the options below.
    #[arg(long, value_name = "FILE",
          conflicts_with_all =
              ["experiment", "model", "tag", "after_days", "keep_best", "keep_last", "action"])]
    file: Option<String>,
    /// Applies to runs of this experiment [default: runs of every experiment].
    #[arg(long, value_name = "NAME", group = "scope")]
    experiment: Option<String>,
    /// Applies to versions of this model.
    #[arg(long, value_name = "NAME", group = "scope")]
    model: Option<String>,
    /// Applies to runs with this tag.
    #[arg(long, value_name = "KEY[=VALUE]", group = "scope")]
    tag: Option<String>,
    /// Applies to runs that ended, or versions that were created, at least N days ago.
    #[arg(long, value_name = "N")]
    after_days: Option<u32>,
    /// Keeps the best K by a metric.
    #[arg(long, value_name = "K", requires = "metric")]
    keep_best: Option<u32>,
    /// Metric of --keep-best.
    #[arg(long, value_name = "NAME", requires = "keep_best")]
    metric: Option<String>,
    /// Whether higher or lower values of the metric are better.
    #[arg(long, value_enum, default_value = "maximize")]
    goal: Goal,
    /// Keeps the newest K.
    #[arg(long, value_name = "K")]
    keep_last: Option<u32>,
    /// What the rule does.
    #[arg(long, value_enum, default_value = "archive")]
    action: Action,
    /// Also applies to runs that have a registered model version; only with --action archive.
    #[arg(long)]
    include_registered: bool,
    /// Stores the rule without applying it periodically.
    #[arg(long)]
    disabled: bool,
}

/// Whether higher or lower values of a metric are better.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Goal {
    /// Higher values are better.
    Maximize,
    /// Lower values are better.
    Minimize,
}

/// What a rule does.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Action {
    /// Archives: runs can be restored, versions move to the stage Archived.
    Archive,
    /// Deletes permanently.
    Delete,
}

impl Set {
    fn body(&self) -> anyhow::Result<Value> {
        let mut body = match &self.file {
            Some(file) => read_json(file)?,
            None => json!({"for": self.scope(), "action": format!("{:?}", self.action).to_lowercase()}),
        };
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                body[name] = value;
            }
        };
        put("after_days", self.after_days.map(Value::from));
        put("keep_last", self.keep_last.map(Value::from));
        let goal = format!("{:?}", self.goal).to_lowercase();
        put("keep_best", self.keep_best.map(|k| json!({"metric": self.metric, "k": k, "goal": goal})));
        put("include_registered", self.include_registered.then(|| true.into()));
        put("enabled", self.disabled.then(|| false.into()));
        Ok(body)
    }

    fn scope(&self) -> Value {
        match (&self.experiment, &self.model, &self.tag) {
            (Some(experiment), ..) => json!({"scope": "experiment", "experiment": experiment}),
            (_, Some(model), _) => json!({"scope": "model", "model": model}),
            (.., Some(tag)) => match tag.split_once('=') {
                Some((key, value)) => json!({"scope": "tag", "key": key, "value": value}),
                None => json!({"scope": "tag", "key": tag}),
            },
            _ => json!({"scope": "all"}),
        }
    }
}

pub(crate) async fn run(context: &Context, command: Command) -> anyhow::Result<()> {
    let client = context.registry()?;
    match command {
        Command::Set(set) => {
            output::object(context.json, &client.put_retention_rule(&set.name, &set.body()?).await?);
        }
        Command::List { paging } => {
            let columns = [
                ("NAME", "name"),
                ("FOR", "for"),
                ("AFTER DAYS", "after_days"),
                ("KEEP BEST", "keep_best"),
                ("KEEP LAST", "keep_last"),
                ("ACTION", "action"),
                ("ENABLED", "enabled"),
            ];
            let rules = client.retention_rules(&paging.page()).await?;
            output::list(context.json, &rules, "retention_rules", &columns);
        }
        Command::Run { name, yes, .. } => apply(context, &name, !yes).await?,
        Command::Remove { name } => {
            client.delete_retention_rule(&name).await?;
            outln!("retention rule {name} is deleted");
        }
    }
    Ok(())
}

async fn apply(context: &Context, name: &str, dry_run: bool) -> anyhow::Result<()> {
    let client = context.registry()?;
    let mut query = ApplyQuery { dry_run: Some(dry_run), limit: Some(AT_ONCE), page_token: None };
    let (mut goes, mut count, mut size_bytes) = (Vec::new(), 0_usize, 0_u64);
    loop {
        let part = client.apply_retention_rule(name, &query).await?;
        size_bytes += part.size_bytes.unsigned_abs();
        count += part.goes.len();
        goes.extend(part.goes.into_iter().take(MAX_SHOWN - goes.len()));
        query.page_token = part.next_page_token;
        if query.page_token.is_none() {
            break;
        }
    }
    if context.json {
        let answer = json!({"dry_run": dry_run, "goes": goes, "count": count, "size_bytes": size_bytes});
        output::json(&answer);
        return Ok(());
    }
    let columns = [("KIND", "kind"), ("ID", "id"), ("REASON", "reason"), ("BYTES", "size_bytes")];
    output::list(false, &json!({ "goes": goes }), "goes", &columns);
    if count > goes.len() {
        outln!("… and {} more", count - goes.len());
    }
    let verb = if dry_run { "would be archived or deleted" } else { "archived or deleted" };
    outln!("{count} {verb}, freeing {}", output::size(size_bytes));
    if dry_run && count > 0 {
        outln!("run again with --yes to apply the rule");
    }
    Ok(())
}
