//! What runs next to the listeners, until the last request is answered.

use std::sync::Arc;

use anyhow::bail;
use slipway_event_bus::EventBus;
use slipway_http_server::tls::Tls;
use slipway_service_kit::Tasks;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::api::access::Access;
use crate::config::Config;
use crate::models::{Manager, Update, folder};
use crate::predict::replay;
use crate::records::cloudevents::EventSender;
use crate::state::ServingState;
use crate::traffic::{joining, pulse, status, tables};

/// News about tables that may wait for the manager.
const UPDATES_LIMIT: usize = 256;

/// Files that may change while the process runs.
pub(crate) struct Watched<'run> {
    /// Keys and certificates.
    pub(crate) tls: Option<&'run Tls>,
    /// Tokens.
    pub(crate) access: &'run Access,
    /// Headers and authorities of CloudEvents' HTTP address.
    pub(crate) events: Option<&'run EventSender>,
}

/// Starts to follow the files.
pub(crate) fn watch_files(tasks: &mut Tasks, watched: &Watched<'_>, shutdown: &CancellationToken) {
    let Watched { tls, access, events } = watched;
    if let Some(tls) = tls {
        tasks.spawn("tls-files", (*tls).clone().watch(shutdown.clone()));
    }
    tasks.spawn("token-file", (*access).clone().watch(shutdown.clone()));
    if let Some(sink) = events.and_then(EventSender::http) {
        tasks.spawn("cloudevents-files", sink.watch(shutdown.clone()));
    }
}

/// Starts to follow the models: those of a folder, or those that the traffic tables in NATS name.
///
/// # Errors
/// There is neither a folder nor NATS.
pub(crate) fn follow_models(
    tasks: &mut Tasks,
    config: &Config,
    state: &ServingState,
    replica_id: &str,
    manager: Manager,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let (updates, news) = mpsc::channel(UPDATES_LIMIT);
    tasks.spawn("models", manager.run(news, shutdown.clone()));
    let replica = Replica { id: replica_id, state, shutdown };
    tasks.spawn("joining", replica.report_joining());
    if let Some(bus) = &state.bus {
        tasks.spawn("streams", ensure_streams(bus.clone(), shutdown.clone()));
    }
    match (config.model_dir.clone(), &state.bus) {
        (Some(models), _) => {
            tasks.spawn("models-folder", folder::watch(models, updates, shutdown.clone()));
        }
        (None, Some(bus)) => replica.follow_tables(tasks, bus, updates),
        (None, None) => bail!("without --model-dir, a NATS address is needed (--nats-url)"),
    }
    Ok(())
}

/// What this replica and the rollout controller tell each other.
struct Replica<'run> {
    id: &'run str,
    state: &'run ServingState,
    shutdown: &'run CancellationToken,
}

impl Replica<'_> {
    fn report_joining(&self) -> impl Future<Output = ()> + Send + 'static {
        let routing = Arc::clone(&self.state.routing);
        joining::watch(self.state.bus.clone(), self.id.to_owned(), routing, self.shutdown.clone())
    }

    /// Takes the traffic tables from NATS, and reports there what became of them.
    fn follow_tables(&self, tasks: &mut Tasks, bus: &EventBus, updates: mpsc::Sender<Update>) {
        let routing = &self.state.routing;
        let currency = || Arc::clone(&routing.currency);
        let shutdown = || self.shutdown.clone();
        tasks.spawn("pulse", pulse::watch(currency(), self.state.readiness.clone(), shutdown()));
        let tables = tables::watch(bus.clone(), Arc::clone(routing), updates, shutdown());
        tasks.spawn("traffic-tables", tables);
        let told = status::Replica { id: self.id.to_owned(), routing: Arc::clone(routing) };
        tasks.spawn("replica-status", status::publish(bus.clone(), told, shutdown()));
        let predictor = self.state.predictor.clone();
        tasks.spawn("replays", replay::follow(bus.clone(), self.id.to_owned(), predictor, shutdown()));
    }
}

async fn ensure_streams(bus: EventBus, shutdown: CancellationToken) {
    bus.wait_for_resources(&shutdown).await;
    shutdown.cancelled().await;
}
