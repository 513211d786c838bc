//! Assembles the rooms into a daemon: configuration, listeners, start, drain, stop; and the commands of `cairld`.

mod assemble;
mod clock;
pub mod command;
pub mod config;
mod descriptors;
mod dev;
mod exit;
mod listener;
mod run;
mod signals;
mod telemetry;

pub use self::{
    clock::SystemClock,
    listener::{BindError, Listeners},
    run::{RunError, run},
};
