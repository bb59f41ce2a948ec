//! Which replicas are ready, asked all the time, and the history of faults.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

use super::faults::{REPLICAS, Replica, Service};
use super::history::History;

const PROBE_INTERVAL: Duration = Duration::from_millis(250);
const PROBE_LIMIT: Duration = Duration::from_secs(1);
/// Processor time of one measurement, and the pause before the next one.
const BURST: Duration = Duration::from_millis(20);
const BURST_INTERVAL: Duration = Duration::from_secs(1);
/// A thread that gets less than a twentieth of a processor shows that the machine is overloaded: what the
/// services do takes seconds, and they answer 503, as they should.
const OVERLOAD: u32 = 20;
/// A timer that is this late shows that the machine, or this process, stood still.
const PAUSE: Duration = Duration::from_secs(2);

/// State that the load, the proxies and the conductor share.
#[derive(Debug)]
pub(super) struct Board {
    /// Ports of the REST APIs, in the order of [`Replica::all`].
    ports: Vec<u16>,
    ready: Vec<AtomicBool>,
    history: Mutex<History>,
}

/// How long this thread takes for [`BURST`].
fn burst() -> nix::Result<Duration> {
    let started = Instant::now();
    let used = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from);
    let before = used()?;
    while used()? < before + BURST {}
    Ok(started.elapsed())
}

/// Unix time in milliseconds.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or_default()
}

impl Board {
    pub(super) fn new(ports: Vec<u16>) -> Self {
        let ready = ports.iter().map(|_| AtomicBool::new(false)).collect();
        Self { ports, ready, history: Mutex::default() }
    }

    pub(super) fn port(&self, replica: Replica) -> u16 {
        self.ports.get(replica.index()).copied().unwrap_or_default()
    }

    pub(super) fn url(&self, replica: Replica) -> String {
        format!("http://127.0.0.1:{}", self.port(replica))
    }

    pub(super) fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_ready(&self, replica: Replica) -> bool {
        self.ready.get(replica.index()).is_some_and(|ready| ready.load(Ordering::Relaxed))
    }

    pub(super) fn not_ready(&self) -> Vec<Replica> {
        Replica::all().filter(|replica| !self.is_ready(*replica)).collect()
    }

    /// Replicas of a service in the order in which to try them: ready ones first, rotated by `start`.
    pub(super) fn candidates(&self, service: Service, start: usize) -> Vec<Replica> {
        let number = |offset| (start + offset) % REPLICAS;
        let mut replicas: Vec<Replica> =
            (0..REPLICAS).map(|offset| Replica { service, number: number(offset) }).collect();
        replicas.sort_by_key(|replica| !self.is_ready(*replica));
        replicas
    }

    /// A ready replica, or any if none is.
    pub(super) fn pick(&self, service: Service, start: usize) -> Replica {
        self.candidates(service, start).first().copied().unwrap_or(Replica { service, number: 0 })
    }

    /// Asks every replica all the time whether it is ready, and notices when the machine stands still or is
    /// overloaded.
    pub(super) fn watch(self: &Arc<Self>) -> anyhow::Result<()> {
        let http = reqwest::Client::builder().timeout(PROBE_LIMIT).pool_max_idle_per_host(0).build()?;
        for replica in Replica::all() {
            let (board, http) = (Arc::clone(self), http.clone());
            tokio::spawn(async move {
                let url = format!("{}/readyz", board.url(replica));
                loop {
                    let asked_ms = now_ms();
                    let answer = http.get(&url).send().await;
                    let ready = answer.is_ok_and(|answer| answer.status().is_success());
                    if let Some(known) = board.ready.get(replica.index()) {
                        known.store(ready, Ordering::Relaxed);
                    }
                    if ready {
                        board.history().ready(replica, asked_ms, now_ms());
                    }
                    tokio::time::sleep(PROBE_INTERVAL).await;
                }
            });
        }
        let board = Arc::clone(self);
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(BURST_INTERVAL);
                let before_ms = now_ms();
                if burst().is_ok_and(|took| took > BURST * OVERLOAD) {
                    board.history().overload(before_ms, now_ms());
                }
            }
        });
        let board = Arc::clone(self);
        std::thread::spawn(move || {
            loop {
                let before_ms = now_ms();
                std::thread::sleep(PROBE_INTERVAL);
                let now_ms = now_ms();
                if now_ms > before_ms + u64::try_from(PAUSE.as_millis()).unwrap_or(u64::MAX) {
                    println!("   the machine stood still for {} ms", now_ms - before_ms);
                    board.history().pause(before_ms, now_ms);
                }
            }
        });
        Ok(())
    }
}
