//! Sends long response bodies in chunks and tracks their progress.
//!
//! hyper takes the next chunk only when its buffers have room. A response that the client does not read therefore keeps its
//! memory reserved, and the connection can detect that it makes no progress.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, HttpBody};
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use crate::server::body_memory::Reservation;
use crate::server::timeouts::{Activity, Unread};

/// The maximum size of a chunk.
const PIECE: usize = 64 << 10;
/// The responses of requests up to this size are not counted, because they are small.
const SMALL_REQUEST: usize = 1 << 10;

/// Keeps the memory of a request reserved until its response was written.
pub fn hold_until_sent(answer: Response, held: Reservation) -> Response {
    if held.bytes() <= SMALL_REQUEST {
        return answer;
    }
    answer.map(|body| Body::new(InPieces { body, rest: Bytes::new(), on_piece: held }))
}

/// Reports the progress of a long response to `activity`.
pub(crate) fn track_progress(answer: Response, activity: &Arc<Activity>) -> Response {
    if answer.body().size_hint().lower() <= PIECE as u64 {
        return answer;
    }
    let unread = Activity::owes(activity);
    answer.map(|body| Body::new(InPieces { body, rest: Bytes::new(), on_piece: unread }))
}

/// Is notified of each chunk of a response.
trait OnPiece: Send + Unpin + 'static {
    fn piece(&self) {}
}

impl OnPiece for Reservation {}

impl OnPiece for Unread {
    fn piece(&self) {
        self.progressed();
    }
}

struct InPieces<T> {
    body: Body,
    /// The rest of the last chunk of `body`.
    rest: Bytes,
    on_piece: T,
}

impl<T: OnPiece> HttpBody for InPieces<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                ended => return Poll::Ready(ended),
            }
        }
        let length = self.rest.len().min(PIECE);
        let piece = self.rest.split_to(length);
        self.on_piece.piece();
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, mut hint) = (self.rest.len() as u64, self.body.size_hint());
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Registry;
    use crate::server::body_memory::BodyMemory;
    use http_body_util::BodyExt as _;

    fn held(bodies: &BodyMemory, bytes: usize) -> Reservation {
        let mut held = bodies.admit(&SizeHint::with_exact(bytes as u64)).unwrap();
        held.grow(bytes).unwrap();
        held
    }

    #[tokio::test]
    async fn the_memory_of_a_request_is_reserved_until_its_response_was_sent() {
        let bodies = BodyMemory::new(16 << 20, &Registry::new());
        let text = vec![b'x'; 3 * PIECE + 1];
        let answer = hold_until_sent(Response::new(Body::from(text.clone())), held(&bodies, 1 << 20));
        let mut body = answer.into_body();
        assert_eq!(body.size_hint().exact(), Some(text.len() as u64));
        let mut read = Vec::new();
        while let Some(frame) = body.frame().await {
            let data = frame.unwrap().into_data().unwrap();
            assert!(data.len() <= PIECE, "{}", data.len());
            read.extend_from_slice(&data);
            assert_eq!(bodies.held(), 1 << 20);
            assert_eq!(body.size_hint().exact(), Some((text.len() - read.len()) as u64));
        }
        assert_eq!(read, text);
        drop(body);
        assert_eq!(bodies.held(), 0);
    }

    #[test]
    fn the_memory_of_a_short_response_is_released_at_once() {
        let bodies = BodyMemory::new(16 << 20, &Registry::new());
        let answer = hold_until_sent(Response::new(Body::from("{}")), held(&bodies, 100));
        assert_eq!(bodies.held(), 0);
        drop(answer);
    }
}
