//! Transactions whose beginning may be cancelled.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use slipway_runtime::task;
use sqlx::{PgPool, Postgres, Transaction};

type Beginning = Pin<Box<dyn Future<Output = Result<Transaction<'static, Postgres>, sqlx::Error>> + Send>>;

/// Begins a transaction. Use it instead of [`sqlx::Pool::begin`].
///
/// sqlx forgets a transaction if the future is dropped before Postgres has answered `BEGIN`, for example
/// because the client of a request disconnected: the connection returns to the pool within the transaction.
/// What is written through it afterwards without a transaction of its own is acknowledged, and not committed.
/// Here, `BEGIN` is completed in the background, and rolled back.
///
/// # Errors
/// Postgres is unreachable, or the pool has no free connection.
pub async fn begin(pool: &PgPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    // Waiting for a connection can be cancelled.
    let connection = pool.acquire().await?;
    Completed(Some(Transaction::begin(connection, None))).await
}

/// Runs to its end, also if it is dropped.
struct Completed(Option<Beginning>);

impl Future for Completed {
    type Output = Result<Transaction<'static, Postgres>, sqlx::Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(beginning) = &mut self.0 else { return Poll::Pending };
        let begun = beginning.as_mut().poll(context);
        if begun.is_ready() {
            self.0 = None;
        }
        begun
    }
}

impl Drop for Completed {
    fn drop(&mut self) {
        // Without a runtime, the process ends, and its connections with it.
        if let Some(beginning) = self.0.take().filter(|_| tokio::runtime::Handle::try_current().is_ok()) {
            drop(task::detached("cancelled-begin", async move { drop(beginning.await) }));
        }
    }
}
