//! Ends of certificates, and dates.

use std::path::Path;

use chrono::DateTime;
use slipway_doctor::{Finding, certificate};
use x509_cert::Certificate;
use x509_cert::der::{Decode as _, DecodePem as _};

/// Unix time in seconds.
pub(super) fn now_s() -> i64 {
    slipway_runtime::clock::now_unix_ms_column() / 1_000
}

/// The end of a certificate, as Unix time in seconds.
pub(super) fn end_of_der(der: &[u8]) -> Option<i64> {
    Certificate::from_der(der).ok().as_ref().and_then(end)
}

/// The same of the first certificate of a file in PEM.
pub(super) fn end_of_pem(pem: &[u8]) -> Option<i64> {
    const END: &[u8] = b"-----END CERTIFICATE-----";
    // A chain: the certificate itself is first.
    let length = pem.windows(END.len()).position(|part| part == END)? + END.len();
    Certificate::from_pem(&pem[..length]).ok().as_ref().and_then(end)
}

fn end(certificate: &Certificate) -> Option<i64> {
    let end = certificate.tbs_certificate().validity().not_after.to_unix_duration();
    i64::try_from(end.as_secs()).ok()
}

pub(super) fn of_file(path: &Path) -> Finding {
    let name = path.display().to_string();
    let advice = "expected a certificate in PEM that this user may read";
    match std::fs::read(path) {
        Err(error) => Finding::fail(format!("{name} certificate"), error.to_string(), advice),
        Ok(pem) => match end_of_pem(&pem) {
            Some(end) => certificate(&name, end, now_s()),
            None => Finding::fail(format!("{name} certificate"), "not a certificate in PEM", advice),
        },
    }
}

/// A date of HTTP minus our clock, in milliseconds.
pub(super) fn difference_ms(date: &str) -> Option<i64> {
    let theirs = DateTime::parse_from_rfc2822(date).ok()?.timestamp_millis();
    Some(theirs - slipway_runtime::clock::now_unix_ms_column())
}
