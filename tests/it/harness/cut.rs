//! A socket before the server's own that loses an answer: the server did what it was asked, and whoever
//! asked is not told.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

pub struct Cut {
    pub path: PathBuf,
    losing: Arc<Losing>,
    listens: Option<JoinHandle<()>>,
}

struct Losing {
    server: PathBuf,
    /// What stands in the request whose answer is lost.
    part: &'static str,
    lost: AtomicBool,
    over: AtomicBool,
}

impl Cut {
    /// Loses the first answer to a request that has `part` in it.
    pub fn before(server: &Path, path: PathBuf, part: &'static str) -> Self {
        let listener = UnixListener::bind(&path).unwrap();
        let losing = Arc::new(Losing {
            server: server.to_owned(),
            part,
            lost: AtomicBool::new(false),
            over: AtomicBool::new(false),
        });
        let each = Arc::clone(&losing);
        let listens = thread::spawn(move || {
            for client in listener.incoming() {
                if each.over.load(Ordering::SeqCst) {
                    return;
                }
                let (each, client) = (Arc::clone(&each), client.unwrap());
                thread::spawn(move || each.carry(client));
            }
        });
        Self {
            path,
            losing,
            listens: Some(listens),
        }
    }

    /// Whether an answer was lost.
    pub fn lost(&self) -> bool {
        self.losing.lost.load(Ordering::SeqCst)
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        self.losing.over.store(true, Ordering::SeqCst);
        let _ = UnixStream::connect(&self.path);
        let _ = self.listens.take().map(JoinHandle::join);
    }
}

impl Losing {
    fn carry(&self, client: UnixStream) {
        let server = UnixStream::connect(&self.server).unwrap();
        let asked = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let _ = self.ask(&client, &server, &asked);
                let _ = server.shutdown(Shutdown::Write);
            });
            let _ = self.answer(&client, &server, &asked);
            for end in [&client, &server] {
                let _ = end.shutdown(Shutdown::Both);
            }
        });
    }

    fn is_first(&self) -> bool {
        !self.lost.swap(true, Ordering::SeqCst)
    }

    fn ask(
        &self,
        mut from: &UnixStream,
        mut to: &UnixStream,
        asked: &AtomicBool,
    ) -> io::Result<()> {
        let mut piece = [0; 16 << 10];
        let mut seen = Vec::new();
        loop {
            let read = from.read(&mut piece)?;
            if read == 0 {
                return Ok(());
            }
            seen.extend_from_slice(&piece[..read]);
            let part = self.part.as_bytes();
            if seen.windows(part.len()).any(|it| it == part) {
                asked.store(true, Ordering::SeqCst);
            }
            // The part may begin in one piece and end in the next.
            seen.drain(..seen.len().saturating_sub(part.len()));
            to.write_all(&piece[..read])?;
        }
    }

    fn answer(
        &self,
        mut to: &UnixStream,
        mut from: &UnixStream,
        asked: &AtomicBool,
    ) -> io::Result<()> {
        let mut piece = [0; 16 << 10];
        loop {
            let read = from.read(&mut piece)?;
            if read == 0 {
                return Ok(());
            }
            if asked.swap(false, Ordering::SeqCst) && self.is_first() {
                return Ok(());
            }
            to.write_all(&piece[..read])?;
        }
    }
}
