//! The daemon from outside: real processes, real sockets, real gRPC clients, `kill -9`.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, unreachable_pub)]

mod activation;
mod bad_answers;
mod bad_input;
mod budgets;
mod callers;
mod canary;
mod care;
mod clock;
mod commands;
mod crash;
mod crash_load;
mod ctl_ended;
mod ctl_events;
mod dev;
mod docs;
mod error_log;
mod error_rows;
mod events;
mod exchange;
mod explain;
mod keys;
mod limits;
mod linear;
mod logs;
mod main_job;
mod ops;
#[cfg(feature = "otlp")]
mod otlp;
mod reconcile;
mod reload;
mod revoke;
mod session;
mod stopping;
mod support;
mod systemd;
mod tls;
mod traces;
mod units;
mod webhook_input;
mod webhook_listener;
mod webhook_load;
mod webhooks;
