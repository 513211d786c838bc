//! A `Retry-After`, beside the time of its arrival.

#![no_main]

use std::time::Duration;

use cairld::domain::{Timestamp, parse_retry_after};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u64, &str)| {
    let (now, value) = input;
    if let Some(pause) = parse_retry_after(value, Timestamp::from_millis(now)) {
        assert!((Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&pause));
    }
});
