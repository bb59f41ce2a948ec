//! Webhooks and their deliveries.

use reqwest::Method;
use slipway_api::rest::{
    PageQuery,
    registry::{
        DeliveriesQuery, DeliveryPage, NewWebhook, Queued, ReplayRequest, Rotated, Rotation, Tested, Webhook,
        WebhookPage, WebhookUpdate,
    },
};

use super::Registry;
use crate::Error;

impl Registry {
    /// Lists webhooks.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn webhooks(&self, page: &PageQuery) -> Result<WebhookPage, Error> {
        self.get(&["webhooks"]).query(page).read().await
    }

    /// Creates a webhook.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_webhook(&self, new: &NewWebhook) -> Result<Webhook, Error> {
        self.request(Method::POST, &["webhooks"]).json(new).read().await
    }

    /// Shows a webhook.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn webhook(&self, name: &str) -> Result<Webhook, Error> {
        self.get(&["webhooks", name]).read().await
    }

    /// Changes a webhook.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn update_webhook(&self, name: &str, update: &WebhookUpdate) -> Result<Webhook, Error> {
        self.request(Method::PATCH, &["webhooks", name]).json(update).read().await
    }

    /// Deletes a webhook and its deliveries.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_webhook(&self, name: &str) -> Result<(), Error> {
        self.request(Method::DELETE, &["webhooks", name]).done().await
    }

    /// Replaces the secret of a webhook.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn rotate_webhook_secret(&self, name: &str, rotation: &Rotation) -> Result<Rotated, Error> {
        self.request(Method::POST, &["webhooks", name, "rotate-secret"]).json(rotation).read().await
    }

    /// Calls the receiver once.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn test_webhook(&self, name: &str) -> Result<Tested, Error> {
        self.request(Method::POST, &["webhooks", name, "test"]).read().await
    }

    /// Lists deliveries, newest first.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn deliveries(&self, name: &str, query: &DeliveriesQuery) -> Result<DeliveryPage, Error> {
        self.get(&["webhooks", name, "deliveries"]).query(query).read().await
    }

    /// Repeats one delivery.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn replay_delivery(&self, name: &str, id: &str) -> Result<Queued, Error> {
        self.request(Method::POST, &["webhooks", name, "deliveries", id, "replay"]).read().await
    }

    /// Delivers past events again.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn replay_events(&self, name: &str, request: &ReplayRequest) -> Result<Queued, Error> {
        self.request(Method::POST, &["webhooks", name, "replay"]).json(request).read().await
    }
}
