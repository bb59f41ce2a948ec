//! gzip and deflate bodies, with a limit on what they unpack to.

use std::io::{Read, Write};

use flate2::Compression;

use crate::failure::{Failure, Kind};

/// Answers shorter than this are sent as they are: compressing them costs more than it saves.
const MIN_COMPRESSED_BYTES: usize = 4 * 1024;

/// A content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 1950 (zlib), as HTTP means it.
    Deflate,
}

impl Coding {
    /// The coding of a `Content-Encoding` header; `None` for a plain body.
    ///
    /// # Errors
    /// A coding that is not served here.
    pub(crate) fn of_request(header: Option<&str>) -> Result<Option<Self>, Failure> {
        let Some(name) = header.map(str::trim) else { return Ok(None) };
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if name.is_empty() || is("identity") {
            Ok(None)
        } else if is("gzip") || is("x-gzip") {
            Ok(Some(Self::Gzip))
        } else if is("deflate") {
            Ok(Some(Self::Deflate))
        } else {
            Err(Failure::new(
                Kind::Unsupported,
                format!("Content-Encoding '{name}' is not supported; use gzip or deflate"),
            ))
        }
    }

    /// The coding to answer with, by `Accept-Encoding`, and whether the body is long enough for it.
    pub(crate) fn of_response(header: Option<&str>, body_bytes: usize) -> Option<Self> {
        if body_bytes < MIN_COMPRESSED_BYTES {
            return None;
        }
        // A name counts for more than `*`, and where both are as welcome, gzip does.
        let quality = |coding: Self| {
            let entries = header.into_iter().flat_map(|header| header.split(',')).map(weighed);
            let named = entries.clone().find(|(name, _)| name.eq_ignore_ascii_case(coding.name()));
            named
                .or_else(|| entries.clone().find(|(name, _)| *name == "*"))
                .map_or(0.0, |(_, quality)| quality)
        };
        let (gzip, deflate) = (quality(Self::Gzip), quality(Self::Deflate));
        match (gzip, deflate) {
            (gzip, deflate) if deflate > gzip => Some(Self::Deflate),
            (gzip, _) if gzip > 0.0 => Some(Self::Gzip),
            _ => None,
        }
    }

    /// Name in headers.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    /// Unpacks a body to at most `limit_bytes`.
    ///
    /// # Errors
    /// The body is damaged, or unpacks to more.
    pub(crate) fn unpack(self, body: &[u8], limit_bytes: usize) -> Result<Vec<u8>, Failure> {
        let mut unpacked = Vec::new();
        let read = match self {
            // A body may be packed in pieces, one member behind the other (RFC 1952).
            Self::Gzip => read_limited(flate2::read::MultiGzDecoder::new(body), limit_bytes, &mut unpacked),
            Self::Deflate => {
                let mut decoder = flate2::bufread::ZlibDecoder::new(body);
                let read = read_limited(&mut decoder, limit_bytes, &mut unpacked);
                // Nothing may follow, as nothing but a further member may follow in gzip.
                let ended = unpacked.len() > limit_bytes || decoder.into_inner().is_empty();
                read.and_then(
                    |_| if ended { Ok(0) } else { Err(std::io::Error::other("bytes follow its end")) },
                )
            }
        };
        read.map_err(|error| Failure::invalid(format!("the {} body does not unpack: {error}", self.name())))?;
        if unpacked.len() > limit_bytes {
            return Err(too_large(limit_bytes));
        }
        Ok(unpacked)
    }

    /// Packs an answer, fast rather than small.
    pub(crate) fn pack(self, body: &[u8]) -> Vec<u8> {
        let packed = match self {
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(body).and_then(|()| encoder.finish())
            }
            Self::Deflate => {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(body).and_then(|()| encoder.finish())
            }
        };
        // Writing into memory does not fail.
        packed.unwrap_or_default()
    }
}

/// A coding of `Accept-Encoding`, and its quality: 1 where there is none, and 0 where it is none.
fn weighed(entry: &str) -> (&str, f32) {
    let mut parts = entry.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let quality = parts.find_map(|part| part.strip_prefix(['q', 'Q'])?.trim_start().strip_prefix('='));
    (name, quality.map_or(1.0, |quality| quality.trim().parse().unwrap_or(0.0)))
}

/// The failure of a body over the limit.
pub(crate) fn too_large(limit_bytes: usize) -> Failure {
    Failure::new(
        Kind::TooLarge,
        format!("the request body is over {limit_bytes} bytes; send fewer rows at once"),
    )
}

fn read_limited(reader: impl Read, limit_bytes: usize, into: &mut Vec<u8>) -> std::io::Result<usize> {
    reader.take(limit_bytes as u64 + 1).read_to_end(into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_unpacks_within_the_limit_only() {
        let body = vec![7_u8; 100_000];
        for coding in [Coding::Gzip, Coding::Deflate] {
            let packed = coding.pack(&body);
            assert!(packed.len() < 1000);
            assert_eq!(coding.unpack(&packed, 100_000).unwrap(), body);
            assert_eq!(coding.unpack(&packed, 99_999).unwrap_err().kind, Kind::TooLarge);
            assert_eq!(coding.unpack(&packed[..20], 100_000).unwrap_err().kind, Kind::Invalid);
        }
    }

    #[test]
    fn every_member_of_a_gzip_body_is_unpacked() {
        let packed = [Coding::Gzip.pack(b"{\"inputs\":"), Coding::Gzip.pack(b"[]}")].concat();
        assert_eq!(Coding::Gzip.unpack(&packed, 100).unwrap(), b"{\"inputs\":[]}");
        let cut = [packed.as_slice(), b"more"].concat();
        assert_eq!(Coding::Gzip.unpack(&cut, 100).unwrap_err().kind, Kind::Invalid);
    }

    #[test]
    fn nothing_follows_a_deflate_body() {
        let packed = [Coding::Deflate.pack(b"[]"), b"more".to_vec()].concat();
        assert_eq!(Coding::Deflate.unpack(&packed, 100).unwrap_err().kind, Kind::Invalid);
        assert_eq!(Coding::Deflate.unpack(&packed, 1).unwrap_err().kind, Kind::TooLarge);
    }

    #[test]
    fn codings_are_read_from_headers() {
        assert_eq!(Coding::of_request(Some("GZIP")), Ok(Some(Coding::Gzip)));
        assert_eq!(Coding::of_request(Some(" Identity ")), Ok(None));
        assert_eq!(Coding::of_response(Some("GZip"), 10_000), Some(Coding::Gzip));
        assert_eq!(Coding::of_request(Some("br")).unwrap_err().kind, Kind::Unsupported);
        assert_eq!(Coding::of_response(Some("deflate, gzip;q=0"), 10_000), Some(Coding::Deflate));
        for (header, expected) in [
            ("gzip;q=0.0", None),
            ("gzip;q=0.000, *", Some(Coding::Deflate)),
            ("gzip; Q=0 , deflate;q=0.001", Some(Coding::Deflate)),
            ("gzip;q=0.1, deflate;q=0.9", Some(Coding::Deflate)),
            ("deflate, gzip", Some(Coding::Gzip)),
            ("br, *;q=0.5", Some(Coding::Gzip)),
            ("*;q=0", None),
            ("gzip;q=much", None),
            ("identity", None),
        ] {
            assert_eq!(Coding::of_response(Some(header), 10_000), expected, "{header}");
        }
        assert_eq!(Coding::of_response(Some("gzip"), 10), None);
        assert_eq!(Coding::of_response(None, 10_000), None);
    }
}
