//! gRPC: thin handlers between the contract and the flows.

pub mod proto;
