//! Finding secrets in bytes, however they were written down.

use std::{
    collections::{BTreeSet, HashMap},
    fmt::Write as _,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD, Encoding, HEXLOWER, HEXUPPER};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};

/// What encodes for a URL leaves these alone.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// How many bytes at the beginning of a form lead to it.
const KEY: usize = 8;
/// Of what is as long as this, its beginning and its end are searched for too: a log may have cut it.
const LONG: usize = 32;
const PIECE: usize = 16;

/// Kinds of secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Canary {
    ClientId,
    ClientSecret,
    ApiKey,
    CallerToken,
    MasterKey,
    WebhookSecret,
    WebhookBody,
    State,
    Code,
    Verifier,
    AccessToken,
    Claims,
    Subject,
    Reference,
    Binding,
    RequestId,
    /// A value in a field where it has no business.
    Argument,
    /// What the provider wrote: no secret of ours, and nothing for the log.
    ProviderWords,
}

/// All secrets of a test, and pieces of them.
#[derive(Default)]
pub struct Canaries {
    all: Mutex<BTreeSet<(Canary, Vec<u8>)>>,
    whole: AtomicUsize,
    next: AtomicUsize,
}

impl Canaries {
    /// A new one: a text that is nowhere else, with characters that encodings change.
    pub fn fresh(&self, kind: Canary) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let digest = HEXLOWER.encode(&Sha256::digest(format!("{kind:?} {number}")));
        let text = format!("{}/{}+~{}=", &digest[..3], &digest[3..35], &digest[35..47]);
        self.add(kind, text.as_bytes());
        text
    }

    /// One that somebody else made.
    pub fn add(&self, kind: Canary, bytes: &[u8]) {
        let mut all = self.lock();
        if all.insert((kind, bytes.to_vec())) {
            self.whole.fetch_add(1, Ordering::Relaxed);
        }
        if bytes.len() >= LONG {
            all.insert((kind, bytes[..PIECE].to_vec()));
            all.insert((kind, bytes[bytes.len() - PIECE..].to_vec()));
        }
    }

    /// A state: as a text, and the half of it that is secret. The other half is the session's id.
    pub fn add_state(&self, state: &str) {
        let bytes = BASE64URL_NOPAD.decode(state.as_bytes()).unwrap();
        self.lock().insert((Canary::State, state.as_bytes().to_vec()));
        self.add(Canary::State, &bytes[16..]);
        self.add(Canary::State, &state.as_bytes()[state.len() - LONG..]);
    }

    /// How many of a kind there are, pieces included.
    pub fn count(&self, kind: Canary) -> usize {
        self.lock().iter().filter(|(other, _)| *other == kind).count()
    }

    /// How many there are, without pieces.
    pub fn whole(&self) -> usize {
        self.whole.load(Ordering::Relaxed)
    }

    pub fn searcher(&self) -> Searcher {
        Searcher::new(self.lock().iter().cloned())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<(Canary, Vec<u8>)>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One way in which a secret may be written.
struct Form {
    kind: Canary,
    encoding: &'static str,
    bytes: Vec<u8>,
}

/// Finds any of many secrets in one pass.
pub struct Searcher {
    forms: HashMap<[u8; KEY], Vec<Form>>,
    pub patterns: usize,
}

impl Searcher {
    fn new(secrets: impl Iterator<Item = (Canary, Vec<u8>)>) -> Self {
        let (mut forms, mut patterns) = (HashMap::<_, Vec<Form>>::new(), 0);
        for (kind, secret) in secrets {
            for (encoding, bytes) in encoded(&secret) {
                let key = *bytes.first_chunk().expect("a secret is longer");
                let there = forms.entry(key).or_default();
                if there.iter().all(|form| form.bytes != bytes) {
                    there.push(Form { kind, encoding, bytes });
                    patterns += 1;
                }
            }
        }
        Self { forms, patterns }
    }

    /// What is in there: the kind of secret, how it is written, and what stands around it.
    pub fn find(&self, text: &[u8]) -> Vec<(Canary, String)> {
        let mut found = Vec::new();
        for (at, window) in text.windows(KEY).enumerate() {
            let key: &[u8; KEY] = window.first_chunk().unwrap();
            for form in self.forms.get(key).into_iter().flatten() {
                if text[at..].starts_with(&form.bytes) {
                    let around = &text[at.saturating_sub(200)..text.len().min(at + form.bytes.len() + 80)];
                    let around = String::from_utf8_lossy(around).into_owned();
                    found.push((form.kind, format!("{:?}, {}, in …{around}…", form.kind, form.encoding)));
                }
            }
        }
        found
    }
}

/// The ways in which bytes are written down.
fn encoded(bytes: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let percent = |upper: bool| {
        bytes.iter().fold(String::new(), |mut text, byte| {
            let _ = if upper { write!(text, "%{byte:02X}") } else { write!(text, "%{byte:02x}") };
            text
        })
    };
    let list = |separator: &str| bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(separator);
    let mut forms = vec![
        ("as it is", bytes.to_vec()),
        ("hex", HEXLOWER.encode(bytes).into_bytes()),
        ("HEX", HEXUPPER.encode(bytes).into_bytes()),
        ("every byte percent-encoded", percent(true).into_bytes()),
        ("every byte percent-encoded, lower case", percent(false).into_bytes()),
        ("percent-encoded as a form", url::form_urlencoded::byte_serialize(bytes).collect::<String>().into()),
        ("a list of numbers", list(", ").into_bytes()),
        ("a JSON list of numbers", list(",").into_bytes()),
        ("escaped bytes", bytes.escape_ascii().to_string().into_bytes()),
    ];
    for (encoding, base) in [("base64", BASE64_NOPAD), ("base64url", BASE64URL_NOPAD)] {
        forms.extend((0..3).map(|offset| (encoding, base64_after(&base, offset, bytes))));
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let unreserved = utf8_percent_encode(text, UNRESERVED).to_string();
        let lower = unreserved.replace("%2B", "%2b").replace("%2F", "%2f").replace("%3D", "%3d");
        let json = serde_json::to_string(text).unwrap();
        let json = json.trim_matches('"');
        forms.extend([
            ("percent-encoded", unreserved.into_bytes()),
            ("percent-encoded, lower case", lower.into_bytes()),
            ("JSON", json.as_bytes().to_vec()),
            ("JSON with escaped slashes", json.replace('/', "\\/").into_bytes()),
        ]);
    }
    forms
}

/// The characters that stand for these bytes wherever they begin in what is encoded: those that bytes before or behind
/// them have a part in are left out.
fn base64_after(base: &Encoding, offset: usize, bytes: &[u8]) -> Vec<u8> {
    let text = base.encode(&[&[0; 2][..offset], bytes].concat());
    let (first, end) = ((offset * 8).div_ceil(6), (offset + bytes.len()) * 8 / 6);
    text.as_bytes()[first..end].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A search that finds nothing may be blind: each form of a planted secret is found, and whose it is.
    #[test]
    fn a_planted_secret_is_found_in_every_form() {
        let secrets = Canaries::default();
        let text = secrets.fresh(Canary::Code);
        let binary: Vec<u8> = (0..32).map(|byte| byte * 7 + 1).collect();
        secrets.add(Canary::MasterKey, &binary);
        let searcher = secrets.searcher();
        assert_eq!(searcher.find(b"nothing of the kind, %2F and deadbeefdeadbeefdeadbeef"), []);
        let finds = |planted: &[u8], kind: Canary, how: &str| {
            let around = [b"{\"line\": \"", planted, b"\", \"more\": 1}"].concat();
            let found = searcher.find(&around);
            assert!(found.iter().any(|(found, _)| *found == kind), "{kind:?}, {how}");
        };
        for (kind, bytes) in [(Canary::Code, text.as_bytes()), (Canary::MasterKey, &binary)] {
            // Written by others' code than the searcher's.
            let shown = |bytes: &[u8]| format!("{bytes:?}");
            for (how, planted) in [
                ("raw", bytes.to_vec()),
                ("hex", HEXLOWER.encode(bytes).into_bytes()),
                ("HEX", HEXUPPER.encode(bytes).into_bytes()),
                ("Debug of bytes", shown(bytes).into_bytes()),
                ("JSON of bytes", serde_json::to_vec(bytes).unwrap()),
                ("Debug of a buffer", format!("{:?}", prost::bytes::Bytes::copy_from_slice(bytes)).into()),
                ("percent", percent_encoding::percent_encode(bytes, NON_ALPHANUMERIC).to_string().into()),
                ("form", url::form_urlencoded::byte_serialize(bytes).collect::<String>().into()),
                ("the beginning", bytes[..20].to_vec()),
                ("the end", bytes[bytes.len() - 20..].to_vec()),
            ] {
                finds(&planted, kind, how);
            }
            for base in [data_encoding::BASE64, data_encoding::BASE64URL, BASE64_NOPAD, BASE64URL_NOPAD] {
                for (before, behind) in [("", ""), ("x", "yz"), ("xy", "z"), ("xyz", "xy")] {
                    let whole = [before.as_bytes(), bytes, behind.as_bytes()].concat();
                    finds(base.encode(&whole).as_bytes(), kind, &format!("base64 behind {before:?}"));
                }
            }
        }
        let (slashes, debug) = (text.replace('/', "\\/"), format!("{text:?}"));
        finds(slashes.as_bytes(), Canary::Code, "JSON with escaped slashes");
        finds(debug.as_bytes(), Canary::Code, "Debug");
        finds(serde_json::to_string(&text).unwrap().as_bytes(), Canary::Code, "JSON");
    }
}
