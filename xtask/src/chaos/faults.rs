//! The parts of the platform, and the faults that can be done to them.

use std::fmt;

/// Replicas of each service.
pub(super) const REPLICAS: usize = 3;
/// Servers of the NATS cluster.
pub(super) const NATS_NODES: usize = 3;

/// A service of the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Service {
    Registry,
    Launcher,
    Serving,
    RolloutController,
    DriftMonitor,
}

impl Service {
    pub(super) const ALL: [Self; 5] =
        [Self::Registry, Self::Launcher, Self::Serving, Self::RolloutController, Self::DriftMonitor];

    /// Name on the command line of `slipway service`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::Launcher => "launcher",
            Self::Serving => "serving",
            Self::RolloutController => "rollout-controller",
            Self::DriftMonitor => "drift-monitor",
        }
    }

    /// Environment variable with which other services get its URL.
    pub(super) const fn url_variable(self) -> &'static str {
        match self {
            Self::Registry => "SLIPWAY_REGISTRY_URL",
            Self::Launcher => "SLIPWAY_LAUNCHER_URL",
            Self::Serving => "SLIPWAY_SERVING_URL",
            Self::RolloutController => "SLIPWAY_ROLLOUT_CONTROLLER_URL",
            Self::DriftMonitor => "SLIPWAY_DRIFT_MONITOR_URL",
        }
    }

    /// Servers that its replicas have connections to.
    pub(super) const fn servers(self) -> &'static [Server] {
        match self {
            Self::Registry | Self::Launcher => &[Server::Postgres, Server::Nats, Server::S3],
            Self::Serving => &[Server::Nats, Server::S3],
            Self::RolloutController | Self::DriftMonitor => &[Server::Postgres, Server::Nats],
        }
    }
}

/// What all replicas share: Postgres and S3 are one server each, NATS is a cluster of [`NATS_NODES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Server {
    Postgres,
    Nats,
    S3,
}

impl Server {
    pub(super) const ALL: [Self; 3] = [Self::Postgres, Self::Nats, Self::S3];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "Postgres",
            Self::Nats => "NATS",
            Self::S3 => "S3",
        }
    }
}

/// One process of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Replica {
    pub(super) service: Service,
    /// From 0.
    pub(super) number: usize,
}

impl Replica {
    /// All replicas, by service.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let of = |service| (0..REPLICAS).map(move |number| Self { service, number });
        Service::ALL.into_iter().flat_map(of)
    }

    /// Its place among [`Self::all`].
    pub(super) fn index(self) -> usize {
        Self::all().position(|other| other == self).unwrap_or_default()
    }
}

impl fmt::Display for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.service.name(), self.number)
    }
}

/// What can be harmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Part {
    Replica(Replica),
    /// For NATS: all nodes at the same time.
    Server(Server),
    /// A server of the NATS cluster, by its number.
    Node(usize),
    /// The agent of a running job, chosen when the fault happens.
    Agent,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replica(replica) => replica.fmt(f),
            Self::Server(Server::Nats) => write!(f, "all {NATS_NODES} NATS nodes"),
            Self::Server(server) => f.write_str(server.name()),
            Self::Node(number) => write!(f, "NATS node {number}"),
            Self::Agent => f.write_str("an agent"),
        }
    }
}

/// How a server is stopped before it is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// As its operator stops it: SIGINT for Postgres, SIGTERM for the others.
    Orderly,
    /// SIGQUIT: Postgres ends its sessions without a checkpoint.
    Immediate,
    /// SIGKILL.
    Kill,
}

/// What happens to the bytes of a connection that is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// They are kept and arrive when the cut ends, as after a partition of the network.
    Silent,
    /// Connections are reset, and new ones refused.
    Reset,
}

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Harm {
    /// SIGKILL; a replica is started again when the fault ends.
    Kill,
    /// SIGSTOP; SIGCONT when the fault ends.
    Hang,
    /// The replica's connections to a server, apart from those to one node of NATS.
    Cut { from: Server, except: Option<usize>, how: Cut },
    /// The node's connections to the other nodes of NATS. Its clients stay connected to it.
    CutOff,
    /// Only for servers and nodes.
    Restart(Stop),
    /// The replica's wall clock is stepped, and back when the fault ends.
    Clock { by_ms: i64 },
    /// The disk of a node of NATS or of S3 is full; the server is started again when there is room.
    Full,
}

/// One fault of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    /// From 1.
    pub(super) number: usize,
    /// Since the start of the faults.
    pub(super) at_ms: u64,
    pub(super) part: Part,
    pub(super) harm: Harm,
    /// After this time the fault is undone.
    pub(super) for_ms: u64,
}

impl Fault {
    pub(super) const fn ends_ms(&self) -> u64 {
        self.at_ms + self.for_ms
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (part, seconds) = (self.part, seconds(self.for_ms));
        match self.harm {
            Harm::Kill if self.part == Part::Agent => write!(f, "kill {part}"),
            Harm::Kill => write!(f, "kill {part}, start it again after {seconds}"),
            Harm::Hang => write!(f, "stop {part} (SIGSTOP) for {seconds}"),
            Harm::Cut { from, except, how } => {
                let how = if how == Cut::Silent { "silently" } else { "with resets" };
                let except = except.map(|node| format!(" except node {node}")).unwrap_or_default();
                write!(f, "cut {part} from {}{except} {how} for {seconds}", from.name())
            }
            Harm::CutOff => write!(f, "cut {part} off from the other nodes for {seconds}"),
            Harm::Clock { by_ms } => write!(f, "step the clock of {part} by {by_ms} ms for {seconds}"),
            Harm::Full => write!(f, "fill the disk of {part} for {seconds}"),
            Harm::Restart(stop) => {
                let how = match stop {
                    Stop::Orderly => "orderly",
                    Stop::Immediate => "immediate",
                    Stop::Kill => "SIGKILL",
                };
                write!(f, "restart {part} ({how}), start it again after {seconds}")
            }
        }
    }
}

/// A duration for people.
#[expect(clippy::cast_precision_loss, reason = "some seconds")]
pub(super) fn seconds(ms: u64) -> String {
    format!("{:.1} s", ms as f64 / 1_000.0)
}
