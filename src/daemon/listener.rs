//! Binding what the daemon listens on, before anything else is done.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};

use tokio::net::{TcpListener, UnixListener};

use super::config::{Grpc, Http};

/// Owner and group may connect. Who they are for the daemon is decided by their ids, call by call.
const SOCKET_MODE: u32 = 0o660;

/// What the daemon listens on.
#[derive(Debug)]
pub struct Listeners {
    /// The Unix socket, and its path.
    pub unix: Option<(UnixListener, PathBuf)>,
    /// Plain TCP, loopback alone.
    pub tcp: Option<TcpListener>,
    /// Plain HTTP for webhooks.
    pub webhooks: Option<TcpListener>,
}

/// A listener cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {why}")]
pub struct BindError {
    what: String,
    why: String,
}

impl Listeners {
    /// Binds what the configuration asks for.
    ///
    /// # Errors
    /// [`BindError`] names the address and what to do.
    pub async fn bind(grpc: &Grpc, http: &Http) -> Result<Self, BindError> {
        let unix = match &grpc.unix {
            Some(path) => Some((bind_unix(path)?, path.clone())),
            None => None,
        };
        let tcp = match grpc.tcp {
            Some(address) => Some(bind_tcp("grpc.tcp", address).await?),
            None => None,
        };
        let webhooks = match http.webhooks {
            Some(address) => Some(bind_tcp("http.webhooks", address).await?),
            None => None,
        };
        Ok(Self { unix, tcp, webhooks })
    }
}

async fn bind_tcp(key: &str, address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|error| BindError {
        what: format!("{key} = {address}"),
        why: if error.kind() == io::ErrorKind::AddrInUse {
            "another process listens there; stop it, or choose another port".to_owned()
        } else {
            error.to_string()
        },
    })
}

fn bind_unix(path: &Path) -> Result<UnixListener, BindError> {
    let failed = |why: String| BindError { what: format!("grpc.unix = {}", path.display()), why };
    remove_stale(path).map_err(failed)?;
    let listener = UnixListener::bind(path).map_err(|error| {
        failed(format!("{error}; its folder must exist and be writable for the daemon's user"))
    })?;
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))
        .map_err(|error| failed(error.to_string()))?;
    Ok(listener)
}

/// Removes a socket file that nobody listens on any more, as a killed daemon leaves it.
fn remove_stale(path: &Path) -> Result<(), String> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(
            "there is a file of that name that is no socket; move it away, or choose another path".to_owned()
        );
    }
    match UnixStream::connect(path) {
        Ok(_) => Err("another process listens there; stop it first".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|error| format!("a stale socket cannot be removed: {error}"))
        }
        Err(error) => Err(format!("cannot tell whether another process listens there: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_that_nobody_listens_on_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cairld.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "left behind");
        let listener = bind_unix(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, SOCKET_MODE);
        let error = bind_unix(&path).unwrap_err().to_string();
        assert!(error.contains("another process listens there"), "{error}");
        drop(listener);
    }

    #[tokio::test]
    async fn another_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cairld.sock");
        fs::write(&path, "precious").unwrap();
        assert!(bind_unix(&path).unwrap_err().to_string().contains("no socket"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }
}
