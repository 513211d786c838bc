//! `cairlctl`: the operator's client.

fn main() {}
