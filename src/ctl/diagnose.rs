//! What to say when there is no way to the daemon.

use std::{
    error::Error,
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use super::{
    endpoint::Target,
    exit::Exit,
    failure::{Failure, sources},
};

/// The daemon cannot be connected to.
pub(super) fn unreachable(target: &Target, error: &(dyn Error + 'static)) -> Failure {
    let kind = sources(error).find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    let cause = sources(error).last().map(ToString::to_string).unwrap_or_default();
    Failure::local(
        Exit::UNAVAILABLE,
        "DAEMON_UNREACHABLE",
        format!("cannot connect to the daemon at {target}: {cause}"),
        remedy(target, kind),
    )
}

fn remedy(target: &Target, kind: Option<io::ErrorKind>) -> String {
    match (target, kind) {
        (Target::Unix(path), Some(io::ErrorKind::PermissionDenied)) => permission(Path::new(path)),
        (Target::Unix(path), Some(io::ErrorKind::NotFound)) => format!(
            "There is no socket {path}. Is the daemon running (`systemctl status cairld`), and is this the path \
             under `[grpc] unix` in its configuration? Name another with --endpoint."
        ),
        (Target::Unix(_), _) => {
            "Nobody answers on this socket. Is the daemon running? `systemctl status cairld`.".to_owned()
        }
        // What rustls has to say comes within an error of I/O.
        (Target::Tls(_), None | Some(io::ErrorKind::InvalidData)) => {
            "Does the daemon speak TLS at this address (`[grpc.tls]`), with a certificate that the authority in --ca issued \
             for this name, and is yours (--cert, --key) by one that the daemon believes (`grpc.tls.client_ca_file`)?"
                .to_owned()
        }
        (Target::Tcp(_) | Target::Tls(_), _) => {
            "Is the daemon running (`systemctl status cairld`), and is this the address under \
                                `[grpc] tcp` in its configuration? Name another with --endpoint."
                .to_owned()
        }
    }
}

/// Who may open the socket, as far as this user can see.
fn permission(path: &Path) -> String {
    let shown = path.display();
    let Ok(socket) = fs::metadata(path) else {
        return format!("A folder above {shown} is closed to you: see `namei -l {shown}`.");
    };
    if socket.permissions().mode() & 0o020 == 0 {
        return format!("Only user {} may open {shown}: run cairlctl as that user.", socket.uid());
    }
    membership(&fs::read_to_string("/etc/group").unwrap_or_default(), socket.gid(), path)
}

/// How to get into the group that may open the socket, by its name in the text of group(5).
fn membership(groups: &str, id: u32, path: &Path) -> String {
    let shown = path.display();
    if id == 0 {
        // Whoever joins it may do far more than to open a socket.
        return format!(
            "{shown} belongs to root's group, which is not for users to join: give it another, with SocketGroup= in \
             cairld.socket or by starting the daemon with a group of its own, and join that."
        );
    }
    let group = group_name(groups, id).map_or_else(|| id.to_string(), str::to_owned);
    format!(
        "Members of the group {group} may open {shown}: `sudo usermod -aG {group} \"$USER\"`, then log in again."
    )
}

/// The name of a group in the text of group(5).
fn group_name(groups: &str, id: u32) -> Option<&str> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn groups_are_named() {
        let groups = "root:x:0:\nbroken\ncairld:x:990:alice,bob\nlast:x:991:\n";
        assert_eq!(group_name(groups, 990), Some("cairld"));
        assert_eq!(group_name(groups, 991), Some("last"));
        assert_eq!(group_name(groups, 5), None);
    }

    #[test]
    fn a_closed_socket_names_who_may_open_it() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("socket");
        fs::write(&path, "").unwrap();
        let target = Target::Unix(path.display().to_string());
        let told = |mode| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            remedy(&target, Some(io::ErrorKind::PermissionDenied))
        };
        assert!(told(0o660).contains("group"), "{}", told(0o660));
        assert!(told(0o600).contains("as that user"), "{}", told(0o600));
        fs::remove_file(&path).unwrap();
        assert!(remedy(&target, Some(io::ErrorKind::PermissionDenied)).contains("namei -l"));
    }

    #[test]
    fn nobody_is_told_to_join_roots_group() {
        let told = |id| membership("root:x:0:\ncairld:x:990:\n", id, Path::new("/run/cairld.sock"));
        assert!(told(990).contains("`sudo usermod -aG cairld "), "{}", told(990));
        assert!(told(991).contains("`sudo usermod -aG 991 "), "{}", told(991));
        assert!(told(0).contains("SocketGroup=") && !told(0).contains("usermod"), "{}", told(0));
    }

    #[test]
    fn every_remedy_is_a_next_step() {
        let unix = Target::Unix("/run/cairld.sock".to_owned());
        let tcp = Target::Tcp("127.0.0.1:1".to_owned());
        for (target, kind) in [
            (&unix, io::ErrorKind::NotFound),
            (&unix, io::ErrorKind::ConnectionRefused),
            (&tcp, io::ErrorKind::ConnectionRefused),
        ] {
            assert!(remedy(target, Some(kind)).contains("systemctl status cairld"), "{target} {kind}");
        }
    }
}
