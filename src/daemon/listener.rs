//! Binding what the daemon listens on, before anything else is done.

use std::{
    fmt, fs, io,
    net::SocketAddr,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{FileTypeExt, PermissionsExt},
            net::UnixStream,
        },
    },
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags, fstat, lstat, open};
use tokio::net::{TcpListener, UnixListener};

use super::{
    config::{Grpc, Http},
    inherited::Inherited,
};

/// Owner and group may connect. Who they are for the daemon is decided by their ids, call by call.
const SOCKET_MODE: u32 = 0o660;

/// What the daemon listens on.
#[derive(Debug)]
pub struct Listeners {
    /// The Unix socket.
    pub unix: Option<UnixSocket>,
    /// TCP; of loopback alone where it has no TLS.
    pub tcp: Option<TcpListener>,
    /// Plain HTTP for webhooks.
    pub webhooks: Option<TcpListener>,
    /// Plain HTTP for who watches the daemon.
    pub ops: Option<TcpListener>,
}

impl fmt::Display for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address =
            |listener: &Option<TcpListener>| listener.as_ref().and_then(|tcp| tcp.local_addr().ok());
        let places = [
            self.unix.as_ref().map(|socket| format!("gRPC on {}", socket.file.path().display())),
            address(&self.tcp).map(|address| format!("gRPC on {address}")),
            address(&self.webhooks).map(|address| format!("webhooks on {address}")),
            address(&self.ops).map(|address| format!("health and metrics on {address}")),
        ];
        f.write_str(&places.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

/// A Unix socket that listens.
#[derive(Debug)]
pub struct UnixSocket {
    /// What listens.
    pub listener: UnixListener,
    /// Where.
    pub file: SocketFile,
}

/// The file of a Unix socket, which goes when this is dropped: when the daemon has ended, or could not start after all.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// The file that was bound, held so that no other is taken for it, since the number of an inode is given again; none where
    /// somebody else has bound it, and goes on listening: then it stays.
    own: Option<OwnedFd>,
}

impl SocketFile {
    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether somebody else has bound it.
    pub fn is_inherited(&self) -> bool {
        self.own.is_none()
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let Some(own) = self.own.as_ref().and_then(|own| fstat(own).ok()) else { return };
        // The next daemon may have put its own there already, since nobody listened on this one any more.
        if lstat(&self.path).is_ok_and(|found| (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino)) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A listener cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {why}")]
pub struct BindError {
    what: String,
    why: String,
    /// Whether no waiting helps, since the address itself is wrong.
    pub(super) is_misplaced: bool,
}

impl Listeners {
    /// Binds what the configuration asks for and was not inherited.
    ///
    /// # Errors
    /// [`BindError`] names the address and what to do.
    pub async fn bind(grpc: &Grpc, http: &Http, inherited: Inherited) -> Result<Self, BindError> {
        let unusable = |error: io::Error| BindError {
            what: "a socket from systemd".into(),
            why: error.to_string(),
            is_misplaced: false,
        };
        let unix = match (inherited.unix, &grpc.unix) {
            (Some((listener, path)), _) => {
                let listener = UnixListener::from_std(listener).map_err(unusable)?;
                Some(UnixSocket { listener, file: SocketFile { path, own: None } })
            }
            (None, Some(path)) => Some(bind_unix(path)?),
            (None, None) => None,
        };
        let tcp = match (inherited.tcp, grpc.tcp) {
            (Some((listener, _)), _) => Some(TcpListener::from_std(listener).map_err(unusable)?),
            (None, Some(address)) => Some(bind_tcp("grpc.tcp", address).await?),
            (None, None) => None,
        };
        let webhooks = match http.webhooks {
            Some(address) => Some(bind_tcp("http.webhooks", address).await?),
            None => None,
        };
        let ops = match http.ops {
            Some(address) => Some(bind_tcp("http.ops", address).await?),
            None => None,
        };
        Ok(Self { unix, tcp, webhooks, ops })
    }
}

async fn bind_tcp(key: &str, address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|error| {
        let kind = error.kind();
        let remedy = if kind == io::ErrorKind::AddrInUse {
            "; another process listens there: stop it, or choose another port"
        } else if kind == io::ErrorKind::AddrNotAvailable {
            "; no interface of this host has that address: choose one that `ip address` shows"
        } else if kind == io::ErrorKind::PermissionDenied {
            "; ports below 1024 are for who may bind them (CAP_NET_BIND_SERVICE): choose a higher one"
        } else {
            ""
        };
        BindError {
            what: format!("{key} = {address}"),
            why: format!("{error}{remedy}"),
            // An address may be given to an interface later on.
            is_misplaced: kind == io::ErrorKind::PermissionDenied,
        }
    })
}

fn bind_unix(path: &Path) -> Result<UnixSocket, BindError> {
    let failed = |why: String, is_misplaced| BindError {
        what: format!("grpc.unix = {}", path.display()),
        why,
        is_misplaced,
    };
    no_other_file(path).map_err(|why| failed(why.to_owned(), true))?;
    remove_stale(path).map_err(|why| failed(why, false))?;
    let listener = UnixListener::bind(path).map_err(|error| {
        use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
        let is_misplaced = matches!(error.kind(), NotFound | NotADirectory | PermissionDenied);
        failed(format!("{error}; its folder must exist and be writable for the daemon's user"), is_misplaced)
    })?;
    let own = open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    let own = own.map_err(|error| failed(error.to_string(), false))?;
    let file = SocketFile { path: path.to_owned(), own: Some(own) };
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))
        .map_err(|error| failed(error.to_string(), false))?;
    Ok(UnixSocket { listener, file })
}

/// Fails where something has the name that is no socket.
pub(super) fn no_other_file(path: &Path) -> Result<(), &'static str> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            Err("there is a file of that name that is no socket; move it away, or choose another path")
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Removes a socket file that nobody listens on any more, as a killed daemon leaves it.
fn remove_stale(path: &Path) -> Result<(), String> {
    if fs::symlink_metadata(path).is_err() {
        return Ok(());
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
        let socket = bind_unix(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, SOCKET_MODE);
        let error = bind_unix(&path).unwrap_err().to_string();
        assert!(error.contains("another process listens there"), "{error}");
        drop(socket);
        assert!(!path.exists(), "it goes");
    }

    #[tokio::test]
    async fn the_socket_of_the_next_daemon_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cairld.sock");
        // The one before listens no more, and has not ended.
        let UnixSocket { listener, file } = bind_unix(&path).unwrap();
        drop(listener);
        let next = bind_unix(&path).unwrap();
        drop(file);
        UnixStream::connect(&path).unwrap();
        drop(next);
        assert!(!path.exists(), "its own goes");
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
