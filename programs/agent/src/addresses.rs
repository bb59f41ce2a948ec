//! Where launchers are. Calls go to one of them until it does not answer, then to the next.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use slipway_api::proto::launcher::agents_client::AgentsClient;
use slipway_grpc_client::{TracedChannel, channel};

/// A lease carries the job's files.
const MAX_LEASE_BYTES: usize = 32 * 1024 * 1024;
/// Launchers that an agent remembers.
const MAX_KNOWN: usize = 32;

/// A launcher.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    pub(crate) url: Arc<str>,
    pub(crate) client: AgentsClient<TracedChannel>,
    /// Whether the agent was started with it: it stays known.
    is_configured: bool,
}

impl Address {
    fn new(url: &str, is_configured: bool) -> anyhow::Result<Self> {
        let client = AgentsClient::new(channel(url)?).max_decoding_message_size(MAX_LEASE_BYTES);
        Ok(Self { url: url.into(), client, is_configured })
    }
}

/// The launchers that are known; there is at least one. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Addresses {
    known: Arc<Mutex<Known>>,
}

#[derive(Debug)]
struct Known {
    addresses: Vec<Address>,
    current: usize,
}

impl Addresses {
    /// # Errors
    /// There is none, or one is no address.
    pub(crate) fn new(urls: &[String]) -> anyhow::Result<Self> {
        let addresses: Vec<Address> =
            urls.iter().map(|url| Address::new(url, true)).collect::<anyhow::Result<_>>()?;
        anyhow::ensure!(!addresses.is_empty(), "no launcher's address is given (SLIPWAY_LAUNCHER_URL)");
        Ok(Self { known: Arc::new(Mutex::new(Known { addresses, current: 0 })) })
    }

    /// The launcher that calls go to.
    pub(crate) fn current(&self) -> Address {
        let known = self.lock();
        known.addresses[known.current].clone()
    }

    /// Has calls go to the next launcher, unless they do not go to `url` any more.
    pub(crate) fn turn_away(&self, url: &str) {
        let mut known = self.lock();
        if &*known.addresses[known.current].url == url {
            known.current = (known.current + 1) % known.addresses.len();
        }
    }

    /// Adds launchers, and forgets those that were learned and are not among them. One that is no address is
    /// left out.
    pub(crate) fn learn(&self, urls: &[String]) {
        let mut known = self.lock();
        let current = known.addresses[known.current].url.clone();
        let is_kept = |address: &Address| {
            address.is_configured || address.url == current || urls.iter().any(|url| **url == *address.url)
        };
        known.addresses.retain(is_kept);
        for url in urls.iter().take(MAX_KNOWN) {
            if known.addresses.iter().any(|address| *address.url == **url) {
                continue;
            }
            match Address::new(url, false) {
                Ok(address) => known.addresses.push(address),
                Err(error) => tracing::debug!(%error, "address of a launcher left out"),
            }
        }
        known.current = known.addresses.iter().position(|address| address.url == current).unwrap_or(0);
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| format!("http://{name}:1")).collect()
    }

    #[tokio::test]
    async fn calls_go_round_and_launchers_that_left_are_forgotten() {
        let addresses = Addresses::new(&urls(&["a"])).unwrap();
        let current = || addresses.current().url.to_string();
        addresses.turn_away("http://a:1");
        assert_eq!(current(), "http://a:1", "there is no other");
        addresses.learn(&urls(&["a", "b", "not an address", "c"]));
        addresses.turn_away("http://a:1");
        assert_eq!(current(), "http://b:1");
        addresses.turn_away("http://a:1");
        assert_eq!(current(), "http://b:1", "somebody else turned away from `a` before");
        addresses.learn(&urls(&["c"]));
        assert_eq!(current(), "http://b:1", "it answers");
        addresses.turn_away("http://b:1");
        assert_eq!(current(), "http://c:1");
        addresses.learn(&urls(&["c"]));
        addresses.turn_away("http://c:1");
        assert_eq!(current(), "http://a:1", "what the agent was started with stays, `b` does not");
        assert!(Addresses::new(&[]).is_err() && Addresses::new(&urls(&["x y"])).is_err());
    }
}
