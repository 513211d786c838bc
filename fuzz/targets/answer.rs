//! An answer of the provider: two bytes for its status, the rest is its body.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some((status, body)) = data.split_first_chunk() {
        cairld::provider::fuzzing::answer(u16::from_be_bytes(*status), body);
    }
});
