//! `slipway predict`.

mod request;
mod rows;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};
use slipway_api::rest::serving::InferRequest;

use crate::commands::context::{Context, read_json};
use crate::output::{self, outln};

/// Arguments of `slipway predict`.
#[derive(Debug, Args)]
pub struct Options {
    /// Deployment name.
    deployment: String,
    /// Rows as JSON, a complete Open Inference Protocol request, a file with either, or `-` for standard
    /// input.
    ///
    /// For a model with one input, a row is an array: `[[5.1, 3.5, 1.4, 0.2], …]`. For a model with several,
    /// it is an object with one value per input: `[{"age": 41, "plan": "pro"}, …]`. One row needs no outer
    /// brackets.
    input: String,
    /// Version of the model [default: as the deployment routes].
    #[arg(long)]
    version: Option<String>,
}

pub(crate) async fn run(context: &Context, options: &Options) -> anyhow::Result<()> {
    let serving = context.serving()?;
    let given: Value = match serde_json::from_str(&options.input) {
        Ok(value) => value,
        // What begins as JSON is no file name: its own error helps more than that of a missing file.
        Err(error) if options.input.trim_start().starts_with(['[', '{']) => {
            anyhow::bail!("the input is not valid JSON: {error}")
        }
        Err(_) => read_json(&options.input)?,
    };
    let (name, version) = (options.deployment.as_str(), options.version.as_deref());
    let request = if given.get("inputs").is_some_and(Value::is_array) {
        given
    } else {
        request::from_rows(&json!(serving.metadata(name, version).await?), given)?
    };
    let request: InferRequest =
        serde_json::from_value(request).context("the input is not a valid request")?;
    let answer = json!(serving.infer(name, version, &request).await?);
    if context.json {
        output::json(&answer);
        return Ok(());
    }
    outln!("version {}", output::cell(&answer, "model_version"));
    let shown = rows::of(&answer);
    let header: Vec<&str> = shown.header.iter().map(String::as_str).collect();
    output::table(&header, &shown.rows);
    for (name, values) in &shown.others {
        outln!("{name}  {values}");
    }
    Ok(())
}
