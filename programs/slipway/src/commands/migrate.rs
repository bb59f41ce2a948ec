//! `slipway migrate`: manifests of other systems as those of Slipway.

use anyhow::{Context as _, anyhow, bail};
use clap::Subcommand;
use serde_json::{Value, json};
use slipway_kubernetes_resources::inference_service::{InferenceService, InferenceServiceKind, translate};
use slipway_kubernetes_resources::{API_VERSION, Kind as _};

use crate::commands::context::read_text;
use crate::output::{self, errln};

/// See `slipway migrate --help`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Prints InferenceServices of KServe as ModelDeployments. What has no counterpart is listed on standard
    /// error. Other objects of the file are left as they are.
    Kserve {
        /// YAML or JSON file with one or more objects, or `-` for standard input.
        file: String,
    },
}

pub(crate) fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Kserve { file } => kserve(&file),
    }
}

fn kserve(file: &str) -> anyhow::Result<()> {
    let text = read_text(file)?;
    let mut migrated = Vec::new();
    for document in documents(&text) {
        let object: Value = serde_saphyr::from_str(&document).with_context(|| file.to_owned())?;
        if object.is_null() {
            continue;
        }
        migrated.push(if is_service(&object) { model_deployment(file, &object)? } else { object });
    }
    if !migrated.iter().any(|object| object["apiVersion"] == API_VERSION) {
        bail!("{file}: expected an InferenceService (serving.kserve.io/v1beta1), and there is none");
    }
    let texts: Result<Vec<String>, _> = migrated.iter().map(serde_saphyr::to_string).collect();
    output::block(&texts?.join("---\n"));
    Ok(())
}

/// The documents of a YAML file.
fn documents(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in text.lines() {
        if line.trim_end() == "---" {
            documents.push(String::new());
        } else if let Some(last) = documents.last_mut() {
            last.push_str(line);
            last.push('\n');
        }
    }
    documents.retain(|document| !document.trim().is_empty());
    documents
}

fn is_service(object: &Value) -> bool {
    object["kind"] == InferenceServiceKind::KIND && object["apiVersion"] == InferenceServiceKind::API_VERSION
}

/// The ModelDeployment that an InferenceService means.
fn model_deployment(file: &str, object: &Value) -> anyhow::Result<Value> {
    let service: InferenceService =
        serde_json::from_value(object.clone()).with_context(|| file.to_owned())?;
    let name = service.name().to_owned();
    let translated = translate(&service).map_err(|invalid| anyhow!("{file}: {name}: {invalid}"))?;
    for field in translated.ignored {
        errln!("{file}: {name}: dropped, since it has no counterpart: {field}");
    }
    let mut metadata = json!({});
    for field in ["name", "namespace", "labels", "annotations"] {
        if let Some(value) = object["metadata"].get(field) {
            metadata[field] = value.clone();
        }
    }
    Ok(json!({"apiVersion": API_VERSION, "kind": "ModelDeployment", "metadata": metadata,
        "spec": translated.spec}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_document_of_a_file_is_read() {
        assert_eq!(documents("---\na: 1\n---\n\n---\nb: 2\n"), ["a: 1\n", "b: 2\n"]);
    }

    #[test]
    fn an_inference_service_becomes_a_model_deployment_of_the_same_name() {
        let object = json!({"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService",
            "metadata": {"name": "fraud", "namespace": "ml", "resourceVersion": "7"},
            "spec": {"predictor": {"onnx": {"storageUri": "s3://models/fraud"}}}});
        assert!(is_service(&object));
        let made = model_deployment("f.yaml", &object).unwrap();
        assert_eq!(made["metadata"], json!({"name": "fraud", "namespace": "ml"}));
        assert_eq!(made["spec"]["model"]["storageUri"], "s3://models/fraud");
        let mut refused = object;
        refused["spec"]["predictor"] = json!({"sklearn": {"storageUri": "s3://m/f"}});
        let error = model_deployment("f.yaml", &refused).unwrap_err().to_string();
        assert!(error.contains("f.yaml: fraud: spec.predictor.sklearn"), "{error}");
    }
}
