//! What a service says about itself as a whole.

/// The head of a document.
#[derive(Debug, Clone, Copy)]
pub struct Described {
    /// Title, e.g. `Slipway launcher`.
    pub title: &'static str,
    /// Version of the service.
    pub version: &'static str,
    /// What the service offers, in a paragraph.
    pub description: &'static str,
    /// The service's default port, for examples.
    pub port: u16,
    /// The committed document, which is the one that the service serves. Tests compare it with what the
    /// handlers say ([`crate::check::committed`]).
    pub document: &'static str,
}
