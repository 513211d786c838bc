//! What is read of the whole file, bite after bite.

use futures_util::stream::{self, BoxStream, StreamExt};

use super::super::sound::read_soundly;
use crate::store::StoreError;

/// Reads one bite after the other until there is none left, or one fails. Each is read where waiting for the disk harms
/// nobody, and only when it is asked for.
pub(super) fn bites<S: Send + 'static, T: Send + 'static>(
    reading: S,
    next: fn(&mut S) -> Result<Option<T>, StoreError>,
) -> BoxStream<'static, Result<T, StoreError>> {
    stream::unfold(Some(reading), move |reading| async move {
        let mut reading = reading?;
        let read = move || read_soundly(|| next(&mut reading)).map(|bite| bite.map(|bite| (bite, reading)));
        // What is not joined was ended with the runtime.
        let read = tokio::task::spawn_blocking(read).await.unwrap_or(Ok(None));
        match read {
            Ok(read) => read.map(|(bite, reading)| (Ok(bite), Some(reading))),
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}
