//! What is counted of the flows, since the start of the process.

use prometheus_client::metrics::{counter::Counter, family::Family};

use crate::domain::{ClientName, Reason, Refusal};

/// What is watched for its growth (the alerts of docs/metrics.md), which a count that is there only from the first one on
/// would hide.
const WATCHED: [Reason; 4] =
    [Reason::InvalidClient, Reason::ClientInactive, Reason::PaymentRequired, Reason::OutcomeUnknown];

/// The counts. Clones are hands on the same ones.
#[derive(Clone, Debug, Default)]
pub struct FlowMetrics {
    /// Exchanges by `client` and `outcome`: `COMPLETE`, or the reason that their callers heard. One for each callback that was
    /// sent to the provider, whoever shared it and however many attempts it took.
    pub exchanges: Family<[(&'static str, String); 2], Counter>,
}

impl FlowMetrics {
    /// A client is there: what is watched of it is, from zero on.
    pub fn begin(&self, client: &ClientName) {
        for outcome in WATCHED.map(Reason::as_str).into_iter().chain(["COMPLETE"]) {
            self.count(client, outcome);
        }
    }

    pub(super) fn exchanged<T>(&self, client: &ClientName, outcome: &Result<T, Refusal>) {
        let outcome = match outcome {
            Ok(_) => "COMPLETE",
            Err(refusal) => refusal.reason.as_str(),
        };
        self.count(client, outcome).inc();
    }

    fn count(&self, client: &ClientName, outcome: &str) -> Counter {
        self.exchanges.get_or_create_owned(&[("client", client.to_string()), ("outcome", outcome.to_owned())])
    }
}
