//! The load: what users do all the time while parts of the platform fail.

mod client;
mod jobs;
mod models;
mod predictions;
mod runs;
mod webhooks;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinSet;

use super::board::Board;
use super::journal::Shared;
pub(super) use client::{Client, Request};
pub(super) use jobs::{Attempt, attempts};
pub(super) use models::{DEPLOYMENT, FILES, MODEL, MONITOR};

/// Clients that log runs.
const RUN_WRITERS: usize = 2;
/// Clients that predict.
const PREDICTORS: usize = 2;

/// The running load.
#[derive(Debug)]
pub(super) struct Load {
    /// Those that change something, and those that predict.
    writers: Tasks,
    predictors: Tasks,
}

/// Tasks that end when they are asked to.
#[derive(Debug, Default)]
struct Tasks {
    tasks: JoinSet<()>,
    stop: Arc<AtomicBool>,
}

impl Tasks {
    /// Lets every operation in progress end, and begins no other one.
    async fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while self.tasks.join_next().await.is_some() {}
    }
}

impl Load {
    /// Registers and deploys the first version, and starts the tasks.
    pub(super) async fn start(
        board: &Arc<Board>,
        journal: &Arc<Shared>,
        dir: &Path,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let (mut writers, mut predictors) = (Tasks::default(), Tasks::default());
        let client =
            |tasks: &Tasks| Client::new(Arc::clone(board), Arc::clone(journal), Arc::clone(&tasks.stop));
        let (writing, predicting) = (client(&writers)?, client(&predictors)?);
        models::hook(&writing, &webhooks::receive(journal).await?).await?;
        models::deploy(&writing, seed).await?;
        models::monitor(&writing).await?;
        for writer in 0..RUN_WRITERS {
            writers.tasks.spawn(runs::write(writing.clone(), writer, seed));
        }
        for predictor in 0..PREDICTORS {
            let calm = Arc::clone(&writers.stop);
            predictors.tasks.spawn(predictions::predict(predicting.clone(), predictor, calm));
        }
        writers.tasks.spawn(models::roll_out(writing.clone(), seed));
        writers.tasks.spawn(jobs::submit(writing, dir.join("jobs"), seed));
        Ok(Self { writers, predictors })
    }

    /// Ends what changes something. Predictions continue: a rollout in progress needs them.
    pub(super) async fn stop_writing(&mut self) {
        self.writers.stop().await;
    }

    /// Ends the predictions.
    pub(super) async fn stop(mut self) {
        self.predictors.stop().await;
    }
}
