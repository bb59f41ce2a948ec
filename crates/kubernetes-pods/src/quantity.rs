//! Quantities.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// A number of bytes.
pub fn bytes(bytes: u64) -> Quantity {
    Quantity(bytes.to_string())
}

/// A number of CPU cores, which is positive and at most some thousands.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "see above")]
pub fn millicores(cpus: f64) -> Quantity {
    Quantity(format!("{}m", (cpus * 1_000.0).ceil() as u64))
}
