//! The answer of a call that lasts: a stream holds one of its caller's places until it ends, and ends when its caller is
//! not the same any more.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Status, body::Body};

use super::{status::status, tally::OpenStream};
use crate::domain::Reason;

/// What a stream has until it ends: one of its caller's places, and its place in the count of open ones.
pub(super) type Held = (OwnedSemaphorePermit, OpenStream);

/// A stream's body.
pub(super) struct Lasting {
    /// None once the stream has ended.
    stream: Option<Body>,
    changed: Pin<Box<WaitForCancellationFutureOwned>>,
    _held: Held,
}

impl Lasting {
    /// A body that holds a place until it ends, at the latest when the caller is `changed`.
    pub(super) fn body(stream: Body, held: Held, changed: &CancellationToken) -> Body {
        let changed = Box::pin(changed.clone().cancelled_owned());
        Body::new(Self { stream: Some(stream), changed, _held: held })
    }
}

impl http_body::Body for Lasting {
    type Data = <Body as http_body::Body>::Data;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
        if stream.is_end_stream() {
            self.stream = None;
            return Poll::Ready(None);
        }
        // Asked first: a stream that always has something to say ends too.
        if self.changed.as_mut().poll(context).is_pending() {
            return self
                .stream
                .as_mut()
                .map_or(Poll::Ready(None), |stream| Pin::new(stream).poll_frame(context));
        }
        self.stream = None;
        // How a stream ends is told behind it, in trailers.
        let mut trailers = HeaderMap::new();
        let told = status(&Reason::CallerChanged.into()).add_header(&mut trailers);
        Poll::Ready(Some(told.map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.stream.as_ref().map(http_body::Body::size_hint).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body::Body as _;
    use tokio::sync::Semaphore;
    use tonic::Code;

    use super::*;
    use crate::api::{tally::Tally, testing::body};

    async fn next(body: &mut Body) -> Option<Frame<<Body as http_body::Body>::Data>> {
        std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await.map(Result::unwrap)
    }

    #[tokio::test]
    async fn a_stream_ends_with_its_callers_rights_whatever_it_still_had_to_say() {
        let places = Arc::new(Semaphore::new(1));
        let place = Arc::clone(&places).try_acquire_owned().unwrap();
        let changed = CancellationToken::new();
        let talkative = body(|| Poll::Ready(Some("more")));
        let tally = Tally::new();
        let open = || tally.open_streams().find(|(call, _)| *call == "WatchEvents").unwrap().1;
        let opened = tally.opened(tally.call("WatchEvents"));
        let mut body = Lasting::body(talkative, (place, opened), &changed);
        assert!(next(&mut body).await.unwrap().is_data());
        changed.cancel();
        let trailers = next(&mut body).await.unwrap().into_trailers().unwrap();
        assert_eq!(Status::from_header_map(&trailers).unwrap().code(), Code::Unavailable);
        assert!(next(&mut body).await.is_none());
        assert_eq!((places.available_permits(), open()), (0, 1), "it holds its place until it is dropped");
        drop(body);
        assert_eq!((places.available_permits(), open()), (1, 0));
    }
}
