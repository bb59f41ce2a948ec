//! The table of services. Everything that the command line and `slipway up` do with a service follows from
//! its row.

mod arguments;
mod settings;
mod start;

use clap::{ArgMatches, Args as _, Command, FromArgMatches as _};
use slipway_service_kit::main;
use slipway_toolbox::servers::PostgresRole;

pub(crate) use arguments::ServiceArguments;
pub(crate) use settings::{Settings, Shared, Tokens, own_token};
use start::{Start, start};

/// A port of the platform.
#[derive(Debug)]
pub(crate) struct Port {
    /// Name in `endpoints.json`, `ports.json` and the output of `slipway status`.
    pub(crate) key: &'static str,
    /// Name in messages.
    pub(crate) title: &'static str,
    /// The standard port.
    pub(crate) number: u16,
}

/// How to find out whether an address is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probe {
    /// GET of this path succeeds.
    Get(&'static str),
    /// It accepts connections.
    Connect,
}

/// An address that a service listens on.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) port: Port,
    /// Environment variable with which the service gets the address.
    pub(crate) variable: &'static str,
    pub(crate) probe: Probe,
}

impl Listener {
    /// The listener of a service's REST API.
    const fn rest(key: &'static str, title: &'static str, number: u16) -> Self {
        let port = Port { key, title, number };
        Self { port, variable: "SLIPWAY_LISTEN", probe: Probe::Get("/readyz") }
    }
}

/// A service of the platform.
pub(crate) struct Service {
    /// Name on the command line, of its log file, and of its user of NATS.
    pub(crate) name: &'static str,
    /// Summary in `slipway service --help`.
    about: &'static str,
    /// Addresses that it listens on; its REST API is the first.
    pub(crate) listeners: &'static [Listener],
    /// Environment variable with which other services get the URL of its REST API.
    pub(crate) url_variable: &'static str,
    /// Its role and schema in Postgres, for a service that stores anything.
    pub(crate) postgres: Option<PostgresRole>,
    /// Whether it reads or writes artifacts in S3.
    pub(crate) uses_s3: bool,
    /// Environment variables that no other service gets.
    pub(crate) settings: fn(&Shared) -> Settings,
    /// Adds its options to a command.
    options: fn(Command) -> Command,
    /// Reads the options of a command, and prepares the service.
    prepare: fn(&ArgMatches) -> Result<Start, clap::Error>,
}

/// All services, in the order in which they are started and shown.
pub(crate) static SERVICES: [Service; 5] = [
    Service {
        name: "registry",
        about: "Runs the registry: experiments, runs, models, versions, aliases, artifacts",
        listeners: &[Listener::rest("registry", "registry", slipway_registry::DEFAULT_PORT)],
        url_variable: "SLIPWAY_REGISTRY_URL",
        postgres: Some(PostgresRole { name: "slipway_registry", schema: "registry" }),
        uses_s3: true,
        settings: settings::registry,
        options: slipway_registry::Config::augment_args,
        prepare: |matches| {
            start("slipway-registry", matches, |config| config.listen.drain_seconds, slipway_registry::run)
        },
    },
    Service {
        name: "launcher",
        about: "Runs the launcher: training jobs, attempts, checkpoints",
        listeners: &[Listener::rest("launcher", "launcher", slipway_launcher::DEFAULT_PORT)],
        url_variable: "SLIPWAY_LAUNCHER_URL",
        postgres: Some(PostgresRole { name: "slipway_launcher", schema: "launcher" }),
        uses_s3: true,
        settings: settings::launcher,
        options: slipway_launcher::Config::augment_args,
        prepare: |matches| {
            start("slipway-launcher", matches, |config| config.listen.drain_seconds, slipway_launcher::run)
        },
    },
    Service {
        name: "serving",
        about: "Runs serving: inference over REST and gRPC",
        // The ports of Triton and other servers of the Open Inference Protocol.
        listeners: &[
            Listener::rest("serving_http", "serving (REST)", slipway_serving::DEFAULT_PORT),
            Listener {
                port: Port {
                    key: "serving_grpc",
                    title: "serving (gRPC)",
                    number: slipway_serving::DEFAULT_GRPC_PORT,
                },
                variable: "SLIPWAY_LISTEN_GRPC",
                probe: Probe::Connect,
            },
            Listener {
                port: Port {
                    key: "serving_metrics",
                    title: "serving (metrics)",
                    number: slipway_serving::DEFAULT_METRICS_PORT,
                },
                variable: "SLIPWAY_LISTEN_METRICS",
                probe: Probe::Get("/metrics"),
            },
        ],
        url_variable: "SLIPWAY_SERVING_URL",
        postgres: None,
        uses_s3: true,
        settings: settings::serving,
        options: slipway_serving::Config::augment_args,
        prepare: |matches| {
            let mut config = slipway_serving::Config::from_arg_matches(matches)?;
            Ok(Box::new(move |telemetry| {
                config.telemetry = Some(telemetry.clone());
                let drain_time = config.drain_delay();
                main("slipway-serving", telemetry, drain_time, |shutdown| {
                    slipway_serving::run(config, shutdown)
                })
            }))
        },
    },
    Service {
        name: "rollout-controller",
        about: "Runs the rollout controller: deployments and rollouts",
        listeners: &[Listener::rest(
            "rollout_controller",
            "rollout controller",
            slipway_rollout_controller::DEFAULT_PORT,
        )],
        url_variable: "SLIPWAY_ROLLOUT_CONTROLLER_URL",
        postgres: Some(PostgresRole { name: "slipway_rollout_controller", schema: "rollout_controller" }),
        uses_s3: false,
        settings: settings::none,
        options: slipway_rollout_controller::Config::augment_args,
        prepare: |matches| {
            start(
                "slipway-rollout-controller",
                matches,
                |config| config.listen.drain_seconds,
                slipway_rollout_controller::run,
            )
        },
    },
    Service {
        name: "drift-monitor",
        about: "Runs the drift monitor: monitors, windows, drift",
        listeners: &[Listener::rest("drift_monitor", "drift monitor", slipway_drift_monitor::DEFAULT_PORT)],
        url_variable: "SLIPWAY_DRIFT_MONITOR_URL",
        postgres: Some(PostgresRole { name: "slipway_drift_monitor", schema: "drift_monitor" }),
        uses_s3: false,
        settings: settings::none,
        options: slipway_drift_monitor::Config::augment_args,
        prepare: |matches| {
            start(
                "slipway-drift-monitor",
                matches,
                |config| config.listen.drain_seconds,
                slipway_drift_monitor::run,
            )
        },
    },
];

impl Service {
    /// The listener of its REST API.
    pub(crate) fn rest(&self) -> Option<&'static Listener> {
        self.listeners.first()
    }

    /// Name of its process in `endpoints.json`.
    pub(crate) fn process(&self) -> String {
        self.name.replace('-', "_")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use slipway_event_bus::permissions::User;

    use super::*;

    #[test]
    fn names_keys_ports_and_schemas_are_unique() {
        fn unique<T: Ord>(items: impl IntoIterator<Item = T>) -> usize {
            items.into_iter().collect::<BTreeSet<T>>().len()
        }
        let listeners = || SERVICES.iter().flat_map(|service| service.listeners);
        let count = listeners().count();
        assert_eq!(unique(SERVICES.iter().map(|service| service.name)), SERVICES.len());
        assert_eq!(unique(listeners().map(|listener| listener.port.key)), count);
        assert_eq!(unique(listeners().map(|listener| listener.port.number)), count);
        let roles = || SERVICES.iter().filter_map(|service| service.postgres);
        assert_eq!(unique(roles().map(|role| role.schema)), roles().count());
        for service in &SERVICES {
            let rest = service.rest().unwrap();
            assert_eq!(rest.variable, "SLIPWAY_LISTEN", "{}", service.name);
            assert_eq!(service.url_variable, format!("SLIPWAY_{}_URL", service.process().to_uppercase()));
        }
    }

    #[test]
    fn every_service_has_a_user_of_nats() {
        let users = User::ALL.map(User::name);
        for service in &SERVICES {
            assert!(users.contains(&service.name), "{}", service.name);
        }
    }
}
