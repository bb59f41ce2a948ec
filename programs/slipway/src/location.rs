//! Where the services are: on this machine by the data directory, or in a cluster by the kubeconfig.

use secrecy::SecretString;

use crate::connection::Connection;
use crate::endpoints::Endpoints;
use crate::kubernetes::{Reached, reach};
use crate::token;

/// The services of a platform. Those in a cluster are reached for as long as this value lives.
pub(crate) struct Location {
    pub(crate) endpoints: Endpoints,
    /// The caller's token, or the administrator's where the platform is the caller's.
    pub(crate) token: Option<SecretString>,
    _reached: Option<Reached>,
}

impl Location {
    /// The platform that the options name.
    ///
    /// # Errors
    /// No platform runs there.
    pub(crate) async fn find(connection: &Connection) -> anyhow::Result<Self> {
        if !connection.kube.is_set() {
            let endpoints = Endpoints::read(&connection.data_dir)?;
            return Ok(Self { endpoints, token: token::for_platform(&connection.data_dir), _reached: None });
        }
        let mut reached = reach(&connection.kube).await?;
        let endpoints = Endpoints::of_services(std::mem::take(&mut reached.services));
        let token = token::own().or_else(|| reached.admin_token.take());
        Ok(Self { endpoints, token, _reached: Some(reached) })
    }
}
