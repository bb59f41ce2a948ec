//! The model card of a version: what it is, where it came from, how it scored, and what is known against it.
//!
//! Everything in it is what the registry knows; nobody writes it by hand but the description. The sections follow "Model Cards for
//! Model Reporting" (Mitchell et al., 2019) as far as the facts go.

mod evidence;

use std::fmt::Write as _;

use serde_json::{Value, json};
use slipway_domain::registry::promotion::CardField;
use slipway_model_scan::Verdict;

use crate::api::rest::approvals::ApprovalBody;
use crate::api::rest::reports;
use crate::models::lineage::{Lineage, code_tags, datasets};
use crate::models::versions::scan::Scan;
use crate::store::model_versions::Tensor;
use crate::store::runs::Run;

/// The card as JSON.
pub(crate) fn json(facts: &Lineage) -> Value {
    let version = &facts.version;
    let known = &version.facts.0;
    let signature = known.signature.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
    json!({
        "model": version.name,
        "version": version.version.to_string(),
        "digest": version.digest,
        "description": version.description,
        "aliases": version.aliases,
        "tags": version.tags.0.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        "created_at_unix_ms": version.created_ms,
        "servable": version.servable,
        "unservable_reason": known.unservable_reason,
        "inputs": known.inputs,
        "outputs": known.outputs,
        "joining": known.joining,
        "signature": signature,
        "profile_misfit": known.profile_misfit,
        "metrics": metrics(facts),
        "run": facts.run.as_ref().map(run),
        "run_hidden": facts.run_hidden(),
        "scan": known.scan,
        "signing": facts.known.signing.verdict,
        "reports": facts.known.reports.iter().map(reports::body).collect::<Vec<_>>(),
        "approvals": facts.known.approvals.iter().map(ApprovalBody::from).collect::<Vec<_>>(),
        "deployments": facts.places(),
        "missing": facts.known.evidence.missing_from_card(&[]),
    })
}

/// Numbers as JSON, what is none as text.
fn metrics(facts: &Lineage) -> Value {
    let number = |value: f64| if value.is_finite() { json!(value) } else { json!(value.to_string()) };
    facts.known.evidence.metrics.iter().map(|(key, value)| (key.clone(), number(*value))).collect()
}

fn run(run: &Run) -> Value {
    let code: serde_json::Map<String, Value> =
        code_tags(run).map(|(name, value)| (name.to_owned(), value.into())).collect();
    let info = &run.info;
    json!({
        "run_id": info.run_id, "name": info.name, "user": info.user_id, "status": info.status,
        "experiment_id": info.experiment_id.to_string(), "start_time": info.start_ms, "end_time": info.end_ms,
        "params": pairs(&run.param_keys, &run.param_values).collect::<serde_json::Map<String, Value>>(),
        "datasets": datasets(run), "code": code,
    })
}

fn pairs<'run>(keys: &'run [String], values: &'run [String]) -> impl Iterator<Item = (String, Value)> + 'run {
    keys.iter().zip(values).map(|(key, value)| (key.clone(), value.as_str().into()))
}

/// The card as Markdown.
pub(crate) fn markdown(facts: &Lineage) -> String {
    let version = &facts.version;
    let mut card = format!("# {} {}\n\n", text(&version.name), version.version);
    match version.description.as_deref().map(str::trim).filter(|text| !text.is_empty()) {
        Some(description) => card.push_str(description),
        None => card.push_str("*No description.*"),
    }
    card.push_str("\n\n| | |\n|---|---|\n");
    row(&mut card, "digest", &format!("`{}`", version.digest));
    if !version.aliases.is_empty() {
        row(&mut card, "aliases", &version.aliases.join(", "));
    }
    let known = &version.facts.0;
    row(&mut card, "served", known.unservable_reason.as_deref().unwrap_or("yes"));
    if let Some(joining) = &known.joining {
        let joined = joining.reason.as_ref().map_or_else(|| "yes".to_owned(), |why| format!("no: {why}"));
        row(&mut card, "requests are joined", &joined);
    }
    let safety = match &known.scan {
        None => "its files were not looked into".to_owned(),
        Some(scan) if scan.verdict == Verdict::Safe => format!("{} files found safe to load", scan.scanned),
        Some(scan) => scan.reason().unwrap_or_default(),
    };
    row(&mut card, "safety", &safety);
    if let Some(why) = &known.profile_misfit {
        row(&mut card, "training profile does not fit", why);
    }
    let code = known.scan.as_ref().map_or_else(|| "not known".to_owned(), Scan::code_text);
    row(&mut card, "code that a loader runs", &code);
    let signing = &facts.known.signing.verdict;
    row(&mut card, "signed", &format!("{}: {}", signing.state.name(), signing.detail));
    let missing = facts.known.evidence.missing_from_card(&[]);
    if !missing.is_empty() {
        let missing: Vec<&str> = missing.into_iter().map(CardField::name).collect();
        row(&mut card, "not known", &missing.join(", "));
    }
    for (key, value) in &version.tags.0 {
        row(&mut card, key, value);
    }
    tensors(&mut card, "Inputs", &known.inputs);
    tensors(&mut card, "Outputs", &known.outputs);
    if !facts.known.evidence.metrics.is_empty() {
        card.push_str("\n## Metrics\n\n| metric | value |\n|---|---|\n");
        for (metric, value) in &facts.known.evidence.metrics {
            row(&mut card, metric, &value.to_string());
        }
    }
    training(&mut card, facts);
    evidence::markdown(&mut card, facts);
    card
}

fn training(card: &mut String, facts: &Lineage) {
    card.push_str("\n## Training\n\n");
    let Some(run) = &facts.run else {
        let _ = match facts.run_hidden() {
            Some(why) => writeln!(card, "Its run is not shown: {why}."),
            None => writeln!(card, "It is not known which run it came from."),
        };
        return;
    };
    let _ = writeln!(
        card,
        "Run `{}` ({}) by {}.",
        run.info.run_id,
        text(&run.info.name),
        text(&run.info.user_id)
    );
    table(card, &["code", ""], code_tags(run));
    let data = run.dataset_inputs.0.iter().map(|input| {
        let used = input.tags.get("mlflow.data.context").map_or("", String::as_str);
        (input.dataset.name.as_str(), format!("`{}` {used}", input.dataset.digest))
    });
    table(card, &["data set", "digest, use"], data);
    let params = run.param_keys.iter().zip(&run.param_values);
    table(card, &["parameter", "value"], params);
}

fn tensors(card: &mut String, title: &str, tensors: &[Tensor]) {
    if tensors.is_empty() {
        return;
    }
    let _ = write!(card, "\n## {title}\n\n| name | type | shape |\n|---|---|---|\n");
    for tensor in tensors {
        let _ = writeln!(card, "| {} | {} | {:?} |", text(&tensor.name), tensor.datatype, tensor.shape);
    }
}

fn table<N: AsRef<str>, V: AsRef<str>>(
    card: &mut String,
    header: &[&str; 2],
    rows: impl Iterator<Item = (N, V)>,
) {
    let mut rows = rows.peekable();
    if rows.peek().is_none() {
        return;
    }
    let _ = write!(card, "\n| {} | {} |\n|---|---|\n", header[0], header[1]);
    for (name, value) in rows {
        row(card, name.as_ref(), value.as_ref());
    }
}

fn row(card: &mut String, name: &str, value: &str) {
    let _ = writeln!(card, "| {} | {} |", text(name), text(value));
}

/// Text that stays in its cell and makes no markup that runs anywhere.
fn text(text: &str) -> String {
    text.replace(['\n', '\r'], " ").replace('|', "\\|").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_strangers_stays_in_its_cell() {
        assert_eq!(text("a|b\nc <script>"), "a\\|b c &lt;script>");
        let mut card = String::new();
        row(&mut card, "lr", "0.1 | 0.2");
        assert_eq!(card, "| lr | 0.1 \\| 0.2 |\n");
    }
}
