//! What is counted of the flows, since the start of the process.

use prometheus_client::metrics::{counter::Counter, family::Family};

use crate::domain::{ClientName, Refusal};

/// The counts. Clones are hands on the same ones.
#[derive(Clone, Debug, Default)]
pub struct FlowMetrics {
    /// Exchanges by `client` and `outcome`: `COMPLETE`, or the reason that their callers heard. One for each callback that was
    /// sent to the provider, whoever shared it and however many attempts it took.
    pub exchanges: Family<[(&'static str, String); 2], Counter>,
}

impl FlowMetrics {
    pub(super) fn exchanged<T>(&self, client: &ClientName, outcome: &Result<T, Refusal>) {
        let outcome = match outcome {
            Ok(_) => "COMPLETE",
            Err(refusal) => refusal.reason.as_str(),
        };
        self.exchanges
            .get_or_create(&[("client", client.to_string()), ("outcome", outcome.to_owned())])
            .inc();
    }
}
