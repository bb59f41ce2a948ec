//! Loading and freeing by turns: while the memory that one version takes is measured, no other comes or goes.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// See the module. One for the process, whose memory it is.
pub(super) static GATE: Gate = Gate::new();

/// See the module.
pub(super) struct Gate {
    turns: Mutex<Turns>,
    changed: Condvar,
}

struct Turns {
    /// Whether a version is being loaded.
    loading: bool,
    /// Versions that were unloaded and are not freed yet.
    leaving: usize,
}

/// The turn of a load, until it is dropped.
pub(super) struct Turn<'gate>(&'gate Gate);

/// Something that will be freed: loads that come now wait until it is, or until this is dropped.
pub(super) struct Leaving<'gate>(&'gate Gate);

impl Gate {
    const fn new() -> Self {
        Self { turns: Mutex::new(Turns { loading: false, leaving: 0 }), changed: Condvar::new() }
    }

    /// Waits until nothing else is loaded or freed. It blocks.
    pub(super) fn load(&self) -> Turn<'_> {
        let turns = self.lock();
        let waited = self.changed.wait_while(turns, |turns| turns.loading || turns.leaving > 0);
        waited.unwrap_or_else(PoisonError::into_inner).loading = true;
        Turn(self)
    }

    /// Tells that something will be freed.
    pub(super) fn announce(&self) -> Leaving<'_> {
        self.lock().leaving += 1;
        Leaving(self)
    }

    fn lock(&self) -> MutexGuard<'_, Turns> {
        // Each change is whole before the lock goes.
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leaving<'_> {
    /// Frees it, once the load that runs has ended. It blocks.
    pub(super) fn free<T>(self, what: T) {
        let turns = self.0.changed.wait_while(self.0.lock(), |turns| turns.loading);
        drop(turns.unwrap_or_else(PoisonError::into_inner));
        drop(what);
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.lock().leaving -= 1;
        self.0.changed.notify_all();
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.lock().loading = false;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Says that it was freed.
    struct Freed(mpsc::Sender<&'static str>);

    impl Drop for Freed {
        fn drop(&mut self) {
            let _ = self.0.send("freed");
        }
    }

    #[test]
    fn what_was_announced_is_freed_after_the_load_that_runs_and_before_the_next() {
        let gate = Gate::new();
        let (told, events) = mpsc::channel();
        let first = gate.load();
        let leaving = gate.announce();
        std::thread::scope(|scope| {
            let freed = Freed(told.clone());
            scope.spawn(move || leaving.free(freed));
            let next = told.clone();
            scope.spawn(|| {
                let _turn = gate.load();
                let _ = next.send("loaded");
                drop(next);
            });
            told.send("first ends").unwrap();
            drop(first);
        });
        drop(told);
        assert_eq!(events.iter().collect::<Vec<_>>(), ["first ends", "freed", "loaded"]);
    }
}
