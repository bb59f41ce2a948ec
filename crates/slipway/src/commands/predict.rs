//! `slipway predict`.

use anyhow::{Context as _, bail};
use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Context, read_json};
use crate::output;

/// Arguments of `slipway predict`.
#[derive(Debug, Args)]
pub struct Options {
    /// Deployment name.
    deployment: String,
    /// Rows as JSON: `[[5.1, 3.5], …]`, a whole Open Inference Protocol request, a file with either, or `-`.
    input: String,
    /// Version of the model; what the traffic table says without it.
    #[arg(long)]
    version: Option<String>,
}

pub(crate) async fn run(context: &Context, options: &Options) -> anyhow::Result<()> {
    let serving = context.serving()?;
    let given: Value = match serde_json::from_str(&options.input) {
        Ok(value) => value,
        Err(_) => read_json(&options.input)?,
    };
    let mut model = vec!["v2", "models", options.deployment.as_str()];
    if let Some(version) = &options.version {
        model.extend(["versions", version]);
    }
    let request = if given.get("inputs").is_some() {
        given
    } else {
        let metadata = serving.get(&model, &[]).await?;
        from_rows(&metadata, given)?
    };
    model.push("infer");
    let answer = serving.send(Method::POST, &model, Some(&request)).await?;
    if context.json {
        output::json(&answer);
        return Ok(());
    }
    println!("version {}", output::cell(&answer, "model_version"));
    for tensor in answer.get("outputs").and_then(Value::as_array).into_iter().flatten() {
        println!("{}  {}", output::cell(tensor, "name"), output::cell(tensor, "data"));
    }
    Ok(())
}

/// Rows of numbers as the request that a model with one input takes.
fn from_rows(metadata: &Value, rows: Value) -> anyhow::Result<Value> {
    let inputs =
        metadata.get("inputs").and_then(Value::as_array).context("the model's metadata has no inputs")?;
    let [input] = inputs.as_slice() else {
        bail!("the model has {} inputs: give a whole request with `inputs`", inputs.len());
    };
    let rows = match rows {
        Value::Array(rows) if rows.first().is_some_and(Value::is_array) => rows,
        Value::Array(row) => vec![Value::Array(row)],
        _ => bail!("expected rows as `[[…], …]`, or a request with `inputs`"),
    };
    let width = rows.first().and_then(Value::as_array).map_or(0, Vec::len);
    Ok(json!({"inputs": [{
        "name": input["name"], "datatype": input["datatype"], "shape": [rows.len(), width], "data": rows,
    }]}))
}
