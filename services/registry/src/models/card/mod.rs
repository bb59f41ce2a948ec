//! The model card of a version: what it is, where it came from, how it scored, and what is known against it.
//!
//! It is generated from the registry's data; only the description is written by hand. The sections follow
//! "Model Cards for Model Reporting" (Mitchell et al., 2019) as far as the facts go.

mod evidence;

use std::fmt::Write as _;

use slipway_domain::registry::promotion::CardField;
use slipway_model_scan::Verdict;

use crate::models::lineage::{Lineage, code_tags};
use crate::store::facts::Scan;
use crate::store::facts::Tensor;
use crate::store::tags::DATASET_CONTEXT_TAG;

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
        None => "its files were not scanned".to_owned(),
        Some(scan) if scan.verdict == Verdict::Safe => format!("{} files found safe to load", scan.scanned),
        Some(scan) => scan.reason().unwrap_or_default(),
    };
    row(&mut card, "safety", &safety);
    if let Some(why) = &known.profile_misfit {
        row(&mut card, "training profile does not match", why);
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
            None => writeln!(card, "Its run is unknown."),
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
        let used = input.tags.get(DATASET_CONTEXT_TAG).map_or("", String::as_str);
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
