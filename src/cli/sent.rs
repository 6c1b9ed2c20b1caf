//! What a request sends: bytes at hand, or a file of any length, piece by piece.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body_util::Full;
use hyper::body::{Body, Bytes, Frame, SizeHint};

const PIECE: usize = 256 << 10;

pub enum Sent {
    Whole(Full<Bytes>),
    /// What is left of it, and how much that is.
    File(File, u64),
}

impl Sent {
    /// From its beginning.
    pub fn file(file: &File) -> io::Result<Self> {
        let mut file = file.try_clone()?;
        file.rewind()?;
        let left = file.metadata()?.len();
        Ok(Self::File(file, left))
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = io::Error;

    /// Reads here and now: a command has nothing else to do.
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut *self {
            Self::Whole(whole) => Pin::new(whole)
                .poll_frame(cx)
                .map(|it| it.map(|it| it.map_err(|never| match never {}))),
            Self::File(_, 0) => Poll::Ready(None),
            Self::File(file, left) => {
                let mut piece = vec![0; PIECE.min(usize::try_from(*left).unwrap_or(PIECE))];
                let read = match file.read(&mut piece) {
                    Ok(0) => Err(io::Error::other("the file became shorter")),
                    read => read,
                };
                Poll::Ready(Some(read.map(|read| {
                    piece.truncate(read);
                    *left -= read as u64;
                    Frame::data(piece.into())
                })))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(whole) => whole.is_end_stream(),
            Self::File(_, left) => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(whole) => whole.size_hint(),
            Self::File(_, left) => SizeHint::with_exact(*left),
        }
    }
}
