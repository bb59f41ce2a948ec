//! The page at `/`: what this server is, links into the API, and the runs and models that MLflow's client
//! prints links to.
//!
//! The client's links have their place in the fragment (`/#/experiments/1/runs/abc`), which browsers do not
//! send. So the page is static and holds no data; its script asks the REST API, as the browser's user, and
//! writes text nodes only. The policy allows exactly this script and this style, by their hashes.

use std::sync::LazyLock;

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header;
use sha2::{Digest as _, Sha256};

use crate::state::Registry;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

static PAGE: LazyLock<String> =
    LazyLock::new(|| include_str!("page.html").replace("{STYLE}", STYLE).replace("{SCRIPT}", SCRIPT));

static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; base-uri \
         'none'; form-action 'none'; frame-ancestors 'none'",
        hash(SCRIPT),
        hash(STYLE)
    )
});

pub(crate) fn router() -> Router<Registry> {
    Router::new().route("/", get(page))
}

async fn page() -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY.as_str()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, PAGE.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_allows_exactly_the_script_and_the_style_of_the_page() {
        for (tag, text) in [("script", SCRIPT), ("style", STYLE)] {
            let inline = PAGE.split(&format!("<{tag}>")).nth(1).unwrap();
            let inline = inline.split(&format!("</{tag}>")).next().unwrap();
            assert_eq!(inline, text, "what the browser hashes is what the policy has");
            let hash = STANDARD.encode(Sha256::digest(inline.as_bytes()));
            assert!(POLICY.contains(&format!("{tag}-src 'sha256-{hash}'")), "{}", *POLICY);
        }
        assert!(!POLICY.contains("unsafe"), "{}", *POLICY);
    }

    #[test]
    fn the_script_never_parses_text_of_the_server_as_markup() {
        for sink in
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "setAttribute"]
        {
            assert!(!SCRIPT.contains(sink), "{sink}");
        }
    }
}
