//! A router whose handlers describe themselves.
//!
//! Only tests read the descriptions: they compare them with the committed document, which is the one that the
//! service serves. A program without them is smaller by about a megabyte.

use std::convert::Infallible;
use std::fmt;

use axum::Router;
use axum::extract::Request;
use axum::handler::Handler;
use axum::response::IntoResponse;
use axum::routing::{MethodFilter, MethodRouter, Route};
use tower::{Layer, Service};
use utoipa::__dev::{SchemaReferences, Tags};
use utoipa::openapi::path::Paths;
use utoipa::openapi::{OpenApi, RefOr, Schema};
use utoipa_axum::PathItemExt as _;

use crate::described::Described;

/// Routes, and the descriptions of their handlers where the crate that mounts them is compiled as a test.
#[derive(Debug)]
pub struct DocumentedRouter<S> {
    pub(crate) routes: Router<S>,
    pub(crate) head: Option<Described>,
    pub(crate) descriptions: Vec<Description>,
}

/// A part of a document, in the order in which the parts take effect.
#[derive(Debug)]
pub(crate) enum Description {
    Operations(fn(&mut Operations)),
    /// `other` has the operations of `path`.
    Also {
        path: String,
        other: String,
    },
    Adjusted(fn(&mut OpenApi)),
}

impl<S: Clone + Send + Sync + 'static> Default for DocumentedRouter<S> {
    fn default() -> Self {
        Self { routes: Router::new(), head: None, descriptions: Vec::new() }
    }
}

impl<S: Clone + Send + Sync + 'static> DocumentedRouter<S> {
    /// A router without routes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the handlers of a path, as [`routes!`](crate::routes) names them.
    #[must_use]
    pub fn routes(mut self, mounted: Mounted<S>) -> Self {
        self.routes = self.routes.route(&mounted.path, mounted.methods);
        self.descriptions.extend(mounted.describe.map(Description::Operations));
        self
    }

    /// Adds `methods` at `other`, a path whose operations are those of `path`. Its further parameters are
    /// described as text.
    #[must_use]
    pub fn also(mut self, path: &str, other: &str, methods: MethodRouter<S>) -> Self {
        self.routes = self.routes.route(other, methods);
        self.descriptions.push(Description::Also { path: path.to_owned(), other: other.to_owned() });
        self
    }

    /// Adds the routes of another router.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.routes = self.routes.merge(other.routes);
        self.descriptions.extend(other.descriptions);
        self
    }

    /// Applies a layer to all handlers added so far.
    #[must_use]
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<Route> + Clone + Send + Sync + 'static,
        L::Service: Service<Request, Error = Infallible> + Clone + Send + Sync + 'static,
        <L::Service as Service<Request>>::Response: IntoResponse + 'static,
        <L::Service as Service<Request>>::Future: Send + 'static,
    {
        self.routes = self.routes.layer(layer);
        self
    }

    /// Changes the document once all operations added so far are in it. For tests.
    #[must_use]
    pub fn adjusted(mut self, adjust: fn(&mut OpenApi)) -> Self {
        self.descriptions.push(Description::Adjusted(adjust));
        self
    }
}

impl Described {
    /// A router whose handlers describe themselves under this head.
    pub fn router<S: Clone + Send + Sync + 'static>(self) -> DocumentedRouter<S> {
        DocumentedRouter { head: Some(self), ..DocumentedRouter::default() }
    }
}

/// The handlers of one path.
#[derive(Debug)]
pub struct Mounted<S> {
    path: String,
    methods: MethodRouter<S>,
    describe: Option<fn(&mut Operations)>,
}

impl<S: Clone + Send + Sync + 'static> Default for Mounted<S> {
    fn default() -> Self {
        Self { path: String::new(), methods: MethodRouter::new(), describe: None }
    }
}

impl<S: Clone + Send + Sync + 'static> Mounted<S> {
    /// Adds a handler at the path and with the methods that its description `P` names.
    #[must_use]
    pub fn on<P, H, T>(mut self, _: P, handler: H) -> Self
    where
        P: utoipa::Path,
        H: Handler<T, S>,
        T: 'static,
    {
        self.path = P::path();
        let methods = P::methods();
        if let Some(filter) = methods.iter().map(|method| method.to_method_filter()).reduce(MethodFilter::or)
        {
            self.methods = self.methods.on(filter, handler);
        }
        self
    }

    /// Keeps the descriptions of the handlers.
    #[must_use]
    pub fn described(mut self, describe: fn(&mut Operations)) -> Self {
        self.describe = Some(describe);
        self
    }
}

/// Operations as `#[utoipa::path]` describes them, with the schemas that they name.
#[derive(Default)]
pub struct Operations {
    pub(crate) paths: Paths,
    pub(crate) schemas: Vec<(String, RefOr<Schema>)>,
}

impl fmt::Debug for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operations").field("paths", &self.paths.paths.keys()).finish_non_exhaustive()
    }
}

impl Operations {
    /// Adds the operation that `P` describes.
    pub fn add<P: utoipa::Path + Tags<'static> + SchemaReferences>(&mut self) {
        let mut operation = P::operation();
        let tags = P::tags();
        if !tags.is_empty() {
            operation.tags.get_or_insert_default().extend(tags.into_iter().map(str::to_owned));
        }
        P::schemas(&mut self.schemas);
        self.paths.add_path_operation(P::path(), P::methods(), operation);
    }
}

/// The handlers of one path, each with `#[utoipa::path]`.
#[macro_export]
macro_rules! routes {
    ($($handler:ident),+ $(,)?) => {
        $crate::paste! {{
            let mounted = $crate::Mounted::default()$(.on([<__path_ $handler>], $handler))+;
            #[cfg(test)]
            let mounted = mounted.described(|operations| { $(operations.add::<[<__path_ $handler>]>();)+ });
            mounted
        }}
    };
}
