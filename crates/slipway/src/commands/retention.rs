//! `slipway retention`.

use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Context, Paging, read_json};
use crate::output;

/// Things that one request looks at, so that progress shows and no request takes long.
const AT_ONCE: &str = "200";
/// Lines of what would go that are shown.
const MAX_SHOWN: usize = 1_000;

/// See `slipway retention --help`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Makes a rule, or replaces it. Every condition that is given has to hold before something goes.
    Set(Box<Set>),
    /// Lists rules.
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Says what a rule would let go of, with the reasons; with --yes it goes.
    ///
    /// It may be interrupted and run again.
    Run {
        /// Name of the rule.
        name: String,
        /// Only says what would go; the default.
        #[arg(long, conflicts_with = "yes")]
        dry_run: bool,
        /// Lets go of it.
        #[arg(long)]
        yes: bool,
    },
    /// Removes a rule; what it let go of stays as it is.
    Remove {
        /// Name of the rule.
        name: String,
    },
}

/// A rule, in flags or as a JSON file.
#[derive(Debug, Args)]
pub struct Set {
    /// Name of the rule.
    name: String,
    /// The rule as JSON, or `-` for standard input, instead of the flags.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["experiment", "model", "tag", "after_days", "keep_best", "keep_last", "action"])]
    file: Option<String>,
    /// Runs of this experiment; without this, --model and --tag: runs of every experiment.
    #[arg(long, value_name = "NAME", group = "scope")]
    experiment: Option<String>,
    /// Versions of this model.
    #[arg(long, value_name = "NAME", group = "scope")]
    model: Option<String>,
    /// Runs with this tag.
    #[arg(long, value_name = "KEY[=VALUE]", group = "scope")]
    tag: Option<String>,
    /// Goes only when it ended so many days ago.
    #[arg(long, value_name = "N")]
    after_days: Option<u32>,
    /// Goes only when it is not among the best K by a metric.
    #[arg(long, value_name = "K", requires = "metric")]
    keep_best: Option<u32>,
    /// The metric of --keep-best.
    #[arg(long, value_name = "NAME", requires = "keep_best")]
    metric: Option<String>,
    /// Which end of the metric is good.
    #[arg(long, value_enum, default_value = "maximize")]
    goal: Goal,
    /// Goes only when it is not among the newest K.
    #[arg(long, value_name = "K")]
    keep_last: Option<u32>,
    /// What becomes of what goes.
    #[arg(long, value_enum, default_value = "archive")]
    action: Action,
    /// Also runs from which a model version was made; only with --action archive.
    #[arg(long)]
    include_registered: bool,
    /// Keeps the rule without applying it from time to time.
    #[arg(long)]
    disabled: bool,
}

/// Which end of a metric is good.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Goal {
    /// More is better.
    Maximize,
    /// Less is better.
    Minimize,
}

/// What becomes of what goes.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Action {
    /// Runs may be restored; versions move to the stage Archived.
    Archive,
    /// Gone for good.
    Delete,
}

const ROOT: [&str; 3] = ["api", "v1", "retention-rules"];

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
            let path = [&ROOT[..], &[&set.name]].concat();
            output::object(context.json, &client.send(Method::PUT, &path, Some(&set.body()?)).await?);
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
            output::list(
                context.json,
                &client.get(&ROOT, &paging.query()).await?,
                "retention_rules",
                &columns,
            );
        }
        Command::Run { name, yes, .. } => apply(context, &name, !yes).await?,
        Command::Remove { name } => {
            client.send(Method::DELETE, &[&ROOT[..], &[&name]].concat(), None).await?;
            println!("retention rule {name} is gone");
        }
    }
    Ok(())
}

async fn apply(context: &Context, name: &str, dry_run: bool) -> anyhow::Result<()> {
    let client = context.registry()?;
    let path = [&ROOT[..], &[name, "run"]].concat();
    let (mut token, mut goes, mut count, mut size_bytes) = (None, Vec::new(), 0_usize, 0_u64);
    loop {
        let mut query = vec![("dry_run", dry_run.to_string()), ("limit", AT_ONCE.to_owned())];
        query.extend(token.take().map(|token| ("page_token", token)));
        let part = client.post_query(&path, &query).await?;
        size_bytes += part["size_bytes"].as_u64().unwrap_or_default();
        let listed = part["goes"].as_array().cloned().unwrap_or_default();
        count += listed.len();
        goes.extend(listed.into_iter().take(MAX_SHOWN - goes.len()));
        match part["next_page_token"].as_str() {
            Some(next) => token = Some(next.to_owned()),
            None => break,
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
        println!("… and {} more", count - goes.len());
    }
    let verb = if dry_run { "would go" } else { "went" };
    println!("{count} {verb}, {} freed", output::size(size_bytes));
    if dry_run && count > 0 {
        println!("--yes lets go of it");
    }
    Ok(())
}
