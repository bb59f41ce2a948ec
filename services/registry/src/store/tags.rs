//! Keys of tags that clients set and to which the registry gives a meaning.
//!
//! They are data: rows contain them, and so do the clients' programs. The registry's own words for them are
//! the names of the constants.

use serde::Serialize as _;

/// Name of a run.
pub(crate) const RUN_NAME_TAG: &str = "mlflow.runName";
/// Models that a run logged by the old way, a JSON list.
pub(crate) const MODEL_HISTORY_TAG: &str = "mlflow.log-model.history";
/// Versions created from a logged model, a JSON list.
pub(crate) const VERSIONS_TAG: &str = "mlflow.modelVersions";
/// Marks a registered model as a prompt. Every search of the clients asks for models *without* it as
/// `!= 'true'`.
pub(crate) const PROMPT_TAG: &str = "mlflow.prompt.is_prompt";
/// Tables that a run logged: JSON in ASCII, as Python writes it.
pub(crate) const LOGGED_ARTIFACTS_TAG: &str = "mlflow.loggedArtifacts";
/// Program that a run executed.
pub(crate) const PROGRAM_TAG: &str = "mlflow.source.name";
/// Repository of its code.
pub(crate) const REPOSITORY_TAG: &str = "mlflow.source.git.repoURL";
/// Branch of its code.
pub(crate) const BRANCH_TAG: &str = "mlflow.source.git.branch";
/// Revision of its code.
pub(crate) const REVISION_TAG: &str = "mlflow.source.git.commit";
/// What a run used a dataset for, a tag of the input.
pub(crate) const DATASET_CONTEXT_TAG: &str = "mlflow.data.context";

/// The value of [`VERSIONS_TAG`], spaced as MLflow's own server writes it: clients compare it as text.
pub(crate) fn versions_text(versions: &[serde_json::Value]) -> String {
    /// Python's separators: `, ` and `: `.
    struct Spaced;

    impl serde_json::ser::Formatter for Spaced {
        fn begin_array_value<W: std::io::Write + ?Sized>(
            &mut self,
            writer: &mut W,
            first: bool,
        ) -> std::io::Result<()> {
            if first { Ok(()) } else { writer.write_all(b", ") }
        }

        fn begin_object_key<W: std::io::Write + ?Sized>(
            &mut self,
            writer: &mut W,
            first: bool,
        ) -> std::io::Result<()> {
            if first { Ok(()) } else { writer.write_all(b", ") }
        }

        fn begin_object_value<W: std::io::Write + ?Sized>(&mut self, writer: &mut W) -> std::io::Result<()> {
            writer.write_all(b": ")
        }
    }

    let mut text = Vec::new();
    let written = versions.serialize(&mut serde_json::Serializer::with_formatter(&mut text, Spaced));
    written.ok().and_then(|()| String::from_utf8(text).ok()).unwrap_or_default()
}
