//! What tests of the API share: a body that says what a test has it say.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use http_body::Frame;
use tonic::{Status, body::Body};

struct Said<F>(F);

/// A body whose next piece is what `next` answers.
pub(super) fn body(next: impl FnMut() -> Poll<Option<&'static str>> + Send + Unpin + 'static) -> Body {
    Body::new(Said(next))
}

impl<F: FnMut() -> Poll<Option<&'static str>> + Unpin> http_body::Body for Said<F> {
    type Data = <Body as http_body::Body>::Data;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        (self.0)().map(|piece| piece.map(|piece| Ok(Frame::data(piece.into()))))
    }
}
