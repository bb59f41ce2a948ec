//! A look into a version's files before it is made: is there an ONNX model, is it whole, and does it fit its
//! signature?

use slipway_artifact_store::ArtifactStore;
use slipway_domain::ensemble::{Definition, ENSEMBLE_FILE, MAX_FILE_BYTES};
use slipway_domain::registry::{Signature, TensorSpec, check_signature, normalise_artifact_path};
use slipway_http_server::json;
use slipway_model_scan::Policy;
use tokio_util::io::StreamReader;

use super::{mlmodel, onnx, scan};
use crate::error::{Error, of_file};
use crate::store::artifacts::{Artifact, within};
use crate::store::facts::Facts;

/// Revision of the inspection. Raise it when files are judged differently than before.
///
/// 1: ZipMap outputs are served, so classifiers of scikit-learn that were not servable are.
/// 2: files are safe only when all of their content was understood.
pub(crate) const INSPECTION: u32 = 2;

const MAX_MLMODEL_BYTES: u64 = 4 * 1024 * 1024;

/// Reads what serving needs to know from the files under `root`.
///
/// # Errors
/// A file is not what its name or the MLmodel file says, which the message names; or the store is
/// unreachable.
pub(super) async fn inspect(
    store: &ArtifactStore,
    root: &str,
    files: &[Artifact],
    policy: &Policy,
) -> Result<Facts, Error> {
    if files.is_empty() {
        return Ok(Facts { inspection: INSPECTION, ..Facts::unservable("its source has no files") });
    }
    let mut facts = Facts { inspection: INSPECTION, ..read_model(store, root, files).await? };
    let model = (facts.onnx_path.as_deref(), facts.external_data.as_slice());
    let scan = scan::scan(store, root, files, model, policy).await?;
    if facts.unservable_reason.is_none() {
        facts.unservable_reason = scan.danger();
    }
    facts.scan = Some(scan);
    Ok(facts)
}

/// What the ONNX model and the MLmodel file say.
async fn read_model(store: &ArtifactStore, root: &str, files: &[Artifact]) -> Result<Facts, Error> {
    let find = |path: &str| files.iter().find(|file| within(root, &file.path) == path);
    let mlmodel = match find("MLmodel") {
        None => mlmodel::MlModel::default(),
        Some(file) => {
            let bytes = store
                .get_bytes(&file.blob_key, MAX_MLMODEL_BYTES)
                .await
                .map_err(|error| of_file(&file.path, error))?;
            let text = std::str::from_utf8(&bytes).map_err(|_| {
                Error::invalid("source", "the file MLmodel of the model's source is not UTF-8 text")
            })?;
            mlmodel::parse(text)?
        }
    };
    let ensemble = find(ENSEMBLE_FILE);
    if let Some(file) = ensemble {
        check_ensemble(store, file).await?;
    }
    let Some(onnx_path) = onnx_file(root, files, &mlmodel)? else {
        if ensemble.is_some() {
            // What it calls is known where it is served.
            return Ok(Facts { signature: mlmodel.signature, ..Facts::default() });
        }
        let flavors = if mlmodel.flavors.is_empty() { "none".to_owned() } else { mlmodel.flavors.join(", ") };
        return Ok(Facts {
            signature: mlmodel.signature,
            ..Facts::unservable(format!(
                "it holds no ONNX model (flavors: {flavors}); log it with mlflow.onnx"
            ))
        });
    };
    let file = find(&onnx_path).ok_or_else(|| {
        Error::invalid(
            "source",
            format!("MLmodel names '{onnx_path}' as the ONNX model, but there is no such file"),
        )
    })?;
    let header = read_header(store, file, &onnx_path).await?;
    let size = |path: &str| find(path).map(|file| u64::try_from(file.size_bytes).unwrap_or_default());
    let (external_data, short) = external_files(&onnx_path, &header, size)?;
    let mismatch = mlmodel.signature.as_deref().and_then(|json| signature_mismatch(json, &header.inputs));
    Ok(Facts {
        unservable_reason: header.unservable.or(short).or(mismatch),
        onnx_path: Some(onnx_path),
        inputs: header.inputs.into_iter().map(Into::into).collect(),
        outputs: header.outputs,
        joining: Some(header.joining),
        external_data,
        signature: mlmodel.signature,
        ..Facts::default()
    })
}

/// Serving would find out when the version is rolled out, which is late.
async fn check_ensemble(store: &ArtifactStore, file: &Artifact) -> Result<(), Error> {
    let refused = |why: String| {
        Error::invalid("source", format!("the file '{ENSEMBLE_FILE}' describes no ensemble: {why}"))
    };
    if u64::try_from(file.size_bytes).is_ok_and(|bytes| bytes > MAX_FILE_BYTES) {
        return Err(refused(format!("it is longer than {MAX_FILE_BYTES} bytes")));
    }
    let bytes =
        store.get_bytes(&file.blob_key, MAX_FILE_BYTES).await.map_err(|error| of_file(&file.path, error))?;
    let definition: Definition = json::read(&bytes).map_err(|error| refused(error.to_string()))?;
    definition.checked().map(|_checked| ()).map_err(refused)
}

/// The ONNX flavour's file; without an MLmodel file, the only `.onnx` file at the top.
fn onnx_file(root: &str, files: &[Artifact], mlmodel: &mlmodel::MlModel) -> Result<Option<String>, Error> {
    let paths: Vec<&str> = files.iter().map(|file| within(root, &file.path)).collect();
    if let Some(data) = &mlmodel.onnx_data {
        let data = normalise_artifact_path(data)?;
        // Models with external data may lie in a folder of their own.
        let nested = format!("{data}/model.onnx");
        return Ok(Some(if paths.contains(&nested.as_str()) { nested } else { data }));
    }
    if !mlmodel.flavors.is_empty() {
        return Ok(None);
    }
    let mut top = paths.into_iter().filter(|path| path.ends_with(".onnx") && !path.contains('/'));
    match (top.next(), top.next()) {
        (Some(only), None) => Ok(Some(only.to_owned())),
        _ => Ok(None),
    }
}

async fn read_header(store: &ArtifactStore, file: &Artifact, path: &str) -> Result<onnx::Header, Error> {
    let download = store.get(&file.blob_key).await.map_err(|error| of_file(&file.path, error))?;
    let source = StreamReader::new(Box::pin(download.into_stream()));
    let size_bytes = u64::try_from(file.size_bytes).unwrap_or_default();
    onnx::read(source, size_bytes).await.map_err(|fault| match fault {
        onnx::Fault::Malformed(why) => {
            Error::invalid("source", format!("the file '{path}' is no ONNX model: {why}"))
        }
        onnx::Fault::Read(error) => {
            tracing::warn!(%error, "the artifact store interrupted the transfer");
            Error::unavailable("the artifact store")
        }
    })
}

/// Paths within the version of the files that hold weights, each of which has to be one of the version's own,
/// and why one of them is too short for the tensors in it.
fn external_files(
    onnx_path: &str,
    header: &onnx::Header,
    size_bytes: impl Fn(&str) -> Option<u64>,
) -> Result<(Vec<String>, Option<String>), Error> {
    let folder = onnx_path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let (mut found, mut short) = (Vec::new(), None);
    for (location, needed) in &header.external_data {
        let path = if folder.is_empty() { location.clone() } else { format!("{folder}/{location}") };
        let Some(size) = size_bytes(&path) else {
            return Err(Error::invalid(
                "source",
                format!("'{onnx_path}' refers to weights in '{path}', but there is no such file"),
            ));
        };
        if size < *needed {
            short.get_or_insert(format!(
                "its weights lie in '{path}' up to byte {needed}, and the file has {size} bytes"
            ));
        }
        found.push(path);
    }
    Ok((found, short))
}

fn signature_mismatch(json: &str, inputs: &[TensorSpec]) -> Option<String> {
    let checked = Signature::parse(json).and_then(|signature| check_signature(&signature, inputs));
    checked.err().map(|invalid| format!("its logged signature does not match its graph: {}", invalid.message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> Artifact {
        Artifact {
            path: format!("1/m/artifacts/{path}"),
            blob_key: String::new(),
            size_bytes: 1,
            sha256: String::new(),
        }
    }

    fn header_with(location: &str) -> onnx::Header {
        onnx::Header { external_data: [(location.to_owned(), 100)].into(), ..onnx::Header::default() }
    }

    #[test]
    fn weights_must_lie_within_the_version_and_be_whole() {
        let files = |path: &str| match path {
            "data/weights.bin" => Some(100),
            "data/short.bin" => Some(99),
            _ => None,
        };
        let look = |location| external_files("data/model.onnx", &header_with(location), files);
        assert_eq!(look("weights.bin").unwrap(), (vec!["data/weights.bin".to_owned()], None));
        assert!(look("short.bin").unwrap().1.unwrap().contains("up to byte 100, and the file has 99 bytes"));
        let refused = look("missing.bin").unwrap_err();
        assert!(refused.to_string().contains("'data/missing.bin', but there is no such file"), "{refused}");
    }

    #[test]
    fn the_onnx_file_is_the_one_that_mlmodel_names() {
        let root = "1/m/artifacts";
        let files = [file("MLmodel"), file("a.onnx"), file("b.onnx")];
        let named = mlmodel::MlModel {
            onnx_data: Some("b.onnx".into()),
            flavors: vec!["onnx".into()],
            signature: None,
        };
        assert_eq!(onnx_file(root, &files, &named).unwrap().as_deref(), Some("b.onnx"));
        let nameless = mlmodel::MlModel::default();
        assert_eq!(onnx_file(root, &files, &nameless).unwrap(), None, "which of the two is not known");
        assert_eq!(onnx_file(root, &files[..2], &nameless).unwrap().as_deref(), Some("a.onnx"));
    }
}
