//! Who changes a setting.

use std::fmt;
use std::net::SocketAddr;

/// Who changes a setting, for the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ChangedBy {
    /// Address that the call comes from.
    pub(crate) peer: Option<SocketAddr>,
    /// Name of the token that it showed; `None` where no tokens are asked for.
    pub(crate) token: Option<String>,
}

impl fmt::Display for ChangedBy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.peer {
            Some(peer) => write!(formatter, "{peer}")?,
            None => formatter.write_str("an unknown address")?,
        }
        match &self.token {
            Some(token) => write!(formatter, " with the token '{token}'"),
            None => formatter.write_str(" without a token"),
        }
    }
}
