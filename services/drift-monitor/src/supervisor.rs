//! One reader of prediction records for each monitor, as long as the monitor is there.

use std::collections::HashMap;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::app::App;
use crate::{reader, store};

/// How often the list of monitors is read where nobody says that it changed: another replica may have changed it.
const POLL_MS: u64 = 2_000;

struct Reader {
    end: CancellationToken,
    task: JoinHandle<()>,
    name: String,
}

/// Runs until `shutdown`.
pub(crate) async fn run(app: App, shutdown: CancellationToken) {
    let mut changes = app.changes.subscribe();
    let mut readers: HashMap<Uuid, Reader> = HashMap::new();
    while !shutdown.is_cancelled() {
        if let Err(error) = match_monitors(&app, &mut readers, &shutdown).await {
            tracing::debug!(%error, "the list of monitors is read later");
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            // The sender lives as long as the service.
            _ = changes.changed() => {}
            () = tokio::time::sleep(Duration::from_millis(POLL_MS)) => {}
        }
    }
    for reader in readers.into_values() {
        reader.end.cancel();
        let _ = reader.task.await;
    }
}

async fn match_monitors(
    app: &App,
    readers: &mut HashMap<Uuid, Reader>,
    shutdown: &CancellationToken,
) -> sqlx::Result<()> {
    let monitors = store::monitors::ids(&app.pool).await?;
    readers.retain(|id, reader| {
        let there = monitors.iter().any(|(monitor, _)| monitor == id);
        if !there {
            reader.end.cancel();
            app.metrics.forget(&reader.name);
        }
        if there && reader.task.is_finished() {
            tracing::error!(monitor = reader.name, "reading for the monitor ended early and begins again");
        }
        there && !reader.task.is_finished()
    });
    for (id, name) in monitors {
        readers.entry(id).or_insert_with(|| {
            let end = shutdown.child_token();
            let task = tokio::spawn(reader::run(app.clone(), id, end.clone()));
            Reader { end, task, name }
        });
    }
    app.metrics.states(store::monitors::count_by_status(&app.pool).await?);
    Ok(())
}
