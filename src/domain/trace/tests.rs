use proptest::prelude::*;

use super::*;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn parse(parent: &str) -> Option<TraceContext> {
    TraceContext::said([parent], [])
}

fn state(headers: &[&str]) -> Option<String> {
    TraceContext::said([PARENT], headers.iter().copied()).unwrap().tracestate().map(str::to_owned)
}

#[test]
fn a_traceparent_is_read_and_goes_on() {
    let read = parse(PARENT).unwrap();
    assert_eq!(read.trace.to_string(), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(read.span.to_string(), "b7ad6b7169203331");
    assert!(read.sampled && read.parent.is_none());
    assert_eq!(read.traceparent(), PARENT);
    let child = read.child(SpanId::new([1; 8]).unwrap());
    assert_eq!(child.traceparent(), "00-0af7651916cd43dd8448eb211c80319c-0101010101010101-01");
    assert_eq!(child.parent, Some(read.span));
    // Flags that are not defined are not passed on.
    let odd = parse(&PARENT.replace("-01", "-fe")).unwrap();
    assert!(!odd.sampled);
    assert!(odd.traceparent().ends_with("-00"));
}

#[test]
fn a_later_version_is_read_as_far_as_it_is_known() {
    for parent in ["01-", "cc-"] {
        let later = PARENT.replacen("00-", parent, 1);
        assert_eq!(parse(&later), parse(PARENT), "{later}");
        assert_eq!(parse(&format!("{later}-what-the-future-brings")), parse(PARENT));
        assert_eq!(parse(&format!("{later}.")), None);
    }
}

#[test]
fn what_is_no_traceparent_counts_as_none() {
    for parent in [
        "",
        "00",
        "-",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 ",
        " 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0A",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0af7651916cd43dd8448eb211c80319-cb7ad6b7169203331-01",
        "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319z-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c8031é-b7ad6b7169203331-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "0x-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "+1-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ] {
        assert_eq!(parse(parent), None, "{parent:?}");
    }
    assert_eq!(TraceContext::said([], []), None);
    assert_eq!(TraceContext::said([PARENT, PARENT], []), None, "of two, which one holds?");
}

#[test]
fn a_tracestate_is_carried_as_it_came() {
    assert_eq!(state(&[]), None);
    assert_eq!(
        state(&["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"]).unwrap(),
        "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"
    );
    assert_eq!(state(&["a=1 , \tb=2", "", "tenant@sys=x y"]).unwrap(), "a=1,b=2,tenant@sys=x y");
    let child = TraceContext::said([PARENT], ["a=1"]).unwrap().child(SpanId::new([1; 8]).unwrap());
    assert_eq!(child.tracestate(), Some("a=1"));
}

#[test]
fn a_tracestate_that_is_none_is_left_out_and_the_trace_goes_on() {
    let long = format!("a={}", "x".repeat(250));
    for headers in [
        &["a"][..],
        &["=1"],
        &["a="],
        &["A=1"],
        &["1a=1"],
        &["a=1=2"],
        &["a=\u{7f}"],
        &["a=é"],
        &["a=1,a=2"],
        &["a=1", "a=2"],
        &["a@=1"],
        &["@a=1"],
        &["a@b@c=1"],
        &[&long, &long.replacen('a', "b", 1), &long.replacen('a', "c", 1)],
        &[&"a".repeat(513)],
        &[&(0..33).map(|number| format!("k{number}=1")).collect::<Vec<_>>().join(",")],
    ] {
        assert_eq!(state(headers), None, "{headers:?}");
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(trace: [u8; 16], span: [u8; 8], sampled: bool) {
        let (Some(trace), Some(span)) = (TraceId::new(trace), SpanId::new(span)) else { return Ok(()) };
        let context = TraceContext::root(trace, span, sampled);
        prop_assert_eq!(parse(&context.traceparent()), Some(context));
    }

    #[test]
    fn nothing_breaks_it_and_what_goes_on_is_sound(
        parent in "\\PC{0,70}|0[01]-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.{0,9})?",
        states in proptest::collection::vec("\\PC{0,40}|([a-z]{1,3}=[!-<>-~]{1,99},?){1,9}", 0..4),
    ) {
        if let Some(context) = TraceContext::said([parent.as_str()], states.iter().map(String::as_str)) {
            let again = TraceContext::said([context.traceparent().as_str()], context.tracestate());
            prop_assert_eq!(again, Some(context.clone()));
            prop_assert_eq!(context.traceparent().len(), LENGTH);
            prop_assert!(context.tracestate().is_none_or(|state| (1..=MAX_STATE).contains(&state.len())));
        }
    }
}
