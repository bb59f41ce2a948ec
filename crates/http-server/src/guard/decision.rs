//! Whether a request may be answered at all, as a function of its head.

use http::header::{CONTENT_TYPE, COOKIE, HOST, ORIGIN, REFERER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::names::{HostRule, OriginRule, is_allowed, is_own, origin_of};

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
/// How the name of every browser begins.
const BROWSER: &[u8] = b"Mozilla/";
const JSON: &str = "application/json";
const OCTETS: &str = "application/octet-stream";
const GRPC: &str = "application/grpc";
/// What a page may send to another origin without asking first. Source:
/// <https://fetch.spec.whatwg.org/#cors-safelisted-request-header>.
const SIMPLE: [&str; 4] = ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"];

/// Bodies that a route takes from a request that changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bodies {
    /// `application/json`.
    Json,
    /// Messages of gRPC.
    Grpc,
    /// The Open Inference Protocol: JSON, or JSON followed by the octets of tensors. Python's `tritonclient`
    /// sends both without a type; that is accepted only where nothing suggests a browser.
    OpenInference,
    /// A file, of any type. Pages cannot send a PUT to another origin without asking; by POST, the types that
    /// they can send are accepted from this service's own pages only.
    File,
}

impl Bodies {
    const fn expected(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Grpc => "application/grpc",
            Self::OpenInference => "application/json or application/octet-stream",
            Self::File => "the file's type, e.g. application/octet-stream",
        }
    }
}

/// What a request is judged by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) method: &'a Method,
    /// `:authority` of HTTP/2, or that of an absolute URI.
    pub(super) authority: Option<&'a str>,
    pub(super) headers: &'a HeaderMap,
    pub(super) has_body: bool,
    pub(super) bodies: Bodies,
    /// Whether the connection has TLS.
    pub(super) secure: bool,
}

/// Why a request is not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It names a host that is not configured.
    Host {
        /// What it names.
        host: String,
    },
    /// A page of another origin sent it.
    Origin {
        /// The header that shows it, with its value.
        evidence: String,
    },
    /// The route does not take a body of this type.
    MediaType {
        /// What was sent; `None` without a type.
        sent: Option<String>,
        /// What is accepted.
        expected: &'static str,
    },
}

/// Decides about a request.
pub(super) fn decide(hosts: &[HostRule], origins: &[OriginRule], asked: &Asked<'_>) -> Result<(), Refusal> {
    let host = named_host(hosts, asked)?;
    if matches!(*asked.method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    let is_own_page = came_from_own_page(origins, asked, host)?;
    check_type(asked, is_own_page)
}

/// The host that the request names. HTTP/1.0 clients may name none; browsers always do.
fn named_host<'a>(rules: &[HostRule], asked: &Asked<'a>) -> Result<Option<&'a str>, Refusal> {
    let mut first = None;
    for header in asked.headers.get_all(HOST) {
        let host = header.to_str().ok().filter(|host| is_allowed(rules, host));
        first = first.or(Some(host.ok_or_else(|| Refusal::Host { host: shown(header) })?));
    }
    match asked.authority {
        Some(authority) if is_allowed(rules, authority) => Ok(Some(authority)),
        Some(authority) => Err(Refusal::Host { host: authority.to_owned() }),
        None => Ok(first),
    }
}

/// Whether a page of this service or of a configured origin sent the request; false where it shows no page.
///
/// # Errors
/// A page of another origin sent it.
fn came_from_own_page(rules: &[OriginRule], asked: &Asked<'_>, host: Option<&str>) -> Result<bool, Refusal> {
    let own = |origin: &str| host.is_some_and(|host| is_own(origin, host, asked.secure));
    let configured = |origin: &str| rules.iter().any(|rule| rule.matches(origin));
    let mut origins = asked.headers.get_all(ORIGIN).iter();
    let origin = origins.next();
    if let Some(header) = origin {
        let text = header.to_str().unwrap_or_default();
        let single = origins.next().is_none();
        if single && configured(text) {
            return Ok(true);
        }
        if !single || !own(text) {
            return Err(foreign(&ORIGIN, header));
        }
    }
    for site in asked.headers.get_all(FETCH_SITE) {
        if site != "same-origin" && site != "none" {
            return Err(foreign(&FETCH_SITE, site));
        }
    }
    if origin.is_some() {
        return Ok(true);
    }
    // Browsers from before 2020 send a form without an origin, and with the address of its page.
    match asked.headers.get(REFERER) {
        Some(header) => {
            let page = header.to_str().map(origin_of).unwrap_or_default();
            if own(page) || configured(page) { Ok(true) } else { Err(foreign(&REFERER, header)) }
        }
        None => Ok(false),
    }
}

fn foreign(name: &HeaderName, value: &HeaderValue) -> Refusal {
    Refusal::Origin { evidence: format!("{}: {}", name.as_str(), shown(value)) }
}

fn check_type(asked: &Asked<'_>, is_own_page: bool) -> Result<(), Refusal> {
    let mut types = asked.headers.get_all(CONTENT_TYPE).iter();
    let refuse = |sent: Option<&HeaderValue>| {
        Err(Refusal::MediaType { sent: sent.map(shown), expected: asked.bodies.expected() })
    };
    let Some(header) = types.next() else {
        let untyped = match asked.bodies {
            Bodies::Json | Bodies::Grpc => false,
            Bodies::OpenInference => !shows_a_browser(asked.headers),
            Bodies::File => *asked.method == Method::PUT || is_own_page || !shows_a_browser(asked.headers),
        };
        return if untyped || !asked.has_body { Ok(()) } else { refuse(None) };
    };
    let Some(kind) = header.to_str().ok().filter(|_| types.next().is_none()) else {
        return refuse(Some(header));
    };
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let is = |other: &str| kind.eq_ignore_ascii_case(other);
    let simple = SIMPLE.into_iter().any(is);
    let accepted = match asked.bodies {
        Bodies::File => *asked.method == Method::PUT || is_own_page || !simple,
        // Without a body there is nothing to misread; a form is refused for what it is.
        _ if !asked.has_body => !simple,
        Bodies::Json => is(JSON),
        Bodies::OpenInference => is(JSON) || is(OCTETS),
        Bodies::Grpc => {
            is(GRPC)
                || kind.get(..GRPC.len() + 1).is_some_and(|start| {
                    start.strip_suffix('+').is_some_and(|start| start.eq_ignore_ascii_case(GRPC))
                })
        }
    };
    if accepted { Ok(()) } else { refuse(Some(header)) }
}

/// Whether anything suggests that a browser sent the request. Pages cannot remove these headers.
fn shows_a_browser(headers: &HeaderMap) -> bool {
    [ORIGIN, FETCH_SITE, FETCH_MODE, REFERER, COOKIE].iter().any(|name| headers.contains_key(name))
        || headers.get(USER_AGENT).is_some_and(|agent| agent.as_bytes().starts_with(BROWSER))
}

/// A header's value for a message, of bounded length.
fn shown(value: &HeaderValue) -> String {
    const MOST: usize = 200;
    let text: String = String::from_utf8_lossy(value.as_bytes()).chars().take(MOST).collect();
    text.escape_debug().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "127.0.0.1:5010";

    fn asked(
        method: Method,
        bodies: Bodies,
        has_body: bool,
        headers: &[(&str, &str)],
    ) -> Result<(), Refusal> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        if !map.contains_key(HOST) {
            map.insert(HOST, HeaderValue::from_static(OWN));
        }
        let asked =
            Asked { method: &method, authority: None, headers: &map, has_body, bodies, secure: false };
        let hosts = [HostRule::parse("registry").unwrap()];
        let origins = [OriginRule::parse("https://mlops.example.org").unwrap()];
        decide(&hosts, &origins, &asked)
    }

    fn post(bodies: Bodies, headers: &[(&str, &str)]) -> Result<(), Refusal> {
        asked(Method::POST, bodies, true, headers)
    }

    const JSON_TYPE: (&str, &str) = ("content-type", "application/json");

    #[test]
    fn what_clients_send_is_accepted() {
        for (bodies, headers) in [
            (Bodies::Json, vec![JSON_TYPE]),
            (Bodies::Json, vec![("content-type", "Application/JSON; charset=utf-8")]),
            (Bodies::Json, vec![JSON_TYPE, ("host", "registry:5000")]),
            (
                Bodies::Json,
                vec![JSON_TYPE, ("origin", "http://127.0.0.1:5010"), ("sec-fetch-site", "same-origin")],
            ),
            (
                Bodies::Json,
                vec![JSON_TYPE, ("origin", "https://mlops.example.org"), ("sec-fetch-site", "cross-site")],
            ),
            (Bodies::Json, vec![JSON_TYPE, ("sec-fetch-site", "none")]),
            (Bodies::Json, vec![JSON_TYPE, ("referer", "http://127.0.0.1:5010/page")]),
            (Bodies::OpenInference, vec![("content-type", "application/octet-stream")]),
            (Bodies::OpenInference, vec![("user-agent", "python/gevent-http-client-2.6.1")]),
            (Bodies::Grpc, vec![("content-type", "application/grpc")]),
            (Bodies::Grpc, vec![("content-type", "application/grpc+proto")]),
            (Bodies::File, vec![("content-type", "application/octet-stream")]),
            (Bodies::File, vec![("content-type", "text/plain"), ("origin", "http://127.0.0.1:5010")]),
            (Bodies::File, vec![]),
        ] {
            assert_eq!(post(bodies, &headers), Ok(()), "{bodies:?} {headers:?}");
        }
        assert_eq!(asked(Method::PUT, Bodies::File, true, &[("content-type", "text/plain")]), Ok(()));
        assert_eq!(asked(Method::POST, Bodies::Json, false, &[]), Ok(()), "a cancellation has no body");
        let reading = [("origin", "null"), ("sec-fetch-site", "cross-site"), ("content-type", "text/plain")];
        assert_eq!(asked(Method::GET, Bodies::Json, true, &reading), Ok(()), "a link may lead here");
    }

    #[test]
    fn simple_types_of_other_pages_are_never_read_as_json() {
        for kind in [
            "text/plain",
            "TEXT/PLAIN; charset=utf-8",
            "text/plain; application/json",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "",
            "application/json, text/plain",
            "text/json",
            "application/csp-report",
            "text/ping",
            "application/json+evil",
            "application/grpc-web",
            "application/grpcx",
        ] {
            for bodies in [Bodies::Json, Bodies::OpenInference, Bodies::Grpc] {
                let refused = post(bodies, &[("content-type", kind)]).unwrap_err();
                assert!(matches!(refused, Refusal::MediaType { .. }), "{bodies:?} {kind}");
            }
        }
        let twice = [JSON_TYPE, ("content-type", "text/plain")];
        assert!(post(Bodies::Json, &twice).is_err());
        for bodies in [Bodies::Json, Bodies::Grpc] {
            assert!(post(bodies, &[]).is_err(), "{bodies:?} without a type");
        }
        assert!(post(Bodies::Json, &[("content-type", "application/octet-stream")]).is_err());
        assert!(
            post(Bodies::Grpc, &[JSON_TYPE]).is_err()
                && post(Bodies::Json, &[("content-type", GRPC)]).is_err()
        );
        for browser in [("user-agent", "Mozilla/5.0 (X11)"), ("sec-fetch-mode", "no-cors"), ("cookie", "a=b")]
        {
            assert!(post(Bodies::OpenInference, &[browser]).is_err(), "{browser:?}");
            assert!(post(Bodies::File, &[browser]).is_err(), "{browser:?}");
        }
        assert!(post(Bodies::File, &[("content-type", "text/plain")]).is_err(), "a form with a file");
        let empty_form = [("content-type", "application/x-www-form-urlencoded")];
        assert!(
            asked(Method::POST, Bodies::Json, false, &empty_form).is_err(),
            "an empty form of an old browser"
        );
    }

    #[test]
    fn other_pages_change_nothing() {
        for header in [
            ("origin", "http://evil.example"),
            ("origin", "null"),
            ("origin", ""),
            ("origin", "http://127.0.0.1:5000"),
            ("origin", "http://localhost:5010"),
            ("origin", "https://mlops.example.org.evil.example"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-site", "Cross-Site"),
            ("referer", "http://evil.example/127.0.0.1:5010"),
        ] {
            for method in
                [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::from_bytes(b"X").unwrap()]
            {
                for bodies in [Bodies::Json, Bodies::OpenInference, Bodies::Grpc, Bodies::File] {
                    for has_body in [true, false] {
                        let refused =
                            asked(method.clone(), bodies, has_body, &[JSON_TYPE, header]).unwrap_err();
                        assert!(matches!(refused, Refusal::Origin { .. }), "{method} {bodies:?} {header:?}");
                    }
                }
            }
        }
        let own = ("origin", "http://127.0.0.1:5010");
        assert!(post(Bodies::Json, &[JSON_TYPE, own, ("origin", "http://evil.example")]).is_err());
        assert!(
            post(Bodies::Json, &[JSON_TYPE, own, ("sec-fetch-site", "cross-site")]).is_err(),
            "a redirect"
        );
    }

    #[test]
    fn foreign_names_are_refused_also_to_readers() {
        for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::POST] {
            for host in ["evil.example", "evil.example:5010", "localhost.evil.example:5010", ""] {
                let refused = asked(method.clone(), Bodies::Json, false, &[("host", host)]).unwrap_err();
                assert!(matches!(refused, Refusal::Host { .. }), "{method} {host}");
            }
            let twice = [("host", OWN), ("host", "evil.example")];
            assert!(asked(method.clone(), Bodies::Json, false, &twice).is_err());
        }
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("localhost"));
        let asked = Asked {
            method: &Method::GET,
            authority: Some("evil.example"),
            headers: &headers,
            has_body: false,
            bodies: Bodies::Json,
            secure: false,
        };
        assert!(decide(&[], &[], &asked).is_err(), "HTTP/2 and absolute URIs name their host, too");
        let asked = Asked { authority: None, headers: &HeaderMap::new(), ..asked };
        assert_eq!(decide(&[], &[], &asked), Ok(()), "HTTP/1.0 without a name: no browser");
    }
}
