//! Downloads, as attachments that no browser runs.

mod verified;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use unicode_normalization::UnicodeNormalization as _;

use self::verified::verified;
use crate::error::{Error, of_file};
use crate::state::Registry;
use crate::store::artifacts::Artifact;

/// A file as the answer to a request, whole or the range that is asked for.
pub(crate) async fn respond(
    registry: &Registry,
    artifact: &Artifact,
    asked: &HeaderMap,
) -> Result<Response, Error> {
    let size_bytes = artifact.size_bytes.unsigned_abs();
    let etag = format!("\"{}\"", artifact.sha256);
    // A client that goes on with a download says which file it has the beginning of.
    let same = asked.get(header::IF_RANGE).is_none_or(|known| known.as_bytes() == etag.as_bytes());
    let range = asked.get(header::RANGE).and_then(|range| range.to_str().ok()).filter(|_| same);
    let blob_key = &artifact.blob_key;
    let lost = |error| of_file(&artifact.path, error);
    let (download, length, part) = match range.map_or(Range::Whole, |text| range_of(text, size_bytes)) {
        Range::Whole => {
            let download = registry.artifacts.get(blob_key).await.map_err(lost)?;
            // A store that does not say how long it is says 0.
            if ![0, size_bytes].contains(&download.size_bytes) {
                return Err(Error::damaged(&artifact.path));
            }
            (download, size_bytes, None)
        }
        Range::Part(first, last) => {
            let download = registry.artifacts.get_range(blob_key, first, last).await.map_err(lost)?;
            (download, last - first + 1, Some(format!("bytes {first}-{last}/{size_bytes}")))
        }
        Range::Outside => {
            let all = format!("bytes */{size_bytes}");
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, [(header::CONTENT_RANGE, all)]).into_response());
        }
    };
    let name = artifact.path.rsplit('/').next().unwrap_or_default();
    // A part cannot be held against the digest of the whole.
    let body = match part {
        Some(_) => Body::from_stream(download.into_stream()),
        None => {
            let (sha256, key) = (artifact.sha256.clone(), artifact.blob_key.clone());
            Body::from_stream(verified(download.into_stream(), sha256, key))
        }
    };
    let mut response = body.into_response();
    if part.is_some() {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    let headers = response.headers_mut();
    if let Some(part) = part {
        insert(headers, header::CONTENT_RANGE, &part);
    }
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(name)));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let disposition = attachment(name);
    insert(headers, header::CONTENT_DISPOSITION, &disposition);
    insert(headers, header::ETAG, &etag);
    Ok(response)
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// What a `Range` header asks for. Several ranges at once, or a unit other than bytes, are answered with the
/// whole file.
#[derive(Debug, PartialEq, Eq)]
enum Range {
    Whole,
    /// First and last byte, counted from 0, included.
    Part(u64, u64),
    Outside,
}

/// Source: <https://www.rfc-editor.org/rfc/rfc9110#name-byte-ranges>.
fn range_of(text: &str, size_bytes: u64) -> Range {
    let bounds = text.strip_prefix("bytes=").and_then(|bounds| bounds.split_once('-'));
    let Some((first, last)) = bounds else { return Range::Whole };
    let (first, last) = match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => (first, last.min(size_bytes.saturating_sub(1))),
        (Ok(first), Err(_)) if last.trim().is_empty() => (first, size_bytes.saturating_sub(1)),
        // The last N bytes.
        (Err(_), Ok(0)) if first.trim().is_empty() => return Range::Outside,
        (Err(_), Ok(count)) if first.trim().is_empty() => {
            (size_bytes.saturating_sub(count), size_bytes.saturating_sub(1))
        }
        _ => return Range::Whole,
    };
    if first < size_bytes { Range::Part(first, last) } else { Range::Outside }
}

/// The media type of a file by its name. Text by its extension, or by the whole name of a file without one,
/// is plain text: a browser must not take it for a page or a script.
pub(crate) fn content_type(name: &str) -> &'static str {
    const TEXT: [&str; 26] = [
        "txt",
        "log",
        "err",
        "cfg",
        "conf",
        "cnf",
        "cf",
        "ini",
        "properties",
        "prop",
        "hocon",
        "toml",
        "yaml",
        "yml",
        "xml",
        "json",
        "js",
        "py",
        "py3",
        "csv",
        "tsv",
        "md",
        "rst",
        "ipynb",
        "MLmodel",
        "mlproject",
    ];
    // A leading point begins a name and no extension.
    let extension = match name.rsplit_once('.') {
        Some((stem, extension)) if !stem.trim_start_matches('.').is_empty() => extension,
        _ => name,
    };
    if TEXT.contains(&extension) {
        return "text/plain";
    }
    mime_guess::from_path(name).first_raw().unwrap_or("application/octet-stream")
}

/// `Content-Disposition` of a download: `filename` for every client, and `filename*` where that one is only
/// an approximation. Source: <https://www.rfc-editor.org/rfc/rfc6266>.
fn attachment(name: &str) -> String {
    // Letters lose their accents, and the rest goes.
    let plain: String =
        name.nfkd().filter(|letter| letter.is_ascii() && !letter.is_ascii_control()).collect();
    let plain = if plain.is_empty() { "download".to_owned() } else { plain };
    let is_token =
        plain.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
    let quoted = if is_token {
        plain.clone()
    } else {
        format!("\"{}\"", plain.replace('\\', "\\\\").replace('"', "\\\""))
    };
    if plain == name {
        format!("attachment; filename={quoted}")
    } else {
        format!("attachment; filename={quoted}; filename*=UTF-8''{}", percent_encoded(name))
    }
}

/// A path as it stands in an address.
pub(crate) fn encoded_path(path: &str) -> String {
    path.split('/').map(percent_encoded).collect::<Vec<_>>().join("/")
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
    fn ranges_are_cut_to_the_file_or_refused() {
        assert_eq!(range_of("bytes=0-9", 100), Range::Part(0, 9));
        assert_eq!(range_of("bytes=90-200", 100), Range::Part(90, 99));
        assert_eq!(range_of("bytes=90-", 100), Range::Part(90, 99));
        assert_eq!(range_of("bytes=-10", 100), Range::Part(90, 99));
        assert_eq!(range_of("bytes=-200", 100), Range::Part(0, 99));
        assert_eq!(range_of("bytes=100-", 100), Range::Outside);
        assert_eq!(range_of("bytes=-0", 100), Range::Outside);
        assert_eq!(range_of("bytes=0-", 0), Range::Outside);
        for whole in ["bytes=9-0", "bytes=0-1,5-6", "rows=0-1", "bytes=a-b", "bytes=-"] {
            assert_eq!(range_of(whole, 100), Range::Whole, "{whole}");
        }
    }

    #[test]
    fn odd_names_make_valid_headers() {
        for (name, disposition) in [
            ("a.txt", "attachment; filename=a.txt"),
            ("a b.txt", "attachment; filename=\"a b.txt\""),
            ("a\"b\\.txt", "attachment; filename=\"a\\\"b\\\\.txt\""),
            ("dog+step+20.png", "attachment; filename=dog+step+20.png"),
            ("ü;.txt", "attachment; filename=\"u;.txt\"; filename*=UTF-8''%C3%BC%3B.txt"),
            ("日本", "attachment; filename=download; filename*=UTF-8''%E6%97%A5%E6%9C%AC"),
            ("a\r\nb", "attachment; filename=ab; filename*=UTF-8''a%0D%0Ab"),
        ] {
            assert_eq!(attachment(name), disposition);
            assert!(HeaderValue::from_str(disposition).is_ok());
        }
    }

    #[test]
    fn types_are_those_of_mlflow() {
        for (name, mime_type) in [
            ("MLmodel", "text/plain"),
            ("mlproject", "text/plain"),
            ("MLproject", "application/octet-stream"),
            ("a.json", "text/plain"),
            ("a.js", "text/plain"),
            ("a.tar.yaml", "text/plain"),
            (".yaml", "application/octet-stream"),
            ("page.html", "text/html"),
            ("c.png", "image/png"),
            ("d.pdf", "application/pdf"),
            ("model.onnx", "application/octet-stream"),
            ("model.pkl", "application/octet-stream"),
        ] {
            assert_eq!(content_type(name), mime_type, "{name}");
        }
    }
}
