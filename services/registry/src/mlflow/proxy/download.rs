//! Downloads, as attachments that no browser runs.

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderName, HeaderValue, header};

use super::verified::verified;
use crate::error::Error;
use crate::state::Registry;
use crate::store::artifacts::Artifact;

pub(super) async fn respond(registry: &Registry, artifact: &Artifact) -> Result<Response, Error> {
    let download = registry.artifacts.get(&artifact.blob_key).await?;
    let name = artifact.path.rsplit('/').next().unwrap_or_default();
    let bytes = verified(download.into_stream(), artifact.sha256.clone(), artifact.blob_key.clone());
    let mut response = Body::from_stream(bytes).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(artifact.size_bytes.unsigned_abs()));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(name)));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let disposition = format!("attachment; filename*=UTF-8''{}", percent_encoded(name));
    insert(headers, header::CONTENT_DISPOSITION, &disposition);
    insert(headers, header::ETAG, &format!("\"{}\"", artifact.sha256));
    Ok(response)
}

fn insert(headers: &mut http::HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "json" => "application/json",
        "txt" | "log" | "md" | "py" | "yaml" | "yml" => "text/plain; charset=utf-8",
        "csv" => "text/csv; charset=utf-8",
        "html" => "text/html; charset=utf-8",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "svg" => "image/svg+xml",
        "pdf" => "application/pdf",
        _ if name == "MLmodel" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// Source: <https://www.rfc-editor.org/rfc/rfc8187>.
fn percent_encoded(name: &str) -> String {
    name.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_make_lawful_headers() {
        assert_eq!(percent_encoded("a b\"\n.txt"), "a%20b%22%0A.txt");
        assert_eq!(percent_encoded("ü"), "%C3%BC");
        assert_eq!(content_type("model.onnx"), "application/octet-stream");
    }
}
