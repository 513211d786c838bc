//! Scripted misbehaviour: answers, delays and broken connections, each for the next few requests to an endpoint.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use data_encoding::BASE64;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::watch;
use tokio_stream::StreamExt;

/// The endpoints of the contract, by the names that faults use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Endpoint {
    Authorize,
    Token,
    Userinfo,
    Revoke,
    Session,
}

/// How a connection goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Break {
    /// The connection is reset; the request is not handled.
    ResetBefore,
    /// The request is handled and the connection reset instead of answering.
    ResetAfter,
    /// Nothing is handled and nothing answered, until the client gives up.
    Hang,
    /// Headers and the beginning of a body are sent, the end of it never.
    HangBody,
    /// The request waits until the faults are taken back, and goes its way then.
    Hold,
}

/// What happens to the next `times` requests.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fault {
    endpoint: Endpoint,
    #[serde(default = "once")]
    times: u32,
    status: Option<u16>,
    #[serde(default)]
    headers: BTreeMap<String, Values>,
    body: Option<Value>,
    /// The body where it is no text: one that is compressed, say.
    body_base64: Option<String>,
    delay_ms: Option<u64>,
    fault: Option<Break>,
}

fn once() -> u32 {
    1
}

/// The value of a header, or several for one that is sent so many times.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Values {
    One(String),
    Several(Vec<String>),
}

impl Values {
    fn as_slice(&self) -> &[String] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Several(values) => values,
        }
    }
}

impl Fault {
    /// Says what is wrong with it, naming the field.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.times == 0 {
            return Err("times is 0; give 1 or more".to_owned());
        }
        if let Some(status) = self.status.filter(|status| !(200..=599).contains(status)) {
            return Err(format!("status: {status} is not a final HTTP status; give 200 to 599"));
        }
        if self.body.is_some() && self.body_base64.is_some() {
            return Err("body_base64: there is a body already; leave one of them out".to_owned());
        }
        if self.body_base64.as_ref().is_some_and(|text| BASE64.decode(text.as_bytes()).is_err()) {
            return Err("body_base64 is not base64".to_owned());
        }
        for (name, values) in &self.headers {
            let Ok(name) = name.parse::<HeaderName>() else {
                return Err(format!("headers: {name:?} is not the name of a header"));
            };
            if values.as_slice().iter().any(|value| HeaderValue::from_str(value).is_err()) {
                return Err(format!(
                    "headers: the value of {name} has characters that a header cannot carry"
                ));
            }
            if [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION].contains(&name) {
                return Err(format!("headers: {name} belongs to the connection; leave it out"));
            }
        }
        match self.fault {
            Some(Break::ResetBefore | Break::ResetAfter | Break::Hang) if self.answers() => {
                Err("fault: nothing is answered then; leave out status, headers and body".to_owned())
            }
            None if !self.answers() && self.delay_ms.is_none() => {
                Err("nothing is to happen; give status, headers, body, delay_ms or fault".to_owned())
            }
            Some(_) | None => Ok(()),
        }
    }

    fn answers(&self) -> bool {
        self.status.is_some() || !self.headers.is_empty() || self.body.is_some() || self.body_base64.is_some()
    }

    /// Lets the fault happen, until it is taken back where it holds the request. `handle` is the request's ordinary way;
    /// `None` means that the connection is to be reset.
    pub(super) async fn happen(
        self,
        mut taken_back: watch::Receiver<()>,
        handle: impl Future<Output = Response>,
    ) -> Option<Response> {
        if let Some(delay) = self.delay_ms {
            // A client's patience runs on real time, and so does this, not on the sandbox's clock.
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        match self.fault {
            Some(Break::ResetBefore) => None,
            Some(Break::ResetAfter) => {
                handle.await;
                None
            }
            Some(Break::Hang) => std::future::pending().await,
            Some(Break::HangBody) => Some(self.answer(true)),
            Some(Break::Hold) => {
                // An error means that the sandbox ends.
                let _ = taken_back.changed().await;
                Some(if self.answers() { self.answer(false) } else { handle.await })
            }
            None if self.answers() => Some(self.answer(false)),
            None => Some(handle.await),
        }
    }

    fn answer(&self, stall: bool) -> Response {
        let binary = self.body_base64.as_ref().and_then(|text| BASE64.decode(text.as_bytes()).ok());
        let (kind, bytes) = match (&self.body, binary) {
            (Some(Value::String(text)), _) => (Some("text/plain; charset=utf-8"), Bytes::from(text.clone())),
            (Some(json), _) => (Some("application/json"), Bytes::from(json.to_string())),
            (None, Some(binary)) => (None, Bytes::from(binary)),
            (None, None) if stall => (None, Bytes::from_static(b"{")),
            (None, None) => (None, Bytes::new()),
        };
        let body = if stall {
            let start = tokio_stream::once(Ok::<_, Infallible>(bytes));
            Body::from_stream(start.chain(tokio_stream::pending()))
        } else {
            Body::from(bytes)
        };
        let mut answer = body.into_response();
        *answer.status_mut() =
            self.status.and_then(|s| StatusCode::from_u16(s).ok()).unwrap_or(StatusCode::OK);
        answer.headers_mut().extend(kind.map(|kind| (header::CONTENT_TYPE, HeaderValue::from_static(kind))));
        for (name, values) in &self.headers {
            let Ok(name) = name.parse::<HeaderName>() else { continue };
            answer.headers_mut().remove(&name);
            for value in values.as_slice().iter().filter_map(|value| HeaderValue::from_str(value).ok()) {
                answer.headers_mut().append(&name, value);
            }
        }
        answer
    }
}

/// The faults still to come, for each endpoint in the order they were asked for.
#[derive(Default)]
pub(super) struct Queue {
    to_come: HashMap<Endpoint, VecDeque<Fault>>,
    taken_back: watch::Sender<()>,
}

impl Queue {
    pub(super) fn add(&mut self, fault: Fault) {
        self.to_come.entry(fault.endpoint).or_default().push_back(fault);
    }

    /// Takes back those to come, and lets go of the requests that are held.
    pub(super) fn clear(&mut self) {
        self.to_come.clear();
        self.taken_back.send_replace(());
    }

    /// Hears of the faults being taken back.
    pub(super) fn taken_back(&self) -> watch::Receiver<()> {
        self.taken_back.subscribe()
    }

    /// What is to befall the next request to this endpoint.
    pub(super) fn take(&mut self, endpoint: Endpoint) -> Option<Fault> {
        let queue = self.to_come.get_mut(&endpoint)?;
        let first = queue.front_mut()?;
        if first.times > 1 {
            first.times -= 1;
            return Some(first.clone());
        }
        queue.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> Fault {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn faults_come_in_order_as_often_as_asked_at_their_endpoint_alone() {
        let mut queue = Queue::default();
        queue.add(fault(r#"{"endpoint": "token", "times": 2, "status": 500}"#));
        queue.add(fault(r#"{"endpoint": "token", "fault": "reset_after"}"#));
        assert!(queue.take(Endpoint::Userinfo).is_none());
        let statuses: Vec<_> = (0..4).map(|_| queue.take(Endpoint::Token).map(|f| f.status)).collect();
        assert_eq!(statuses, [Some(Some(500)), Some(Some(500)), Some(None), None]);
    }

    #[test]
    fn a_fault_that_makes_no_sense_is_refused_by_the_name_of_the_field() {
        for (text, field) in [
            (r#"{"endpoint": "token"}"#, "nothing"),
            (r#"{"endpoint": "token", "times": 0, "status": 500}"#, "times"),
            (r#"{"endpoint": "token", "status": 100}"#, "status"),
            (r#"{"endpoint": "token", "headers": {"a b": "c"}}"#, "headers"),
            (r#"{"endpoint": "token", "headers": {"a": "b\n"}}"#, "headers"),
            (r#"{"endpoint": "token", "headers": {"Content-Length": "3"}}"#, "headers"),
            (r#"{"endpoint": "token", "fault": "hang", "status": 500}"#, "fault"),
            (r#"{"endpoint": "token", "body": "a", "body_base64": "YQ=="}"#, "body_base64"),
            (r#"{"endpoint": "token", "body_base64": "a"}"#, "body_base64"),
        ] {
            assert!(fault(text).check().unwrap_err().starts_with(field), "{text}");
        }
        let odd = fault(r#"{"endpoint": "token", "body_base64": "H4s=", "headers": {"a": ["1", "2"]}}"#);
        assert_eq!(odd.check(), Ok(()));
        let sent = odd.answer(false);
        assert_eq!(sent.headers().get_all("a").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(
            fault(r#"{"endpoint": "session", "delay_ms": 5, "fault": "hang_body", "body": "{"}"#).check(),
            Ok(())
        );
    }
}
