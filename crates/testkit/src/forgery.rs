//! Requests as a web page of another origin can make a browser send them, to show that a service refuses
//! them.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// One way to forge a request.
#[derive(Debug, Clone, Copy)]
struct Forgery {
    headers: &'static [(&'static str, &'static str)],
    /// In place of the service's own.
    host: Option<&'static str>,
    has_body: bool,
    /// HTTP status of the refusal.
    refused_with: u16,
}

const fn typed(headers: &'static [(&'static str, &'static str)]) -> Forgery {
    Forgery { headers, host: None, has_body: true, refused_with: 415 }
}

const fn foreign(headers: &'static [(&'static str, &'static str)], has_body: bool) -> Forgery {
    Forgery { headers, host: None, has_body, refused_with: 403 }
}

const fn rebound(host: &'static str, has_body: bool) -> Forgery {
    Forgery {
        headers: &[("content-type", "application/json")],
        host: Some(host),
        has_body,
        refused_with: 403,
    }
}

const FORGERIES: [Forgery; 21] = [
    // What a page may send without asking first.
    typed(&[("content-type", "text/plain")]),
    typed(&[("content-type", "text/plain; charset=application/json")]),
    typed(&[("content-type", "application/x-www-form-urlencoded")]),
    typed(&[("content-type", "multipart/form-data; boundary=x")]),
    typed(&[("content-type", "application/csp-report")]),
    typed(&[("user-agent", "Mozilla/5.0 (X11; Linux x86_64)")]),
    Forgery { has_body: false, ..typed(&[("content-type", "application/x-www-form-urlencoded")]) },
    // What shows the page.
    foreign(&[("content-type", "text/plain"), ("origin", "http://evil.example")], true),
    foreign(&[("content-type", "application/json"), ("origin", "http://evil.example")], true),
    foreign(&[("content-type", "application/json"), ("origin", "null")], true),
    foreign(&[("content-type", "application/json"), ("origin", "http://127.0.0.1:1")], true),
    foreign(&[("content-type", "application/json"), ("sec-fetch-site", "cross-site")], true),
    foreign(&[("content-type", "application/json"), ("sec-fetch-site", "same-site")], true),
    foreign(&[("content-type", "application/json"), ("referer", "http://evil.example/page")], true),
    foreign(&[("content-type", "application/octet-stream"), ("origin", "http://evil.example")], true),
    foreign(&[("content-type", "application/grpc"), ("origin", "http://evil.example")], true),
    foreign(&[("origin", "http://evil.example")], false),
    foreign(&[("sec-fetch-site", "cross-site")], false),
    // DNS rebinding.
    rebound("evil.example:PORT", true),
    rebound("evil.example", false),
    rebound("127.0.0.1.evil.example:PORT", true),
];

/// Sends every forgery of a request that changes something, by HTTP/1.1 to `address` (`127.0.0.1:5010`);
/// `body` would be accepted from a client. Returns those that were not refused as they should be, with what
/// was answered.
pub async fn forge(address: &str, method: &str, path: &str, body: &str) -> Vec<String> {
    send_all(address, method, path, body, &FORGERIES).await
}

/// As [`forge`], to a route that takes files of any type: what shows another page is refused.
pub async fn forge_file(address: &str, method: &str, path: &str, body: &str) -> Vec<String> {
    let forgeries: Vec<_> = FORGERIES.into_iter().filter(|forgery| forgery.refused_with == 403).collect();
    send_all(address, method, path, body, &forgeries).await
}

async fn send_all(address: &str, method: &str, path: &str, body: &str, forgeries: &[Forgery]) -> Vec<String> {
    let mut passed = Vec::new();
    for forgery in forgeries {
        let response = send(address, method, path, *forgery, body).await;
        // gRPC answers calls of its own type with its own status: PERMISSION_DENIED.
        let refused = status(&response) == Some(forgery.refused_with)
            || (forgery.refused_with == 403 && response.contains("\r\ngrpc-status: 7\r\n"));
        if !refused {
            passed.push(format!("{method} {path} as {forgery:?}: {response}"));
        }
    }
    passed
}

/// Reads `path` as a page does whose name was rebound to the service's address. Returns the answer where it
/// is not a refusal.
pub async fn rebind(address: &str, path: &str) -> Vec<String> {
    let mut passed = Vec::new();
    for host in ["evil.example:PORT", "evil.example", "localhost.evil.example:PORT", "evil"] {
        let response = send(address, "GET", path, rebound(host, false), "").await;
        if status(&response) != Some(403) {
            passed.push(format!("GET {path} as {host}: {response}"));
        }
    }
    passed
}

fn status(response: &str) -> Option<u16> {
    response.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

async fn send(address: &str, method: &str, path: &str, forgery: Forgery, body: &str) -> String {
    let port = address.rsplit(':').next().unwrap_or_default();
    let host = forgery.host.map_or_else(|| address.to_owned(), |host| host.replace("PORT", port));
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    for (name, value) in forgery.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let body = if forgery.has_body { body } else { "" };
    if forgery.has_body || method != "GET" {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    let mut stream = TcpStream::connect(address).await.expect("the service listens");
    stream.write_all(format!("{head}\r\n{body}").as_bytes()).await.expect("the service reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("the service answers");
    String::from_utf8_lossy(&answer).into_owned()
}
