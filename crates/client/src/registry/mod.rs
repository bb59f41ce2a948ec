//! The registry's REST API, v1.

mod access;
mod cleanup;
mod events;
mod experiments;
mod models;
mod runs;
mod trust;
mod versions;
mod webhooks;

pub use events::EventStream;

use reqwest::Method;
use slipway_api::rest::registry::ArtifactPage;
use slipway_api::rest::registry::{
    ArtifactsQuery, ContentQuery, Preview, PreviewQuery, UploadQuery, UploadedArtifact,
};

use crate::{ByteStream, Client, Error, Request};

/// A client of the registry. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Registry {
    client: Client,
}

impl From<Client> for Registry {
    fn from(client: Client) -> Self {
        Self { client }
    }
}

impl Registry {
    fn get(&self, segments: &[&str]) -> Request<'_> {
        self.request(Method::GET, segments)
    }

    /// A request for a path below `/api/v1`.
    fn request(&self, method: Method, segments: &[&str]) -> Request<'_> {
        self.client.request(method, &[&["api", "v1"], segments].concat())
    }
}

/// Owner of artifacts: a run or a version.
#[derive(Debug, Clone, Copy)]
pub enum Owner<'name> {
    /// The run of that ID.
    Run(&'name str),
    /// A version of a model.
    Version {
        /// Registered model.
        model: &'name str,
        /// Version number.
        version: &'name str,
    },
}

impl<'name> Owner<'name> {
    fn path(self, rest: &[&'name str]) -> Vec<&'name str> {
        let owner = match self {
            Self::Run(run) => vec!["runs", run],
            Self::Version { model, version } => vec!["models", model, "versions", version],
        };
        [&owner[..], &["artifacts"], rest].concat()
    }
}

impl Registry {
    /// Lists the entries of a directory.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn artifacts(&self, owner: Owner<'_>, query: &ArtifactsQuery) -> Result<ArtifactPage, Error> {
        self.get(&owner.path(&[])).query(query).read().await
    }

    /// Reads the beginning of a file.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn preview(&self, owner: Owner<'_>, query: &PreviewQuery) -> Result<Preview, Error> {
        self.get(&owner.path(&["preview"])).query(query).read().await
    }

    /// Uploads a file of a run; a file that is there is replaced.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn upload(
        &self,
        run_id: &str,
        query: &UploadQuery,
        file: Vec<u8>,
    ) -> Result<UploadedArtifact, Error> {
        let path = Owner::Run(run_id).path(&["content"]);
        self.request(Method::PUT, &path).query(query).file(file).read_at_last().await
    }

    /// Downloads a file.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn download(&self, owner: Owner<'_>, query: &ContentQuery) -> Result<ByteStream, Error> {
        self.get(&owner.path(&["content"])).query(query).stream().await
    }
}
