//! The streams and buckets that every service expects: how they are created, and what is done about one that
//! exists and differs. No I/O happens here.
//!
//! An operator owns a stream that exists: its limits, storage and replicas stay as they are. Only what the
//! platform cannot work without is added; what cannot be added is an error.

use std::time::Duration;

use async_nats::jetstream::{kv, stream};
use slipway_api::{access, events, predictions, traffic};

use crate::Error;
use crate::settings::StreamSettings;

/// Watchers of traffic tables see a deletion by its marker, and again when the marker expires.
const TABLE_LIMIT_MARKER_S: u64 = 1;
/// A message with an id seen within this time is stored once.
const DUPLICATE_WINDOW_S: u64 = 600;
/// All buckets.
pub(crate) const BUCKETS: [&str; 3] =
    [traffic::TRAFFIC_BUCKET, traffic::REPLICAS_BUCKET, access::ACCESS_BUCKET];

/// The streams, as they are created.
pub(crate) fn streams(settings: &StreamSettings) -> [stream::Config; 3] {
    let stream = |name: &str, subjects: &[&str], max_age_s: i64, max_bytes: i64| stream::Config {
        name: name.to_owned(),
        subjects: subjects.iter().map(|subject| (*subject).to_owned()).collect(),
        max_age: Duration::from_secs(max_age_s.unsigned_abs()),
        max_bytes,
        discard: stream::DiscardPolicy::Old,
        duplicate_window: Duration::from_secs(DUPLICATE_WINDOW_S),
        allow_direct: true,
        storage: settings.storage.into(),
        num_replicas: settings.replicas.into(),
        ..stream::Config::default()
    };
    [
        stream(
            events::EVENTS_STREAM,
            &events::EVENTS_SUBJECTS,
            settings.events_max_age_s,
            settings.events_max_bytes,
        ),
        stream(
            predictions::PREDICTIONS_STREAM,
            &predictions::PREDICTIONS_SUBJECTS,
            settings.predictions_max_age_s,
            settings.predictions_max_bytes,
        ),
        stream(
            predictions::LABELS_STREAM,
            &[predictions::LABELS_SUBJECT],
            settings.labels_max_age_s,
            settings.labels_max_bytes,
        ),
    ]
}

/// A bucket, as it is created.
pub(crate) fn bucket(name: &str, settings: &StreamSettings) -> kv::Config {
    let max_age = if name == traffic::REPLICAS_BUCKET {
        Duration::from_secs(traffic::REPLICA_STATUS_MAX_AGE_S)
    } else {
        Duration::ZERO
    };
    // How long the bucket itself tells that an entry has reached its age.
    let limit_markers = match name {
        access::ACCESS_BUCKET => Some(Duration::from_secs(access::MARKER_MAX_AGE_S)),
        traffic::TRAFFIC_BUCKET => Some(Duration::from_secs(TABLE_LIMIT_MARKER_S)),
        _ => None,
    };
    kv::Config {
        bucket: name.to_owned(),
        history: 1,
        max_age,
        max_bytes: settings.buckets_max_bytes,
        storage: settings.storage.into(),
        num_replicas: settings.replicas.into(),
        limit_markers,
        ..kv::Config::default()
    }
}

/// The stream behind a bucket, as far as the platform depends on it.
pub(crate) fn stream_of(bucket: &kv::Config) -> stream::Config {
    stream::Config {
        name: format!("KV_{}", bucket.bucket),
        subjects: vec![format!("$KV.{}.>", bucket.bucket)],
        max_age: bucket.max_age,
        max_bytes: bucket.max_bytes,
        max_messages_per_subject: bucket.history,
        storage: bucket.storage,
        num_replicas: bucket.num_replicas,
        allow_direct: true,
        allow_rollup: true,
        ..stream::Config::default()
    }
}

/// What an existing stream lacks: its configuration with that added, or `None` if it lacks nothing.
///
/// # Errors
/// It has a property that the platform cannot work with and that cannot be changed.
pub(crate) fn mended(
    found: &stream::Config,
    wanted: &stream::Config,
) -> Result<Option<stream::Config>, Error> {
    usable(found, wanted)?;
    let mended = stream::Config {
        subjects: with_subjects(&found.subjects, &wanted.subjects),
        allow_direct: found.allow_direct || wanted.allow_direct,
        allow_rollup: found.allow_rollup || wanted.allow_rollup,
        ..found.clone()
    };
    Ok((mended != *found).then_some(mended))
}

fn usable(found: &stream::Config, wanted: &stream::Config) -> Result<(), Error> {
    let refused = |field: &'static str, found: String, expected: &str| {
        let (stream, expected) = (wanted.name.clone(), expected.to_owned());
        Err(Error::Unusable { stream, field, found, expected })
    };
    if found.retention != stream::RetentionPolicy::Limits {
        // A message would be gone before every service has read it.
        return refused("retention", format!("{:?}", found.retention).to_lowercase(), "limits");
    }
    if found.mirror.is_some() {
        return refused("mirror", "set".to_owned(), "unset, because a mirror takes no messages");
    }
    if found.sealed {
        return refused("sealed", "true".to_owned(), "false");
    }
    if found.no_ack {
        return refused("no_ack", "true".to_owned(), "false");
    }
    if wanted.max_messages_per_subject > 0 && found.max_messages_per_subject < 1 {
        let history = found.max_messages_per_subject.to_string();
        return refused("max_msgs_per_subject", history, "1, the history of a bucket, or more");
    }
    Ok(())
}

/// The subjects found, without those that a missing one covers, and the missing ones.
fn with_subjects(found: &[String], wanted: &[String]) -> Vec<String> {
    let is_missing = |subject: &&String| !found.iter().any(|pattern| covers(pattern, subject));
    let missing: Vec<&String> = wanted.iter().filter(is_missing).collect();
    let stays = |subject: &&String| !missing.iter().any(|pattern| covers(pattern, subject));
    found.iter().filter(stays).chain(missing.iter().copied()).cloned().collect()
}

/// Whether a pattern of subjects matches everything that another one matches.
fn covers(pattern: &str, other: &str) -> bool {
    let (mut pattern, mut other) = (pattern.split('.'), other.split('.'));
    loop {
        match (pattern.next(), other.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(token)) if token != ">" => {}
            (Some(wanted), Some(token)) if wanted == token => {}
            _ => return false,
        }
    }
}

/// Limits, storage and replicas of an existing stream that are not those configured:
/// `field FOUND (configured: WANTED)`.
pub(crate) fn differences(found: &stream::Config, wanted: &stream::Config) -> Vec<String> {
    let shown = |config: &stream::Config| {
        [
            ("num_replicas", config.num_replicas.to_string()),
            ("storage", format!("{:?}", config.storage).to_lowercase()),
            ("max_bytes", config.max_bytes.to_string()),
            ("max_age", format!("{} s", config.max_age.as_secs())),
        ]
    };
    let pairs = shown(found).into_iter().zip(shown(wanted));
    let differing = pairs.filter(|((_, found), (_, wanted))| found != wanted);
    differing.map(|((field, found), (_, wanted))| format!("{field} {found} (configured: {wanted})")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Storage;

    fn events() -> stream::Config {
        let [events, ..] = streams(&StreamSettings::default());
        events
    }

    #[test]
    fn every_stream_and_bucket_is_created_with_the_configured_replicas_storage_and_limits() {
        let settings = StreamSettings {
            replicas: 3,
            storage: Storage::Memory,
            buckets_max_bytes: 7 << 20,
            ..StreamSettings::default()
        };
        let buckets = BUCKETS.map(|name| stream_of(&bucket(name, &settings)));
        for config in streams(&settings).into_iter().chain(buckets) {
            assert_eq!((config.num_replicas, config.storage), (3, stream::StorageType::Memory));
            assert!(config.max_bytes > 0, "{} is unbounded", config.name);
        }
        assert_eq!(bucket(traffic::TRAFFIC_BUCKET, &settings).max_bytes, 7 << 20);
    }

    #[test]
    fn what_an_operator_changed_stays() {
        let changed = stream::Config {
            max_bytes: 5,
            max_age: Duration::from_secs(1),
            num_replicas: 5,
            storage: stream::StorageType::Memory,
            discard: stream::DiscardPolicy::New,
            duplicate_window: Duration::from_secs(1),
            subjects: [events().subjects, vec!["their.own".to_owned()]].concat(),
            description: Some("theirs".to_owned()),
            ..events()
        };
        assert_eq!(mended(&changed, &events()).unwrap(), None);
        let kept = [
            "num_replicas 5 (configured: 1)",
            "storage memory (configured: file)",
            "max_bytes 5 (configured: 2147483648)",
            "max_age 1 s (configured: 1209600 s)",
        ];
        assert_eq!(differences(&changed, &events()), kept);
    }

    #[test]
    fn missing_subjects_are_added_and_nothing_else_changes() {
        let with = |subjects: &[&str]| stream::Config {
            subjects: subjects.iter().map(|subject| (*subject).to_owned()).collect(),
            max_bytes: 5,
            ..events()
        };
        for (found, wanted, expected) in [
            (&["a.b", "own"][..], &["a.b", "c.>"][..], &["a.b", "own", "c.>"][..]),
            // NATS rejects a stream whose subjects overlap.
            (&["a.b", "a.c.d"], &["a.>"], &["a.>"]),
            (&["a.b", "x"], &["a.*"], &["x", "a.*"]),
        ] {
            let mended = mended(&with(found), &with(wanted)).unwrap().unwrap();
            assert_eq!(mended, with(expected), "{found:?} {wanted:?}");
        }
        for (found, wanted) in [(&["a.>"][..], &["a.b", "a.*.c", "a.>"][..]), (&["b", "a"], &["a", "b"])] {
            assert_eq!(mended(&with(found), &with(wanted)).unwrap(), None, "{found:?} {wanted:?}");
        }
        assert!(!covers("a.*", "a.>") && !covers("a", "a.b") && !covers("a.>", "a"));
    }

    #[test]
    fn a_stream_that_cannot_be_used_is_named_with_the_field_its_value_and_the_expected_one() {
        let refused = |change: fn(&mut stream::Config)| {
            let mut found = stream_of(&bucket(traffic::TRAFFIC_BUCKET, &StreamSettings::default()));
            let wanted = found.clone();
            change(&mut found);
            mended(&found, &wanted).unwrap_err().to_string()
        };
        let text = refused(|found| found.retention = stream::RetentionPolicy::WorkQueue);
        for part in ["`KV_slipway-traffic`", "retention `workqueue`", "expected `limits`"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(refused(|found| found.max_messages_per_subject = -1).contains("max_msgs_per_subject `-1`"));
        assert!(refused(|found| found.no_ack = true).contains("no_ack `true`, expected `false`"));
        assert!(refused(|found| found.sealed = true).contains("sealed `true`"));
    }
}
