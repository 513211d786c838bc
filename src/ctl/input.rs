//! What is read from files and standard input, each with a bound.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use secrecy::SecretString;

use super::{args::Binding, exit::Exit, failure::Failure};

/// Longest body of a webhook that the contract takes.
const LONGEST_BODY: u64 = 64 * 1024;
/// Longest callback URL that the contract takes.
const LONGEST_CALLBACK: u64 = 8192;
/// Longest bearer token worth reading.
const LONGEST_TOKEN: u64 = 4096;
/// Longest file of certificates, or of a key, worth reading.
const LONGEST_PEM: u64 = 1024 * 1024;
/// Longest binding that the contract takes.
const LONGEST_BINDING: u64 = 256;

/// The bearer token in a file that nobody but its owner can read.
pub(super) fn token(path: &Path) -> Result<SecretString, Failure> {
    let name = path.display();
    let file = open_private(path, "TOKEN_FILE_EXPOSED", "token")?;
    let text = line(&name.to_string(), bounded(&name.to_string(), file, LONGEST_TOKEN)?)?;
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::local(
            Exit::DATA,
            "TOKEN_FILE_INVALID",
            format!("{name}: not a bearer token"),
            "The file must hold one line of printable ASCII without spaces.",
        ));
    }
    Ok(text.into())
}

/// PEM that anybody may read.
pub(super) fn pem(path: &Path) -> Result<String, Failure> {
    let name = path.display().to_string();
    text(&name, bounded(&name, open(path)?, LONGEST_PEM)?)
}

/// PEM in a file that nobody but its owner can read.
pub(super) fn private_pem(path: &Path) -> Result<SecretString, Failure> {
    let name = path.display().to_string();
    let file = open_private(path, "KEY_FILE_EXPOSED", "key")?;
    Ok(text(&name, bounded(&name, file, LONGEST_PEM)?)?.into())
}

/// The binding, from wherever it was given; empty when it was not.
pub(super) fn binding(binding: &Binding) -> Result<String, Failure> {
    match (&binding.binding, &binding.binding_file) {
        (Some(value), _) => Ok(value.clone()),
        (None, Some(path)) => {
            let name = path.display().to_string();
            line(&name, bounded(&name, open(path)?, LONGEST_BINDING)?)
        }
        (None, None) => Ok(String::new()),
    }
}

/// An argument, or the line on standard input where it is `-`.
pub(super) fn argument(value: &str, stdin: &mut dyn Read) -> Result<String, Failure> {
    if value == "-" {
        line("standard input", bounded("standard input", stdin, LONGEST_CALLBACK)?)
    } else {
        Ok(value.to_owned())
    }
}

/// A webhook's body, byte for byte; `-` is standard input.
pub(super) fn body(path: &Path, stdin: &mut dyn Read) -> Result<Vec<u8>, Failure> {
    if path.as_os_str() == "-" {
        bounded("standard input", stdin, LONGEST_BODY)
    } else {
        bounded(&path.display().to_string(), open(path)?, LONGEST_BODY)
    }
}

fn open(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|error| unreadable(&path.display().to_string(), &error))
}

/// Opens a file with a secret that nobody but its owner can read.
fn open_private(path: &Path, exposed: &'static str, what: &str) -> Result<File, Failure> {
    let name = path.display();
    let file = open(path)?;
    let metadata = file.metadata().map_err(|error| unreadable(&name.to_string(), &error))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(Failure::local(
            Exit::PERMISSION,
            exposed,
            format!("{name}: others can read this {what}"),
            format!("Run `chmod 600 {name}`; if others may have read it, replace the {what}."),
        ));
    }
    Ok(file)
}

fn bounded(name: &str, source: impl Read, most: u64) -> Result<Vec<u8>, Failure> {
    // Room for a line's end, which does not count.
    let most = most + 2;
    let mut bytes = Vec::new();
    source.take(most + 1).read_to_end(&mut bytes).map_err(|error| unreadable(name, &error))?;
    if bytes.len() as u64 > most {
        let message = format!("{name}: longer than {} bytes", most - 2);
        return Err(Failure::local(Exit::DATA, "INPUT_TOO_LONG", message, "The contract takes no more."));
    }
    Ok(bytes)
}

/// Text without the line's end.
fn line(name: &str, bytes: Vec<u8>) -> Result<String, Failure> {
    Ok(text(name, bytes)?.trim_end_matches(['\r', '\n']).to_owned())
}

fn text(name: &str, bytes: Vec<u8>) -> Result<String, Failure> {
    String::from_utf8(bytes).map_err(|_| {
        Failure::local(Exit::DATA, "INPUT_INVALID", format!("{name}: not UTF-8"), "Give it as plain text.")
    })
}

pub(super) fn unreadable(name: &str, error: &io::Error) -> Failure {
    let message = format!("{name}: cannot be read: {error}");
    Failure::local(Exit::INPUT, "INPUT_UNREADABLE", message, "Check the path, and who may read it.")
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use secrecy::ExposeSecret;
    use tempfile::TempDir;

    use super::*;

    fn file(folder: &TempDir, content: &[u8], mode: u32) -> PathBuf {
        let path = folder.path().join("file");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn text(failure: &Failure) -> String {
        let mut sink = Vec::new();
        failure.write(false, &mut sink).unwrap();
        String::from_utf8(sink).unwrap()
    }

    #[test]
    fn a_token_is_one_line() {
        let folder = TempDir::new().unwrap();
        let path = file(&folder, b"secret-token\n", 0o600);
        assert_eq!(token(&path).unwrap().expose_secret(), "secret-token");
        for wrong in [&b""[..], b"\n", b"two\nlines\n", b"a b\n", "ü\n".as_bytes(), b"\xff"] {
            let path = file(&folder, wrong, 0o600);
            assert_eq!(token(&path).unwrap_err().exit().code(), 65, "{wrong:?}");
        }
    }

    #[test]
    fn a_token_that_others_can_read_is_refused() {
        let folder = TempDir::new().unwrap();
        for mode in [0o640, 0o604, 0o620, 0o644] {
            let path = file(&folder, b"secret-token\n", mode);
            let failure = token(&path).unwrap_err();
            assert_eq!(failure.exit().code(), 77, "{mode:o}");
            let told = text(&failure);
            assert!(told.contains(&format!("`chmod 600 {}`", path.display())), "{told}");
            assert!(!told.contains("secret-token"), "{told}");
        }
    }

    #[test]
    fn a_missing_file_is_no_input() {
        assert_eq!(token(Path::new("/nonexistent/token")).unwrap_err().exit().code(), 66);
        assert_eq!(body(Path::new("/nonexistent/body"), &mut io::empty()).unwrap_err().exit().code(), 66);
    }

    #[test]
    fn a_body_is_kept_byte_for_byte() {
        let bytes = b"\xff{}\r\n";
        assert_eq!(body(Path::new("-"), &mut &bytes[..]).unwrap(), bytes);
        let folder = TempDir::new().unwrap();
        let path = file(&folder, bytes, 0o644);
        assert_eq!(body(&path, &mut io::empty()).unwrap(), bytes);
    }

    #[test]
    fn endless_input_is_refused() {
        assert_eq!(body(Path::new("-"), &mut io::repeat(b'x')).unwrap_err().exit().code(), 65);
        assert_eq!(argument("-", &mut io::repeat(b'x')).unwrap_err().exit().code(), 65);
    }

    #[test]
    fn a_dash_is_standard_input() {
        assert_eq!(argument("-", &mut &b"/callback?code=c\r\n"[..]).unwrap(), "/callback?code=c");
        assert_eq!(argument("/callback", &mut io::empty()).unwrap(), "/callback");
    }

    #[test]
    fn a_binding_may_come_from_a_file() {
        let folder = TempDir::new().unwrap();
        let path = file(&folder, b"bound\n", 0o600);
        let from_file = Binding { binding: None, binding_file: Some(path) };
        assert_eq!(binding(&from_file).unwrap(), "bound");
        assert_eq!(binding(&Binding::default()).unwrap(), "");
    }
}
