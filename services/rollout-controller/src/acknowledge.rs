//! Which replicas follow a change: commands answer only when every live replica routes by the table that they
//! led to, or after a bounded wait.

use slipway_http_server::Problem;

use crate::replicas::{Followed, Lagging};
use crate::state::State;
use crate::store::deployments;

/// How far the replicas are with the deployment's current traffic table.
#[derive(Debug)]
pub(crate) struct Acknowledged {
    /// Revision of the table.
    pub(crate) table_revision: u64,
    /// Whether every replica that reported in the last 30 s routes by this revision or a later one.
    pub(crate) complete: bool,
    /// Ids of the replicas that do.
    pub(crate) followed: Vec<String>,
    /// Those that do not: they may still answer by an older table.
    pub(crate) not_followed: Vec<Lagging>,
    /// All of it in one sentence.
    pub(crate) message: String,
}

/// Waits until the live replicas follow the deployment's current table, for the configured time at most.
///
/// # Errors
/// Postgres is unavailable, or the deployment was deleted.
pub(crate) async fn wait(state: &State, deployment: &str) -> Result<Acknowledged, Problem> {
    let mut connection = state.pool.acquire().await?;
    let found = deployments::find(&mut connection, deployment).await?;
    drop(connection);
    let revision = found.ok_or_else(|| crate::manage::absent(deployment))?.traffic.revision;
    state.replicas.wait_followed(deployment, revision, state.acknowledge_timeout).await;
    let Followed { followed, not_followed } = state.replicas.followed(deployment, revision);
    let message = message(revision, &followed, &not_followed, state.bus.is_connected());
    let complete = not_followed.is_empty() && !followed.is_empty();
    Ok(Acknowledged { table_revision: revision, complete, followed, not_followed, message })
}

fn message(revision: u64, followed: &[String], not_followed: &[Lagging], connected: bool) -> String {
    let all = followed.len() + not_followed.len();
    let mut text = match (all, not_followed) {
        (0, _) => "no serving replica has reported in the last 30 s".to_owned(),
        (_, []) => format!("all {all} replicas follow revision {revision}"),
        _ => {
            let lagging: Vec<String> = not_followed.iter().map(Lagging::describe).collect();
            format!(
                "{} of {all} replicas follow revision {revision}; these have not and may still answer by an older \
                 traffic table: {}",
                followed.len(),
                lagging.join(", ")
            )
        }
    };
    if !connected {
        text.push_str("; NATS is unreachable, and the table reaches the replicas once it is reachable");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_replicas_that_have_not_followed() {
        let lagging = Lagging { replica_id: "b".into(), table_revision: Some(6), heard_ms_ago: 4_200 };
        let text = message(7, &["a".into()], &[lagging], true);
        assert!(text.starts_with("1 of 2 replicas follow revision 7"), "{text}");
        assert!(text.contains("`b` at revision 6, heard 4.2 s ago"), "{text}");
        assert_eq!(message(7, &["a".into()], &[], true), "all 1 replicas follow revision 7");
        assert!(message(7, &[], &[], false).contains("NATS is unreachable"));
    }
}
