//! The file of an ensemble.

use std::path::Path;

use slipway_domain::ensemble::{Definition, ENSEMBLE_FILE, MAX_FILE_BYTES};
use slipway_http_server::json;

/// Reads a file.
///
/// # Errors
/// It does not parse, or cannot be: the reason names the field or the step.
pub(crate) fn read(path: &Path) -> Result<Definition, String> {
    let complain = |reason: String| format!("its `{ENSEMBLE_FILE}`: {reason}");
    let described = std::fs::metadata(path).map_err(|error| complain(error.to_string()))?;
    if described.len() > MAX_FILE_BYTES {
        return Err(complain(format!("longer than {MAX_FILE_BYTES} bytes")));
    }
    let bytes = std::fs::read(path).map_err(|error| complain(error.to_string()))?;
    let definition: Definition = json::read(&bytes).map_err(|error| complain(error.to_string()))?;
    definition.checked().map_err(complain)
}

#[cfg(test)]
mod tests {
    use slipway_inference::Datatype;

    use super::*;

    #[test]
    fn a_file_says_what_an_ensemble_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(ENSEMBLE_FILE);
        let text = r#"{
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
            "steps": [
                {"model": "b", "inputs": {"in": "middle"}, "outputs": {"out": "y"}},
                {"model": "a", "version": "3", "inputs": {"x": "x"}, "outputs": {"out": "middle"}}
            ],
            "outputs": [{"name": "y"}]
        }"#;
        std::fs::write(&path, text).unwrap();
        let definition = read(&path).unwrap();
        assert_eq!(
            (definition.inputs[0].datatype, definition.outputs[0].datatype),
            (Some(Datatype::Fp32), None)
        );
        assert_eq!(definition.steps[1].version.as_deref(), Some("3"));
        for (from, to, expected) in [
            ("FP32", "FLOAT", "'FLOAT' is not a datatype"),
            (
                r#""version": "3""#,
                r#""version": "latest""#,
                "step 2 ('a') has version 'latest'; expected digits",
            ),
            (r#""model": "b""#, r#""modell": "b""#, "unknown field `modell`"),
        ] {
            std::fs::write(&path, text.replace(from, to)).unwrap();
            let refused = read(&path).unwrap_err();
            assert!(refused.contains(expected), "{refused}");
        }
    }
}
