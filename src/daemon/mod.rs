//! Assembles the rooms into a daemon: configuration, listeners, start, drain, stop; and the commands of `cairld`.

mod assemble;
mod check;
mod clock;
pub mod command;
pub mod config;
mod descriptors;
mod dev;
mod ending;
mod exit;
mod housekeeping;
mod inherited;
mod listener;
mod metrics;
mod notify;
mod ops;
mod reload;
mod run;
mod servers;
mod signals;
mod telemetry;
mod watchdog;

pub use self::{
    clock::SystemClock,
    inherited::{InheritError, Inherited},
    listener::{BindError, Listeners, SocketFile, UnixSocket},
    run::{ProviderError, Readiness, RunError, Stage, run},
};
