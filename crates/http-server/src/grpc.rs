//! gRPC services on the port of a REST router, and reflection, which shows them to tools such as grpcurl.
//!
//! Source: gRPC Server Reflection Protocol
//! (<https://github.com/grpc/grpc/blob/master/doc/server-reflection.md>).

use std::convert::Infallible;

use anyhow::Context as _;
use axum::Router;
use axum::extract::Request;
use tonic::server::NamedService;
use tonic_reflection::server::Builder;
use tower::Service;

/// Names of the reflection services, as reflection lists them.
const REFLECTION: [&str; 2] =
    ["grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"];

/// gRPC services that share a port, and their names. What is mounted here is what reflection lists.
#[derive(Debug, Clone, Default)]
pub struct Grpc {
    router: Router,
    names: Vec<&'static str>,
}

impl Grpc {
    /// gRPC on the same port as these REST routes.
    pub fn beside(rest: Router) -> Self {
        Self { router: rest, names: Vec::new() }
    }

    /// Mounts a service.
    #[must_use]
    pub fn with<S>(mut self, service: S) -> Self
    where
        S: Service<Request, Response = http::Response<tonic::body::Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.names.push(S::NAME);
        self.router = self.router.route_service(&format!("/{}/{{*method}}", S::NAME), service);
        self
    }

    /// Changes the routes that are mounted so far, e.g. by a layer.
    #[must_use]
    pub fn map(self, change: impl FnOnce(Router) -> Router) -> Self {
        Self { router: change(self.router), names: self.names }
    }

    /// With the services of another one.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.names.extend(other.names);
        Self { router: self.router.merge(other.router), names: self.names }
    }

    /// The routes, without reflection.
    pub fn into_router(self) -> Router {
        self.router
    }

    /// The reflection services, in both versions of the protocol: they list the services that are mounted and
    /// themselves. `descriptors` are encoded sets of file descriptors, which may have other services, too.
    ///
    /// # Errors
    /// The descriptors cannot be read.
    pub fn reflection(&self, descriptors: &[&'static [u8]]) -> anyhow::Result<Self> {
        let builder = || {
            let sets = descriptors.iter().chain(&[
                tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
                tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
            ]);
            let builder = Builder::configure().include_reflection_service(false);
            let builder =
                sets.fold(builder, |builder, set| builder.register_encoded_file_descriptor_set(set));
            let names = self.names.iter().chain(&REFLECTION);
            names.fold(builder, |builder, name| builder.with_service_name(*name))
        };
        const UNREADABLE: &str = "the descriptors of the gRPC services";
        let v1 = builder().build_v1().context(UNREADABLE)?;
        let v1alpha = builder().build_v1alpha().context(UNREADABLE)?;
        Ok(Self::default().with(v1).with(v1alpha))
    }

    /// The routes, with reflection.
    ///
    /// # Errors
    /// As of [`Self::reflection`].
    pub fn reflected(self, descriptors: &[&'static [u8]]) -> anyhow::Result<Router> {
        let reflection = self.reflection(descriptors)?;
        Ok(self.merge(reflection).into_router())
    }
}
