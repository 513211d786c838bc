//! Secrets, which are files and never stand in the configuration itself.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use super::{
    document::{At, Found},
    section::{Item, Section},
    value::instant,
};
use crate::domain::Timestamp;

/// Longest secret worth reading, bytes.
const LONGEST: u64 = 64 * 1024;

/// The names that one secret goes by.
#[derive(Clone, Copy)]
pub(super) struct SecretKeys {
    /// What people write when they put the secret itself into the file.
    pub(super) inline: &'static str,
    /// The key that names a file, or files.
    pub(super) file: &'static str,
    /// The key that names a credential, or credentials.
    pub(super) credential: &'static str,
}

/// A secret as it was read.
pub(super) struct Secret {
    pub(super) text: Zeroizing<String>,
    /// The key that names it.
    pub(super) at: At,
    /// The file it comes from.
    pub(super) path: PathBuf,
}

/// What a secret's file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// One line of text; the end of the line is not part of it.
    Line,
    /// PEM (RFC 7468), taken as it is.
    Pem,
}

/// One secret, or none where neither key is given.
pub(super) fn optional(section: &mut Section<'_>, keys: SecretKeys) -> Option<Secret> {
    one(section, keys, Form::Line)
}

/// One secret, reported as missing where neither key is given.
pub(super) fn required(section: &mut Section<'_>, keys: SecretKeys) -> Option<Secret> {
    required_of(section, keys, Form::Line)
}

/// One secret in PEM, reported as missing where neither key is given.
pub(super) fn required_pem(section: &mut Section<'_>, keys: SecretKeys) -> Option<Secret> {
    required_of(section, keys, Form::Pem)
}

fn one(section: &mut Section<'_>, keys: SecretKeys, form: Form) -> Option<Secret> {
    refuse_inline(section, keys);
    let (file, credential) = (section.string(keys.file), section.string(keys.credential));
    refuse_both(section, keys);
    match (file, credential) {
        (Some(file), None) => read_file(section, file, form),
        (None, Some(credential)) => read_credential(section, credential, form),
        (Some(_), Some(_)) | (None, None) => None,
    }
}

fn required_of(section: &mut Section<'_>, keys: SecretKeys, form: Form) -> Option<Secret> {
    let secret = one(section, keys, form);
    if ![keys.inline, keys.file, keys.credential].iter().any(|key| section.has(key)) {
        section.missing(keys.file, &remedy(keys));
    }
    secret
}

/// A list of secrets, in the order of the file; empty where neither key is given.
pub(super) fn list(section: &mut Section<'_>, keys: SecretKeys) -> Vec<Secret> {
    refuse_inline(section, keys);
    let (files, credentials) = (section.strings(keys.file), section.strings(keys.credential));
    refuse_both(section, keys);
    let files = files.into_iter().flatten().filter_map(|file| read_file(section, file, Form::Line));
    let mut secrets: Vec<_> = files.collect();
    secrets.extend(
        credentials
            .into_iter()
            .flatten()
            .filter_map(|credential| read_credential(section, credential, Form::Line)),
    );
    secrets
}

/// A list of secrets, each with its end where it has one: an entry is a name, or a table with `file` (or `credential`)
/// and `until`.
pub(super) fn list_with_ends(
    section: &mut Section<'_>,
    keys: SecretKeys,
) -> Vec<(Secret, Option<Timestamp>)> {
    refuse_inline(section, keys);
    let mut secrets = Vec::new();
    for item in section.strings_or_tables(keys.file) {
        secrets.extend(with_end(section, item, "file", read_file));
    }
    for item in section.strings_or_tables(keys.credential) {
        secrets.extend(with_end(section, item, "credential", read_credential));
    }
    refuse_both(section, keys);
    secrets
}

fn with_end<'d>(
    section: &Section<'d>,
    item: Item<'d>,
    key: &'static str,
    read: impl Fn(&Section<'d>, Found<&str>, Form) -> Option<Secret>,
) -> Option<(Secret, Option<Timestamp>)> {
    match item {
        Item::Text(name) => Some((read(section, name, Form::Line)?, None)),
        Item::Table(mut entry) => {
            entry.missing(key, "name the secret");
            let secret = entry.string(key).and_then(|name| read(section, name, Form::Line));
            let has_end = entry.has("until");
            let until = entry.parsed("until", instant);
            entry.finish();
            // An end that cannot be read is a problem already; the secret must not look as if it had none.
            if has_end && until.is_none() { None } else { Some((secret?, until)) }
        }
    }
}

fn remedy(keys: SecretKeys) -> String {
    let SecretKeys { file, credential, .. } = keys;
    format!("name a file with {file}, or a systemd credential with {credential}")
}

fn refuse_inline(section: &mut Section<'_>, keys: SecretKeys) {
    section.refuse(
        keys.inline,
        &format!(
            "secrets are files: move the value into a file that the daemon's user alone can read, and name it with \
             {} (or {}, a systemd credential); replace the secret if others could read this one",
            keys.file, keys.credential
        ),
    );
}

fn refuse_both(section: &Section<'_>, keys: SecretKeys) {
    if section.has(keys.file) && section.has(keys.credential) {
        section.problem(keys.credential, format!("given beside {}: keep one of the two", keys.file));
    }
}

fn read_file(section: &Section<'_>, Found { value, at }: Found<&str>, form: Form) -> Option<Secret> {
    let path = match plain_path(value) {
        Ok(()) => section.document().resolve(value),
        Err(message) => {
            section.document().problem(&at, message);
            return None;
        }
    };
    let text = read(&path, Guard::Mode { user: rustix::process::geteuid().as_raw() }, form);
    keep(section, at, path, text)
}

fn read_credential(section: &Section<'_>, Found { value, at }: Found<&str>, form: Form) -> Option<Secret> {
    let plain = !value.is_empty()
        && value != "."
        && !value.contains("..")
        && !value.chars().any(|c| c == '/' || c.is_control());
    let folder = section.document().environment().credentials_directory.as_ref();
    let path = match folder {
        _ if !plain => Err("must be the plain name of a credential, without / and ..".to_owned()),
        None => Err(
            "no credentials were passed ($CREDENTIALS_DIRECTORY is not set): start cairld by systemd with \
             LoadCredential=, or name a file instead"
                .to_owned(),
        ),
        Some(folder) => Ok(folder.join(value)),
    };
    match path {
        Ok(path) => {
            let text = read(&path, Guard::Systemd, form);
            keep(section, at, path, text)
        }
        Err(message) => {
            section.document().problem(&at, message);
            None
        }
    }
}

fn keep(
    section: &Section<'_>,
    at: At,
    path: PathBuf,
    text: Result<Zeroizing<String>, String>,
) -> Option<Secret> {
    match text {
        Ok(text) => Some(Secret { text, at, path }),
        Err(message) => {
            section.document().problem(&at, message);
            None
        }
    }
}

/// Refuses what can be no path, so that messages may show the rest.
pub(super) fn plain_path(text: &str) -> Result<(), String> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err("must be a path: not empty, no control characters".to_owned());
    }
    Ok(())
}

/// Who keeps a secret's file from others' eyes.
#[derive(Clone, Copy)]
enum Guard {
    /// Its owner and mode do: they are checked against the user that the daemon runs as.
    Mode {
        /// The effective user id.
        user: u32,
    },
    /// systemd does, as it makes the folder.
    Systemd,
}

/// Reads a file that nobody else can read; or says what is wrong and what to do.
fn read(path: &Path, guard: Guard, form: Form) -> Result<Zeroizing<String>, String> {
    let name = path.display();
    let file = open(path).map_err(|error| explain(path, &error))?;
    let metadata = file.metadata().map_err(|error| explain(path, &error))?;
    if !metadata.is_file() {
        return Err(format!("{name}: not a regular file; name the file that holds the secret"));
    }
    if let Guard::Mode { user } = guard {
        check_guarded(path, metadata.uid(), metadata.mode(), user)?;
    }
    if metadata.len() > LONGEST {
        return Err(format!("{name}: over 64 KiB; this is no secret"));
    }
    // Reserved at once, so that no copy is left behind by growing.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(LONGEST).unwrap_or_default() + 1));
    file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(|error| explain(path, &error))?;
    if bytes.len() as u64 > LONGEST {
        return Err(format!("{name}: over 64 KiB; this is no secret"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| format!("{name}: not UTF-8; a secret is text"))?;
    match form {
        Form::Line => one_line(path, text),
        Form::Pem => Ok(Zeroizing::new(text.to_owned())),
    }
}

fn one_line(path: &Path, text: &str) -> Result<Zeroizing<String>, String> {
    let (name, text) = (path.display(), text.trim_end_matches(['\r', '\n']));
    if text.is_empty() {
        return Err(format!("{name}: empty; write the secret into it"));
    }
    if text.chars().any(char::is_control) {
        return Err(format!(
            "{name}: holds more than one line, or control characters; a secret is one line of text"
        ));
    }
    Ok(Zeroizing::new(text.to_owned()))
}

/// Opens without waiting for the other end of a pipe.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

fn check_guarded(path: &Path, owner: u32, mode: u32, user: u32) -> Result<(), String> {
    let name = path.display();
    if owner != user && owner != 0 {
        return Err(format!(
            "{name}: belongs to user {owner}, who could change it, and cairld runs as user {user}; run `chown {user} \
             {name}`"
        ));
    }
    if mode & 0o077 != 0 {
        return Err(format!(
            "{name}: others can read this secret (mode {:04o}); run `chmod 600 {name}`, and replace the secret if they \
             may have read it",
            mode & 0o7777
        ));
    }
    Ok(())
}

/// Why a file cannot be read and what to do.
pub(super) fn explain(path: &Path, error: &io::Error) -> String {
    let name = path.display();
    let user = rustix::process::geteuid().as_raw();
    if error.kind() == io::ErrorKind::NotFound {
        format!("{name}: no such file; create it, or correct the path")
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        format!(
            "{name}: permission denied; cairld runs as user {user}: let it own the file (`chown {user} {name}`) and enter \
             the folders above"
        )
    } else {
        format!("{name}: cannot be read: {error}; check the path")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_belongs_to_the_daemon_s_user_or_to_root() {
        let check = |owner, mode| check_guarded(Path::new("/secret"), owner, mode, 990);
        assert_eq!(check(990, 0o100_600), Ok(()));
        assert_eq!(check(0, 0o100_400), Ok(()));
        let foreign = check(1000, 0o100_600).unwrap_err();
        assert!(
            foreign.contains("belongs to user 1000") && foreign.contains("`chown 990 /secret`"),
            "{foreign}"
        );
        let open = check(990, 0o100_640).unwrap_err();
        assert!(open.contains("mode 0640") && open.contains("`chmod 600 /secret`"), "{open}");
    }

    #[test]
    fn what_cannot_be_read_is_explained() {
        let told = |kind: io::ErrorKind| explain(Path::new("/secret"), &kind.into());
        assert!(told(io::ErrorKind::NotFound).starts_with("/secret: no such file; create it"));
        assert!(
            told(io::ErrorKind::PermissionDenied)
                .starts_with("/secret: permission denied; cairld runs as user")
        );
        assert!(told(io::ErrorKind::InvalidInput).starts_with("/secret: cannot be read: "));
    }
}
