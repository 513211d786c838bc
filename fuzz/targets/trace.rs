//! What headers say of a trace: one `traceparent` or several, and `tracestate`.

#![no_main]

use cairld::domain::TraceContext;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    let mut parts = input.split('\n');
    let parents: Vec<_> = parts.by_ref().take_while(|part| !part.is_empty()).collect();
    let states: Vec<_> = parts.collect();
    let Some(context) = TraceContext::said(parents.iter().copied(), states.iter().copied()) else { return };
    assert_eq!(parents.len(), 1, "of two, nobody knows which holds");
    let said = context.traceparent();
    assert!(said.len() == 55 && parents[0].get(2..53) == said.get(2..53), "the same trace and span go on");
    // What goes on is a header, bounded, and read as the same.
    let state = context.tracestate();
    assert!(state.is_none_or(|state| state.len() <= 512 && state.bytes().all(|byte| (b' '..=b'~').contains(&byte))));
    assert_eq!(TraceContext::said([said.as_str()], state), Some(context.clone()));
});
