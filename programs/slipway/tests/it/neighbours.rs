//! What another user of the machine can do to a running platform: each port without credentials, each file as
//! another uid, and each service beyond its own subjects.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::client::{Client, strategy};
use crate::platform::{Platform, wait_for};

const NOBODY: u32 = 65_534;

/// Ports that each process of the platform listens on.
fn ports(platform: &Platform) -> BTreeMap<String, BTreeSet<u16>> {
    let pids = platform.endpoints()["pids"].as_object().unwrap().clone();
    pids.into_iter().map(|(part, pid)| (part, ports_of(pid.as_u64().unwrap()))).collect()
}

fn ports_of(pid: u64) -> BTreeSet<u16> {
    let found = slipway_toolbox::listeners(pid.try_into().unwrap()).unwrap();
    assert!(found.iter().all(|address| address.ip().is_loopback()), "listens for other machines: {found:?}");
    found.iter().map(std::net::SocketAddr::port).collect()
}

fn port(url: &str) -> u16 {
    let address = url.rsplit('@').next().unwrap().rsplit("//").next().unwrap();
    address.split(':').nth(1).unwrap().split(['/', '?']).next().unwrap().parse().unwrap()
}

/// `USER:PASSWORD` of a URL.
fn login(url: &str) -> (String, String) {
    let (user, password) =
        url.split_once("://").unwrap().1.split_once('@').unwrap().0.split_once(':').unwrap();
    (user.to_owned(), password.to_owned())
}

/// Speaks the protocol of NATS: connects, sends lines, and answers with what the server says until it has
/// taken them.
fn nats_says(port: u16, user: Option<&(String, String)>, lines: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let login =
        user.map_or(String::new(), |(user, pass)| format!(",\"user\":\"{user}\",\"pass\":\"{pass}\""));
    let connect = format!("CONNECT {{\"verbose\":false,\"headers\":true{login}}}\r\n{lines}PING\r\n");
    stream.write_all(connect.as_bytes()).unwrap();
    let (mut said, mut buffer) = (String::new(), [0; 4096]);
    while let Ok(read) = stream.read(&mut buffer) {
        said += &String::from_utf8_lossy(&buffer[..read]);
        if read == 0 || said.contains("PONG\r\n") || said.contains("Authorization Violation") {
            break;
        }
    }
    said
}

fn publish(subject: &str, body: &str) -> String {
    format!("PUB {subject} {}\r\n{body}\r\n", body.len())
}

/// The first message of Postgres to a client that names a user: 10 asks for SCRAM, 0 lets it in.
fn postgres_asks_for(port: u16, user: &str) -> u32 {
    let mut body = vec![0, 3, 0, 0];
    for text in ["user", user, "database", "slipway", ""] {
        body.extend(text.as_bytes());
        body.push(0);
    }
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(&u32::try_from(body.len() + 4).unwrap().to_be_bytes()).unwrap();
    stream.write_all(&body).unwrap();
    let mut answer = [0; 9];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer[0], b'R');
    u32::from_be_bytes(answer[5..9].try_into().unwrap())
}

async fn status(method: &str, url: &str) -> Option<u16> {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(3)).build().unwrap();
    let request =
        client.request(method.parse().unwrap(), url).body(if method == "GET" { "" } else { "forged" });
    request.send().await.ok().map(|answer| answer.status().as_u16())
}

fn assert_files_are_closed(data_dir: &Path) {
    let mut paths = vec![data_dir.to_path_buf()];
    while let Some(path) = paths.pop() {
        let Ok(found) = std::fs::symlink_metadata(&path) else { continue };
        if found.is_symlink() {
            continue;
        }
        // SeaweedFS gives some files modes of its own, within folders that are closed.
        let is_its_own = path.extension().is_some_and(|extension| extension == "vif");
        assert!(is_its_own || found.mode() & 0o077 == 0, "{:o} {}", found.mode(), path.display());
        if found.is_dir() {
            paths.extend(std::fs::read_dir(&path).unwrap().flatten().map(|entry| entry.path()));
        }
    }
}

#[expect(clippy::too_many_lines, reason = "one story, told from its beginning to its end")]
#[tokio::test(flavor = "multi_thread")]
async fn another_user_of_the_machine_can_read_and_forge_nothing() {
    let platform = Platform::start(&[]);
    let client = Client::new(&platform);
    client.register("m", "right-1.onnx").await;
    client.deploy("m", strategy(1.0)).await;
    client.predict("m", 1.0, "private").await.unwrap();
    let endpoints = platform.endpoints();
    let url = |name: &str| endpoints[name].as_str().unwrap().to_owned();

    let ports = ports(&platform);
    let expected = [
        ("postgres", BTreeSet::from([port(&url("postgres"))])),
        ("nats", BTreeSet::from([port(&url("nats"))])),
        ("registry", BTreeSet::from([port(&url("registry"))])),
        ("launcher", BTreeSet::from([port(&url("launcher"))])),
        ("rollout_controller", BTreeSet::from([port(&url("rollout_controller"))])),
        ("drift_monitor", BTreeSet::from([port(&url("drift_monitor"))])),
        ("serving", ["serving_http", "serving_grpc", "serving_metrics"].map(|name| port(&url(name))).into()),
    ];
    for (part, expected) in expected {
        assert_eq!(ports[part], expected, "{part}: a port that nothing here has tried");
    }
    assert_eq!(ports["s3"].len(), 8, "a port of SeaweedFS that nothing here has tried: {:?}", ports["s3"]);
    assert!(ports["s3"].contains(&port(&url("s3"))));

    for port in &ports["s3"] {
        for path in [
            "slipway/",
            "slipway/blobs/0",
            "buckets/slipway/blobs/",
            "1,01637037d6",
            "dir/assign",
            "col/delete?collection=slipway",
        ] {
            for method in ["GET", "PUT", "POST", "DELETE"] {
                let answered = status(method, &format!("http://127.0.0.1:{port}/{path}")).await;
                assert!(answered.is_none_or(|status| status >= 400), "{method} {port}/{path}: {answered:?}");
            }
        }
    }
    for user in ["slipway", "postgres", "slipway_registry"] {
        assert_eq!(postgres_asks_for(port(&url("postgres")), user), 10, "{user}");
    }
    let forged =
        publish("slipway.registry.alias.set", "{\"model\":\"m\",\"alias\":\"champion\",\"version\":\"9\"}");
    for user in [None, Some(&("reader".to_owned(), "guess".to_owned()))] {
        let said = nats_says(port(&url("nats")), user, &forged);
        assert!(said.contains("Authorization Violation") && !said.contains("PONG"), "{said}");
    }
    assert_files_are_closed(&platform.data_dir());
    let secrets = secrets(&platform);
    for pid in endpoints["pids"].as_object().unwrap().values() {
        let line =
            String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/cmdline")).unwrap()).into_owned();
        assert!(!secrets.iter().any(|secret| line.contains(secret)), "a secret on a command line");
    }
    for log in std::fs::read_dir(platform.data_dir().join("logs")).unwrap().flatten() {
        let text = std::fs::read_to_string(log.path()).unwrap();
        assert!(!secrets.iter().any(|secret| text.contains(secret)), "a secret in {}", log.path().display());
    }
    if nix::unistd::geteuid().is_root() {
        let mut list = Command::new("ls");
        let listed = list.arg(platform.data_dir()).uid(NOBODY).gid(NOBODY).current_dir("/").output().unwrap();
        assert!(!listed.status.success());
        for server in ["postgres", "nats", "s3"] {
            let uid = std::fs::metadata(format!("/proc/{}", platform.pid(server))).unwrap().uid();
            assert!(uid != 0 && uid != NOBODY, "{server} runs as {uid}");
        }
    } else {
        eprintln!("skipped in part: only root can act as another user");
    }
}

/// Every password and key of the platform.
fn secrets(platform: &Platform) -> Vec<String> {
    let text = std::fs::read_to_string(platform.data_dir().join("credentials.json")).unwrap();
    let credentials: Value = serde_json::from_str(&text).unwrap();
    let mut secrets = vec![credentials["s3_secret_key"].as_str().unwrap().to_owned()];
    for urls in [&credentials["postgres_urls"], &credentials["nats_urls"]] {
        secrets.extend(urls.as_object().unwrap().values().map(|url| login(url.as_str().unwrap()).1));
    }
    for url in [&credentials["postgres_url"], &credentials["nats_url"]] {
        secrets.push(login(url.as_str().unwrap()).1);
    }
    assert_eq!(secrets.len(), 1 + 4 + 5 + 2);
    secrets
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_was_taken_over_cannot_speak_for_another() {
    let platform = Platform::start(&[]);
    let client = Client::new(&platform);
    client.register("m", "right-1.onnx").await;
    client.deploy("m", strategy(1.0)).await;
    let text = std::fs::read_to_string(platform.data_dir().join("credentials.json")).unwrap();
    let credentials: Value = serde_json::from_str(&text).unwrap();
    let nats = port(credentials["nats_url"].as_str().unwrap());
    let users: BTreeMap<&str, (String, String)> =
        ["registry", "launcher", "serving", "rollout-controller", "drift-monitor"]
            .map(|name| (name, login(credentials["nats_urls"][name].as_str().unwrap())))
            .into();
    let reader = login(credentials["nats_url"].as_str().unwrap());
    let may = |user: &(String, String), line: &str| {
        let said = nats_says(nats, Some(user), line);
        assert!(said.contains("PONG"), "{said}");
        !said.contains("Permissions Violation")
    };
    let subjects = [
        ("registry", "slipway.registry.test.x"),
        ("launcher", "slipway.launcher.test.x"),
        ("serving", "slipway.serving.prediction.recorded.m.forged"),
        ("serving", "$KV.slipway-replicas.forged.m"),
        ("rollout-controller", "slipway.rollout-controller.test.x"),
        ("rollout-controller", "$KV.slipway-traffic.forged"),
        ("drift-monitor", "slipway.drift-monitor.test.x"),
    ];
    for (owner, subject) in subjects {
        for (name, user) in &users {
            if *name != owner {
                assert!(!may(user, &publish(subject, "{}")), "{name} publishes {subject}");
            }
        }
        assert!(!may(&reader, &publish(subject, "{}")), "the reader publishes {subject}");
    }
    assert!(may(&users["serving"], &publish("slipway.serving.version.test", "{}")));
    for user in users.values() {
        for line in
            ["SUB slipway.> 1\r\n", "SUB $KV.> 1\r\n", "SUB _INBOX.> 1\r\n", "SUB _INBOX_other.> 1\r\n"]
        {
            assert!(!may(user, line), "{} {line}", user.0);
        }
        assert!(may(user, &format!("SUB _INBOX_{}.> 1\r\n", user.0)));
    }
    assert!(may(&reader, "SUB slipway.serving.prediction.recorded.> 1\r\n"));

    // A consumer may be told to deliver to any subject; what arrives keeps the subject of its publisher, so
    // nothing is forged.
    let create = "{\"stream_name\":\"KV_slipway-traffic\",\"config\":{\"name\":\"forger\",\"ack_policy\":\"none\",\
                  \"deliver_subject\":\"slipway.registry.alias.set\"}}";
    let stream = "$JS.API.CONSUMER.CREATE.KV_slipway-traffic.forger";
    assert!(may(&users["serving"], &publish(stream, create)));
    std::thread::sleep(Duration::from_secs(1));
    let tail =
        ["events", "tail", "--since", "600", "--subject", "slipway.registry.alias.", "--for", "2", "--json"];
    let events = platform.slipway(&tail).text();
    assert!(!events.contains("stable"), "{events}");
}

/// Everything that the platform does over its servers goes on with the permissions of each service, also
/// after a server lost its data.
#[tokio::test(flavor = "multi_thread")]
async fn services_work_within_their_permissions() {
    let platform = Platform::start(&[]);
    let client = Client::new(&platform);
    client.register("m", "right-1.onnx").await;
    client.deploy("m", strategy(1.0)).await;
    let _traffic = client.traffic("m");
    let version = client.register("m", "right-2.onnx").await;
    client.set_alias("m", "champion", &version).await;
    client.wait_for_rollout("m", &version, "promoted").await;
    platform.crash("nats");
    client.predict("m", 1.0, "after").await.unwrap();
    let version = client.register("m", "right-3.onnx").await;
    client.set_alias("m", "champion", &version).await;
    client.wait_for_rollout("m", &version, "promoted").await;
    let log = || std::fs::read_to_string(platform.data_dir().join("logs/nats.log")).unwrap();
    assert!(!log().contains("Permissions Violation") && !log().contains("Permission Violation"), "{}", log());
    wait_for("the event", || {
        let tail = [
            "events",
            "tail",
            "--since",
            "600",
            "--count",
            "1",
            "--subject",
            "slipway.rollout-controller.rollout.promoted",
        ];
        platform.slipway(&tail).text().contains("promoted")
    });
}
