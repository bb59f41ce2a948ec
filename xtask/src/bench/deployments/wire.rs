//! As much of the NATS protocol as it takes to count messages:
//! <https://docs.nats.io/reference/reference-protocols/nats-protocol>.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// Counts of messages, by what they are about.
pub(super) type Counts = BTreeMap<&'static str, u64>;

/// Listens to everything that is published.
#[derive(Debug, Clone, Default)]
pub(super) struct Listener(Arc<Mutex<Counts>>);

impl Listener {
    /// Connects and counts in the background.
    pub(super) async fn start(url: &str) -> anyhow::Result<Self> {
        let rest = url.strip_prefix("nats://").context("expected nats://USER:PASSWORD@HOST:PORT")?;
        let (login, address) = rest.rsplit_once('@').context("the URL has no login")?;
        let (user, password) = login.split_once(':').context("the URL has no password")?;
        let stream = TcpStream::connect(address).await?;
        let (read, mut write) = stream.into_split();
        let login = serde_json::json!({"verbose": false, "pedantic": false, "user": user, "pass": password,
            "headers": true, "lang": "rust", "version": "0"});
        write.write_all(format!("CONNECT {login}\r\nSUB > 1\r\nPING\r\n").as_bytes()).await?;
        let listener = Self::default();
        let counting = listener.clone();
        tokio::spawn(async move {
            let mut read = BufReader::new(read);
            // The end of the connection is the end of the benchmark.
            while let Ok(true) = counting.take(&mut read, &mut write).await {}
        });
        Ok(listener)
    }

    /// Counts one message; `false` at the end.
    async fn take(
        &self,
        read: &mut (impl tokio::io::AsyncBufRead + Unpin),
        write: &mut (impl tokio::io::AsyncWrite + Unpin),
    ) -> anyhow::Result<bool> {
        let mut line = String::new();
        if read.read_line(&mut line).await? == 0 {
            return Ok(false);
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.first().copied() {
            Some("PING") => write.write_all(b"PONG\r\n").await?,
            Some("MSG" | "HMSG") => {
                let bytes: usize = words.last().context("no length")?.parse()?;
                let mut body = vec![0; bytes + 2];
                read.read_exact(&mut body).await?;
                // Between the subject, the number of the subscription and the lengths.
                let lengths = if words[0] == "MSG" { 1 } else { 2 };
                let reply = (words.len() == 4 + lengths).then(|| words[3]);
                let about = about(words.get(1).copied().unwrap_or_default(), reply.unwrap_or_default());
                let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                *counts.entry(about).or_default() += 1;
            }
            _ => {}
        }
        Ok(true)
    }

    /// Everything since the last call.
    pub(super) fn since(&self) -> Counts {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a message is about. Replies and deliveries to consumers are counted apart: each belongs to a message
/// that was published. A delivery has the subject of that message, and asks for an acknowledgement.
fn about(subject: &str, reply: &str) -> &'static str {
    let starts = |prefix: &str| subject.starts_with(prefix);
    if reply.starts_with("$JS.ACK.") {
        "delivery"
    } else if starts("$KV.slipway-replicas.") {
        "status"
    } else if starts("$KV.slipway-traffic.") {
        "table"
    } else if starts("$JS.API.DIRECT.GET.KV_slipway-traffic") {
        "table read"
    } else if starts("$JS.API.") && subject.contains("KV_slipway-") {
        "bucket"
    } else if starts("_INBOX") || starts("$JS.ACK") {
        "reply"
    } else {
        "other"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_counted_by_what_they_are_about() {
        for (subject, expected) in [
            ("$KV.slipway-replicas.r.d", "status"),
            ("$KV.slipway-replicas.r", "status"),
            ("$KV.slipway-traffic.d", "table"),
            ("$JS.API.DIRECT.GET.KV_slipway-traffic.$KV.slipway-traffic.d", "table read"),
            ("$JS.API.STREAM.INFO.KV_slipway-traffic", "bucket"),
            ("_INBOX_serving.x", "reply"),
            ("slipway.registry.alias.set", "other"),
        ] {
            assert_eq!(about(subject, "_INBOX.y"), expected, "{subject}");
        }
        assert_eq!(about("$KV.slipway-traffic.d", "$JS.ACK.KV_slipway-traffic.z.1.1.1.1.0"), "delivery");
    }
}
