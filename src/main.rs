//! `cairld`: the daemon.

fn main() {}
