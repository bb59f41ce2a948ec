//! Tokens of the registry, checked by what it published. A role on a model is a role on the deployments that
//! serve it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use http::{HeaderMap, HeaderValue, header};
use slipway_access::audit::{CallSender, Calls, calls};
use slipway_access::{CheckConfig, Refused, Switch, Verifier, follow};
use slipway_domain::access::{Role, Scope};
use slipway_event_bus::EventBus;
use slipway_service_kit::Tasks;
use slipway_service_kit::health::Readiness;
use slipway_service_kit::metrics::Metrics;
use tokio_util::sync::CancellationToken;

use super::{Need, Refusal};
use crate::failure::Kind;
use crate::models::routing::Routing;

/// File in the cache directory with the last known tokens and roles.
const COPY: &str = "access.json";

/// Checks callers by the roles that the registry granted them.
#[derive(Debug)]
pub(super) struct Granted {
    verifier: Verifier,
    routing: Arc<Routing>,
    calls: Calls,
    /// Until the service starts to send.
    sender: Mutex<Option<CallSender>>,
}

/// What was verified is used for this long, in milliseconds: a request is identified and checked at once.
const VERIFIED_MS: u128 = 250;

/// A caller with a token of the registry. The header is verified again for later messages of a stream.
#[derive(Debug)]
pub(crate) struct GrantedCaller {
    caller: slipway_access::Caller,
    authorization: HeaderValue,
    verified: Instant,
}

impl GrantedCaller {
    pub(super) fn principal(&self) -> &str {
        &self.caller.principal
    }
}

impl Granted {
    /// `None` with `--auth off`.
    pub(super) fn new(
        config: &CheckConfig,
        cache_dir: &Path,
        metrics: &Metrics,
        routing: &Arc<Routing>,
    ) -> Option<Self> {
        if config.auth == Switch::Off {
            return None;
        }
        let (calls, sender) = calls("serving", metrics);
        // As for traffic tables: a replica that starts while everything else is down answers with what it
        // last knew.
        let verifier = Verifier::with_copy(config, cache_dir.join(COPY));
        verifier.register(metrics);
        let sender = Mutex::new(Some(sender));
        Some(Self { verifier, routing: Arc::clone(routing), calls, sender })
    }

    /// Starts to follow what the registry publishes, and to send calls to its audit trail.
    pub(super) fn follow(
        &self,
        bus: &EventBus,
        tasks: &mut Tasks,
        readiness: &Readiness,
        shutdown: &CancellationToken,
    ) {
        tasks
            .spawn("access", follow(bus.clone(), self.verifier.clone(), readiness.clone(), shutdown.clone()));
        let sender = self.sender.lock().ok().and_then(|mut sender| sender.take());
        if let Some(sender) = sender {
            tasks.spawn("access-audit", sender.run(bus.clone(), shutdown.clone()));
        }
    }

    pub(super) fn identify(
        &self,
        headers: &HeaderMap,
        peer: Option<SocketAddr>,
    ) -> Result<Arc<GrantedCaller>, Refusal> {
        let origin = self.verifier.origin(peer.map(|peer| peer.ip()), headers);
        match self.verifier.authenticate(headers, origin.clone()) {
            Ok(caller) => {
                let header = headers.get(header::AUTHORIZATION).cloned();
                let mut authorization = header.unwrap_or_else(|| HeaderValue::from_static(""));
                authorization.set_sensitive(true);
                Ok(Arc::new(GrantedCaller { caller, authorization, verified: Instant::now() }))
            }
            Err(refused) => {
                let caller = slipway_access::Caller::anonymous(origin);
                self.calls.record(&caller, "", "", Some(&refused));
                Err(refusal(&refused))
            }
        }
    }

    pub(super) fn check(&self, caller: &GrantedCaller, need: Need<'_>) -> Result<(), Refusal> {
        let now = if caller.verified.elapsed().as_millis() < VERIFIED_MS {
            caller.caller.clone()
        } else {
            let origin = caller.caller.origin.clone();
            self.verifier.verify(&caller.authorization, origin).map_err(|refused| refusal(&refused))?
        };
        let (role, scope, about) = match need {
            Need::Nothing | Need::AnyToken => return Ok(()),
            Need::Model(name) => (Role::Viewer, self.scope(name), format!("deployment {name}")),
            Need::Labels(name) => (Role::Editor, self.scope(name), format!("labels of deployment {name}")),
            Need::AllModels => (Role::Deployer, Scope::Everything, "control of the server".to_owned()),
            Need::Unlisted => {
                let why = format!("'{}': no rule allows this method of this route", now.principal);
                let refused = Refused::Denied(why);
                self.calls.record(&now, "", "", Some(&refused));
                return Err(refusal(&refused));
            }
        };
        if let Err(denied) = now.grants.check(role, &scope) {
            let refused = Refused::Denied(format!("'{}': {denied}", now.principal));
            self.calls.record(&now, "", &about, Some(&refused));
            return Err(refusal(&refused));
        }
        if role > Role::Viewer {
            self.calls.record(&now, "", &about, None);
        }
        Ok(())
    }

    /// Whether the caller may use the deployment.
    pub(super) fn may_use(&self, caller: &GrantedCaller, deployment: &str) -> bool {
        caller.caller.may(Role::Viewer, &self.scope(deployment))
    }

    /// The model of a deployment. One that does not exist needs the role on everything.
    fn scope(&self, deployment: &str) -> Scope {
        self.routing
            .get(deployment)
            .map_or(Scope::Everything, |route| Scope::Model(route.table.model.clone()))
    }
}

fn refusal(refused: &Refused) -> Refusal {
    let (reason, kind) = match refused {
        Refused::Unauthenticated(_) => ("unknown-token", Kind::Unauthenticated),
        Refused::Denied(_) => ("not-allowed", Kind::Forbidden),
        Refused::Unavailable(_) => ("unavailable", Kind::Unavailable),
    };
    Refusal::new(reason, kind, refused.to_string())
}
