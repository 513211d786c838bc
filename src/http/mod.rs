//! Plain HTTP: where the provider delivers webhooks.
//!
//! `places` says who may stay when there is no room left, `connections` keeps connections to their limits, and `webhooks`
//! answers requests. What a webhook means is the business of the flows, which serve `IngestWebhook` too.

mod connections;
mod places;
mod webhooks;

pub use self::webhooks::WebhookServer;
