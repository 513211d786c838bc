//! cairld takes users through a CAIRL verification, once and right, for services in any language.

pub mod api;
pub mod ctl;
pub mod daemon;
pub mod domain;
pub mod flows;
pub mod provider;
pub mod sandbox;
pub mod store;
