//! What stands in front of an encrypted body says for whom it is, and comes from outside: so much of it
//! is read, and no more. The body may be of any length.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A reader that ends with an error while the limit holds.
pub struct Headed<R> {
    from: R,
    left: Arc<AtomicUsize>,
}

/// Holds until the header was read.
pub(super) struct Limit(Arc<AtomicUsize>);

const NONE: usize = usize::MAX;

pub(super) fn headed<R>(from: R, most: usize) -> (Headed<R>, Limit) {
    let left = Arc::new(AtomicUsize::new(most));
    let limit = Limit(Arc::clone(&left));
    (Headed { from, left }, limit)
}

impl Limit {
    pub(super) fn lift(self) {
        self.0.store(NONE, Ordering::Relaxed);
    }
}

impl<R: Read> Read for Headed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.load(Ordering::Relaxed);
        if left == NONE {
            return self.from.read(buffer);
        }
        if left == 0 && !buffer.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the header does not end",
            ));
        }
        let most = buffer.len().min(left);
        let read = self.from.read(&mut buffer[..most])?;
        self.left.store(left - read, Ordering::Relaxed);
        Ok(read)
    }
}
