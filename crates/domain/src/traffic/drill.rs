//! A drill in a traffic table: a fault that copies of requests meet, or users' requests where that was
//! confirmed.

use serde::{Deserialize, Deserializer, Serialize};

use super::{WHOLE_PERCENT, stable_hash, unit_interval};

/// What a replica does for a drill until its end. Replicas end it by themselves, whether or not the rollout
/// controller is reachable then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drill {
    /// Identity of the drill.
    pub id: String,
    /// The fault; absent where recorded requests are replayed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// Recorded requests to replay; absent where there is a fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<Replay>,
    /// Who meets the fault.
    pub target: DrillTarget,
    /// Share of them that meets it, 1 to 100.
    pub percent: u8,
    /// From this Unix time in milliseconds on, no request meets it.
    pub ends_at_unix_ms: u64,
}

/// A failure of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Fault {
    /// The model does not load.
    NotLoading,
    /// The artifact store is unreachable while the version loads.
    StorageGone,
    /// Memory runs out while the version loads.
    OutOfMemory,
    /// The model fails.
    Errors,
    /// Answers take longer.
    Latency {
        /// By how much, in milliseconds.
        added_ms: u64,
    },
}

/// Who meets a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DrillTarget {
    /// Copies of answered requests. No client sees their answers.
    #[default]
    Copies,
    /// Users' requests.
    Answers,
}

/// Recorded requests that one replica sends to a copy of the stable version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// The replica.
    pub replica_id: String,
    /// The newest recorded requests, this many at most.
    pub last: u32,
    /// How many are sent each second.
    pub requests_per_second: u32,
}

impl Drill {
    /// Whether it has not ended at this Unix time in milliseconds.
    pub const fn is_running(&self, now_unix_ms: u64) -> bool {
        now_unix_ms < self.ends_at_unix_ms
    }

    /// Whether a request, by its ID, is of the share that meets the fault. A retried request is, again.
    pub fn takes(&self, request_id: &str) -> bool {
        let draw = unit_interval(stable_hash(&[&self.id, request_id])) * f64::from(WHOLE_PERCENT);
        draw < f64::from(self.percent)
    }

    /// The fault that this request of a user meets, where it meets one.
    pub fn met_by_users(&self, request_id: &str, now_unix_ms: u64) -> Option<Fault> {
        let is_meant = self.target == DrillTarget::Answers && self.is_running(now_unix_ms);
        self.fault.filter(|_| is_meant && self.takes(request_id))
    }
}

/// A drill that this release does not know is none: it must not cost the deployment its traffic table.
pub(super) fn known<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Drill>, D::Error> {
    let found = Option::<serde_json::Value>::deserialize(deserializer)?;
    Ok(found.and_then(|found| serde_json::from_value(found).ok()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::TrafficTable;
    use super::*;

    fn drill(target: DrillTarget, percent: u8) -> Drill {
        let fault = Some(Fault::Latency { added_ms: 200 });
        Drill { id: "d1".into(), fault, replay: None, target, percent, ends_at_unix_ms: 1_000 }
    }

    #[test]
    fn a_drill_that_is_not_known_leaves_the_table_as_it_is() {
        let table = TrafficTable { revision: 7, ..TrafficTable::empty("d", "m") };
        let mut written = json!(table);
        assert!(written.get("drill").is_none(), "readers of earlier releases see the same table");
        written["drill"] = json!({"id": "d1", "fault": {"kind": "meteorite"}, "ends_at_unix_ms": 5});
        assert_eq!(serde_json::from_value::<TrafficTable>(written.clone()).unwrap(), table);
        written["drill"] = json!(drill(DrillTarget::Copies, 100));
        let read: TrafficTable = serde_json::from_value(written).unwrap();
        assert_eq!(read.drill, Some(drill(DrillTarget::Copies, 100)));
        assert!(!read.routes_like(&table));
    }

    #[test]
    fn users_meet_a_fault_only_where_it_is_against_answers_and_until_its_end() {
        let fault = Some(Fault::Latency { added_ms: 200 });
        assert_eq!(drill(DrillTarget::Answers, 100).met_by_users("r", 999), fault);
        assert_eq!(drill(DrillTarget::Answers, 100).met_by_users("r", 1_000), None);
        assert_eq!(drill(DrillTarget::Copies, 100).met_by_users("r", 0), None);
    }

    #[test]
    fn the_share_is_as_asked_and_the_same_for_a_request() {
        let third = drill(DrillTarget::Answers, 30);
        let met = (0..10_000).filter(|id| third.takes(&format!("request-{id}"))).count();
        assert!((2_800..3_200).contains(&met), "{met}");
        assert_eq!(third.takes("request-1"), third.takes("request-1"));
        assert!((0..1_000).all(|id| drill(DrillTarget::Copies, 100).takes(&format!("{id}"))));
    }
}
