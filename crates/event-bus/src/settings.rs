//! Replicas, storage and limits that streams and buckets are created with.

use async_nats::jetstream::stream;
use clap::builder::RangedI64ValueParser;

const MIB: i64 = 1024 * 1024;
const DAY_S: i64 = 24 * 3600;

/// Where NATS keeps streams and buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Storage {
    /// On the disks of its servers.
    File,
    /// In their memory: what no running server holds is lost.
    Memory,
}

impl From<Storage> for stream::StorageType {
    fn from(storage: Storage) -> Self {
        match storage {
            Storage::File => Self::File,
            Storage::Memory => Self::Memory,
        }
    }
}

/// Settings of streams and buckets. They take effect where one is created; one that exists keeps its own.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "NATS streams, as they are created")]
pub struct StreamSettings {
    /// Servers of a NATS cluster that store each stream and bucket, 1 to 5. With 3, one server may fail.
    #[arg(id = "nats_replicas", long = "nats-replicas", env = "SLIPWAY_NATS_REPLICAS", default_value_t = 1,
          value_parser = clap::value_parser!(u8).range(1..=5), value_name = "N")]
    pub replicas: u8,
    /// Where NATS keeps streams and buckets.
    #[arg(
        id = "nats_storage",
        long = "nats-storage",
        env = "SLIPWAY_NATS_STORAGE",
        value_enum,
        default_value = "file"
    )]
    pub storage: Storage,
    /// Maximum size of the stream of events, in bytes; the oldest ones are deleted.
    #[arg(id = "nats_events_max_bytes", long = "nats-events-max-bytes",
          env = "SLIPWAY_NATS_EVENTS_MAX_BYTES", default_value_t = 2048 * MIB, value_parser = bytes(),
          value_name = "BYTES")]
    pub events_max_bytes: i64,
    /// Maximum age of events, in seconds: a consumer that is unreachable for longer misses some.
    #[arg(id = "nats_events_max_age_s", long = "nats-events-max-age-s",
          env = "SLIPWAY_NATS_EVENTS_MAX_AGE_S",
          default_value_t = 14 * DAY_S, value_parser = seconds(), value_name = "SECONDS")]
    pub events_max_age_s: i64,
    /// Maximum size of the stream of prediction records, in bytes; the oldest ones are deleted.
    #[arg(id = "nats_predictions_max_bytes", long = "nats-predictions-max-bytes",
          env = "SLIPWAY_NATS_PREDICTIONS_MAX_BYTES", default_value_t = 512 * MIB, value_parser = bytes(),
          value_name = "BYTES")]
    pub predictions_max_bytes: i64,
    /// Maximum age of prediction records, in seconds.
    #[arg(id = "nats_predictions_max_age_s", long = "nats-predictions-max-age-s",
          env = "SLIPWAY_NATS_PREDICTIONS_MAX_AGE_S", default_value_t = DAY_S, value_parser = seconds(),
          value_name = "SECONDS")]
    pub predictions_max_age_s: i64,
    /// Maximum size of the stream of labels, in bytes; the oldest ones are deleted.
    #[arg(id = "nats_labels_max_bytes", long = "nats-labels-max-bytes", env = "SLIPWAY_NATS_LABELS_MAX_BYTES",
          default_value_t = 256 * MIB, value_parser = bytes(), value_name = "BYTES")]
    pub labels_max_bytes: i64,
    /// Maximum age of labels, in seconds.
    #[arg(id = "nats_labels_max_age_s", long = "nats-labels-max-age-s", env = "SLIPWAY_NATS_LABELS_MAX_AGE_S",
          default_value_t = 30 * DAY_S, value_parser = seconds(), value_name = "SECONDS")]
    pub labels_max_age_s: i64,
    /// Maximum size of each key-value bucket (traffic tables, replica status, tokens and roles), in bytes; a
    /// full one rejects writes.
    #[arg(id = "nats_buckets_max_bytes", long = "nats-buckets-max-bytes",
          env = "SLIPWAY_NATS_BUCKETS_MAX_BYTES", default_value_t = 64 * MIB, value_parser = bytes(),
          value_name = "BYTES")]
    pub buckets_max_bytes: i64,
}

/// A stream holds at least one message of the largest size that servers accept by default.
fn bytes() -> RangedI64ValueParser<i64> {
    clap::value_parser!(i64).range(MIB..)
}

/// Below the window in which NATS recognizes a repeated message, a stream is rejected.
fn seconds() -> RangedI64ValueParser<i64> {
    clap::value_parser!(i64).range(600..=100 * 365 * DAY_S)
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self {
            replicas: 1,
            storage: Storage::File,
            events_max_bytes: 2048 * MIB,
            events_max_age_s: 14 * DAY_S,
            predictions_max_bytes: 512 * MIB,
            predictions_max_age_s: DAY_S,
            labels_max_bytes: 256 * MIB,
            labels_max_age_s: 30 * DAY_S,
            buckets_max_bytes: 64 * MIB,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Program {
        #[command(flatten)]
        streams: StreamSettings,
    }

    fn parse(arguments: &[&str]) -> Result<StreamSettings, String> {
        let all = ["program"].iter().chain(arguments);
        Program::try_parse_from(all).map(|program| program.streams).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_of_the_command_line_are_those_of_the_code() {
        assert_eq!(parse(&[]), Ok(StreamSettings::default()));
        let set = parse(&["--nats-replicas", "3", "--nats-storage", "memory"]).unwrap();
        assert_eq!((set.replicas, set.storage), (3, Storage::Memory));
    }

    #[test]
    fn a_setting_out_of_range_is_rejected_with_its_name_its_value_and_what_is_expected() {
        for (flag, value, expected) in [
            ("--nats-replicas", "0", "1..=5"),
            ("--nats-replicas", "six", "invalid digit"),
            ("--nats-storage", "tape", "file, memory"),
            ("--nats-events-max-bytes", "1000", "1048576.."),
            ("--nats-events-max-bytes", "2GB", "invalid digit"),
            ("--nats-labels-max-age-s", "0", "600..="),
        ] {
            let refused = parse(&[flag, value]).unwrap_err();
            for part in [flag, value, expected] {
                assert!(refused.contains(part), "{flag} {value}: {refused}");
            }
        }
    }
}
