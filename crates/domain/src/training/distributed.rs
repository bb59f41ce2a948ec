//! Distributed jobs: the roles of their processes, and the environment variables that each process gets.
//!
//! The processes of a group are numbered from 0, role by role. What frameworks call a rank is that number for
//! the roles that train; parameter servers and evaluators stand behind them and have none.

use std::collections::BTreeMap;

use serde_json::json;

use crate::{Invalid, invalid::ensure};

/// Roles in the order of their processes' numbers. The first process leads the group.
const ROLES: [Role; 5] = [
    Role { name: "chief", trains: true, at_most: 1 },
    Role { name: "master", trains: true, at_most: 1 },
    Role { name: "worker", trains: true, at_most: MAX_PROCESSES },
    Role { name: "ps", trains: false, at_most: MAX_PROCESSES },
    Role { name: "evaluator", trains: false, at_most: 1 },
];
/// Most processes of a group.
const MAX_PROCESSES: u32 = 1_000;
/// Port at which the first process awaits the others where a job names none: that of torchrun.
pub const DEFAULT_GROUP_PORT: u16 = 29_500;

#[derive(Debug)]
struct Role {
    name: &'static str,
    /// Whether its processes have ranks, and the job is done when they are.
    trains: bool,
    at_most: u32,
}

/// How many processes there are of each role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// In the order of the numbers.
    roles: Vec<(&'static str, u32)>,
    /// How many of them train: the first ones.
    trainers: u32,
    /// How many there are.
    processes: u32,
}

impl Group {
    /// The group with this number of processes per role; `None` for a single process.
    ///
    /// # Errors
    /// A role is unknown, there are too many processes of it or none at all, or none that trains; names the
    /// role.
    pub fn of(replicas: &BTreeMap<String, u32>) -> Result<Option<Self>, Invalid> {
        for (name, count) in replicas {
            let field = format!("replicas.{name}");
            let Some(role) = ROLES.iter().find(|role| role.name == name) else {
                let names: Vec<String> = ROLES.iter().map(|role| format!("`{}`", role.name)).collect();
                return Err(Invalid::new(field, format!("expected one of the roles {}", names.join(", "))));
            };
            ensure((1..=role.at_most).contains(count), &field, || {
                format!("must be 1 to {}, is {count}", role.at_most)
            })?;
        }
        if replicas.is_empty() {
            return Ok(None);
        }
        let both = replicas.contains_key("chief") && replicas.contains_key("master");
        ensure(!both, "replicas.master", || "`chief` leads the group already".to_owned())?;
        let of = |role: &Role| Some((role.name, *replicas.get(role.name)?));
        let roles: Vec<(&str, u32)> = ROLES.iter().filter_map(of).collect();
        let trains = |role: &Role| if role.trains { of(role).map_or(0, |(_, count)| count) } else { 0 };
        let trainers = ROLES.iter().map(trains).sum();
        let processes = roles.iter().map(|(_, count)| count).sum();
        ensure(trainers > 0, "replicas", || "expected a `worker`, a `chief` or a `master`".to_owned())?;
        ensure(processes <= MAX_PROCESSES, "replicas", || {
            format!("must be at most {MAX_PROCESSES} together, are {processes}")
        })?;
        Ok(Some(Self { roles, trainers, processes }).filter(|group| group.processes > 1))
    }

    /// How many processes there are.
    pub const fn processes(&self) -> u32 {
        self.processes
    }

    /// How many of them train: those with the first numbers. The job is done when they are.
    pub const fn trainers(&self) -> u32 {
        self.trainers
    }

    /// Whether a process is one of those that train.
    pub const fn trains(&self, process: u32) -> bool {
        process < self.trainers
    }

    /// Role of a process, and its number among those of the role; `None` where there is no such process.
    pub fn role_of(&self, process: u32) -> Option<(&'static str, u32)> {
        let mut first = 0;
        for (name, count) in &self.roles {
            if process < first + count {
                return Some((name, process - first));
            }
            first += count;
        }
        None
    }

    /// Environment variables of a process for PyTorch (and `torchrun`), TensorFlow and JAX. `hosts` are the
    /// host names of the processes, by number.
    ///
    /// Sources: <https://docs.pytorch.org/docs/stable/elastic/run.html#environment-variables>,
    /// <https://www.tensorflow.org/guide/distributed_training#setting_up_the_tf_config_environment_variable>,
    /// <https://docs.jax.dev/en/latest/_autosummary/jax.distributed.initialize.html>.
    ///
    /// `None` where there is no such process, or not a host for each.
    pub fn environment(
        &self,
        process: u32,
        hosts: &[String],
        port: u16,
    ) -> Option<BTreeMap<&'static str, String>> {
        let (role, index) = self.role_of(process)?;
        if hosts.len() != usize::try_from(self.processes).ok()? {
            return None;
        }
        let first = hosts.first()?;
        let mut cluster: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (number, host) in (0..).zip(hosts) {
            cluster.entry(self.role_of(number)?.0).or_default().push(format!("{host}:{port}"));
        }
        // An evaluator is no part of the cluster that it judges.
        cluster.remove("evaluator");
        let tf_config = json!({"cluster": cluster, "task": {"type": role, "index": index}});
        let mut variables = BTreeMap::from([
            ("MASTER_ADDR", first.clone()),
            ("MASTER_PORT", port.to_string()),
            ("WORLD_SIZE", self.trainers.to_string()),
            ("TF_CONFIG", tf_config.to_string()),
        ]);
        if self.trains(process) {
            variables.extend([
                ("RANK", process.to_string()),
                ("PET_NNODES", self.trainers.to_string()),
                ("PET_NODE_RANK", process.to_string()),
                ("PET_MASTER_ADDR", first.clone()),
                ("PET_MASTER_PORT", port.to_string()),
                ("JAX_COORDINATOR_ADDRESS", format!("{first}:{port}")),
                ("JAX_NUM_PROCESSES", self.trainers.to_string()),
                ("JAX_PROCESS_ID", process.to_string()),
            ]);
        }
        Some(variables)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replicas(counts: &[(&str, u32)]) -> BTreeMap<String, u32> {
        counts.iter().map(|(role, count)| ((*role).to_owned(), *count)).collect()
    }

    fn group(counts: &[(&str, u32)]) -> Group {
        Group::of(&replicas(counts)).unwrap().unwrap()
    }

    fn hosts(group: &Group) -> Vec<String> {
        (0..group.processes()).map(|process| format!("train-{process}.train")).collect()
    }

    #[test]
    fn one_process_is_no_group_and_roles_are_checked() {
        for counts in [&[][..], &[("worker", 1)], &[("chief", 1)]] {
            assert_eq!(Group::of(&replicas(counts)), Ok(None), "{counts:?}");
        }
        for (counts, expected) in [
            (&[("server", 1)][..], "replicas.server: expected one of the roles `chief`, `master`, `worker`"),
            (&[("worker", 0)], "replicas.worker: must be 1 to 1000, is 0"),
            (&[("chief", 2)], "replicas.chief: must be 1 to 1, is 2"),
            (&[("chief", 1), ("master", 1)], "replicas.master: `chief` leads the group already"),
            (&[("ps", 2)], "replicas: expected a `worker`, a `chief` or a `master`"),
            (&[("worker", 600), ("ps", 600)], "replicas: must be at most 1000 together, are 1200"),
        ] {
            let refused = Group::of(&replicas(counts)).unwrap_err().to_string();
            assert!(refused.starts_with(expected), "{refused}");
        }
    }

    #[test]
    fn workers_of_pytorch_and_jax_learn_their_rank_and_the_first_of_them() {
        let group = group(&[("worker", 4)]);
        let told = group.environment(3, &hosts(&group), DEFAULT_GROUP_PORT).unwrap();
        for (name, value) in [
            ("RANK", "3"),
            ("WORLD_SIZE", "4"),
            ("MASTER_ADDR", "train-0.train"),
            ("MASTER_PORT", "29500"),
            ("PET_NNODES", "4"),
            ("PET_NODE_RANK", "3"),
            ("JAX_COORDINATOR_ADDRESS", "train-0.train:29500"),
            ("JAX_PROCESS_ID", "3"),
        ] {
            assert_eq!(told.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert_eq!(group.environment(4, &hosts(&group), 1), None);
        assert_eq!(group.environment(0, &hosts(&group)[1..], 1), None, "a host is missing");
    }

    #[test]
    fn tensorflow_learns_the_cluster_and_its_own_task() {
        let group = group(&[("ps", 1), ("worker", 2), ("chief", 1), ("evaluator", 1)]);
        assert_eq!((group.processes(), group.trainers()), (5, 3));
        let told = |process| group.environment(process, &hosts(&group), 2222).unwrap();
        let config =
            |process| serde_json::from_str::<serde_json::Value>(&told(process)["TF_CONFIG"]).unwrap();
        let expected = json!({"cluster": {"chief": ["train-0.train:2222"],
            "worker": ["train-1.train:2222", "train-2.train:2222"], "ps": ["train-3.train:2222"]},
            "task": {"type": "worker", "index": 1}});
        assert_eq!(config(2), expected);
        assert_eq!(config(3)["task"], json!({"type": "ps", "index": 0}));
        assert_eq!(config(4)["task"], json!({"type": "evaluator", "index": 0}));
        assert_eq!(told(0)["RANK"], "0", "the chief is the first");
        assert!(!told(3).contains_key("RANK"), "a parameter server does not train");
    }
}
