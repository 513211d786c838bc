//! Plain HTTP: where the provider delivers webhooks, and where the daemon is watched.
//!
//! `places` says who may stay when there is no room left, `connections` keeps connections to their limits, and `webhooks`
//! answers requests. What a webhook means is the business of the flows, which serve `IngestWebhook` too. `ops` shows how
//! the daemon is; who knows that is an argument.

mod connections;
mod ops;
mod places;
mod webhooks;

pub use self::{
    ops::{Check, Finding, Operations, serve_operations},
    webhooks::WebhookServer,
};
