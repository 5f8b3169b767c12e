//! What was not read of a request is held until its answer has gone out.
//!
//! In HTTP/2 who drops a body before the answer is sent resets the stream with an error (RFC 9113 §8.1 wants NO_ERROR,
//! after the answer), and many a client then shows that error in place of the answer. Some do so after the answer, too:
//! so it is held a little longer, in which they read the answer and end the stream themselves.
//!
//! *Invariant*: what is held is not read, so the sender stands still by flow control, and holds no memory of ours.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::Version;
use axum::response::Response;
use hyper::body::{Frame, SizeHint};

/// How long a client has to read the answer while it still sends.
const LINGER: Duration = Duration::from_secs(2);

/// Where a body comes back to.
#[derive(Clone)]
pub(crate) struct Rest {
    body: Arc<Mutex<Option<Body>>>,
    /// Other streams go on; in HTTP/1 the connection would stand still.
    lingers: bool,
}

impl Rest {
    pub(crate) fn of(version: Version) -> Self {
        Self {
            body: Arc::default(),
            lingers: version == Version::HTTP_2,
        }
    }

    /// The request with its body lent: it comes back when it is dropped.
    pub(crate) fn lend(&self, request: Request) -> Request {
        let lend = |body| {
            Body::new(Lent {
                body,
                rest: self.clone(),
            })
        };
        request.map(lend)
    }

    /// The answer, which holds what came back until it has gone out.
    pub(crate) fn hold(&self, response: Response) -> Response {
        let rest = self
            .body
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match rest {
            Some(rest) => response.map(|body| {
                Body::new(Holding {
                    body,
                    rest,
                    lingers: self.lingers,
                })
            }),
            None => response,
        }
    }
}

struct Lent {
    body: Body,
    rest: Rest,
}

impl Drop for Lent {
    fn drop(&mut self) {
        let body = std::mem::take(&mut self.body);
        if !body.is_end_stream() {
            *self
                .rest
                .body
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Some(body);
        }
    }
}

struct Holding {
    body: Body,
    rest: Body,
    lingers: bool,
}

impl Drop for Holding {
    fn drop(&mut self) {
        let rest = std::mem::take(&mut self.rest);
        if let (true, Ok(runtime)) = (self.lingers, tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                tokio::time::sleep(LINGER).await;
                drop(rest);
            });
        }
    }
}

type Polled = Poll<Option<Result<Frame<Bytes>, axum::Error>>>;

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Polled {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl HttpBody for Holding {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Polled {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Never ends, and says when it was dropped.
    struct Endless(Arc<AtomicBool>);

    impl Drop for Endless {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    impl HttpBody for Endless {
        type Data = Bytes;
        type Error = axum::Error;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Polled {
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
        }
    }

    #[tokio::test]
    async fn what_was_not_read_is_held_until_the_answer_has_gone_out() {
        let dropped = Arc::new(AtomicBool::new(false));
        let rest = Rest::of(Version::HTTP_11);
        let request = Request::new(Body::new(Endless(Arc::clone(&dropped))));
        drop(rest.lend(request));
        let answer = rest.hold(Response::new(Body::from("no")));
        assert!(!dropped.load(Ordering::Relaxed));
        let mut body = answer.into_body();
        let frame = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context));
        assert!(frame.await.is_some_and(|frame| frame.is_ok()));
        assert!(
            body.is_end_stream(),
            "the end goes out with the last octets"
        );
        assert!(!dropped.load(Ordering::Relaxed));
        drop(body);
        assert!(dropped.load(Ordering::Relaxed));
    }
}
