//! What another user of the machine can do: every port without credentials, every file as another uid, and
//! data of an earlier release.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use slipway_toolbox::servers::{self, NatsPermissions, NatsUser, PostgresRole};

use crate::servers::{account, nats, postgres, query, s3};

const NOBODY: u32 = 65_534;

fn is_root() -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        eprintln!("skipped in part: only root can act as another user");
    }
    is_root
}

/// Ports that a process listens on, for this machine alone.
fn ports_of(pid: u32) -> BTreeSet<u16> {
    let found = slipway_toolbox::listeners(pid).unwrap();
    assert!(!found.is_empty());
    assert!(found.iter().all(|address| address.ip().is_loopback()), "listens for other machines: {found:?}");
    found.iter().map(std::net::SocketAddr::port).collect()
}

/// What a port answers to some bytes, until it closes or is silent.
fn ask(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut answer = Vec::new();
    if stream.write_all(bytes).is_ok() {
        let mut buffer = [0; 4096];
        while let Ok(read) = stream.read(&mut buffer) {
            if read == 0 {
                break;
            }
            answer.extend_from_slice(&buffer[..read]);
        }
    }
    answer
}

fn http(port: u16, method: &str, path: &str) -> Option<u16> {
    let body = if method == "GET" { "" } else { "forged" };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nContent-Length: \
         {}\r\n\r\n{body}",
        body.len()
    );
    let answer = String::from_utf8_lossy(&ask(port, request.as_bytes())).into_owned();
    answer.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

/// Nobody else can open a file of the tree, whatever its own mode says, and the modes say the same.
fn assert_closed(tree: &Path) {
    let mut folders = vec![tree.to_path_buf()];
    while let Some(folder) = folders.pop() {
        assert_eq!(std::fs::metadata(&folder).unwrap().mode() & 0o077, 0, "{}", folder.display());
        for entry in std::fs::read_dir(&folder).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            }
        }
    }
    if is_root() {
        let found = Command::new("find").arg(tree).uid(NOBODY).gid(NOBODY).current_dir("/").output().unwrap();
        assert!(!found.status.success(), "{}", String::from_utf8_lossy(&found.stdout));
    }
}

fn assert_no_secret_in_view(pid: u32, secrets: &[String], log: &Path) {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    for text in [line, std::fs::read(log).unwrap()] {
        let text = String::from_utf8_lossy(&text);
        for secret in secrets {
            assert!(!text.contains(secret.as_str()), "a secret can be seen");
        }
    }
    if is_root() {
        assert_eq!(
            std::fs::metadata(format!("/proc/{pid}")).unwrap().uid(),
            account().ids().unwrap().0.as_raw()
        );
        assert_ne!(std::fs::metadata(format!("/proc/{pid}")).unwrap().uid(), NOBODY);
    }
}

fn password(url: &str) -> String {
    url.split_once("://").unwrap().1.split_once('@').unwrap().0.split_once(':').unwrap().1.to_owned()
}

#[test]
fn every_port_of_the_s3_server_refuses_who_has_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let options = s3(folder.path(), "s3");
    let (running, keys) = servers::start_s3(&options).unwrap();
    let ports = ports_of(running.pid());
    // S3, master, filer and volume, each with its gRPC. A new one has to be looked at.
    assert_eq!(ports.len(), 8, "{ports:?}");
    let paths = [
        "/",
        "/slipway/blobs/x",
        "/buckets/",
        "/buckets/slipway/x",
        "/dir/assign",
        "/dir/lookup?volumeId=1",
        "/dir/status",
        "/vol/grow?count=1",
        "/vol/status",
        "/col/delete?collection=slipway",
        "/submit",
        "/1,01637037d6",
        "/admin/",
        "/api/cluster/topology",
        "/cluster/status",
        "/stats/disk",
        "/ui/index.html",
        "/debug/pprof/",
        "/debug/vars",
        "/metrics",
    ];
    for port in &ports {
        for path in paths {
            for method in ["GET", "PUT", "POST", "DELETE"] {
                let status = http(*port, method, path);
                assert!(status.is_none_or(|status| status >= 400), "{method} {port}{path}: {status:?}");
            }
        }
        // HTTP/2 without TLS, as a gRPC client without certificates begins: no server answers with its
        // settings (frame type 4).
        let answer = ask(*port, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
        assert!(answer.get(3) != Some(&4), "{port} speaks gRPC to anyone");
    }
    assert_closed(folder.path().join("s3").as_path());
    assert_closed(&options.log_dir);
    let owner = std::fs::metadata(format!("/proc/{}", running.pid())).unwrap().uid();
    let sockets = sockets_of(running.pid());
    for socket in &sockets {
        let found = std::fs::metadata(socket).unwrap();
        assert_eq!((found.uid(), found.permissions().mode() & 0o077), (owner, 0), "{}", socket.display());
    }
    assert_no_secret_in_view(running.pid(), &[keys.secret_key], &running.log);
    shell_needs_certificates(&options.program, &options.dir, &master_of(running.pid()));
    // A socket that stays would keep a server of another account, which gets the same port, from working.
    drop(running);
    assert!(sockets.iter().all(|socket| !socket.exists()), "{sockets:?}");
}

/// The sockets that this SeaweedFS makes for gRPC between its parts.
fn sockets_of(pid: u32) -> [PathBuf; 4] {
    ["master", "volume", "filer", "s3"].map(|part| {
        let port = argument_of(pid, &format!("{part}.port.grpc"));
        PathBuf::from(format!("/tmp/seaweedfs-{part}-grpc-{port}.sock"))
    })
}

/// An argument of a running program.
fn argument_of(pid: u32, name: &str) -> String {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    let (line, start) = (String::from_utf8_lossy(&line).into_owned(), format!("-{name}="));
    line.split('\0').find_map(|argument| argument.strip_prefix(&start)).unwrap().to_owned()
}

/// The master's address as SeaweedFS' clients write it: the port, and that of gRPC.
fn master_of(pid: u32) -> String {
    format!("127.0.0.1:{}.{}", argument_of(pid, "master.port"), argument_of(pid, "master.port.grpc"))
}

/// SeaweedFS' own administration, which can read, overwrite and delete everything, works with the
/// certificates and not without.
fn shell_needs_certificates(program: &Path, dir: &Path, master: &str) {
    let folders = [dir.join("home/security"), dir.join("security")];
    let security = folders.iter().find(|path| path.exists()).unwrap();
    // The paths in the file are those that the server sees through its handle.
    let text = std::fs::read_to_string(security.join("security.toml")).unwrap();
    let (_, rest) = text.split_once("ca = \"").unwrap();
    let (seen, _) = rest.split_once("/authority.pem").unwrap();
    let text = text.replace(seen, security.to_str().unwrap());
    let ask = |configuration: &Path| -> String {
        let mut shell = Command::new("timeout")
            .arg("20")
            .arg(program)
            .arg(format!("-config_dir={}", configuration.display()))
            .args(["-logtostderr=true", "shell", &format!("-master={master}")])
            .env("HOME", configuration)
            .current_dir(configuration)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        shell.stdin.take().unwrap().write_all(b"fs.ls /\nexit\n").unwrap();
        let output = shell.wait_with_output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    let (with, without) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(with.path().join("security.toml"), text).unwrap();
    let shown = ask(with.path());
    assert!(shown.lines().any(|line| line.trim() == "buckets"), "the owner's shell does not work: {shown}");
    let shown = ask(without.path());
    assert!(!shown.lines().any(|line| line.trim() == "buckets"), "a stranger's shell works: {shown}");
}

/// Speaks the protocol of NATS: connects, sends lines, and answers with what the server says until it has
/// taken them.
fn nats_says(port: u16, login: &str, lines: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let connect = format!("CONNECT {{\"verbose\":false,\"headers\":true{login}}}\r\n{lines}PING\r\n");
    stream.write_all(connect.as_bytes()).unwrap();
    let mut said = String::new();
    let mut buffer = [0; 4096];
    while let Ok(read) = stream.read(&mut buffer) {
        said += &String::from_utf8_lossy(&buffer[..read]);
        if read == 0 || said.contains("PONG\r\n") || said.contains("Authorization Violation") {
            break;
        }
    }
    said
}

fn publish(subject: &str) -> String {
    format!("PUB {subject} 2\r\n{{}}\r\n")
}

#[test]
fn nats_takes_its_users_alone_and_each_within_its_limits() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = nats(folder.path());
    options.users.push(NatsUser {
        name: "limited".to_owned(),
        permissions: Some(NatsPermissions {
            publish: vec!["own.>".to_owned(), "shared.*".to_owned()],
            publish_denied: vec!["shared.secret".to_owned()],
            subscribe: vec!["_INBOX_limited.>".to_owned()],
        }),
    });
    let (running, urls) = servers::start_nats(&options).unwrap();
    assert_eq!(ports_of(running.pid()), BTreeSet::from([options.port]));
    assert_closed(&options.dir);
    let secrets: Vec<String> = urls.values().map(|url| password(url)).collect();
    assert_no_secret_in_view(running.pid(), &secrets, &running.log);

    for login in [
        "",
        ",\"user\":\"tester\",\"pass\":\"\"",
        ",\"user\":\"tester\",\"pass\":\"guess\"",
        ",\"user\":\"limited\"",
    ] {
        let said = nats_says(options.port, login, &publish("own.x"));
        assert!(said.contains("Authorization Violation") && !said.contains("PONG"), "{login}: {said}");
    }
    let login = format!(",\"user\":\"limited\",\"pass\":\"{}\"", password(&urls["limited"]));
    for (lines, is_refused) in [
        (publish("own.x"), false),
        (publish("shared.x"), false),
        (publish("shared.secret"), true),
        (publish("other.x"), true),
        (publish("$JS.API.STREAM.LIST"), true),
        ("SUB _INBOX_limited.1 1\r\n".to_owned(), false),
        ("SUB _INBOX.1 1\r\n".to_owned(), true),
        ("SUB > 1\r\n".to_owned(), true),
    ] {
        let said = nats_says(options.port, &login, &lines);
        assert_eq!(said.contains("Permissions Violation"), is_refused, "{lines}: {said}");
    }
}

#[test]
fn a_role_of_postgres_has_its_schema_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = postgres(folder.path());
    // As an earlier release left it: everything is the superuser's.
    let (mut running, _) = servers::start_postgres(&options).unwrap();
    let old = "CREATE SCHEMA one; CREATE TABLE one.t (n BIGSERIAL PRIMARY KEY); INSERT INTO one.t DEFAULT \
        VALUES; CREATE TYPE one.kind AS ENUM ('a'); CREATE VIEW one.v AS SELECT n FROM one.t; CREATE \
        FUNCTION one.f() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE SCHEMA two; CREATE TABLE two.t (n \
        int)";
    query(&options, &running.url, old);
    running.stop();
    options.roles = vec![
        PostgresRole { name: "role_one", schema: "one" },
        PostgresRole { name: "role_two", schema: "two" },
    ];
    for _ in 0..2 {
        let (running, urls) = servers::start_postgres(&options).unwrap();
        assert_eq!(ports_of(running.pid()), BTreeSet::from([options.port]));
        assert_closed(&options.dir);
        let secrets: Vec<String> = urls.values().chain([&running.url]).map(|url| password(url)).collect();
        assert_no_secret_in_view(running.pid(), &secrets, &running.log);

        let one = &urls["role_one"];
        query(
            &options,
            one,
            "INSERT INTO one.t DEFAULT VALUES; ALTER TABLE one.t ADD COLUMN IF NOT EXISTS m int",
        );
        query(
            &options,
            one,
            "CREATE OR REPLACE VIEW one.v AS SELECT n FROM one.t; ALTER TYPE one.kind ADD VALUE IF NOT \
             EXISTS 'b'",
        );
        query(&options, one, "CREATE TABLE IF NOT EXISTS one.more (n int); SELECT one.f()");
        for statement in [
            "SELECT * FROM two.t",
            "DROP TABLE two.t",
            "CREATE SCHEMA three",
            "CREATE TABLE public.x (n int)",
            "CREATE DATABASE other",
            "CREATE ROLE other",
            "SET ROLE slipway",
            "ALTER ROLE role_two PASSWORD 'x'",
            "SELECT * FROM pg_authid",
            "COPY (SELECT 1) TO PROGRAM 'true'",
            "SELECT pg_read_file('pg_hba.conf')",
            "ALTER SYSTEM SET log_statement = 'all'",
        ] {
            let output = psql(&options, one, statement);
            assert!(!output.status.success(), "{statement}: {}", String::from_utf8_lossy(&output.stdout));
        }
        let other_database = one.replace("/slipway", "/postgres");
        assert!(!psql(&options, &other_database, "SELECT 1").status.success());
        for url in [
            format!("postgres://slipway@127.0.0.1:{}/slipway", options.port),
            format!("postgres://slipway:guess@127.0.0.1:{}/slipway", options.port),
            format!("postgres://postgres@127.0.0.1:{}/postgres", options.port),
            format!("postgres://role_two:{}@127.0.0.1:{}/slipway", password(one), options.port),
        ] {
            assert!(!psql(&options, &url, "SELECT 1").status.success(), "{url}");
        }
    }
}

fn psql(options: &servers::PostgresOptions, url: &str, statement: &str) -> std::process::Output {
    let mut command = Command::new(options.binaries.bin_dir.join("psql"));
    command.args(["-X", "-A", "-t", "-w", "-d", url, "-c", statement]);
    command.output().unwrap()
}

fn owner(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().uid()
}

/// Data of a release that ran Postgres as `nobody`, and NATS and SeaweedFS as root without credentials.
#[test]
fn data_of_an_earlier_release_is_taken_over_and_closed() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let options = postgres(folder.path());
    let (mut running, _) = servers::start_postgres(&options).unwrap();
    query(&options, &running.url, "CREATE TABLE kept (n int); INSERT INTO kept VALUES (41)");
    running.stop();
    let elsewhere = tempfile::tempdir().unwrap();
    let before: PathBuf = elsewhere.path().join("postgres-0123456789abcdef");
    for in_data_directory in [true, false] {
        let home = options.dir.join("home");
        if !in_data_directory {
            std::fs::rename(&home, &before).unwrap();
        }
        let used = if in_data_directory { &home } else { &before };
        let status = Command::new("chown").args(["-R", "65534:65534"]).arg(used).status().unwrap();
        assert!(status.success());
        std::fs::set_permissions(&options.dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(options.dir.join("home-made"), used.as_os_str().as_encoded_bytes()).unwrap();

        // A process of that account let itself in.
        std::fs::write(used.join("data/pg_hba.conf"), "host all all 127.0.0.1/32 trust\n").unwrap();

        let (mut running, _) = servers::start_postgres(&options).unwrap();
        assert_eq!(query(&options, &running.url, "SELECT n + 1 FROM kept"), "42");
        let open = format!("postgres://slipway@127.0.0.1:{}/slipway", options.port);
        assert!(!psql(&options, &open, "SELECT 1").status.success());
        running.stop();
        assert_closed(&options.dir);
        let uid = account().ids().unwrap().0.as_raw();
        for path in [home.clone(), home.join("data"), home.join("data/pg_hba.conf"), home.join("data/base")] {
            assert_eq!(owner(&path), uid, "{}", path.display());
        }
    }

    let options = nats(folder.path());
    std::fs::create_dir_all(options.dir.join("jetstream/kept")).unwrap();
    std::fs::write(options.dir.join("jetstream/kept/file"), "x").unwrap();
    let (_running, _) = servers::start_nats(&options).unwrap();
    assert_eq!(std::fs::read_to_string(options.dir.join("home/jetstream/kept/file")).unwrap(), "x");
    assert_closed(&options.dir);
}
