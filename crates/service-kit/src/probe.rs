//! `PROGRAM probe URL`: the health check of a container whose image has neither a shell nor curl.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::process::ExitCode;
use std::time::Duration;

/// First argument with which the program of a service is a probe.
const COMMAND: &str = "probe";
/// Longest time to connect, and between two parts of the response.
const TIMEOUT: Duration = Duration::from_secs(3);
/// As much of the response as is printed.
const MAX_RESPONSE_BYTES: u64 = 4096;
const USAGE: &str = "usage: PROGRAM probe http://HOST:PORT/PATH";

/// Sends the request of a health check if the arguments of this process ask for one: exit code 0 if the
/// response has a status from 200 to 299, 1 if not, and 2 for an invalid URL.
pub fn probe_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != COMMAND {
        return None;
    }
    let arguments: Vec<OsString> = arguments.collect();
    let url = match arguments.as_slice() {
        [url] => url.to_str().and_then(Target::parse),
        _ => None,
    };
    let Some(target) = url else {
        let given = arguments.join(" ".as_ref());
        eprintln!("probe: `{}` is not the URL of a health check; {USAGE}", given.to_string_lossy());
        return Some(ExitCode::from(2));
    };
    Some(match target.probe() {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("probe: {}{}: {reason}", target.authority, target.path);
            ExitCode::FAILURE
        }
    })
}

/// What is asked.
#[derive(Debug, PartialEq, Eq)]
struct Target<'url> {
    /// Host and port.
    authority: &'url str,
    path: &'url str,
}

impl<'url> Target<'url> {
    fn parse(url: &'url str) -> Option<Self> {
        let rest = url.strip_prefix("http://")?;
        let (authority, path) = rest.split_at(rest.find('/')?);
        let (host, port) = authority.rsplit_once(':')?;
        let is_safe = !url.contains(|sign: char| sign.is_whitespace() || sign.is_control());
        (is_safe && !host.is_empty() && port.parse::<u16>().is_ok()).then_some(Self { authority, path })
    }

    fn probe(&self) -> Result<(), String> {
        let response = self.get().map_err(|error| error.to_string())?;
        let status = response.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
        match status {
            Some(200..=299) => Ok(()),
            Some(status) => {
                let body = response.split_once("\r\n\r\n").map_or("", |(_, body)| body);
                Err(format!("status {status}: {}", body.trim().escape_debug()))
            }
            None => Err("the response is not HTTP".to_owned()),
        }
    }

    fn get(&self) -> std::io::Result<String> {
        let mut last = std::io::Error::other("the host has no address");
        for address in self.authority.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, TIMEOUT) {
                Ok(stream) => return self.ask(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn ask(&self, mut stream: TcpStream) -> std::io::Result<String> {
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let Self { authority, path } = self;
        // In one write, so that it is one packet.
        let request = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut response = Vec::new();
        stream.take(MAX_RESPONSE_BYTES).read_to_end(&mut response)?;
        Ok(String::from_utf8_lossy(&response).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn outcome(response: &'static str) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            let read = stream.read(&mut request).unwrap();
            stream.write_all(response.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..read]).into_owned()
        });
        let outcome = Target { authority: &authority, path: "/readyz" }.probe();
        assert!(
            server.join().unwrap().starts_with(&format!("GET /readyz HTTP/1.1\r\nHost: {authority}\r\n"))
        );
        outcome
    }

    #[test]
    fn a_service_is_healthy_by_the_status_of_its_response_and_a_reason_is_shown() {
        assert_eq!(outcome("HTTP/1.1 200 OK\r\n\r\nok"), Ok(()));
        let refused = outcome("HTTP/1.1 503 Service Unavailable\r\n\r\n{\"postgres\":\"unreachable\"}");
        assert_eq!(refused.unwrap_err(), "status 503: {\\\"postgres\\\":\\\"unreachable\\\"}");
        assert_eq!(outcome("SSH-2.0-x\r\n").unwrap_err(), "the response is not HTTP");
        let nobody = Target { authority: "127.0.0.1:1", path: "/" }.probe().unwrap_err();
        assert!(nobody.contains("refused"), "{nobody}");
    }

    #[test]
    fn only_a_plain_url_with_host_port_and_path_is_a_target() {
        let parsed = Target::parse("http://[::1]:8000/v2/health/ready");
        assert_eq!(parsed, Some(Target { authority: "[::1]:8000", path: "/v2/health/ready" }));
        for url in ["https://a:1/", "http://a:1", "http://a/", "http://:1/", "http://a:x/", "http://a:1/ b"] {
            assert_eq!(Target::parse(url), None, "{url}");
        }
    }
}
