//! Assembles the rooms into a daemon: configuration, listeners, start, drain, stop; and the commands of `cairld`.

mod assemble;
mod clock;
pub mod command;
pub mod config;
mod dev;
mod exit;
mod housekeeping;
mod listener;
mod notify;
mod reload;
mod run;
mod signals;
mod telemetry;

pub use self::{
    clock::SystemClock,
    listener::{BindError, Listeners},
    run::{ProviderError, RunError, run},
};
