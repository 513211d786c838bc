//! A stored record, opened and decoded: which table in the first byte, how long its first part is in the next two.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some(([table, high, low], rest)) = data.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (record, sealed) = rest.split_at(length.min(rest.len()));
        cairld::store::fuzzing::record(*table, record, sealed);
    }
});
