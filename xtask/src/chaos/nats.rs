//! Reads keys of NATS KV and the state of streams, with the few lines of the protocol that this takes.
//!
//! <https://docs.nats.io/reference/reference-protocols/nats-protocol>; a bucket is the stream `KV_<bucket>`.

use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(5);
const INBOX: &str = "_INBOX.chaos";

/// A copy of a stream, or of a bucket, at one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Copy {
    pub(super) stream: String,
    /// Name of the node.
    pub(super) node: String,
    /// Whether it has caught up with the leader.
    pub(super) is_current: bool,
}

/// All copies of all streams, through one node.
pub(super) async fn copies(url: &str) -> anyhow::Result<Vec<Copy>> {
    let answer = ask(url, "$JS.API.STREAM.LIST", &json!({})).await?;
    anyhow::ensure!(answer["missing"].is_null() && answer["error"].is_null(), "NATS answers {answer}");
    let mut copies = Vec::new();
    for stream in answer["streams"].as_array().context("a list of streams")? {
        let (name, cluster) = (&stream["config"]["name"], &stream["cluster"]);
        let copy = |node: &Value, is_current| Copy {
            stream: name.as_str().unwrap_or_default().to_owned(),
            node: node.as_str().unwrap_or_default().to_owned(),
            is_current,
        };
        copies.push(copy(&cluster["leader"], cluster["leader"].is_string()));
        for follower in cluster["replicas"].as_array().into_iter().flatten() {
            let is_current = follower["current"] == true && follower["offline"] != true;
            copies.push(copy(&follower["name"], is_current));
        }
    }
    Ok(copies)
}

/// The value of a key; `None` if there is none.
pub(super) async fn get(url: &str, bucket: &str, key: &str) -> anyhow::Result<Option<Value>> {
    let subject = format!("$JS.API.STREAM.MSG.GET.KV_{bucket}");
    let answer = ask(url, &subject, &json!({"last_by_subj": format!("$KV.{bucket}.{key}")})).await?;
    let Some(data) = answer["message"]["data"].as_str() else {
        if answer["error"]["code"] == 404 {
            return Ok(None);
        }
        bail!("NATS answers {answer}");
    };
    Ok(Some(serde_json::from_slice(&base64(data).context("base64")?)?))
}

async fn ask(url: &str, subject: &str, question: &Value) -> anyhow::Result<Value> {
    let question = question.to_string();
    timeout(LIMIT, request(url, subject, &question)).await.context("NATS does not answer")?
}

async fn request(url: &str, subject: &str, body: &str) -> anyhow::Result<Value> {
    let (login, address) =
        url.strip_prefix("nats://").and_then(|rest| rest.split_once('@')).context("a URL with a user")?;
    let (user, password) = login.split_once(':').context("a URL with a password")?;
    let mut stream = BufReader::new(TcpStream::connect(address).await?);
    let connect = json!({"verbose": false, "pedantic": false, "user": user, "pass": password,
        "lang": "rust", "version": "0", "protocol": 0, "headers": false});
    let sent =
        format!("CONNECT {connect}\r\nSUB {INBOX} 1\r\nPUB {subject} {INBOX} {}\r\n{body}\r\n", body.len());
    stream.write_all(sent.as_bytes()).await?;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            bail!("NATS closed the connection");
        }
        if line.starts_with("PING") {
            stream.write_all(b"PONG\r\n").await?;
        } else if line.starts_with("-ERR") {
            bail!("NATS answers {}", line.trim());
        } else if let Some(message) = line.strip_prefix("MSG ") {
            let size = message.trim().rsplit(' ').next().context("a size")?.parse()?;
            let mut bytes = vec![0u8; size];
            stream.read_exact(&mut bytes).await?;
            return Ok(serde_json::from_slice(&bytes)?);
        }
    }
}

/// Decodes base64 with padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        bits = bits << 6 | u32::from(digit(byte)?);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_decoded_with_and_without_padding() {
        assert_eq!(base64("eyJhIjoxfQ==").unwrap(), br#"{"a":1}"#);
        assert_eq!(base64("YWJj").unwrap(), b"abc");
        assert_eq!(base64("/+8=").unwrap(), [0xff, 0xef]);
        assert!(base64("a b").is_none());
    }
}
