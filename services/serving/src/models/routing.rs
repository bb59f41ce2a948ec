//! Which version answers: the tables and models as requests see them, replaced by deployment at each change.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use slipway_api::predictions::Variant;
use slipway_api::traffic::{Target, TrafficTable, VersionState};
use slipway_domain::traffic::{self, Draw};
use tokio::sync::watch;

use super::currency::Currency;
use super::report::Report;
use super::resident::Resident;
use super::served::Described;
use crate::drills::Drills;
use crate::failure::{Failure, Kind};
use crate::metrics::VersionMeters;
use crate::source::Source;
use crate::stats::VersionStats;
use crate::traffic::selection::Selection;

/// One version of a deployment on this replica.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    /// Which.
    pub target: Target,
    /// How far it is.
    pub state: VersionState,
    /// Why it failed, or what its loading waits for.
    pub reason: Option<String>,
    /// Its place in memory.
    pub resident: Arc<Resident>,
    /// There since it was loaded for the first time.
    pub described: Option<Arc<Described>>,
    /// What it has done.
    pub stats: Arc<VersionStats>,
    /// The same for Prometheus.
    pub meters: Arc<VersionMeters>,
    /// What its records say of it.
    pub source: Arc<Source>,
}

/// One deployment at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    /// The table that requests follow.
    pub table: Arc<TrafficTable>,
    /// Every version that this table or the next one names.
    pub versions: BTreeMap<String, Version>,
    /// By version: whether it has answered under this table yet.
    pub first: Arc<HashMap<String, AtomicBool>>,
}

/// Who answers a request.
#[derive(Debug, Clone)]
pub(crate) struct Pick {
    /// Its place in memory, which may be empty.
    pub resident: Arc<Resident>,
    /// What it takes and gives.
    pub described: Arc<Described>,
    /// Its counters.
    pub stats: Arc<VersionStats>,
    /// The same for Prometheus.
    pub meters: Arc<VersionMeters>,
    /// Which it is.
    pub source: Arc<Source>,
    /// Why it.
    pub variant: Variant,
    /// Whether another one was drawn that is not ready.
    pub fell_back: bool,
}

impl Version {
    /// Whether it answers, and has to be loaded first.
    pub(crate) fn is_unloaded(&self) -> bool {
        self.state == VersionState::Ready && self.resident.served().is_none()
    }
}

impl Route {
    /// Whether requests are to be answered at all.
    ///
    /// # Errors
    /// The kill switch says no.
    pub(crate) fn answers(&self) -> Result<(), Failure> {
        let Some(reason) = self.table.refusal() else { return Ok(()) };
        let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        let message = format!("model '{}' is switched off{why}", self.table.deployment);
        Err(Failure::new(Kind::Unavailable, message))
    }

    /// Draws who answers a request: by a rule, by its client's key, or afresh. `key` looks up a header by its
    /// name.
    ///
    /// # Errors
    /// Nothing is ready; the message says why.
    pub(crate) fn draw(&self, key: &dyn Fn(&str) -> Option<String>) -> Result<Pick, Failure> {
        if let Some(variant) = self.table.ruled(key) {
            return self.pick(Draw::Ruled(variant));
        }
        // An empty key counts as absent: clients that send it are not one client.
        let sticky = self.table.sticky_key.as_ref().and_then(|sticky| key(&sticky.header));
        if let Some(sticky) = sticky.filter(|sticky| !sticky.is_empty()) {
            return self.pick(Draw::Sticky(&sticky));
        }
        let uniform = if self.table.candidates.is_empty() { 0.0 } else { rand::random() };
        self.pick(Draw::Uniform(uniform))
    }

    /// Takes who was drawn. Where that version is not ready, the stable one stands in.
    ///
    /// # Errors
    /// Nothing is ready; the message says why.
    pub(crate) fn pick(&self, draw: Draw<'_>) -> Result<Pick, Failure> {
        let choice = traffic::choose(&self.table, draw);
        let chosen = choice.map(|choice| (choice.target, variant(choice.variant)));
        let stable = self.table.stable.iter().map(|target| (target, Variant::Stable));
        let candidates = self.table.on_trial().iter();
        let candidates = candidates.map(|entry| (&entry.target, Variant::Candidate));
        let mut standing_in = chosen.into_iter().chain(stable).chain(candidates);
        let picked = standing_in.find_map(|(target, variant)| self.ready(target, variant));
        match picked {
            Some(pick) => {
                let fell_back = choice.is_some_and(|choice| choice.target.version != pick.source.version);
                Ok(Pick { fell_back, ..pick })
            }
            None => Err(self.nothing_ready()),
        }
    }

    /// The stable version, if it is ready and not `instead_of`.
    pub(crate) fn stable(&self, instead_of: &str) -> Option<Pick> {
        let target = self.table.stable.as_ref().filter(|target| target.version != instead_of)?;
        self.ready(target, Variant::Stable)
    }

    /// A version by its number.
    ///
    /// # Errors
    /// It is not here, or not ready.
    pub(crate) fn pinned(&self, version: &str) -> Result<Pick, Failure> {
        let deployment = &self.table.deployment;
        let Some(known) = self.versions.get(version) else {
            return Err(Failure::not_found(format!("unknown version '{version}' of model '{deployment}'")));
        };
        self.ready(&known.target, Variant::Pinned).ok_or_else(|| not_ready(deployment, known))
    }

    /// Whether a version that is ready is in memory, or can be loaded when a request asks for it.
    ///
    /// # Errors
    /// It was unloaded, and the last attempt to load it again failed.
    pub(crate) fn loads_again(&self, version: &str) -> Result<(), Failure> {
        let unloaded = self.versions.get(version).filter(|version| version.is_unloaded());
        let Some(reason) = unloaded.and_then(|version| version.reason.as_ref()) else { return Ok(()) };
        let deployment = &self.table.deployment;
        Err(Failure::new(
            Kind::LoadFailed,
            format!(
                "version {version} of model '{deployment}' was unloaded and does not load again: {reason}"
            ),
        ))
    }

    /// A shadow's model, where it is ready.
    pub(crate) fn shadow(&self, target: &Target) -> Option<Pick> {
        self.ready(target, Variant::Shadow)
    }

    /// The version that metadata is about when the client names none: the stable one, else whatever is ready.
    ///
    /// # Errors
    /// Nothing is ready.
    pub(crate) fn representative(&self) -> Result<Pick, Failure> {
        self.pick(Draw::Uniform(0.0))
    }

    /// Versions that are ready, ascending.
    pub(crate) fn ready_versions(&self) -> Vec<&str> {
        let ready = self.versions.values().filter(|version| version.state == VersionState::Ready);
        let mut names: Vec<&str> = ready.map(|version| version.target.version.as_str()).collect();
        names.sort_by_key(|name| (name.len(), *name));
        names
    }

    /// Whether this is the first answer of `version` under this table. `true` once only.
    pub(crate) fn is_first(&self, version: &str) -> bool {
        self.first
            .get(version)
            .is_some_and(|seen| !seen.load(Ordering::Relaxed) && !seen.swap(true, Ordering::Relaxed))
    }

    fn ready(&self, target: &Target, variant: Variant) -> Option<Pick> {
        let version = self.versions.get(&target.version)?;
        if version.target.digest != target.digest || version.state != VersionState::Ready {
            return None;
        }
        Some(Pick {
            resident: Arc::clone(&version.resident),
            described: Arc::clone(version.described.as_ref()?),
            stats: Arc::clone(&version.stats),
            meters: Arc::clone(&version.meters),
            source: Arc::clone(&version.source),
            variant,
            fell_back: false,
        })
    }

    fn nothing_ready(&self) -> Failure {
        let deployment = &self.table.deployment;
        let candidates = self.table.candidates.iter().map(|entry| &entry.target);
        let answering: Vec<&Target> = self.table.stable.iter().chain(candidates).collect();
        let is_meant = |version: &&Version| match answering.as_slice() {
            // The first version is still to come, by the next table.
            [] => version.state != VersionState::Ready,
            // One that only stands by may be ready, and says nothing of those that are to answer.
            answering => answering.contains(&&version.target),
        };
        let known: Vec<&Version> = self.versions.values().filter(is_meant).collect();
        let loading = known.iter().find(|version| version.state == VersionState::Loading);
        if let Some(version) = loading.or(known.first()) {
            return not_ready(deployment, version);
        }
        match self.versions.values().next() {
            // Between its replica's report and the table that gives it the traffic.
            Some(Version { target: Target { version, .. }, .. }) => Failure::new(
                Kind::Unavailable,
                format!(
                    "version {version} of model '{deployment}' is loaded and gets its traffic soon; try again"
                ),
            ),
            None => Failure::not_found(format!(
                "model '{deployment}' has no available versions: nothing is deployed yet"
            )),
        }
    }
}

fn not_ready(deployment: &str, version: &Version) -> Failure {
    let number = &version.target.version;
    match version.state {
        VersionState::Failed => Failure::new(
            Kind::LoadFailed,
            format!(
                "version {number} of model '{deployment}' does not load: {}",
                version.reason.as_deref().unwrap_or("the server's log has the cause")
            ),
        ),
        VersionState::Loading | VersionState::Ready => {
            let why = version.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            Failure::new(
                Kind::Unavailable,
                format!("version {number} of model '{deployment}' is loading{why}; try again"),
            )
        }
    }
}

const fn variant(variant: traffic::Variant) -> Variant {
    match variant {
        traffic::Variant::Stable => Variant::Stable,
        traffic::Variant::Candidate => Variant::Candidate,
    }
}

/// All deployments at one moment.
pub(crate) type Routes = BTreeMap<String, Arc<Route>>;

/// What becomes of the route of a deployment; `None`: it is gone.
#[derive(Debug)]
pub(crate) struct Rerouted {
    /// The deployment.
    pub deployment: String,
    /// Its route.
    pub route: Option<Arc<Route>>,
}

/// The current routes: read by every request, changed by the manager.
#[derive(Debug)]
pub(crate) struct Routing {
    routes: RwLock<Arc<Routes>>,
    /// Whether every deployment is known; until then a name that is not among the routes may be one.
    complete: AtomicBool,
    changes: watch::Sender<u64>,
    /// Whether the routes are those of the current tables.
    pub currency: Arc<Currency>,
    /// For which deployments there are routes, and their further names.
    pub selection: Selection,
    /// What the rollout controller is told of them.
    pub report: Arc<Report>,
    /// What is counted of drills.
    pub drills: Drills,
}

impl Routing {
    /// No routes yet.
    pub(crate) fn new(currency: Currency, selection: Selection) -> Self {
        Self {
            routes: RwLock::default(),
            complete: AtomicBool::new(false),
            changes: watch::Sender::new(0),
            currency: Arc::new(currency),
            selection,
            report: Arc::default(),
            drills: Drills::default(),
        }
    }

    /// All routes.
    pub(crate) fn all(&self) -> Arc<Routes> {
        // The lock is held for one pointer; a panic cannot leave it half-written.
        Arc::clone(&self.routes.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The route of a deployment, by its name or another one of its names.
    ///
    /// # Errors
    /// There is no such deployment, the deployments are not known yet, or their tables may be old.
    pub(crate) fn get(&self, deployment: &str) -> Result<Arc<Route>, Failure> {
        let deployment = self.selection.resolve(deployment);
        // A poisoned lock holds what was there before the panic.
        let route = self.routes.read().unwrap_or_else(PoisonError::into_inner).get(&*deployment).cloned();
        if route.is_some() && !self.currency.answers() {
            let message = format!(
                "model '{deployment}' is not answered yet: this replica is reading the current traffic \
                 tables; try again"
            );
            return Err(Failure::new(Kind::Unavailable, message));
        }
        route.ok_or_else(|| {
            if self.complete.load(Ordering::Acquire) && self.currency.answers() {
                return Failure::not_found(format!(
                    "unknown model '{deployment}'; clients call a deployment by its name"
                ));
            }
            Failure::new(
                Kind::Unavailable,
                format!(
                    "model '{deployment}' is not known yet: this replica has not received all traffic \
                     tables; try again"
                ),
            )
        })
    }

    /// Whether clients of a deployment are to leave this replica.
    pub(crate) fn is_left(&self, route: &Route) -> bool {
        self.selection.is_left(&route.table)
    }

    /// Marks the routes as complete: a name that is not among them is no deployment.
    pub(crate) fn complete(&self) {
        self.complete.store(true, Ordering::Release);
    }

    /// Replaces the routes of some deployments at once.
    pub(crate) fn replace(&self, rerouted: Vec<Rerouted>) {
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        // A copy is made only while somebody reads all of them.
        let changed = Arc::make_mut(&mut routes);
        let mut before = Vec::new();
        for Rerouted { deployment, route } in rerouted {
            before.push(match route {
                Some(route) => changed.insert(deployment, route),
                None => changed.remove(&deployment),
            });
        }
        drop(routes);
        // What they hold is freed outside the lock.
        drop(before);
        self.changes.send_modify(|version| *version += 1);
    }

    /// Tells of each replacement.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
