//! Webhooks: signed, delivered on the provider's schedule, by the sandbox's clock.

use std::collections::BTreeSet;
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
    #[serde(skip)]
    created: Moment,
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

/// A body that cannot go anywhere.
#[derive(Debug)]
pub(super) struct NoEndpoint;

/// All deliveries since the start.
#[derive(Default)]
pub(super) struct Deliveries {
    all: Vec<Delivery>,
    /// When each waiting delivery is due. One that is under way is not here.
    due: BTreeSet<(Moment, usize)>,
}

impl Deliveries {
    /// Puts `copies` deliveries of one body on the way.
    pub(super) fn add(
        &mut self,
        id: &str,
        client: &Client,
        body: &Bytes,
        copies: u32,
        bad_signature: bool,
        now: Moment,
    ) -> Result<(), NoEndpoint> {
        let (Some(url), Some(secret)) = (&client.webhook_url, &client.webhook_secret) else {
            return Err(NoEndpoint);
        };
        // A bad signature is well formed: that of the same body under another secret.
        let secret = if bad_signature { format!("not {secret}") } else { secret.clone() };
        let signature = sign(secret.as_bytes(), body);
        for copy in 1..=copies {
            let delivery = self.all.len();
            self.all.push(Delivery {
                delivery_id: id.to_owned(),
                copy,
                client_id: client.client_id.clone(),
                fate: Fate::Pending,
                attempts: Vec::new(),
                created: now,
                job: Job { delivery, url: url.clone(), signature: signature.clone(), body: body.clone() },
            });
            self.due.insert((now, delivery));
        }
        Ok(())
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
    fn finish(&mut self, index: usize, status: Option<u16>) {
        let Some(delivery) = self.all.get_mut(index) else { return };
        if let Some(attempt) = delivery.attempts.last_mut() {
            attempt.status = status;
        }
        if status.is_some_and(|status| (200..300).contains(&status)) {
            delivery.fate = Fate::Delivered;
        } else if let Some(later) = SCHEDULE.get(delivery.attempts.len()) {
            self.due.insert((delivery.created.plus(*later), index));
        } else {
            delivery.fate = Fate::Failed;
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
                    shared.with(|inside, _| inside.webhooks.finish(delivery, status));
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

    fn deliveries(copies: u32) -> Deliveries {
        let mut client = client();
        client.webhook_url = Some("http://localhost/hook".into());
        client.webhook_secret = Some("secret".into());
        let mut deliveries = Deliveries::default();
        deliveries.add("whd_1", &client, &Bytes::from_static(b"{}"), copies, false, Moment::at(0)).unwrap();
        deliveries
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
            deliveries.finish(0, Some(500));
            assert_eq!(deliveries.take_due(Moment::at(next - 1)).1, Some(Moment::at(next)));
        }
        assert_eq!(deliveries.take_due(Moment::at(360_000)).0.len(), 1);
        deliveries.finish(0, None);
        assert_eq!(deliveries.take_due(Moment::at(u64::MAX)).0.len(), 0);
        assert_eq!(deliveries.to_json()[0]["fate"], "failed");
    }

    #[test]
    fn a_delivery_ends_with_the_first_success_and_copies_go_each_their_way() {
        let mut deliveries = deliveries(2);
        assert_eq!(deliveries.take_due(Moment::at(0)).0.len(), 2);
        deliveries.finish(0, Some(204));
        deliveries.finish(1, Some(302));
        let (jobs, next) = deliveries.take_due(Moment::at(60_000));
        assert_eq!((jobs.len(), jobs[0].delivery, next), (1, 1, None));
        let list = deliveries.to_json();
        assert_eq!((&list[0]["fate"], &list[1]["fate"]), (&"delivered".into(), &"pending".into()));
        assert!(!list.to_string().contains("sha256="));
    }

    #[test]
    fn a_client_without_an_endpoint_gets_nothing() {
        let mut deliveries = Deliveries::default();
        assert!(deliveries.add("whd_1", &client(), &Bytes::new(), 1, false, Moment::at(0)).is_err());
    }
}
