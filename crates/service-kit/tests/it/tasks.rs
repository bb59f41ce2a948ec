//! Background tasks: all end with the shutdown, and none ends before it without notice.

use slipway_service_kit::Tasks;
use tokio_util::sync::CancellationToken;

fn until(shutdown: &CancellationToken) -> impl Future<Output = ()> + Send + 'static {
    shutdown.clone().cancelled_owned()
}

#[tokio::test]
async fn tasks_that_end_with_the_shutdown_are_no_error() {
    let shutdown = CancellationToken::new();
    let mut tasks = Tasks::new(shutdown.clone());
    tasks.spawn("relay", until(&shutdown));
    tasks.spawn("reconcile", until(&shutdown));
    shutdown.cancel();
    tasks.wait().await.unwrap();
}

#[tokio::test]
async fn a_task_that_ends_early_or_panics_ends_the_service_with_its_name() {
    for panics in [false, true] {
        let shutdown = CancellationToken::new();
        let mut tasks = Tasks::new(shutdown.clone());
        tasks.spawn("other", until(&shutdown));
        tasks.spawn("relay", async move { assert!(!panics, "a bug in the relay") });
        let error = tasks.wait().await.unwrap_err().to_string();
        assert!(error.contains("relay") || panics && error.contains("panicked"), "{error}");
        assert!(shutdown.is_cancelled(), "the other tasks end, too");
    }
}
