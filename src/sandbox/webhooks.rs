//! Webhooks: signed, delivered on the provider's schedule, by the sandbox's clock.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use serde_json::Value;
use sha2::Sha256;
use tokio::task::JoinSet;

use super::clock::Moment;
use super::{Client, Shared};

/// When attempts are due, counted from the first: at once, a minute later, and five minutes after that.
const SCHEDULE: [Duration; 3] = [Duration::ZERO, Duration::from_secs(60), Duration::from_secs(360)];
/// How long an endpoint may take to answer, in real time.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Fate {
    Pending,
    Delivered,
    Failed,
}

#[derive(Serialize)]
struct Attempt {
    time: String,
    /// Null while under way, and if no answer came.
    status: Option<u16>,
}

/// One body on its way to one endpoint.
#[derive(Serialize)]
struct Delivery {
    delivery_id: String,
    copy: u32,
    client_id: String,
    fate: Fate,
    attempts: Vec<Attempt>,
    /// When the schedule begins.
    #[serde(skip)]
    first_due: Moment,
    /// What waits for the end of the first attempt, and is due so long after it.
    #[serde(skip)]
    next: Option<(usize, Duration)>,
    #[serde(skip)]
    job: Job,
}

/// What an attempt sends; every attempt sends the same bytes.
#[derive(Clone)]
pub(super) struct Job {
    delivery: usize,
    url: String,
    signature: String,
    body: Bytes,
}

/// Where a client's webhooks go, and what signs them.
#[derive(Clone)]
pub(super) struct Endpoint {
    client_id: String,
    url: String,
    secret: String,
}

impl Endpoint {
    /// A client's; none where it has none.
    pub(super) fn of(client: &Client) -> Option<Self> {
        let (url, secret) = (client.webhook_url.clone()?, client.webhook_secret.clone()?);
        Some(Self { client_id: client.client_id.clone(), url, secret })
    }
}

/// What signs a body.
pub(super) enum Signer {
    /// The client's secret.
    Client,
    /// Another, whatever it is.
    Wrong,
    /// This one: what the client's was, or will be, say.
    Secret(String),
}

/// A body, and how it is sent.
pub(super) struct Sending {
    pub(super) body: Bytes,
    pub(super) copies: u32,
    pub(super) signer: Signer,
    /// How much later than it would be otherwise, by the sandbox's clock.
    pub(super) delay: Duration,
}

impl Sending {
    /// As the provider means it: once, signed well, at once.
    pub(super) fn ordinary(body: Bytes) -> Self {
        Self { body, copies: 1, signer: Signer::Client, delay: Duration::ZERO }
    }

    fn signature(&self, endpoint: &Endpoint) -> String {
        match &self.signer {
            Signer::Client => sign(endpoint.secret.as_bytes(), &self.body),
            // Well formed: that of the same body under another secret.
            Signer::Wrong => sign(format!("not {}", endpoint.secret).as_bytes(), &self.body),
            Signer::Secret(secret) => sign(secret.as_bytes(), &self.body),
        }
    }
}

/// All deliveries since the start.
#[derive(Default)]
pub(super) struct Deliveries {
    all: Vec<Delivery>,
    /// When each waiting delivery is due. One that is under way is not here.
    due: BTreeSet<(Moment, usize)>,
}

impl Deliveries {
    /// Puts a body on the way; its copies go all at once.
    pub(super) fn add(&mut self, id: &str, endpoint: &Endpoint, sending: &Sending, now: Moment) {
        for index in self.push(id, endpoint, sending) {
            self.schedule(index, now.plus(sending.delay));
        }
    }

    /// Puts bodies on the way one after the other, copies too: each is due when the first attempt of the one before has
    /// ended, whatever came of it. Nothing overtakes, so that the order at the receiver is that of the list.
    pub(super) fn add_in_order(&mut self, list: &[(String, Endpoint, Sending)], now: Moment) {
        let mut before: Option<usize> = None;
        for (id, endpoint, sending) in list {
            for index in self.push(id, endpoint, sending) {
                match before.and_then(|before| self.all.get_mut(before)) {
                    Some(before) => before.next = Some((index, sending.delay)),
                    None => self.schedule(index, now.plus(sending.delay)),
                }
                before = Some(index);
            }
        }
    }

    /// Notes the copies of a body, and answers their places; none is due yet.
    fn push(&mut self, id: &str, endpoint: &Endpoint, sending: &Sending) -> Range<usize> {
        let first = self.all.len();
        let signature = sending.signature(endpoint);
        for copy in 1..=sending.copies {
            let delivery = self.all.len();
            let (url, signature, body) = (endpoint.url.clone(), signature.clone(), sending.body.clone());
            self.all.push(Delivery {
                delivery_id: id.to_owned(),
                copy,
                client_id: endpoint.client_id.clone(),
                fate: Fate::Pending,
                attempts: Vec::new(),
                first_due: Moment::NEVER,
                next: None,
                job: Job { delivery, url, signature, body },
            });
        }
        first..self.all.len()
    }

    /// The schedule of a delivery begins then.
    fn schedule(&mut self, index: usize, when: Moment) {
        if let Some(delivery) = self.all.get_mut(index) {
            delivery.first_due = when;
            self.due.insert((when, index));
        }
    }

    /// Takes out what is due, and says when the next is.
    fn take_due(&mut self, now: Moment) -> (Vec<Job>, Option<Moment>) {
        let mut jobs = Vec::new();
        while let Some(&(when, index)) = self.due.first() {
            if when > now {
                return (jobs, Some(when));
            }
            self.due.pop_first();
            if let Some(delivery) = self.all.get_mut(index) {
                delivery.attempts.push(Attempt { time: now.to_string(), status: None });
                jobs.push(delivery.job.clone());
            }
        }
        (jobs, None)
    }

    /// An attempt has ended: done, to be tried again, or failed for good.
    fn finish(&mut self, index: usize, status: Option<u16>, now: Moment) {
        let Some(delivery) = self.all.get_mut(index) else { return };
        if let Some(attempt) = delivery.attempts.last_mut() {
            attempt.status = status;
        }
        if status.is_some_and(|status| (200..300).contains(&status)) {
            delivery.fate = Fate::Delivered;
        } else if let Some(later) = SCHEDULE.get(delivery.attempts.len()) {
            self.due.insert((delivery.first_due.plus(*later), index));
        } else {
            delivery.fate = Fate::Failed;
        }
        if let Some((next, delay)) = delivery.next.take() {
            self.schedule(next, now.plus(delay));
        }
    }

    pub(super) fn to_json(&self) -> Value {
        serde_json::to_value(&self.all).unwrap_or_default()
    }
}

/// `sha256=` and the HMAC-SHA256 of the body in hex, which is what `X-CAIRL-Signature` carries.
#[expect(clippy::expect_used, reason = "HMAC takes a key of any length (RFC 2104 §2)")]
pub(super) fn sign(secret: &[u8], body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes a key of any length");
    mac.update(body);
    format!("sha256={}", HEXLOWER.encode(&mac.finalize().into_bytes()))
}

/// The client that delivers: no redirects, no proxies, no retries but those of the schedule.
pub(super) fn http_client() -> std::io::Result<reqwest::Client> {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .pool_max_idle_per_host(0)
        .timeout(PATIENCE)
        .build()
        .map_err(std::io::Error::other)
}

/// Delivers whatever is due, for as long as it is polled.
pub(super) async fn deliver(shared: Arc<Shared>, client: reqwest::Client) {
    let mut under_way: JoinSet<(usize, Option<u16>)> = JoinSet::new();
    loop {
        let (jobs, wait) = shared.with(|inside, now| {
            let (jobs, next) = inside.webhooks.take_due(now);
            (jobs, next.map(|next| next.since(now)))
        });
        for job in jobs {
            under_way.spawn(attempt(client.clone(), job));
        }
        let next_due = async {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // A new delivery, or a clock that was moved.
            () = shared.wake.notified() => {}
            () = next_due => {}
            Some(ended) = under_way.join_next() => {
                if let Ok((delivery, status)) = ended {
                    shared.with(|inside, now| inside.webhooks.finish(delivery, status, now));
                }
            }
        }
    }
}

async fn attempt(client: reqwest::Client, job: Job) -> (usize, Option<u16>) {
    let request = client
        .post(&job.url)
        .header("content-type", "application/json")
        .header("x-cairl-signature", &job.signature)
        .body(job.body);
    let status = match request.send().await {
        Ok(answer) => Some(answer.status().as_u16()),
        Err(error) => {
            tracing::debug!(error = %error.without_url(), "a webhook got no answer");
            None
        }
    };
    (job.delivery, status)
}

#[cfg(test)]
mod tests {
    use super::super::authorize::tests::client;
    use super::*;

    fn endpoint() -> Endpoint {
        let mut client = client();
        client.webhook_url = Some("http://localhost/hook".into());
        client.webhook_secret = Some("secret".into());
        Endpoint::of(&client).unwrap()
    }

    fn sending(copies: u32, delay_ms: u64) -> Sending {
        let delay = Duration::from_millis(delay_ms);
        Sending { copies, delay, ..Sending::ordinary(Bytes::from_static(b"{}")) }
    }

    fn deliveries(copies: u32) -> Deliveries {
        let mut deliveries = Deliveries::default();
        deliveries.add("whd_1", &endpoint(), &sending(copies, 0), Moment::at(0));
        deliveries
    }

    /// Which deliveries are due.
    fn due(deliveries: &mut Deliveries, now: u64) -> Vec<usize> {
        deliveries.take_due(Moment::at(now)).0.iter().map(|job| job.delivery).collect()
    }

    #[test]
    fn the_signature_is_an_hmac_of_the_body() {
        // RFC 4231, test case 2.
        assert_eq!(
            sign(b"Jefe", b"what do ya want for nothing?"),
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn three_attempts_are_made_on_schedule_and_no_more() {
        let mut deliveries = deliveries(1);
        for (now, next) in [(0, 60_000), (60_000, 360_000)] {
            let (jobs, _) = deliveries.take_due(Moment::at(now));
            assert_eq!(jobs.len(), 1);
            assert_eq!(deliveries.take_due(Moment::at(now)).0.len(), 0, "none while one is under way");
            deliveries.finish(0, Some(500), Moment::at(now));
            assert_eq!(deliveries.take_due(Moment::at(next - 1)).1, Some(Moment::at(next)));
        }
        assert_eq!(deliveries.take_due(Moment::at(360_000)).0.len(), 1);
        deliveries.finish(0, None, Moment::at(360_000));
        assert_eq!(deliveries.take_due(Moment::at(u64::MAX)).0.len(), 0);
        assert_eq!(deliveries.to_json()[0]["fate"], "failed");
    }

    #[test]
    fn a_delivery_ends_with_the_first_success_and_copies_go_each_their_way() {
        let mut deliveries = deliveries(2);
        assert_eq!(deliveries.take_due(Moment::at(0)).0.len(), 2);
        deliveries.finish(0, Some(204), Moment::at(0));
        deliveries.finish(1, Some(302), Moment::at(0));
        let (jobs, next) = deliveries.take_due(Moment::at(60_000));
        assert_eq!((jobs.len(), jobs[0].delivery, next), (1, 1, None));
        let list = deliveries.to_json();
        assert_eq!((&list[0]["fate"], &list[1]["fate"]), (&"delivered".into(), &"pending".into()));
        assert!(!list.to_string().contains("sha256="));
    }

    #[test]
    fn a_late_delivery_keeps_its_schedule() {
        let mut deliveries = Deliveries::default();
        deliveries.add("whd_1", &endpoint(), &sending(1, 5000), Moment::at(0));
        assert_eq!(due(&mut deliveries, 4999), [0; 0]);
        assert_eq!(due(&mut deliveries, 5000), [0]);
        deliveries.finish(0, None, Moment::at(15_000));
        assert_eq!(
            deliveries.take_due(Moment::at(64_999)).1,
            Some(Moment::at(65_000)),
            "a minute after the first"
        );
    }

    #[test]
    fn a_list_goes_one_by_one_and_a_failure_holds_nothing_up() {
        let mut deliveries = Deliveries::default();
        let list = [(1, 0), (2, 0), (1, 5000)]
            .map(|(copies, delay)| ("whd".to_owned(), endpoint(), sending(copies, delay)));
        deliveries.add_in_order(&list, Moment::at(0));
        assert_eq!(due(&mut deliveries, u64::MAX), [0]);
        deliveries.finish(0, Some(500), Moment::at(10));
        assert_eq!(due(&mut deliveries, 10), [1], "its second attempt is not waited for");
        deliveries.finish(1, Some(200), Moment::at(20));
        assert_eq!(due(&mut deliveries, 20), [2], "copies too");
        deliveries.finish(2, Some(200), Moment::at(30));
        assert_eq!(due(&mut deliveries, 5029), [0; 0]);
        assert_eq!(due(&mut deliveries, 5030), [3], "so long after the one before");
        deliveries.finish(3, Some(200), Moment::at(5030));
        assert_eq!(due(&mut deliveries, 60_000), [0]);
        deliveries.finish(0, Some(200), Moment::at(60_000));
        assert_eq!(due(&mut deliveries, u64::MAX), [0; 0], "each is sent once");
    }

    #[test]
    fn a_client_without_an_endpoint_gets_nothing() {
        assert!(Endpoint::of(&client()).is_none());
    }
}
