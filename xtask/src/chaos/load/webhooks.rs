//! A receiver of webhooks.

use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::chaos::journal::Shared;

const MAX_BODY_BYTES: usize = 1024 * 1024;

/// Listens, and notes the id of each delivery; returns the URL.
pub(super) async fn receive(journal: &Arc<Shared>) -> anyhow::Result<String> {
    let port = slipway_toolbox::servers::free_port()?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let journal = Arc::clone(journal);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let journal = Arc::clone(&journal);
            tokio::spawn(async move {
                // A connection that fails is a delivery that is repeated.
                let _ = answer(stream, &journal).await;
            });
        }
    });
    Ok(format!("http://127.0.0.1:{port}/hook"))
}

/// Answers one request.
async fn answer(stream: TcpStream, journal: &Shared) -> anyhow::Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut id, mut length) = (None, 0);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim().split_once(':') else {
            if line.trim().is_empty() { break } else { continue }
        };
        match name.to_ascii_lowercase().as_str() {
            "webhook-id" => id = Some(value.trim().to_owned()),
            "content-length" => length = value.trim().parse::<usize>()?.min(MAX_BODY_BYTES),
            _ => {}
        }
    }
    stream.read_exact(&mut vec![0u8; length]).await?;
    if let Some(id) = id {
        *journal.lock().deliveries.entry(id).or_default() += 1;
    }
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    stream.write_all(answer).await?;
    Ok(stream.shutdown().await?)
}
