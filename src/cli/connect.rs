//! How the client reaches a server: a Unix socket or TLS, each step with its deadline.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::CertificateError;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::print::clean;
use super::sent::Sent;
use crate::error::{Error, Result};

/// To connect, and to shake hands.
pub const CONNECT: Duration = Duration::from_secs(10);

/// Where requests go.
pub enum Route {
    /// An admin socket; that of a data folder, unless it was named itself.
    Socket {
        path: PathBuf,
        data_dir: Option<PathBuf>,
    },
    Tls {
        host: String,
        port: u16,
        config: Arc<rustls::ClientConfig>,
    },
}

pub type Connection = SendRequest<Sent>;

impl Route {
    /// The `Host` header.
    pub fn host(&self) -> String {
        match self {
            Self::Socket { .. } => "localhost".to_owned(),
            Self::Tls { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
            Self::Tls { host, port, .. } => format!("{host}:{port}"),
        }
    }

    pub async fn connect(&self) -> Result<Connection> {
        match self {
            Self::Socket { path, data_dir } => {
                let stream = timeout(CONNECT, UnixStream::connect(path))
                    .await
                    .map_err(|_| late("the admin socket takes no connection"))?
                    .map_err(|error| no_socket(&error, path, data_dir.as_deref()))?;
                speak(stream).await
            }
            Self::Tls { host, port, config } => {
                let name = ServerName::try_from(host.clone()).map_err(|_| {
                    Error::invalid(
                        "server",
                        format!("`{}` is neither a host's name nor an address", clean(host)),
                    )
                })?;
                let stream = timeout(CONNECT, TcpStream::connect((host.as_str(), *port)))
                    .await
                    .map_err(|_| {
                        unreachable(
                            host,
                            *port,
                            &format!("no connection within {} s", CONNECT.as_secs()),
                        )
                    })?
                    .map_err(|error| unreachable(host, *port, &error.to_string()))?;
                // Without it, requests are only slower.
                let _ = stream.set_nodelay(true);
                let tls = TlsConnector::from(Arc::clone(config)).connect(name, stream);
                let stream = timeout(CONNECT, tls)
                    .await
                    .map_err(|_| late("the TLS handshake does not end"))?
                    .map_err(|error| no_tls(host, *port, error))?;
                speak(stream).await
            }
        }
    }
}

/// HTTP/1.1 over a stream; the task ends with the connection.
async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Connection> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| {
            Error::unavailable(
                "connection_lost",
                format!("the connection to the server was lost: {error}"),
            )
        })?;
    // What goes wrong on it is told by the request that it carries.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

fn late(what: &str) -> Error {
    Error::unavailable(
        "too_late",
        format!("{what}; the server is overloaded, or something else listens there"),
    )
}

pub fn unreachable(host: &str, port: u16, why: &str) -> Error {
    Error::unavailable(
        "unreachable",
        format!(
            "no server answers at {host}:{port}: {why}; see whether it runs, and whether the address is right"
        ),
    )
}

fn no_socket(error: &std::io::Error, path: &Path, data_dir: Option<&Path>) -> Error {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::NotADirectory => {
            let text = match data_dir.map(Path::display) {
                Some(data_dir) => format!(
                    "no server runs on {data_dir}; start it: strongroom serve --data-dir {data_dir}"
                ),
                None => format!(
                    "no server listens on {}; strongroom.toml on its machine names its socket as admin.socket",
                    path.display()
                ),
            };
            Error::unavailable("not_running", text)
        }
        ErrorKind::PermissionDenied => Error::denied(
            "socket",
            format!(
                "{} is not for this account; root and the server's own account may use it (others: --socket, where strongroom.toml names one)",
                path.display()
            ),
        ),
        // The length of an address is tested before anything is asked of the system.
        ErrorKind::InvalidInput => Error::invalid(
            "data_dir",
            format!(
                "the path {} is too long for a socket; name the folder by a shorter path",
                path.display()
            ),
        ),
        _ => Error::unavailable(
            "not_running",
            format!("cannot connect to {}: {error}", path.display()),
        ),
    }
}

/// What TLS itself found wrong, if it is that.
pub fn tls_error(error: &std::io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Not the same as a server that is away: someone in between can bring this about.
pub fn tls_failed(what: &str, why: &rustls::Error) -> Error {
    let why = clean(&why.to_string());
    Error::unavailable("tls_failed", format!("{what}: {why}"))
}

fn no_tls(host: &str, port: u16, error: std::io::Error) -> Error {
    let wrong = match tls_error(&error) {
        Some(rustls::Error::InvalidCertificate(wrong)) => wrong,
        Some(tls) => return tls_failed(&format!("TLS with {host}:{port} failed"), tls),
        // Cut off, as by whatever stands before a server that is away.
        None => return unreachable(host, port, &clean(&error.to_string())).because(error),
    };
    let why = match wrong {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its identity is not the pinned one; this is another server, or someone is in between"
                .to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!(
                "its certificate is not for the name {host}; reach it by the name that `strongroom status` shows on the server"
            )
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has ended, or the clock of this machine is wrong".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet, or the clock of this machine is wrong".to_owned()
        }
        other => clean(&other.to_string()),
    };
    Error::denied(
        "server_fingerprint",
        format!("{host}:{port} is not trusted: {why}"),
    )
    .because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_socket_says_how_to_start_the_server() {
        let error = no_socket(
            &ErrorKind::NotFound.into(),
            "/d/run/admin.sock".as_ref(),
            Some("/d".as_ref()),
        );
        assert_eq!(error.kind, crate::error::Kind::Unavailable);
        assert_eq!(
            error.public,
            "no server runs on /d; start it: strongroom serve --data-dir /d"
        );
    }

    #[test]
    fn a_path_too_long_for_a_socket_says_so() {
        let path = PathBuf::from(format!("/{}/run/admin.sock", "d".repeat(120)));
        let error = std::os::unix::net::UnixStream::connect(&path).unwrap_err();
        assert_eq!(
            no_socket(&error, &path, Some("/d".as_ref())).code,
            "invalid"
        );
    }
}
