//! gRPC: thin handlers between the contract and the flows.
//!
//! A call passes the `door` (who is it, may he: `callers`, `caller`), is read into what cannot be wrong (`input`), goes through a flow,
//! and comes back as a message (`output`) or a status (`status`). `codec` encodes messages.

mod admin;
mod caller;
mod callers;
mod code;
mod codec;
mod door;
pub mod errors_page;
mod events;
mod explain;
mod greeting;
mod input;
mod integration;
mod lasting;
mod output;
mod parting;
pub mod proto;
mod server;
mod status;
mod tally;
#[cfg(test)]
mod testing;
mod tls;
mod visit;

pub use self::{
    caller::{Caller, CallerLimits, Rpcs, San, TokenHash},
    callers::Callers,
    code::{code, code_name},
    server::{Api, Assembled, GrpcServer, Health, Serves, assemble},
    tally::Tally,
};
