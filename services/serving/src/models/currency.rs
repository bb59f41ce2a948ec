//! Whether this replica may answer by the traffic tables that it has: they are the current ones, or the last
//! ones that it knows after it waited for the current ones for a stated time.
//!
//! A process that stood still (stopped, or on a frozen machine) may have missed any number of tables, and the
//! rollouts went on without it. It notices by its monotonic clock, and reads the tables again before it
//! answers.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use slipway_api::traffic::{REPLICA_LEASE_S, REPLICA_STATUS_INTERVAL_S, TablesState};
use slipway_runtime::clock::now_unix_ms;
use tokio::sync::watch;

/// How often a running process shows that it runs.
pub(crate) const PULSE_MS: u64 = 250;
/// A process that did not run for this long has to read the tables again. A rollout leaves a replica out
/// [`REPLICA_LEASE_S`] after its last status, which is at most one interval older than the moment at which
/// the process stopped.
const SUSPENDED_AFTER_MS: u64 = 2_000;
const _: () = assert!(
    SUSPENDED_AFTER_MS + PULSE_MS + 1_000 * REPLICA_STATUS_INTERVAL_S < 1_000 * REPLICA_LEASE_S,
    "a replica that was left out has to notice"
);
/// Without a word from NATS for this long, the tables are the last known ones.
const CONTACT_FOR: Duration = Duration::from_secs(REPLICA_LEASE_S);
/// A request waits this long for tables that are being read.
const HOLD_MS: u64 = 2_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Currency {
    /// Whether requests are answered.
    open: AtomicBool,
    /// When the process was last seen running, in milliseconds since its start; the maximum where nobody
    /// looks, because its tables come from a folder.
    pulse_ms: AtomicU64,
    state: Mutex<State>,
    /// How long it waits for the current tables.
    wait: Duration,
    /// Counts suspensions: what was read before one does not count after it.
    suspensions: watch::Sender<u64>,
    changes: watch::Sender<()>,
}

#[derive(Debug)]
struct State {
    /// Until when it waits; `None` while it does not.
    waits_until: Option<Instant>,
    /// Whether every table was read on a connection that stands, and changes arrive.
    followed: bool,
    /// When NATS was last heard while the tables were followed.
    contact: Option<Instant>,
    contact_unix_ms: u64,
}

impl Default for Currency {
    /// Of tables that are always current: those of a folder.
    fn default() -> Self {
        let state = State { waits_until: None, followed: true, contact: None, contact_unix_ms: 0 };
        Self {
            open: AtomicBool::new(true),
            pulse_ms: AtomicU64::new(u64::MAX),
            state: Mutex::new(state),
            wait: Duration::MAX,
            suspensions: watch::Sender::new(0),
            changes: watch::Sender::new(()),
        }
    }
}

impl Currency {
    /// Of tables that come from NATS, and are waited for no longer than `wait`.
    pub(crate) fn waiting(wait: Duration) -> Self {
        let until = Instant::now() + wait;
        let state = State { waits_until: Some(until), followed: false, contact: None, contact_unix_ms: 0 };
        Self {
            open: AtomicBool::new(false),
            pulse_ms: AtomicU64::new(now_ms()),
            state: Mutex::new(state),
            wait,
            ..Self::default()
        }
    }

    /// Whether the tables come from NATS.
    pub(crate) fn is_watched(&self) -> bool {
        self.pulse_ms.load(Ordering::Relaxed) != u64::MAX
    }

    /// Whether requests may be answered by the tables that are here.
    pub(crate) fn answers(&self) -> bool {
        // The clock first: a pulse that is fresh by then was not followed by a suspension.
        let (now, pulse) = (now_ms(), self.pulse_ms.load(Ordering::Acquire));
        now.saturating_sub(pulse) < SUSPENDED_AFTER_MS && self.open.load(Ordering::Acquire)
    }

    /// Waits until requests may be answered; not for long.
    pub(crate) async fn settled(&self) {
        if !self.answers() {
            // On the heap: every other request would carry the place for it.
            Box::pin(self.hold()).await;
        }
    }

    async fn hold(&self) {
        let mut changes = self.changes.subscribe();
        let settled = async {
            // It cannot end: the sender is ours.
            while !self.answers() && changes.changed().await.is_ok() {}
        };
        // Whether it was in time is seen by whoever routes the request.
        let _ = tokio::time::timeout(Duration::from_millis(HOLD_MS), settled).await;
    }

    /// The process runs; called every [`PULSE_MS`]. Returns for how long it had not, where that was too long.
    pub(crate) fn pulse(&self) -> Option<Duration> {
        let now = now_ms();
        let gap_ms = now.saturating_sub(self.pulse_ms.load(Ordering::Acquire));
        let suspended = gap_ms >= SUSPENDED_AFTER_MS;
        if suspended {
            let mut state = self.lock();
            state.followed = false;
            state.waits_until = Some(Instant::now() + self.wait);
            self.open.store(false, Ordering::Release);
            self.suspensions.send_modify(|count| *count += 1);
            drop(state);
            self.changes.send_replace(());
        }
        // After the doors are closed: who sees this pulse sees that, too.
        self.pulse_ms.store(now, Ordering::Release);
        suspended.then(|| Duration::from_millis(gap_ms))
    }

    /// Counts suspensions; each makes what was read before it obsolete.
    pub(crate) fn suspensions(&self) -> watch::Receiver<u64> {
        self.suspensions.subscribe()
    }

    /// Every table was read, beginning after that many suspensions; changes arrive from now on. Returns
    /// whether that counts.
    pub(crate) fn current(&self, suspensions: u64) -> bool {
        let mut state = self.lock();
        if suspensions != *self.suspensions.borrow() {
            return false;
        }
        state.followed = true;
        state.waits_until = None;
        self.open.store(true, Ordering::Release);
        drop(state);
        self.contact();
        true
    }

    /// NATS was heard.
    pub(crate) fn contact(&self) {
        let mut state = self.lock();
        if state.followed {
            (state.contact, state.contact_unix_ms) = (Some(Instant::now()), now_unix_ms());
        }
        drop(state);
        self.changes.send_replace(());
    }

    /// Changes do not arrive any more.
    pub(crate) fn lost(&self) {
        self.lock().followed = false;
        self.changes.send_replace(());
    }

    /// Ends once the current tables have been waited for long enough.
    pub(crate) async fn waited(&self) {
        let mut changes = self.changes.subscribe();
        loop {
            let until = self.lock().waits_until;
            let end = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = end => return,
                _ = changes.changed() => {}
            }
        }
    }

    /// The last known tables are taken from now on, or, where there are `none`, waited for once more.
    pub(crate) fn give_up(&self, none: bool) {
        let mut state = self.lock();
        if none {
            state.waits_until = Some(Instant::now() + Duration::from_millis(PULSE_MS));
            return;
        }
        state.waits_until = None;
        self.open.store(true, Ordering::Release);
        drop(state);
        self.changes.send_replace(());
    }

    /// What the tables are.
    pub(crate) fn tables(&self) -> TablesState {
        let state = self.lock();
        if !self.open.load(Ordering::Acquire) {
            return TablesState::Waiting;
        }
        let heard = state.contact.is_some_and(|contact| contact.elapsed() < CONTACT_FOR);
        if state.followed && (heard || !self.is_watched()) {
            TablesState::Current
        } else {
            TablesState::LastKnown { since_unix_ms: state.contact_unix_ms }
        }
    }

    /// For how long the tables have not been known to be current; since the start, where they never were.
    pub(crate) fn unknown_for(&self) -> Duration {
        if self.tables() == TablesState::Current {
            return Duration::ZERO;
        }
        let contact = self.lock().contact;
        contact.map_or_else(|| Duration::from_millis(now_ms()), |contact| contact.elapsed())
    }

    /// Longest wait for the current tables.
    pub(crate) const fn wait(&self) -> Duration {
        self.wait
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Each change is a few assignments; a panic cannot leave it half-written.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// That the last known tables are in use, for operators.
pub(crate) fn last_known(since_unix_ms: u64) -> String {
    let since = match since_unix_ms {
        0 => "never since the start of this replica".to_owned(),
        since => format!("at {} UTC", time_of_day(since)),
    };
    format!("the last known ones are in use, which may be old: they were last known to be current {since}")
}

/// `HH:MM:SS` of a Unix time, UTC.
fn time_of_day(unix_ms: u64) -> String {
    let second = unix_ms / 1_000 % 86_400;
    format!("{:02}:{:02}:{:02}", second / 3_600, second / 60 % 60, second % 60)
}

/// Milliseconds since the first call. The clock goes on while the process is stopped.
fn now_ms() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(60);

    /// As after a stop of the process for a minute.
    fn stop(currency: &Currency) {
        let _ = now_ms();
        std::thread::sleep(Duration::from_millis(2));
        let before = now_ms().saturating_sub(SUSPENDED_AFTER_MS);
        currency.pulse_ms.store(before, Ordering::Release);
    }

    #[test]
    fn nothing_is_answered_before_the_tables_are_current_or_were_waited_for() {
        let currency = Currency::waiting(WAIT);
        assert!(!currency.answers());
        assert_eq!(currency.tables(), TablesState::Waiting);
        currency.give_up(true);
        assert!(!currency.answers(), "there are none");
        currency.give_up(false);
        assert!(currency.answers());
        assert_eq!(currency.tables(), TablesState::LastKnown { since_unix_ms: 0 });
        currency.current(0);
        assert_eq!(currency.tables(), TablesState::Current);
        currency.lost();
        assert!(currency.answers(), "an outage keeps nobody from being answered");
        let TablesState::LastKnown { since_unix_ms } = currency.tables() else { panic!("they may be old") };
        assert!(since_unix_ms > 0);
        // Words of NATS alone do not make them current.
        currency.contact();
        assert_eq!(currency.tables(), TablesState::LastKnown { since_unix_ms });
    }

    #[test]
    fn a_process_that_stood_still_answers_by_what_it_reads_afterwards_only() {
        std::thread::sleep(Duration::from_millis(5));
        let currency = Currency::waiting(WAIT);
        currency.current(0);
        assert!(currency.pulse().is_none() && currency.answers());
        // Enough for the clock, which begins with the process.
        while now_ms() < SUSPENDED_AFTER_MS {
            std::thread::sleep(Duration::from_millis(50));
        }
        stop(&currency);
        assert!(!currency.answers(), "before anybody has noticed");
        assert!(currency.pulse().is_some());
        assert!(!currency.answers());
        assert!(!currency.current(0) && !currency.answers(), "read before the stop");
        assert!(currency.current(1));
        assert!(currency.answers() && currency.pulse().is_none());
    }

    #[test]
    fn tables_of_a_folder_are_always_current() {
        let currency = Currency::default();
        assert!(currency.answers() && !currency.is_watched());
        assert_eq!((currency.tables(), currency.unknown_for()), (TablesState::Current, Duration::ZERO));
    }
}
