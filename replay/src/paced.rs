//! A response's body: chunks that come when they are due, and how it ends. Goes out: what hyper polls. Counts whether the client
//! stayed until the end.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::service::Presence;

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// As it should.
    Done,
    /// The connection breaks.
    Cut,
    /// Nothing more comes, and the connection stays.
    Hang,
}

/// The connection is broken on purpose.
#[derive(Debug, thiserror::Error)]
#[error("broken off as the script says")]
pub(crate) struct BrokenOff;

/// Chunks with the time after which each is due, counted from `started`.
pub(crate) struct Paced {
    chunks: VecDeque<(Duration, Bytes)>,
    started: Instant,
    sleep: Option<Pin<Box<Sleep>>>,
    ending: Ending,
    /// Known for bodies that are no stream: they get a `Content-Length`.
    length: Option<u64>,
    /// Give the connection a chance to send each chunk by itself.
    apart: bool,
    rested: bool,
    presence: Presence,
}

impl Paced {
    /// One chunk of known length, due then.
    pub(crate) fn whole(bytes: Bytes, due: Duration, presence: Presence) -> Self {
        let length = Some(bytes.len() as u64);
        Paced { length, ..Paced::stream(vec![(due, bytes)], Ending::Done, presence) }
    }

    /// Many chunks.
    pub(crate) fn stream(chunks: Vec<(Duration, Bytes)>, ending: Ending, presence: Presence) -> Self {
        Paced { chunks: chunks.into(), started: Instant::now(), sleep: None, ending, length: None, apart: false, rested: false, presence }
    }

    /// The same, ending in that way; a cut body keeps the length it promised.
    pub(crate) fn ending(mut self, ending: Ending) -> Self {
        self.ending = ending;
        if let (Ending::Cut | Ending::Hang, Some((_, bytes))) = (ending, self.chunks.front_mut()) {
            bytes.truncate(bytes.len() / 2);
        }
        self
    }

    /// The same bytes cut anew into chunks of so many, each due when its last byte was.
    pub(crate) fn cut_into(mut self, size: usize) -> Self {
        let mut cut = VecDeque::new();
        let mut open = BytesMut::new();
        let mut due = Duration::ZERO;
        for (at, bytes) in self.chunks.drain(..) {
            due = at;
            open.extend_from_slice(&bytes);
            while open.len() >= size {
                cut.push_back((due, open.split_to(size).freeze()));
            }
        }
        if !open.is_empty() {
            cut.push_back((due, open.freeze()));
        }
        self.chunks = cut;
        self.apart = true;
        self
    }

    /// Whether the next chunk may go now; else wakes the task when it may.
    fn poll_due(&mut self, due: Duration, context: &mut Context<'_>) -> Poll<()> {
        if self.apart && !std::mem::replace(&mut self.rested, true) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let at = self.started + due;
        if due > Duration::ZERO && Instant::now() < at {
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
            if sleep.deadline() != at {
                sleep.as_mut().reset(at);
            }
            std::task::ready!(sleep.as_mut().poll(context));
        }
        self.rested = false;
        Poll::Ready(())
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let this = &mut *self;
        if let Some((due, _)) = this.chunks.front() {
            std::task::ready!(this.poll_due(*due, context));
        }
        let next = this.chunks.pop_front().map(|(_, bytes)| bytes);
        if this.chunks.is_empty() && this.ending == Ending::Done {
            this.presence.answered();
        }
        match (next, this.ending) {
            (Some(bytes), _) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            (None, Ending::Done) => Poll::Ready(None),
            (None, Ending::Hang) => Poll::Pending,
            (None, Ending::Cut) => {
                // What was sent so far leaves first; else the client would see a connection that closed before the response.
                if !std::mem::replace(&mut this.rested, true) {
                    let sleep = this.sleep.insert(Box::pin(tokio::time::sleep(Duration::from_millis(5))));
                    std::task::ready!(sleep.as_mut().poll(context));
                } else if let Some(sleep) = &mut this.sleep {
                    std::task::ready!(sleep.as_mut().poll(context));
                }
                this.presence.answered();
                Poll::Ready(Some(Err(BrokenOff)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.chunks.is_empty() && self.ending == Ending::Done
    }

    fn size_hint(&self) -> SizeHint {
        match (self.length, self.ending) {
            // hyper asks before the first chunk only, which is when the promise counts.
            (Some(length), _) => SizeHint::with_exact(length),
            (None, _) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test(start_paused = true)]
    async fn chunks_come_when_they_are_due() {
        let chunk = |millis, text: &'static str| (Duration::from_millis(millis), Bytes::from_static(text.as_bytes()));
        let started = Instant::now();
        let mut body = Paced::stream(vec![chunk(0, "a"), chunk(30, "b"), chunk(70, "c")], Ending::Done, Presence::default());
        let mut seen = Vec::new();
        while let Some(frame) = body.frame().await {
            seen.push((started.elapsed().as_millis(), frame.unwrap().into_data().unwrap()));
        }
        assert_eq!(seen, [(0, Bytes::from("a")), (30, Bytes::from("b")), (70, Bytes::from("c"))]);
    }

    #[tokio::test]
    async fn a_stream_is_cut_anew_without_losing_a_byte() {
        let parts = ["data: 1\n\n", "data: 22\n\n", "x"].map(|text| (Duration::ZERO, Bytes::from(text)));
        let mut body = Paced::stream(parts.to_vec(), Ending::Done, Presence::default()).cut_into(4);
        let mut seen = Vec::new();
        while let Some(frame) = body.frame().await {
            seen.push(frame.unwrap().into_data().unwrap());
        }
        assert!(seen.iter().rev().skip(1).all(|chunk| chunk.len() == 4), "{seen:?}");
        assert_eq!(seen.concat(), b"data: 1\n\ndata: 22\n\nx");
    }

    #[tokio::test]
    async fn a_cut_body_ends_as_an_error_after_its_chunks() {
        let mut body = Paced::stream(vec![(Duration::ZERO, Bytes::from("a"))], Ending::Cut, Presence::default());
        assert!(body.frame().await.unwrap().is_ok());
        assert!(body.frame().await.unwrap().is_err());
    }
}
