//! Calls of kubectl as the administrator.

use serde_json::Value;

use crate::{Cluster, Error, command};

impl Cluster {
    /// Runs kubectl as the administrator, and returns its output without the final line break.
    ///
    /// # Errors
    /// It fails; the error has what it wrote.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String, Error> {
        self.kubectl_with(arguments, None)
    }

    /// Creates or changes objects: YAML or JSON, also several documents.
    ///
    /// # Errors
    /// The API server rejects one of them.
    pub fn apply(&self, manifest: &str) -> Result<(), Error> {
        let arguments = ["apply", "--server-side", "--force-conflicts", "--filename", "-"];
        self.kubectl_with(&arguments, Some(manifest)).map(drop)
    }

    /// Gets an object or a list, e.g. `&["--namespace", "a", "job", "b"]`.
    ///
    /// # Errors
    /// There is no such object.
    pub fn get(&self, arguments: &[&str]) -> Result<Value, Error> {
        let all = [&["get", "--output", "json"], arguments].concat();
        let text = self.kubectl(&all)?;
        serde_json::from_str(&text).map_err(|error| Error::Command {
            command: format!("kubectl {}", all.join(" ")),
            reason: format!("its output is not JSON: {error}"),
        })
    }

    pub(crate) fn kubectl_with(&self, arguments: &[&str], input: Option<&str>) -> Result<String, Error> {
        let mut command = self.command(self.program("kubectl"));
        command.args(arguments);
        command::output(&mut command, &format!("kubectl {}", arguments.join(" ")), input)
    }
}
