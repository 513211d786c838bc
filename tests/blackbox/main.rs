//! The daemon from outside: real processes, real sockets, real gRPC clients.
fn main() {}
