//! Tasks, so that none ends without notice.
//!
//! What a service runs until its shutdown is a named task of its lifecycle, and tasks that are awaited
//! together are in a `JoinSet` or `TaskTracker`. These two functions are for what remains.

use std::future::Future;
use std::panic::AssertUnwindSafe;

use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

/// Starts a task that ends with its owner: it is aborted when the handle is dropped.
pub fn owned<F>(task: F) -> AbortOnDropHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    AbortOnDropHandle::new(spawn(task))
}

/// Starts a task that goes on when its handle is dropped. A panic is logged with the task's name.
pub fn detached<F>(name: &'static str, task: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    spawn(async move {
        match futures::FutureExt::catch_unwind(AssertUnwindSafe(task)).await {
            Ok(output) => output,
            Err(panic) => {
                tracing::error!(task = name, "a background task panicked");
                std::panic::resume_unwind(panic)
            }
        }
    })
}

#[expect(clippy::disallowed_methods, reason = "the one place that starts tasks outside of sets and trackers")]
fn spawn<F>(task: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    tokio::spawn(task)
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn an_owned_task_ends_with_its_handle() {
        let (held, ended) = oneshot::channel::<()>();
        let task = owned(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        drop(task);
        assert!(ended.await.is_err(), "the task has been dropped");
    }

    #[tokio::test]
    async fn a_detached_task_goes_on_without_its_handle() {
        let (told, heard) = oneshot::channel();
        drop(detached("test", async move { told.send(7) }));
        assert_eq!(heard.await, Ok(7));
    }

    #[tokio::test]
    async fn whoever_awaits_a_detached_task_gets_its_output_or_its_panic() {
        assert_eq!(detached("test", async { 7 }).await.unwrap(), 7);
        let failed = detached("test", async { assert_eq!(1, 2, "a bug") }).await.unwrap_err();
        assert!(failed.is_panic());
    }
}
