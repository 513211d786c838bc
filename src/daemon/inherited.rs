//! Sockets that somebody else has bound and that the process is started with (socket activation, `sd_listen_fds(3)`): the
//! daemon serves them instead of binding, and they go on taking connections while it is restarted.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::{fd::AsFd, unix::net::UnixListener},
    path::{Path, PathBuf},
};

use listenfd::ListenFd;

use super::config::Sockets;

/// The listeners that the process was started with: one of each kind at most.
#[derive(Debug, Default)]
pub struct Inherited {
    pub(super) unix: Option<(UnixListener, PathBuf)>,
    pub(super) tcp: Option<(TcpListener, SocketAddr)>,
}

/// A socket that the process was started with is none that the daemon can serve.
#[derive(Debug, thiserror::Error)]
#[error(
    "socket {number} of those that systemd passes {why}; see to ListenStream= and Accept= in cairld.socket"
)]
pub struct InheritError {
    number: usize,
    why: String,
}

impl Inherited {
    /// Takes what the environment tells of (`LISTEN_FDS`), once: who asks again is told of nothing.
    ///
    /// # Errors
    /// [`InheritError`] names the socket, and what is wrong with it.
    pub fn take() -> Result<Self, InheritError> {
        let mut passed = ListenFd::from_env();
        let mut inherited = Self::default();
        for index in 0..passed.len() {
            inherited.take_one(&mut passed, index).map_err(|why| InheritError { number: index + 1, why })?;
        }
        Ok(inherited)
    }

    fn take_one(&mut self, passed: &mut ListenFd, index: usize) -> Result<(), String> {
        const SECOND: &str = "is a second one of its kind: one Unix socket and one of TCP can be served";
        if let Ok(Some(listener)) = passed.take_unix_listener(index) {
            is_listening(&listener).and_then(|()| listener.set_nonblocking(true)).map_err(unusable)?;
            let path = listener.local_addr().map_err(unusable)?.as_pathname().map(Path::to_owned);
            let path = path.ok_or("is a Unix socket without a path")?;
            return self.unix.replace((listener, path)).map_or(Ok(()), |_| Err(SECOND.to_owned()));
        }
        let taken = passed.take_tcp_listener(index).map_err(|_| "is neither of Unix nor of TCP")?;
        if let Some(listener) = taken {
            is_listening(&listener).and_then(|()| listener.set_nonblocking(true)).map_err(unusable)?;
            let address = listener.local_addr().map_err(unusable)?;
            return self.tcp.replace((listener, address)).map_or(Ok(()), |_| Err(SECOND.to_owned()));
        }
        Ok(())
    }

    /// Where they listen.
    pub(super) fn sockets(&self) -> Sockets {
        Sockets::Known {
            unix: self.unix.as_ref().map(|(_, path)| path.clone()),
            tcp: self.tcp.as_ref().map(|(_, address)| *address),
        }
    }
}

fn unusable(error: io::Error) -> String {
    format!("cannot be used: {error}")
}

/// A connection that was accepted already, as Accept=yes passes, would be asked for further ones for ever.
fn is_listening(socket: impl AsFd) -> io::Result<()> {
    if rustix::net::sockopt::socket_acceptconn(socket)? {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it does not listen"))
    }
}
