//! Assembles the rooms into a daemon.

pub mod config;
