//! Streams of NATS, in the format of its own snapshots, which keep sequence numbers and times. Buckets are
//! not part of a backup: the services write them again from Postgres.
//!
//! Consumers are not part of a snapshot either, since they may have acknowledged messages whose effects are
//! not in the snapshot of Postgres. They are made again at the place that they had acknowledged before it.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use async_nats::Client;
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use slipway_api::{access, events, predictions, traffic};

use crate::Progress;
use crate::manifest::StreamPart;
use crate::place::{FileRef, Place};

const CHUNK_BYTES: usize = 128 * 1024;
/// A request to NATS, and the pause between two pieces of a snapshot.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Streams in the order in which they are written.
const STREAMS: [&str; 3] =
    [events::EVENTS_STREAM, predictions::PREDICTIONS_STREAM, predictions::LABELS_STREAM];
const BUCKETS: [&str; 3] = [traffic::TRAFFIC_BUCKET, traffic::REPLICAS_BUCKET, access::ACCESS_BUCKET];
/// NATS' code for a stream that does not exist.
const NO_STREAM: u64 = 10_059;

/// A stream and its consumers before the snapshot of Postgres.
pub(crate) struct Consumed {
    name: &'static str,
    consumers: Vec<Value>,
}

/// Places of all durable consumers.
pub(crate) async fn places(client: &Client) -> anyhow::Result<Vec<Consumed>> {
    let mut places = Vec::new();
    for name in STREAMS {
        if info(client, name).await?.is_some() {
            places.push(Consumed { name, consumers: consumers(client, name).await? });
        }
    }
    Ok(places)
}

/// The last messages now, in the order of the places.
pub(crate) async fn last_sequences(client: &Client, places: &[Consumed]) -> anyhow::Result<Vec<u64>> {
    let mut sequences = Vec::new();
    for place in places {
        let info = info(client, place.name).await?;
        sequences.push(info.map_or(0, |info| info["state"]["last_seq"].as_u64().unwrap_or(0)));
    }
    Ok(sequences)
}

/// Writes snapshots of all streams.
pub(crate) async fn dump(
    client: &Client,
    places: Vec<Consumed>,
    last: Vec<u64>,
    to: &Place,
    progress: Progress<'_>,
) -> anyhow::Result<Vec<StreamPart>> {
    let mut parts = Vec::new();
    for (place, last_sequence) in places.into_iter().zip(last) {
        let name = place.name;
        let part = snapshot(client, place, last_sequence, to).await;
        let part = part.with_context(|| format!("NATS, stream {name}"))?;
        if part.file.is_none() && part.messages > 0 {
            progress(&format!(
                "warning: stream {name} is kept in memory, which NATS cannot snapshot: its {} messages are \
                 not part of the backup",
                part.messages
            ));
        } else {
            progress(&format!("nats: stream {name}: {} messages", part.messages));
        }
        parts.push(part);
    }
    Ok(parts)
}

async fn snapshot(
    client: &Client,
    place: Consumed,
    last_sequence: u64,
    to: &Place,
) -> anyhow::Result<StreamPart> {
    let Some(found) = info(client, place.name).await? else { bail!("it was deleted during the backup") };
    let (mut config, mut state, mut file) = (found["config"].clone(), found["state"].clone(), None);
    if config["storage"] != "memory" {
        let inbox = client.new_inbox();
        let pieces = client.subscribe(inbox.clone()).await?;
        let request = json!({"deliver_subject": inbox, "no_consumers": true, "chunk_size": CHUNK_BYTES});
        let response = ask(client, &format!("$JS.API.STREAM.SNAPSHOT.{}", place.name), &request).await?;
        (config, state) = (response["config"].clone(), response["state"].clone());
        let path = format!("nats/{}.snapshot", place.name);
        file = Some(to.write(&path, pieces_of(client.clone(), pieces)).await?);
    }
    let messages = state["messages"].as_u64().unwrap_or(0);
    let (name, consumers) = (place.name.to_owned(), place.consumers);
    Ok(StreamPart { name, config, state, last_sequence, messages, consumers, file })
}

/// The pieces of a snapshot. Each is acknowledged, and the last one is empty.
fn pieces_of(
    client: Client,
    pieces: async_nats::Subscriber,
) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send {
    futures::stream::try_unfold((client, pieces), |(client, mut pieces)| async move {
        let next = tokio::time::timeout(TIMEOUT, pieces.next()).await;
        let Ok(Some(piece)) = next else {
            return Err(std::io::Error::other("NATS did not send the rest of the snapshot"));
        };
        if piece.payload.is_empty() {
            return match piece.description {
                Some(description) if !description.contains("EOF") && !description.is_empty() => {
                    Err(std::io::Error::other(format!("NATS ended the snapshot: {description}")))
                }
                _ => Ok(None),
            };
        }
        if let Some(reply) = piece.reply {
            client.publish(reply, Bytes::new()).await.map_err(std::io::Error::other)?;
        }
        Ok(Some((piece.payload, (client, pieces))))
    })
}

/// Checks that no stream has messages but those of the backup, or that they may be deleted.
pub(crate) async fn check_target(client: &Client, parts: &[StreamPart], replace: bool) -> anyhow::Result<()> {
    for part in parts {
        let Some(found) = info(client, &part.name).await? else { continue };
        let messages = found["state"]["messages"].as_u64().unwrap_or(0);
        // An interrupted restore has written it.
        let is_ours = found["state"]["last_seq"] == part.state["last_seq"];
        ensure!(
            messages == 0 || is_ours || replace,
            "the installation is not empty: stream {} of NATS has {messages} messages; use --replace to \
             delete everything that the installation has in Postgres and NATS, and restore the backup",
            part.name
        );
    }
    Ok(())
}

/// Replaces the streams by those of the backup, and empties the buckets.
pub(crate) async fn load(
    client: &Client,
    parts: &[StreamPart],
    from: &Place,
    progress: Progress<'_>,
) -> anyhow::Result<()> {
    for part in parts {
        load_stream(client, part, from).await.with_context(|| format!("NATS, stream {}", part.name))?;
        progress(&format!("nats: stream {}: {} messages", part.name, part.messages));
    }
    for bucket in BUCKETS {
        let stream = format!("KV_{bucket}");
        if info(client, &stream).await?.is_some() {
            ask(client, &format!("$JS.API.STREAM.PURGE.{stream}"), &json!({})).await?;
        }
    }
    Ok(())
}

async fn load_stream(client: &Client, part: &StreamPart, from: &Place) -> anyhow::Result<()> {
    let Some(file) = &part.file else { return Ok(()) };
    let mut config = part.config.clone();
    if let Some(found) = info(client, &part.name).await? {
        // Another installation may have fewer servers, or more.
        config["num_replicas"] = found["config"]["num_replicas"].clone();
        ask(client, &format!("$JS.API.STREAM.DELETE.{}", part.name), &json!({})).await?;
    }
    let request = json!({"config": config, "state": part.state});
    let response = ask(client, &format!("$JS.API.STREAM.RESTORE.{}", part.name), &request).await?;
    let subject = response["deliver_subject"].as_str().context("NATS named no subject for the snapshot")?;
    send(client, subject.to_owned(), file, from).await?;
    if part.name == events::EVENTS_STREAM {
        delete_after(client, part).await?;
    }
    for consumer in &part.consumers {
        let durable = consumer["durable_name"].as_str().unwrap_or_default();
        let subject = format!("$JS.API.CONSUMER.DURABLE.CREATE.{}.{durable}", part.name);
        let request = json!({"stream_name": part.name, "config": consumer});
        ask(client, &subject, &request).await.with_context(|| format!("consumer {durable}"))?;
    }
    Ok(())
}

async fn send(client: &Client, subject: String, file: &FileRef, from: &Place) -> anyhow::Result<()> {
    let mut stream =
        from.open(&file.path).await?.with_context(|| format!("{from}: {} is missing", file.path))?;
    let mut hasher = Sha256::new();
    while let Some(bytes) = stream.try_next().await? {
        hasher.update(&bytes);
        for piece in bytes.chunks(CHUNK_BYTES) {
            let reply = request(client, &subject, Bytes::copy_from_slice(piece)).await?;
            refused(&reply)?;
        }
    }
    let actual = hex::encode(hasher.finalize());
    // The stream exists only after the last, empty piece.
    ensure!(actual == file.sha256, "{}: SHA-256 is {actual}, expected {}", file.path, file.sha256);
    refused(&request(client, &subject, Bytes::new()).await?)
}

/// Deletes events of changes that are later than the snapshot of Postgres.
async fn delete_after(client: &Client, part: &StreamPart) -> anyhow::Result<()> {
    let last = part.state["last_seq"].as_u64().unwrap_or(0);
    for sequence in part.last_sequence + 1..=last {
        let subject = format!("$JS.API.STREAM.MSG.DELETE.{}", part.name);
        ask(client, &subject, &json!({"seq": sequence, "no_erase": true})).await?;
    }
    Ok(())
}

/// Configurations of durable consumers, each with the place behind what it has acknowledged.
async fn consumers(client: &Client, stream: &str) -> anyhow::Result<Vec<Value>> {
    let mut durables = Vec::new();
    let mut offset = 0;
    loop {
        let page =
            ask(client, &format!("$JS.API.CONSUMER.LIST.{stream}"), &json!({"offset": offset})).await?;
        let listed = page["consumers"].as_array().map(Vec::as_slice).unwrap_or_default();
        for found in listed {
            if found["config"]["durable_name"].is_string() {
                durables.push(at_its_place(found));
            }
        }
        offset += listed.len() as u64;
        if listed.is_empty() || offset >= page["total"].as_u64().unwrap_or(0) {
            return Ok(durables);
        }
    }
}

fn at_its_place(found: &Value) -> Value {
    let mut config = found["config"].clone();
    let acknowledged = found["ack_floor"]["stream_seq"].as_u64().unwrap_or(0);
    if acknowledged > 0 {
        config["deliver_policy"] = "by_start_sequence".into();
        config["opt_start_seq"] = (acknowledged + 1).into();
        if let Some(config) = config.as_object_mut() {
            config.remove("opt_start_time");
        }
    }
    config
}

/// Configuration and state of a stream; `None` if there is none.
async fn info(client: &Client, stream: &str) -> anyhow::Result<Option<Value>> {
    let subject = format!("$JS.API.STREAM.INFO.{stream}");
    let reply: Value = serde_json::from_slice(&request(client, &subject, Bytes::new()).await?)?;
    match reply["error"]["err_code"].as_u64() {
        Some(NO_STREAM) => Ok(None),
        Some(_) => bail!("NATS: {subject}: {}", reply["error"]["description"].as_str().unwrap_or_default()),
        None => Ok(Some(reply)),
    }
}

async fn ask(client: &Client, subject: &str, body: &Value) -> anyhow::Result<Value> {
    let reply = request(client, subject, Bytes::from(serde_json::to_vec(body)?)).await?;
    refused(&reply).with_context(|| subject.to_owned())?;
    Ok(serde_json::from_slice(&reply)?)
}

async fn request(client: &Client, subject: &str, body: Bytes) -> anyhow::Result<Bytes> {
    let reply = tokio::time::timeout(TIMEOUT, client.request(subject.to_owned(), body)).await;
    let hint = "is JetStream enabled, and may the user of SLIPWAY_NATS_URL do this?";
    match reply {
        Ok(Ok(message)) => Ok(message.payload),
        Ok(Err(error)) => bail!("NATS: {subject}: {error}; {hint}"),
        Err(_) => bail!("NATS: {subject}: no answer within {} s; {hint}", TIMEOUT.as_secs()),
    }
}

/// The error of a reply, which is empty or JSON.
fn refused(reply: &[u8]) -> anyhow::Result<()> {
    let Ok(reply) = serde_json::from_slice::<Value>(reply) else { return Ok(()) };
    match reply["error"]["description"].as_str() {
        Some(description) => bail!("NATS: {description}"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_goes_on_behind_what_it_has_acknowledged() {
        let consumer = |acknowledged: u64| {
            at_its_place(&json!({"config": {"durable_name": "a", "deliver_policy": "all"},
                "ack_floor": {"stream_seq": acknowledged}}))
        };
        assert_eq!(consumer(0)["deliver_policy"], "all");
        let later = consumer(7);
        assert_eq!(
            (&later["deliver_policy"], &later["opt_start_seq"]),
            (&json!("by_start_sequence"), &json!(8))
        );
    }

    #[test]
    fn errors_of_replies_are_found() {
        assert!(refused(b"").is_ok() && refused(b"+OK").is_ok() && refused(br#"{"success": true}"#).is_ok());
        let error = refused(br#"{"error": {"code": 404, "description": "stream not found"}}"#).unwrap_err();
        assert_eq!(error.to_string(), "NATS: stream not found");
    }
}
