//! A namespace per test.

use crate::{Cluster, Error};

const ID_CHARACTERS: usize = 10;

/// A namespace of one test. Dropping it deletes the namespace with everything in it, without waiting.
#[derive(Debug)]
pub struct TestNamespace<'cluster> {
    cluster: &'cluster Cluster,
    name: String,
}

impl TestNamespace<'_> {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        self.cluster
    }

    /// Runs kubectl as the administrator in this namespace.
    ///
    /// # Errors
    /// It fails; the error has what it wrote.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String, Error> {
        self.cluster.kubectl(&[&["--namespace", &self.name], arguments].concat())
    }

    /// Creates or changes objects of this namespace.
    ///
    /// # Errors
    /// The API server rejects one of them.
    pub fn apply(&self, manifest: &str) -> Result<(), Error> {
        let arguments = ["--namespace", &self.name, "apply", "--server-side", "--filename", "-"];
        self.cluster.kubectl_with(&arguments, Some(manifest)).map(drop)
    }
}

impl Drop for TestNamespace<'_> {
    fn drop(&mut self) {
        let _ = self.cluster.kubectl(&["delete", "namespace", &self.name, "--wait=false"]);
    }
}

impl Cluster {
    /// A new namespace with a random name. From level `control` on, pods can be created in it.
    ///
    /// # Panics
    /// The API server rejects it.
    #[expect(clippy::expect_used, reason = "a test without its namespace can only fail")]
    pub fn namespace(&self) -> TestNamespace<'_> {
        let id = slipway_runtime::id::random().simple().to_string();
        let name = format!("test-{}", &id[..ID_CHARACTERS]);
        self.kubectl(&["create", "namespace", &name]).expect("a namespace of one's own");
        let namespace = TestNamespace { cluster: self, name };
        if self.level() > crate::Level::Api {
            let account = ["wait", "--for=create", "serviceaccount/default", "--timeout=300s"];
            namespace.kubectl(&account).expect("its default ServiceAccount");
        }
        namespace
    }
}
