//! The caller of a request: handlers ask it what lists may show, changes note it for the audit trail.

use std::future::Future;
use std::sync::Arc;

use slipway_access::principal::ANONYMOUS;
use slipway_audit::Actor;
use slipway_domain::access::{Grants, Role, Scope};

use crate::error::Error;

/// Prefix of the principals of training jobs. No other token and no identity may have such a name.
pub(crate) const JOB_PREFIX: &str = "job:";
/// Credential of the launcher's token.
pub(crate) const LAUNCHER_CREDENTIAL: &str = "launcher-token";

/// Rejects the principal of a training job, which lives as long as its attempt, and its grants with it.
///
/// # Errors
/// It is one.
pub(crate) fn refuse_job(field: &str, principal: &str) -> Result<(), Error> {
    if principal.starts_with(JOB_PREFIX) {
        let why = format!("'{principal}' is a training job, whose token and role the launcher manages");
        return Err(Error::invalid(field, why));
    }
    Ok(())
}

tokio::task_local! {
    static ACTOR: Arc<Actor>;
}

/// Who calls, and what was granted to it. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) actor: Arc<Actor>,
    pub(crate) groups: Arc<[String]>,
    pub(crate) grants: Arc<Grants>,
}

impl Caller {
    /// An unknown caller without any role.
    pub(crate) fn nobody(origin: String) -> Self {
        let actor = Actor { principal: ANONYMOUS.to_owned(), origin, ..Actor::default() };
        Self { actor: Arc::new(actor), groups: Arc::default(), grants: Arc::default() }
    }

    /// Whether nothing says who it is, as with access off.
    pub(crate) fn is_anonymous(&self) -> bool {
        self.actor.principal == ANONYMOUS
    }

    /// Whether the caller showed the launcher's token.
    pub(crate) fn is_launcher(&self) -> bool {
        self.actor.credential == LAUNCHER_CREDENTIAL
    }

    /// Whether this caller may read the registered model of that name.
    pub(crate) fn sees_model(&self, name: &str) -> bool {
        self.grants.check(Role::Viewer, &Scope::Model(name.to_owned())).is_ok()
    }

    /// A caller without any right.
    #[cfg(test)]
    pub(crate) fn unknown() -> Self {
        Self::nobody(String::new())
    }

    /// Refuses unless the role is held there.
    ///
    /// # Errors
    /// `Denied`, which names the missing role and the scope.
    pub(crate) fn require(&self, role: Role, scope: &Scope) -> Result<(), Error> {
        self.grants
            .check(role, scope)
            .map_err(|denied| Error::Denied(format!("'{}': {denied}", self.actor.principal)))
    }
}

/// On whose behalf this task acts; the service itself outside of any request.
pub(crate) fn current_actor() -> Arc<Actor> {
    ACTOR.try_with(Arc::clone).unwrap_or_else(|_outside| Arc::new(Actor::system()))
}

/// The principal behind an actor, where a credential proved it; `None` with access control off.
pub(crate) fn proven(actor: &Actor) -> Option<&str> {
    (!actor.credential.is_empty()).then_some(actor.principal.as_str())
}

/// Acts on behalf of a caller.
pub(crate) fn acting<F: Future>(actor: Arc<Actor>, task: F) -> impl Future<Output = F::Output> {
    ACTOR.scope(actor, task)
}

/// For a task of its own that goes on with what this one began: it acts on the same behalf.
pub(crate) fn carry<F: Future>(task: F) -> impl Future<Output = F::Output> {
    ACTOR.scope(current_actor(), task)
}
