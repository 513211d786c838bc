//! Every request that reached an endpoint of the contract, in order, for tests to count. Secrets are cut out.

use axum::http::request::Parts;
use data_encoding::HEXLOWER;
use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::clock::Moment;
use super::params::Params;

/// Form fields that are shown as sent. All others are cut, since a secret may turn up under a name nobody foresaw.
const SHOWN: [&str; 4] = ["grant_type", "client_id", "redirect_uri", "token_type_hint"];
const CUT: &str = "[cut]";

#[derive(Serialize)]
struct Entry {
    time: String,
    method: String,
    path: String,
    form: Map<String, Value>,
    /// Which trace the client says it belongs to (W3C trace context), where it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracestate: Option<String>,
    /// Null while the request is in hand, and for good if its answer was dropped.
    status: Option<u16>,
}

/// The requests since the start or the last clearing.
#[derive(Default)]
pub(super) struct Journal {
    entries: Vec<Entry>,
    cleared: usize,
}

impl Journal {
    /// Writes a request down as it arrives; the number finds it again.
    pub(super) fn open(&mut self, now: Moment, head: &Parts, body: &[u8]) -> usize {
        let header =
            |name| head.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        self.entries.push(Entry {
            time: now.to_string(),
            method: head.method.to_string(),
            path: head.uri.path().to_owned(),
            form: masked(&Params::parse(body)),
            traceparent: header("traceparent"),
            tracestate: header("tracestate"),
            status: None,
        });
        self.cleared + self.entries.len() - 1
    }

    /// Adds the status once it is sent.
    pub(super) fn close(&mut self, number: usize, status: u16) {
        if let Some(entry) = number.checked_sub(self.cleared).and_then(|i| self.entries.get_mut(i)) {
            entry.status = Some(status);
        }
    }

    pub(super) fn clear(&mut self) {
        self.cleared += self.entries.len();
        self.entries.clear();
    }

    pub(super) fn to_json(&self) -> Value {
        serde_json::to_value(&self.entries).unwrap_or_default()
    }
}

/// A code is cut as well, but leaves `code_digest`: the first 16 hex digits of its SHA-256, which tell codes apart.
fn masked(params: &Params) -> Map<String, Value> {
    let mut form = Map::new();
    for (name, value) in params.iter() {
        let shown = if SHOWN.contains(&name) { value } else { CUT };
        form.insert(name.to_owned(), shown.into());
        if name == "code" {
            let mut digest = HEXLOWER.encode(&Sha256::digest(value));
            digest.truncate(16);
            form.insert("code_digest".to_owned(), digest.into());
        }
    }
    form
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_cut_and_codes_can_be_told_apart() {
        let form = "grant_type=authorization_code&code=abc&client_id=c&client_secret=s1&code_verifier=s2&token=s3&x=s4";
        let masked = Value::Object(masked(&Params::parse(form.as_bytes())));
        assert_eq!(
            masked,
            json!({
                "grant_type": "authorization_code", "client_id": "c", "code": "[cut]", "client_secret": "[cut]",
                "code_verifier": "[cut]", "token": "[cut]", "x": "[cut]", "code_digest": "ba7816bf8f01cfea",
            })
        );
    }

    #[test]
    fn an_answer_that_comes_after_clearing_marks_no_other_entry() {
        let mut journal = Journal::default();
        let head = |path: &str| axum::http::Request::get(path).body(()).unwrap().into_parts().0;
        let early = journal.open(Moment::at(0), &head("/a"), b"");
        journal.clear();
        let late = journal.open(Moment::at(0), &head("/b"), b"");
        journal.close(early, 500);
        assert_eq!(journal.to_json()[0]["status"], Value::Null);
        journal.close(late, 200);
        assert_eq!(
            journal.to_json(),
            json!([{"time": "1970-01-01T00:00:00.000Z", "method": "GET", "path": "/b", "form": {}, "status": 200}])
        );
    }
}
