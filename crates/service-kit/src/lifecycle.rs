//! Start and stop of a process, and the tasks in between.

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use slipway_telemetry::TelemetryConfig;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// From the end of the drain time to the end of the process, whatever is still running.
const END_TIMEOUT_MS: u64 = 15_000;

/// Runs a service until it ends, SIGINT or SIGTERM: telemetry, TLS provider, runtime, signals, exit code.
///
/// The first signal cancels the token that `run` got; a second one, or a limit after the drain time, ends the
/// process immediately.
pub fn main<F, R>(
    service: &'static str,
    telemetry: &TelemetryConfig,
    drain_time: Duration,
    run: F,
) -> ExitCode
where
    F: FnOnce(CancellationToken) -> R,
    R: Future<Output = anyhow::Result<()>>,
{
    crate::memory::give_back_large_blocks();
    // What a service writes is for its own account alone: logs, caches, work folders.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("{service}: the runtime does not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(async {
        let guard = match slipway_telemetry::init(service, telemetry) {
            Ok(guard) => guard,
            Err(error) => {
                eprintln!("{service}: {error:#}");
                return ExitCode::from(64);
            }
        };
        slipway_runtime::install_tls_provider();
        let shutdown = CancellationToken::new();
        let signals = slipway_runtime::task::owned(watch_signals(shutdown.clone(), drain_time));
        let outcome = run(shutdown).await;
        drop(signals);
        guard.flush();
        match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), service, "ended with an error");
                ExitCode::FAILURE
            }
        }
    })
}

async fn watch_signals(shutdown: CancellationToken, drain_time: Duration) {
    wait_for_signal().await;
    tracing::info!(drain_ms = drain_time.as_millis(), "stopping: draining requests and tasks");
    shutdown.cancel();
    tokio::select! {
        () = wait_for_signal() => tracing::warn!("second signal: exiting immediately"),
        () = tokio::time::sleep(drain_time + Duration::from_millis(END_TIMEOUT_MS)) => {
            tracing::warn!(limit_ms = END_TIMEOUT_MS, "draining timed out: exiting immediately");
        }
    }
    std::process::exit(1);
}

async fn wait_for_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(mut interrupt), Ok(mut terminate)) => {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
        // Without handlers the default action of the signal ends the process, which is what is wanted.
        _ => std::future::pending().await,
    }
}

/// Named background tasks of a service. A task that ends before the shutdown, or panics, ends the service
/// with an error: a supervisor starts it again, which is safer than going on without it.
#[derive(Debug)]
pub struct Tasks {
    set: JoinSet<&'static str>,
    shutdown: CancellationToken,
}

impl Tasks {
    /// No tasks yet. All of them are to end when `shutdown` is set.
    pub fn new(shutdown: CancellationToken) -> Self {
        Self { set: JoinSet::new(), shutdown }
    }

    /// Adds a task that runs until the shutdown.
    pub fn spawn<F>(&mut self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.set.spawn(async move {
            task.await;
            name
        });
    }

    /// Waits for the shutdown, then for every task.
    ///
    /// # Errors
    /// A task ended early or panicked; the shutdown is set for the others then.
    pub async fn wait(mut self) -> anyhow::Result<()> {
        crate::memory::give_back_free_pages();
        let mut failure = None;
        while let Some(joined) = self.set.join_next().await {
            let early = !self.shutdown.is_cancelled();
            match joined {
                Ok(name) if early => {
                    failure = Some(anyhow::anyhow!("the task `{name}` ended before the shutdown"));
                }
                Ok(_) => {}
                Err(error) if error.is_panic() => {
                    failure = Some(anyhow::anyhow!("a background task panicked: {error}"));
                }
                Err(_) => {}
            }
            if failure.is_some() {
                self.shutdown.cancel();
            }
        }
        failure.map_or(Ok(()), Err)
    }
}
