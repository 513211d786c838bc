use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::{
    api::{
        caller::{Caller, TokenHash, tests::caller},
        testing::body,
    },
    domain::Notes,
};

#[test]
fn deadlines_are_read_as_grpc_writes_them() {
    for (value, millis) in [
        ("2H", Some(7_200_000)),
        ("1M", Some(60_000)),
        ("120S", Some(120_000)),
        ("250m", Some(250)),
        ("5000u", Some(5)),
        ("7000000n", Some(7)),
        ("", None),
        ("S", None),
        ("1", None),
        ("-1S", None),
        ("+1S", None),
        ("123456789S", None),
        ("1é", None),
    ] {
        assert_eq!(parse_timeout(value).map(|span| span.as_millis()), millis, "{value:?}");
    }
}

/// A service that never answers.
#[derive(Clone)]
struct Never;

impl Service<http::Request<Body>> for Never {
    type Response = http::Response<Body>;
    type Error = std::convert::Infallible;
    type Future = std::future::Pending<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<Body>) -> Self::Future {
        std::future::pending()
    }
}

fn door(callers: Vec<Caller>) -> DoorLayer {
    traced_door(callers, &Arc::default())
}

fn traced_door(callers: Vec<Caller>, tracer: &Arc<Notes>) -> DoorLayer {
    let (calls, stopping) = (TaskTracker::new(), CancellationToken::new());
    let tracer: Arc<dyn Tracer> = Arc::clone(tracer) as _;
    DoorLayer::new(Callers::new(callers), calls, stopping, Arc::new(Tally::new()), tracer)
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_not_answered_in_time_hears_why() {
    let caller = Caller { token: Some(TokenHash::of("t0ken")), ..caller("checkout") };
    let layer = door(vec![caller]);
    for (timeout, allowed) in [(Some("300m"), Duration::from_millis(300)), (None, NO_DEADLINE)] {
        let began = Instant::now();
        let mut request = http::Request::new(Body::empty());
        *request.uri_mut() = "/cairld.v1.IntegrationService/GetSession".parse().unwrap();
        request.headers_mut().insert("authorization", "Bearer t0ken".parse().unwrap());
        if let Some(timeout) = timeout {
            request.headers_mut().insert("grpc-timeout", timeout.parse().unwrap());
        }
        let answer = layer.layer(Never).call(request).await.unwrap();
        assert_eq!(answer.headers()[REASON_TRAILER], "DEADLINE_EXCEEDED");
        assert_eq!(Status::from_header_map(answer.headers()).unwrap().code(), Code::DeadlineExceeded);
        // Before the library around it has a word.
        assert!(allowed - AHEAD <= began.elapsed() && began.elapsed() < allowed, "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_refused_call_is_heard_out_before_it_is_answered() {
    let layer = door(Vec::new());
    for (pieces, left) in [(3, 0), (MAX_HEARD, MAX_HEARD - MAX_HEARD.div_ceil("piece".len()))] {
        let pieces = Arc::new(AtomicUsize::new(pieces));
        let taken = Arc::clone(&pieces);
        let mut request = http::Request::new(body(move || {
            let is_left =
                taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            Poll::Ready(is_left.is_ok().then_some("piece"))
        }));
        *request.uri_mut() = "/cairld.v1.IntegrationService/GetSession".parse().unwrap();
        let answer = layer.layer(Never).call(request).await.unwrap();
        assert_eq!(answer.headers()[REASON_TRAILER], "CALLER_UNKNOWN");
        assert_eq!(pieces.load(Ordering::Relaxed), left, "all of it, and no more than is sensible");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_that_says_nothing_more_is_answered_all_the_same() {
    let layer = door(Vec::new());
    let began = Instant::now();
    let request = http::Request::new(body(|| Poll::Pending));
    let answer = layer.layer(Never).call(request).await.unwrap();
    assert_eq!(
        (answer.headers()[REASON_TRAILER].to_str().unwrap(), began.elapsed()),
        ("CALLER_UNKNOWN", HEARING)
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_of_a_trace_is_a_span_of_it_whether_it_is_answered_or_its_caller_goes() {
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let caller = Caller { token: Some(TokenHash::of("t0ken")), ..caller("checkout") };
    let tracer = Arc::<Notes>::default();
    let layer = traced_door(vec![caller], &tracer);
    let call = |path: &str, parents: &[&str]| {
        let mut request = http::Request::new(Body::empty());
        *request.uri_mut() = path.parse().unwrap();
        request.headers_mut().insert("authorization", "Bearer t0ken".parse().unwrap());
        for parent in parents {
            request.headers_mut().append("traceparent", parent.parse().unwrap());
        }
        layer.layer(Never).call(request)
    };
    let path = "/cairld.v1.IntegrationService/GetSession";
    call(path, &[parent]).await.unwrap();
    drop(call(path, &[parent]));
    // These are none: of two, nobody knows which holds, and the others are not of the contract, or of no trace.
    call(path, &[parent, parent]).await.unwrap();
    call(path, &[]).await.unwrap();
    call("/grpc.health.v1.Health/Check", &[parent]).await.unwrap();

    let spans = tracer.ended.lock().unwrap();
    let told: Vec<_> = spans.iter().map(|span| (span.name.as_str(), span.failed.as_deref())).collect();
    let name = "cairld.v1.IntegrationService/GetSession";
    assert_eq!(told, [(name, Some("DEADLINE_EXCEEDED")), (name, Some("CANCELLED"))]);
    for span in &*spans {
        assert_eq!(span.context.trace.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(span.context.parent.unwrap().to_string(), "b7ad6b7169203331");
    }
}
