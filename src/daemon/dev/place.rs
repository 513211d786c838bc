//! Where `cairld dev` keeps its files and listens.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use sysexits::ExitCode;

use super::super::exit::{Failure, write_secret};

/// The folder's files, by name. Each secret is made on first use.
pub(super) struct Files {
    pub(super) folder: PathBuf,
}

impl Files {
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The secret in the file of that name; `fresh` becomes it where there is none yet.
    pub(super) fn secret(&self, name: &str, fresh: &str) -> Result<String, Failure> {
        let path = self.path(name);
        match write_secret(&path, fresh) {
            Ok(()) => Ok(fresh.to_owned()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let text = fs::read_to_string(&path).map_err(|error| cannot(&path, &error))?;
                Ok(text.trim().to_owned())
            }
            Err(error) => Err(cannot(&path, &error)),
        }
    }
}

/// Where everything listens, for the printout and the callback page.
pub(super) struct Addresses {
    pub(super) grpc: SocketAddr,
    pub(super) sandbox: SocketAddr,
    pub(super) ops: SocketAddr,
    pub(super) callback: SocketAddr,
    pub(super) webhooks: SocketAddr,
}

impl Addresses {
    pub(super) fn redirect_uri(&self) -> String {
        format!("http://{}/callback", self.callback)
    }

    pub(super) fn webhook_url(&self) -> String {
        format!("http://{}/webhooks/demo", self.webhooks)
    }
}

pub(super) fn cannot(path: &Path, error: &io::Error) -> Failure {
    Failure::new(ExitCode::CantCreat, format!("{}: {error}", path.display()))
}
