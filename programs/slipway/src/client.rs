//! The client of services whose API has no typed client: JSON in, JSON out.

use futures::StreamExt as _;
use reqwest::Method;
use serde_json::Value;
pub(crate) use slipway_client::Error as Failure;

use crate::output;

/// Sends JSON to one service.
#[derive(Debug, Clone)]
pub(crate) struct Client(slipway_client::Client);

impl From<slipway_client::Client> for Client {
    fn from(client: slipway_client::Client) -> Self {
        Self(client)
    }
}

impl Client {
    /// GET with a query; returns the JSON body.
    pub(crate) async fn get(&self, segments: &[&str], query: &[(&str, String)]) -> anyhow::Result<Value> {
        Ok(self.0.get(segments).query(&query).read().await?)
    }

    /// A request with a JSON body; returns the JSON body, `null` where there is none.
    pub(crate) async fn send(
        &self,
        method: Method,
        segments: &[&str],
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let request = self.0.request(method, segments);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        Ok(request.read().await?)
    }

    /// GET whose body goes to standard output as it arrives.
    pub(crate) async fn stream(
        &self,
        segments: &[&str],
        query: &[(&str, String)],
        log: &mut output::Log,
    ) -> anyhow::Result<()> {
        let mut body = self.0.get(segments).query(&query).stream().await?;
        while let Some(chunk) = body.next().await {
            log.print(&chunk?);
        }
        Ok(())
    }
}
