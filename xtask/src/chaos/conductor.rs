//! Carries out the plan, and looks for violations meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::board::{Board, now_ms};
use super::checks;
use super::clocks::Clocks;
use super::disks::Disks;
use super::faults::{Fault, Harm, Part, Replica, Server, Stop, seconds};
use super::history::Failure;
use super::journal::Shared;
use super::load;
use super::plan::Action;
use super::processes::{Fleet, is_agent};
use super::proxy::Link;
use super::servers::Servers;

const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// An action that is later than this delays those after it.
const MAX_LATE: Duration = Duration::from_millis(500);
/// Jobs whose attempts are compared while the run lasts; in the end all are.
const RECENT_JOBS: usize = 40;
/// After a longer pause of the whole machine attempts may overlap: it stops an agent together with its guard
/// (docs/training.md).
pub(super) const MAX_PAUSE_MS: u64 = 4_000;
/// A replica that ended by itself did so at most this long before that is noticed.
const EXIT_MS: u64 = 5_000;
/// Failures are judged when they are this old.
const SETTLE_MS: u64 = 5_000;

/// Connections of replicas to servers; to NATS, one for each node.
pub(super) type Links = BTreeMap<(Replica, Server), Vec<Link>>;

/// Everything that faults are done to.
pub(super) struct Conductor<'run> {
    pub(super) servers: &'run Servers,
    pub(super) fleet: Fleet,
    pub(super) links: Links,
    pub(super) clocks: Clocks,
    pub(super) disks: Disks,
    pub(super) board: Arc<Board>,
    pub(super) journal: Arc<Shared>,
    pub(super) dir: &'run Path,
    /// The agent that a fault hit.
    agents: BTreeMap<usize, i32>,
    /// Faults that are not possible on this machine: how many of each kind, and why.
    pub(super) left_out: BTreeMap<String, usize>,
    /// Violations so far, each once.
    pub(super) found: BTreeSet<String>,
    looked: Instant,
}

/// What a conductor is made of.
pub(super) struct Parts<'run> {
    pub(super) servers: &'run Servers,
    pub(super) fleet: Fleet,
    pub(super) links: Links,
    pub(super) clocks: Clocks,
    pub(super) disks: Disks,
}

impl<'run> Conductor<'run> {
    pub(super) fn new(
        parts: Parts<'run>,
        board: &Arc<Board>,
        journal: &Arc<Shared>,
        dir: &'run Path,
    ) -> Self {
        let Parts { servers, fleet, links, clocks, disks } = parts;
        let (board, journal) = (Arc::clone(board), Arc::clone(journal));
        let (agents, left_out) = (BTreeMap::new(), BTreeMap::new());
        let (found, looked) = (BTreeSet::new(), Instant::now());
        Self { servers, fleet, links, clocks, disks, board, journal, dir, agents, left_out, found, looked }
    }

    /// Carries out every action at its time. After a delay, for example by an overload, all others
    /// are later as well: faults keep their durations, and do not coincide.
    pub(super) fn conduct(&mut self, actions: &[Action]) -> anyhow::Result<()> {
        let (started, mut delay) = (Instant::now(), Duration::ZERO);
        for action in actions {
            let due = Duration::from_millis(action.at_ms) + delay;
            while let Some(wait) = due.checked_sub(started.elapsed()).filter(|wait| !wait.is_zero()) {
                self.look()?;
                std::thread::sleep(wait.min(LOOK_INTERVAL));
            }
            let late = started.elapsed().saturating_sub(due);
            if late > MAX_LATE {
                delay += late;
            }
            let at = seconds(u64::try_from(started.elapsed().as_millis()).unwrap_or_default());
            if let Some(why) = self.missing(action.fault.harm) {
                if action.begins {
                    *self.left_out.entry(why).or_default() += 1;
                }
            } else if action.begins {
                println!("{at:>9}  {:>4}  {}", action.fault.number, action.fault);
                self.begin(&action.fault)?;
            } else {
                self.end(&action.fault)?;
            }
        }
        Ok(())
    }

    /// Why a fault is not possible on this machine, where it is not.
    fn missing(&self, harm: Harm) -> Option<String> {
        let why = |what: &str, why: Option<&str>| why.map(|why| format!("{what} ({why})"));
        match harm {
            Harm::Full => why("full disks", self.disks.missing()),
            Harm::Clock { .. } => why("steps of clocks", self.clocks.missing()),
            _ => None,
        }
    }

    fn begin(&mut self, fault: &Fault) -> anyhow::Result<()> {
        self.board.history().begin(fault, now_ms());
        match (fault.part, fault.harm) {
            (Part::Replica(replica), Harm::Kill) => self.fleet.kill(replica),
            (Part::Replica(replica), Harm::Hang) => self.fleet.signal(replica, Signal::SIGSTOP),
            (Part::Replica(replica), Harm::Cut { from, except, how }) => {
                for link in self.links(replica, from, except) {
                    link.set(Some(how));
                }
            }
            (part @ (Part::Server(_) | Part::Node(_)), Harm::Restart(stop)) => self.servers.stop(part, stop),
            (part @ (Part::Server(_) | Part::Node(_)), Harm::Hang) => {
                self.servers.signal(part, Signal::SIGSTOP);
            }
            (Part::Node(node), Harm::CutOff) => self.servers.cut_off(node, true),
            (Part::Replica(replica), Harm::Clock { by_ms }) => self.clocks.step(replica, by_ms)?,
            (part @ (Part::Server(_) | Part::Node(_)), Harm::Full) => self.disks.fill(part)?,
            (Part::Agent, harm) => self.hit_agent(fault, harm),
            // No plan has these.
            (Part::Replica(_) | Part::Server(_) | Part::Node(_), _) => {}
        }
        Ok(())
    }

    fn links(&self, replica: Replica, to: Server, except: Option<usize>) -> impl Iterator<Item = &Link> {
        let links = self.links.get(&(replica, to)).into_iter().flatten().enumerate();
        links.filter(move |(number, _)| Some(*number) != except).map(|(_, link)| link)
    }

    fn hit_agent(&mut self, fault: &Fault, harm: Harm) {
        let agents = self.fleet.agents();
        let Some(agent) = agents.get(fault.number % agents.len().max(1)).copied() else {
            println!("                 no agent is running");
            return;
        };
        let signal = if harm == Harm::Hang { Signal::SIGSTOP } else { Signal::SIGKILL };
        self.agents.insert(fault.number, agent);
        let _ = kill(Pid::from_raw(agent), signal);
    }

    fn end(&mut self, fault: &Fault) -> anyhow::Result<()> {
        match (fault.part, fault.harm) {
            (Part::Replica(replica), Harm::Kill) => self.fleet.start(replica)?,
            (Part::Replica(replica), Harm::Hang) => self.fleet.signal(replica, Signal::SIGCONT),
            (Part::Replica(replica), Harm::Cut { from, except, .. }) => {
                for link in self.links(replica, from, except) {
                    link.set(None);
                }
            }
            (Part::Server(_) | Part::Node(_), Harm::Restart(_)) => {
                self.start_server(*fault);
                return Ok(());
            }
            (Part::Replica(replica), Harm::Clock { .. }) => self.clocks.step(replica, 0)?,
            (part @ (Part::Server(_) | Part::Node(_)), Harm::Full) => {
                self.disks.free(part);
                // NATS has disabled JetStream; SeaweedFS looks for room once a minute.
                self.servers.stop(part, Stop::Orderly);
                self.start_server(*fault);
                return Ok(());
            }
            (part @ (Part::Server(_) | Part::Node(_)), Harm::Hang) => {
                self.servers.signal(part, Signal::SIGCONT);
            }
            (Part::Node(node), Harm::CutOff) => self.servers.cut_off(node, false),
            (Part::Agent, _) => {
                let agent = self.agents.remove(&fault.number);
                if let Some(agent) = agent.filter(|agent| is_agent(*agent)) {
                    let _ = kill(Pid::from_raw(agent), Signal::SIGCONT);
                }
            }
            (Part::Replica(_) | Part::Server(_) | Part::Node(_), _) => {}
        }
        self.board.history().heal(fault, now_ms());
        Ok(())
    }

    fn start_server(&self, fault: Fault) {
        let board = Arc::clone(&self.board);
        let done = Box::new(move |started: anyhow::Result<()>| {
            if let Err(error) = started {
                println!("!! {} does not start again: {error:#}", fault.part);
            }
            board.history().heal(&fault, now_ms());
        });
        self.servers.start_again(fault.part, done);
    }

    /// Looks for violations that show at any time.
    pub(super) fn look(&mut self) -> anyhow::Result<()> {
        if self.looked.elapsed() < LOOK_INTERVAL {
            return Ok(());
        }
        self.looked = Instant::now();
        let mut found = self.start_ended()?;
        {
            let (mut journal, history) = (self.journal.lock(), self.board.history());
            let settled_ms = now_ms().saturating_sub(SETTLE_MS);
            found.extend(checks::unexcused(&journal, &history, settled_ms));
            found.extend(checks::wrong_constants(&journal.predictions));
            if history.longest_pause_ms() < MAX_PAUSE_MS {
                for number in journal.jobs.keys().rev().take(RECENT_JOBS) {
                    found.extend(checks::overlaps(*number, &load::attempts(self.dir, *number)));
                }
            }
            // Judged once: otherwise the list would be searched again and again.
            let before = journal.failures.len();
            journal.failures.retain(|failure| failure.to_ms >= settled_ms);
            journal.judged += before - journal.failures.len();
        }
        found.into_iter().for_each(|violation| self.report(violation));
        Ok(())
    }

    /// Starts replicas again that ended by themselves, as a supervisor does. Without a fault that explains
    /// it, that is a violation.
    fn start_ended(&mut self) -> anyhow::Result<Vec<String>> {
        let mut found = Vec::new();
        for (replica, status) in self.fleet.ended() {
            // Without NATS a replica continues to run.
            let (needs, to_ms) = ([Server::Postgres, Server::S3].as_slice(), now_ms());
            let what = format!("{replica} ended by itself ({status})");
            println!("           {what}");
            let failure = Failure { replica, needs, from_ms: to_ms - EXIT_MS, to_ms, what: what.clone() };
            let (part, harm) = (Part::Replica(replica), Harm::Kill);
            let exit = Fault { number: 0, at_ms: 0, part, harm, for_ms: 0 };
            let mut history = self.board.history();
            if !history.excuses(&failure) {
                found.push(what);
            }
            history.begin(&exit, to_ms - EXIT_MS);
            drop(history);
            self.fleet.start(replica)?;
            self.board.history().heal(&exit, now_ms());
        }
        Ok(found)
    }

    /// Prints a violation, and keeps it.
    pub(super) fn report(&mut self, violation: String) {
        if !self.found.contains(&violation) {
            println!("!! {} {violation}", now_ms());
            self.found.insert(violation);
        }
    }
}
