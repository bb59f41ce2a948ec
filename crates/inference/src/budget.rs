//! Runs of all models together: no more at a time than there are cores, as long as none of them takes long.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::options::cores;

/// A run that waited this long for a core goes ahead: a slow model must not stop the others.
const LONGEST_WAIT: Duration = Duration::from_millis(20);

static RUNNING: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

/// Leave to run on a core; given back when dropped.
pub(crate) struct Permit(());

/// Waits for a core that no other queue's run is on, for a while.
pub(crate) fn acquire() -> Permit {
    let begun = Instant::now();
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    while *running >= cores() {
        let Some(left) = LONGEST_WAIT.checked_sub(begun.elapsed()) else { break };
        running = FREED.wait_timeout(running, left).unwrap_or_else(PoisonError::into_inner).0;
    }
    *running += 1;
    Permit(())
}

impl Drop for Permit {
    fn drop(&mut self) {
        *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        FREED.notify_one();
    }
}
