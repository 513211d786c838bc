//! The answer of a call that lasts: a stream holds one of its caller's places until it ends, and ends when its caller is
//! not the same any more.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Status, body::Body};

use super::status::status;
use crate::domain::Reason;

/// A stream's body.
pub(super) struct Lasting {
    /// None once the stream has ended.
    stream: Option<Body>,
    changed: Pin<Box<WaitForCancellationFutureOwned>>,
    _place: OwnedSemaphorePermit,
}

impl Lasting {
    /// A body that holds a place until it ends, at the latest when the caller is `changed`.
    pub(super) fn body(stream: Body, place: OwnedSemaphorePermit, changed: &CancellationToken) -> Body {
        let changed = Box::pin(changed.clone().cancelled_owned());
        Body::new(Self { stream: Some(stream), changed, _place: place })
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
        if let Poll::Ready(frame) = Pin::new(stream).poll_frame(context) {
            return Poll::Ready(frame);
        }
        ready!(self.changed.as_mut().poll(context));
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
