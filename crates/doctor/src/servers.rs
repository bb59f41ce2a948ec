//! Postgres, NATS and S3.

use crate::{Finding, Level, Version, clock};

const POSTGRES: Version = Version(14, 0);
const NATS: Version = Version(2, 10);
/// Four services with 8 connections each, and some for people.
const CONNECTIONS: u64 = 40;
const MIB: u64 = 1 << 20;
/// Prediction records are messages of up to this size.
const MAX_PAYLOAD_BYTES: u64 = MIB;
const STREAMS: [&str; 3] = ["SLIPWAY_EVENTS", "SLIPWAY_PREDICTIONS", "SLIPWAY_LABELS"];

/// What was learned of Postgres.
#[derive(Debug, Clone, Default)]
pub struct Postgres {
    /// `server_version`.
    pub version: String,
    /// `max_connections`.
    pub max_connections: u64,
    /// Connections now.
    pub connections: u64,
    /// Whether this session is encrypted.
    pub encrypted: bool,
    /// Whether the server is on this machine.
    pub local: bool,
    /// Its clock minus ours, in milliseconds, with the time of the request.
    pub clock: (i64, u64),
    /// Schemas of services that exist.
    pub schemas: Vec<String>,
    /// Schemas with migrations that this release does not know.
    pub newer_schemas: Vec<String>,
    /// Whether the user may create schemas in the database.
    pub may_create: bool,
    /// Whether the server is a read-only replica.
    pub read_only: bool,
}

/// What was learned of NATS.
#[derive(Debug, Clone, Default)]
pub struct Nats {
    /// Version of the server.
    pub version: String,
    /// Whether JetStream is enabled.
    pub jetstream: bool,
    /// Maximum length of a message.
    pub max_payload_bytes: u64,
    /// Streams of the platform that exist.
    pub streams: Vec<String>,
    /// Bytes on the disk that the account may use; `None` for no limit.
    pub storage_limit_bytes: Option<u64>,
    /// Bytes that streams may take together.
    pub reserved_bytes: u64,
    /// Why streams could not be listed.
    pub refused: Option<String>,
}

/// What was learned of S3.
#[derive(Debug, Clone, Default)]
pub struct S3 {
    /// Name of the bucket.
    pub bucket: String,
    /// The step that failed, and why.
    pub failed: Option<(String, String)>,
    /// Its clock minus ours in milliseconds, with the time of the request.
    pub clock: Option<(i64, u64)>,
}

/// A server that cannot be reached.
pub fn unreachable(server: &str, variable: &str, why: &str) -> Finding {
    Finding::fail(
        server,
        format!("unreachable: {why}"),
        format!("check {variable}, that the server runs, its firewall or NetworkPolicy, and the password"),
    )
}

/// A server whose address is unknown.
pub fn unknown(server: &str, variable: &str) -> Finding {
    Finding::warn(
        server,
        "not checked: its address is unknown",
        format!("set {variable} as for the services, or use --data-dir of a platform on this machine"),
    )
}

/// Findings about Postgres.
pub fn postgres(facts: &Postgres) -> Vec<Finding> {
    let version = Version::parse(&facts.version);
    let mut findings = vec![
        Finding::of(
            version.is_some_and(|version| version >= POSTGRES),
            Level::Fail,
            "postgres version",
            &facts.version,
            format!("upgrade to PostgreSQL {} or newer", POSTGRES.0),
        ),
        connections(facts),
        clock("postgres", facts.clock.0, facts.clock.1),
        schemas(facts),
    ];
    if facts.read_only {
        let advice = "use the address of the primary in SLIPWAY_POSTGRES_URL";
        findings.push(Finding::fail("postgres role", "a read-only replica", advice));
    }
    if !facts.encrypted && !facts.local {
        let advice = "append ?sslmode=verify-full to SLIPWAY_POSTGRES_URL, and enable TLS on the server";
        findings.push(Finding::warn(
            "postgres encryption",
            "rows and passwords travel in plain text",
            advice,
        ));
    }
    findings
}

fn connections(facts: &Postgres) -> Finding {
    let Postgres { max_connections, connections, .. } = facts;
    let found = format!("max_connections {max_connections}, {connections} in use");
    let advice = format!(
        "set max_connections to {CONNECTIONS} or more (8 for each replica of each service), or lower \
         SLIPWAY_POSTGRES_MAX_CONNECTIONS, or use PgBouncer"
    );
    Finding::of(*max_connections >= CONNECTIONS, Level::Warn, "postgres connections", found, advice)
}

fn schemas(facts: &Postgres) -> Finding {
    const CHECK: &str = "postgres schemas";
    if !facts.newer_schemas.is_empty() {
        let found = format!("of a newer release: {}", facts.newer_schemas.join(", "));
        let advice = "use the newer release: this one may not understand what it wrote";
        return Finding::warn(CHECK, found, advice);
    }
    if !facts.schemas.is_empty() {
        return Finding::ok(CHECK, facts.schemas.join(", "));
    }
    let advice = "GRANT CREATE ON DATABASE … TO …, or create the schemas of the services before they start";
    let found = if facts.may_create {
        "none yet: services create them"
    } else {
        "none, and the user may create none"
    };
    Finding::of(facts.may_create, Level::Fail, CHECK, found, advice)
}

/// Findings about NATS.
pub fn nats(facts: &Nats) -> Vec<Finding> {
    let version = Version::parse(&facts.version);
    let mut findings = vec![
        Finding::of(
            version.is_some_and(|version| version >= NATS),
            Level::Fail,
            "nats version",
            &facts.version,
            format!("upgrade to NATS {NATS} or newer"),
        ),
        Finding::of(
            facts.jetstream,
            Level::Fail,
            "nats jetstream",
            if facts.jetstream { "enabled" } else { "disabled" },
            "start the server with `--jetstream --store_dir DIR`, or add a block `jetstream` to its \
             configuration, and enable it for the account",
        ),
        Finding::of(
            facts.max_payload_bytes >= MAX_PAYLOAD_BYTES,
            Level::Warn,
            "nats max_payload",
            format!("{} bytes", facts.max_payload_bytes),
            format!("set max_payload to {MAX_PAYLOAD_BYTES} or more: longer prediction records are dropped"),
        ),
    ];
    if facts.jetstream {
        findings.push(streams(facts));
        findings.extend(storage(facts));
    }
    findings
}

fn streams(facts: &Nats) -> Finding {
    const CHECK: &str = "nats streams";
    if let Some(why) = &facts.refused {
        let advice = "use a user who may read the JetStream API, or ignore this: services have fewer rights";
        return Finding::warn(CHECK, format!("not checked: {why}"), advice);
    }
    let missing: Vec<&str> =
        STREAMS.into_iter().filter(|name| !facts.streams.iter().any(|found| found == name)).collect();
    let found =
        if missing.is_empty() { "all exist".to_owned() } else { format!("missing: {}", missing.join(", ")) };
    let advice = "right before an installation; otherwise run `slipway setup` with a user who may create \
                  streams, or check the log of the registry";
    Finding::of(missing.is_empty(), Level::Warn, CHECK, found, advice)
}

fn storage(facts: &Nats) -> Option<Finding> {
    let limit = facts.storage_limit_bytes?;
    let found = format!("{} MiB reserved of {} MiB", facts.reserved_bytes / MIB, limit / MIB);
    let advice = "raise max_file_store of the account, or lower SLIPWAY_NATS_PREDICTIONS_MAX_BYTES";
    Some(Finding::of(facts.reserved_bytes <= limit, Level::Warn, "nats storage", found, advice))
}

/// Findings about S3.
pub fn s3(facts: &S3) -> Vec<Finding> {
    let bucket = &facts.bucket;
    let mut findings = vec![match &facts.failed {
        None => {
            Finding::ok("s3 bucket", format!("{bucket}: objects can be listed, written, read and deleted"))
        }
        Some((step, why)) => Finding::fail(
            "s3 bucket",
            format!("{bucket}: cannot {step}: {why}"),
            "check the bucket, SLIPWAY_S3_REGION and the policy of the key: s3:ListBucket, s3:GetObject, \
             s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload are required",
        ),
    }];
    findings.extend(facts.clock.map(|(difference_ms, slack_ms)| clock("s3", difference_ms, slack_ms)));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good_postgres() -> Postgres {
        Postgres {
            version: "16.4".to_owned(),
            max_connections: 100,
            encrypted: true,
            schemas: vec!["registry".to_owned()],
            may_create: true,
            ..Postgres::default()
        }
    }

    fn good_nats() -> Nats {
        Nats {
            version: "2.11.0".to_owned(),
            jetstream: true,
            max_payload_bytes: MIB,
            streams: STREAMS.map(str::to_owned).to_vec(),
            ..Nats::default()
        }
    }

    fn bad(findings: Vec<Finding>) -> Vec<(String, Level)> {
        let bad = findings.into_iter().filter(|finding| finding.level != Level::Ok);
        bad.inspect(|finding| assert!(finding.advice.is_some(), "{finding:?}"))
            .map(|finding| (finding.check, finding.level))
            .collect()
    }

    #[test]
    fn each_lack_of_postgres_is_found() {
        assert_eq!(bad(postgres(&good_postgres())), []);
        type Change = fn(&mut Postgres);
        let table: [(&str, Level, Change); 8] = [
            ("postgres version", Level::Fail, |facts| facts.version = "13.9".to_owned()),
            ("postgres version", Level::Fail, |facts| facts.version = "?".to_owned()),
            ("postgres connections", Level::Warn, |facts| facts.max_connections = 39),
            ("postgres clock", Level::Fail, |facts| facts.clock = (-120_000, 5)),
            ("postgres schemas", Level::Warn, |facts| facts.newer_schemas = vec!["registry".to_owned()]),
            ("postgres schemas", Level::Fail, |facts| (facts.schemas, facts.may_create) = (vec![], false)),
            ("postgres role", Level::Fail, |facts| facts.read_only = true),
            ("postgres encryption", Level::Warn, |facts| facts.encrypted = false),
        ];
        for (check, level, change) in table {
            let mut facts = good_postgres();
            change(&mut facts);
            assert_eq!(bad(postgres(&facts)), [(check.to_owned(), level)]);
        }
        assert_eq!(bad(postgres(&Postgres { schemas: vec![], ..good_postgres() })), []);
        assert_eq!(bad(postgres(&Postgres { encrypted: false, local: true, ..good_postgres() })), []);
    }

    #[test]
    fn each_lack_of_nats_is_found() {
        assert_eq!(bad(nats(&good_nats())), []);
        type Change = fn(&mut Nats);
        let table: [(&str, Level, Change); 6] = [
            ("nats version", Level::Fail, |facts| facts.version = "2.9.25".to_owned()),
            ("nats jetstream", Level::Fail, |facts| facts.jetstream = false),
            ("nats max_payload", Level::Warn, |facts| facts.max_payload_bytes = 1_000),
            ("nats streams", Level::Warn, |facts| facts.streams.truncate(1)),
            ("nats streams", Level::Warn, |facts| facts.refused = Some("no responders".to_owned())),
            ("nats storage", Level::Warn, |facts| {
                (facts.storage_limit_bytes, facts.reserved_bytes) = (Some(1), 2);
            }),
        ];
        for (check, level, change) in table {
            let mut facts = good_nats();
            change(&mut facts);
            assert_eq!(bad(nats(&facts)), [(check.to_owned(), level)]);
        }
    }

    #[test]
    fn each_lack_of_s3_is_found() {
        let good = S3 { bucket: "slipway".to_owned(), failed: None, clock: Some((500, 1_000)) };
        assert_eq!(bad(s3(&good)), []);
        let failed = Some(("write an object".to_owned(), "access denied".to_owned()));
        let refused = s3(&S3 { failed, ..good.clone() });
        assert_eq!(refused[0].found, "slipway: cannot write an object: access denied");
        assert_eq!(bad(refused), [("s3 bucket".to_owned(), Level::Fail)]);
        assert_eq!(bad(s3(&S3 { clock: Some((90_000, 0)), ..good })), [("s3 clock".to_owned(), Level::Fail)]);
        assert_eq!(unreachable("nats", "SLIPWAY_NATS_URL", "refused").level, Level::Fail);
        assert_eq!(unknown("nats", "SLIPWAY_NATS_URL").level, Level::Warn);
    }
}
