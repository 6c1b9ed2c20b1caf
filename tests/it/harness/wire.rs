//! HTTP/1.1 by hand over one connection: for what curl cannot send, and for many requests in a row.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, StreamOwned};
use strongroom::crypto::tls;
use strongroom::secret::Secret;

pub use super::curl::Answer;

pub trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// A connection that stays open from request to request.
pub struct Connection {
    stream: BufReader<Box<dyn Stream>>,
    host: String,
}

const WAIT: Duration = Duration::from_secs(60);

/// What makes a TLS connection: made once, used for many.
pub fn tls_config(ca: &Path, identity: Option<(&Path, &Path)>) -> Arc<ClientConfig> {
    let ca = std::fs::read_to_string(ca).unwrap();
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let pems = identity.map(|(cert, key)| (read(cert), Secret::new(read(key))));
    let identity = pems
        .as_ref()
        .map(|(cert_pem, key_pem)| tls::ClientIdentity { cert_pem, key_pem });
    tls::client_config(tls::Trust::CaPem(ca), identity).unwrap_or_else(|error| panic!("{error}"))
}

/// `host:port` of a URL.
pub fn authority(url: &str) -> &str {
    url.split("://")
        .nth(1)
        .unwrap_or(url)
        .split('/')
        .next()
        .unwrap()
}

fn tcp(authority: &str) -> TcpStream {
    try_tcp(authority).unwrap_or_else(|error| panic!("{authority}: {error}"))
}

fn try_tcp(authority: &str) -> io::Result<TcpStream> {
    let port = authority.rsplit(':').next().unwrap();
    let stream = TcpStream::connect(format!("127.0.0.1:{port}"))?;
    stream.set_read_timeout(Some(WAIT))?;
    stream.set_write_timeout(Some(WAIT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Connection {
    pub fn tls(url: &str, ca: &Path, identity: Option<(&Path, &Path)>) -> Self {
        Self::with_config(url, tls_config(ca, identity))
    }

    pub fn with_config(url: &str, config: Arc<ClientConfig>) -> Self {
        let authority = authority(url);
        let host = authority.rsplit_once(':').unwrap().0.to_owned();
        let session = ClientConnection::new(config, host.try_into().unwrap()).unwrap();
        Self::over(
            Box::new(StreamOwned::new(session, tcp(authority))),
            authority,
        )
    }

    /// The same, where a server that is gone is no failure of the test.
    pub fn try_with_config(url: &str, config: Arc<ClientConfig>) -> io::Result<Self> {
        let authority = authority(url);
        let host = authority.rsplit_once(':').unwrap().0.to_owned();
        let session =
            ClientConnection::new(config, host.try_into().unwrap()).map_err(io::Error::other)?;
        Ok(Self::over(
            Box::new(StreamOwned::new(session, try_tcp(authority)?)),
            authority,
        ))
    }

    pub fn plain(url: &str) -> Self {
        Self::over(Box::new(tcp(authority(url))), authority(url))
    }

    pub fn try_plain(url: &str) -> io::Result<Self> {
        let authority = authority(url);
        Ok(Self::over(Box::new(try_tcp(authority)?), authority))
    }

    pub fn unix(path: &Path) -> Self {
        // The path of a socket has room for 107 bytes only; a folder handle makes it short.
        let stream =
            UnixStream::connect(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        stream.set_read_timeout(Some(WAIT)).unwrap();
        stream.set_write_timeout(Some(WAIT)).unwrap();
        Self::over(Box::new(stream), "localhost")
    }

    fn over(stream: Box<dyn Stream>, host: &str) -> Self {
        Self {
            stream: BufReader::new(stream),
            host: host.to_owned(),
        }
    }

    #[track_caller]
    pub fn get(&mut self, path: &str) -> Answer {
        self.request("GET", path, &[], None)
    }

    #[track_caller]
    pub fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Answer {
        self.try_request(method, path, headers, body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    pub fn try_request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> io::Result<Answer> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.host);
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = body {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut message = head.into_bytes();
        message.extend_from_slice(body.unwrap_or_default());
        self.send(&message)?;
        self.answer(method == "HEAD")
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let stream = self.stream.get_mut();
        stream.write_all(bytes)?;
        stream.flush()
    }

    /// Reads one answer.
    pub fn answer(&mut self, without_body: bool) -> io::Result<Answer> {
        let mut answer = Answer {
            status: 100,
            headers: Vec::new(),
            body: Vec::new(),
            exit: 0,
            stderr: String::new(),
        };
        while answer.status < 200 {
            answer.status = self
                .line()?
                .split(' ')
                .nth(1)
                .and_then(|code| code.parse().ok())
                .ok_or_else(|| io::Error::other("not an HTTP answer"))?;
            answer.headers.clear();
            loop {
                let line = self.line()?;
                if line.is_empty() {
                    break;
                }
                if let Some((name, value)) = line.split_once(':') {
                    let name = name.to_ascii_lowercase();
                    answer.headers.push((name, value.trim().to_owned()));
                }
            }
        }
        if !without_body && answer.status != 204 && answer.status != 304 {
            answer.body = self.body(&answer)?;
        }
        Ok(answer)
    }

    fn body(&mut self, answer: &Answer) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if answer.header("transfer-encoding") == Some("chunked") {
            loop {
                let line = self.line()?;
                let size = usize::from_str_radix(&line, 16).map_err(io::Error::other)?;
                let mut chunk = vec![0; size];
                self.stream.read_exact(&mut chunk)?;
                body.extend_from_slice(&chunk);
                self.line()?;
                if size == 0 {
                    return Ok(body);
                }
            }
        }
        match answer.header("content-length") {
            Some(length) => {
                body.resize(length.parse().map_err(io::Error::other)?, 0);
                self.stream.read_exact(&mut body)?;
            }
            None => {
                self.stream.read_to_end(&mut body)?;
            }
        }
        Ok(body)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    /// Whether the other end has closed; waits for it.
    pub fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        !matches!(self.stream.read(&mut byte), Ok(1..))
    }
}
