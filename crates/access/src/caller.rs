//! The caller of a request.

use std::future::Future;
use std::sync::{Arc, LazyLock};

use slipway_domain::access::{Grants, Role, Scope, Visible};

use crate::principal::ANONYMOUS;

static FULL: LazyLock<Arc<Grants>> = LazyLock::new(|| Arc::new(Grants::full()));
static NONE: LazyLock<Arc<Grants>> = LazyLock::new(Arc::default);

tokio::task_local! {
    static CALLER: Caller;
}

/// Who calls, and what was granted to it. Cheap to clone. It travels in the extensions of a request.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Its name; `anonymous` where access control is off.
    pub principal: Arc<str>,
    /// What proved the name, e.g. `token:0123456789abcdef`; empty without a proof.
    pub credential: Arc<str>,
    /// Its IP address; empty where it is unknown.
    pub origin: String,
    /// Its roles.
    pub grants: Arc<Grants>,
}

impl Caller {
    /// A caller where access control is off: it may do everything.
    pub fn anyone(origin: String) -> Self {
        let (principal, credential) = (ANONYMOUS.into(), "".into());
        Self { principal, credential, origin, grants: Arc::clone(&FULL) }
    }

    /// A caller without a credential, which may do nothing.
    pub fn anonymous(origin: String) -> Self {
        let (principal, credential) = (ANONYMOUS.into(), "".into());
        Self { principal, credential, origin, grants: Arc::clone(&NONE) }
    }

    /// Whether a credential proved the name.
    pub fn is_proven(&self) -> bool {
        !self.credential.is_empty()
    }

    /// Whether the caller holds this role there.
    pub fn may(&self, role: Role, scope: &Scope) -> bool {
        self.grants.check(role, scope).is_ok()
    }

    /// Runs a task on the caller's behalf.
    pub fn scope<F: Future>(self, task: F) -> impl Future<Output = F::Output> {
        CALLER.scope(self, task)
    }

    /// The caller on whose behalf this task runs; `None` outside of any request.
    pub fn current() -> Option<Self> {
        CALLER.try_with(Self::clone).ok()
    }

    /// Registered models that a list may show in this task; none outside of any request.
    pub fn visible_models() -> Visible<String> {
        Self::current().map_or(Visible::These(Vec::new()), |caller| caller.grants.visible_models())
    }

    /// Experiments that a list may show in this task; none outside of any request.
    pub fn visible_experiments() -> Visible<i64> {
        Self::current().map_or(Visible::These(Vec::new()), |caller| caller.grants.visible_experiments())
    }
}
