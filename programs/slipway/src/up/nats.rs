//! Users, streams and buckets of the private NATS server.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use slipway_event_bus::permissions::{User, permissions};
use slipway_event_bus::{EventBus, NatsConfig, StreamSettings};
use slipway_toolbox::servers::{NatsPermissions, NatsUrls, NatsUser};

/// Longest time from the first connection to the last stream.
const STREAMS_LIMIT: Duration = Duration::from_secs(30);
const RETRY_DELAY: Duration = Duration::from_millis(50);
/// Where serving publishes CloudEvents, if it does.
const CLOUDEVENTS_SUBJECT: &str = "SLIPWAY_SERVING_CLOUDEVENTS_SUBJECT";
/// Subjects that begin so have rules of their own.
const RESERVED: [&str; 3] = ["slipway.", "$", "_INBOX"];

/// All users, that of the platform first.
pub(super) fn users() -> Vec<NatsUser> {
    let extra = std::env::var(CLOUDEVENTS_SUBJECT).ok();
    let extra = extra.filter(|subject| is_free(subject));
    User::ALL.into_iter().map(|user| with_permissions(user, extra.as_deref())).collect()
}

fn is_free(subject: &str) -> bool {
    let is_reserved = RESERVED.iter().any(|start| subject.starts_with(start));
    !subject.is_empty() && !is_reserved && !subject.contains(['*', '>', ' ', '"', '\\'])
}

/// A user as the server knows it. `cloudevents` is the subject that serving publishes requests and answers
/// on.
fn with_permissions(user: User, cloudevents: Option<&str>) -> NatsUser {
    let permissions = permissions(user).map(|mut allowed| {
        let extra = cloudevents.map(str::to_owned);
        match user {
            User::Serving => allowed.publish.extend(extra),
            User::Reader => allowed.subscribe.extend(extra),
            _ => {}
        }
        NatsPermissions {
            publish: allowed.publish,
            publish_denied: allowed.publish_denied,
            subscribe: allowed.subscribe,
        }
    });
    NatsUser { name: user.name().to_owned(), permissions }
}

/// The reader's URL, and those of services with the prefix of their replies.
pub(super) fn access(urls: NatsUrls) -> (String, BTreeMap<String, String>) {
    let url = |user: User| urls.get(user.name()).cloned().unwrap_or_default();
    let services = User::ALL.into_iter().filter(|user| !matches!(user, User::Platform | User::Reader));
    let of_service = |user: User| {
        let url = format!("{}?inbox_prefix={}", url(user), user.inbox_prefix());
        (user.name().to_owned(), url)
    };
    (url(User::Reader), services.map(of_service).collect())
}

/// Makes the streams and buckets, which services may not configure. `url` is the platform's.
pub(super) fn make_streams(url: &str, streams: &StreamSettings) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let config = NatsConfig { nats_url: url.to_owned() };
        let bus = EventBus::connect(&config, "slipway-up").await?.with_streams(streams.clone());
        let started = Instant::now();
        while let Err(error) = bus.ensure_resources().await {
            if started.elapsed() > STREAMS_LIMIT {
                return Err(error).context("cannot make the streams of NATS");
            }
            tokio::time::sleep(RETRY_DELAY).await;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serving_may_publish_its_cloudevents_and_nothing_of_the_platform() {
        let publishes = |subject: &str| {
            let extra = Some(subject).filter(|subject| is_free(subject));
            let serving = with_permissions(User::Serving, extra).permissions.unwrap();
            serving.publish.iter().any(|allowed| allowed == subject)
        };
        assert!(publishes("inference.events"));
        for subject in
            ["", "slipway.registry.alias.set", "$KV.slipway-traffic.d", "_INBOX_registry.x", "a.>", "*"]
        {
            assert!(!publishes(subject), "{subject}");
        }
    }

    #[test]
    fn every_service_has_a_user_and_the_owner_reads_only() {
        let urls = User::ALL.map(|user| (user.name().to_owned(), format!("nats://{}:x@h:1", user.name())));
        let (owner, services) = access(urls.into_iter().collect());
        assert_eq!(owner, "nats://reader:x@h:1");
        let names: Vec<&str> = services.keys().map(String::as_str).collect();
        assert_eq!(names, ["drift-monitor", "launcher", "registry", "rollout-controller", "serving"]);
        assert_eq!(services["serving"], "nats://serving:x@h:1?inbox_prefix=_INBOX_serving");
    }
}
