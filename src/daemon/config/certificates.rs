//! Files of certificates, PEM (RFC 7468).

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

use super::{
    secret_file::{explain, open, plain_path},
    section::Section,
};

/// Longest file of certificates worth reading, bytes.
const LONGEST: u64 = 4 * 1024 * 1024;
/// What each of them begins with.
const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// What a file of certificates holds; at least one.
pub(super) struct Certificates {
    path: PathBuf,
    /// Each of them.
    pub(super) list: Vec<CertificateDer<'static>>,
    /// All of them as they stand in the file.
    pub(super) pem: Vec<u8>,
}

impl Certificates {
    /// All of them as roots that are believed.
    fn roots(&self) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        for (index, certificate) in self.list.iter().enumerate() {
            roots.add(certificate.clone()).map_err(|error| {
                let line = self.line(index).map(|line| format!(", in line {line},")).unwrap_or_default();
                format!(
                    "{}: certificate {}{line} is none that can be believed: {error}; take it out, or have it as it was issued",
                    self.path.display(),
                    index + 1
                )
            })?;
        }
        Ok(roots)
    }

    /// Which line of the file one of them begins in.
    fn line(&self, index: usize) -> Option<usize> {
        let lines = self.pem.split(|byte| *byte == b'\n').zip(1..);
        let mut begins = lines.filter(|(line, _)| line.trim_ascii().starts_with(BEGIN));
        begins.nth(index).map(|(_, line)| line)
    }
}

/// Reads a file of certificates that are to be believed: what is no certificate inside is found here, and not when the first
/// connection is made.
pub(super) fn roots(
    section: &mut Section<'_>,
    key: &'static str,
    what: &str,
) -> Option<(Certificates, RootCertStore)> {
    let certificates = certificates(section, key, what)?;
    let roots = certificates.roots().map_err(|message| section.problem(key, message)).ok()?;
    Some((certificates, roots))
}

/// Reads the file that a key names, where it is there; `what` says what is in it.
pub(super) fn certificates(section: &mut Section<'_>, key: &'static str, what: &str) -> Option<Certificates> {
    let file = section.string(key)?;
    let path = section.document().resolve(file.value);
    let certificates = plain_path(file.value).and_then(|()| read(&path, what));
    certificates.map_err(|message| section.document().problem(&file.at, message)).ok()
}

fn read(path: &Path, what: &str) -> Result<Certificates, String> {
    let name = path.display();
    let file = open(path).map_err(|error| explain(path, &error))?;
    let metadata = file.metadata().map_err(|error| explain(path, &error))?;
    if !metadata.is_file() {
        return Err(format!("{name}: not a regular file; name a PEM file of {what}"));
    }
    let mut pem = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut pem).map_err(|error| explain(path, &error))?;
    let list = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>().unwrap_or_default();
    if list.is_empty() || pem.len() as u64 > LONGEST {
        return Err(format!(
            "{name}: holds no certificate that can be read; it must be a PEM file (-----BEGIN CERTIFICATE-----) of up \
             to 4 MiB"
        ));
    }
    Ok(Certificates { path: path.to_owned(), list, pem })
}
