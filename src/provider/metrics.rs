//! What is counted of the requests to providers, since the start of the process.

use std::time::Duration;

use prometheus_client::metrics::{counter::Counter, family::Family, histogram::Histogram};

use crate::domain::{ClientName, Stage};

/// How long a request takes, seconds: up to the longest that may be configured.
const REQUESTS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Where requests go.
const ENDPOINTS: [Stage; 4] = [Stage::Token, Stage::Userinfo, Stage::Session, Stage::Revoke];

/// Times by labels.
pub(super) type Durations = Family<[(&'static str, String); 2], Histogram, fn() -> Histogram>;

/// The counts of all clients. Clones are hands on the same ones, which go on over a reload.
#[derive(Clone, Debug)]
pub struct ProviderMetrics {
    /// Requests by `client`, `endpoint` and `outcome`: the answer's status as `2xx`, `3xx`, `4xx`, `429` or `5xx`,
    /// `unreachable` where no connection was made, `unanswered` where one was sent and no answer came.
    pub requests: Family<[(&'static str, String); 3], Counter>,
    /// How long they took, seconds, by `client` and `endpoint`, those included that got no answer.
    pub durations: Durations,
}

impl Default for ProviderMetrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(REQUESTS)),
        }
    }
}

impl ProviderMetrics {
    /// A client is there: its requests are counted from zero on, since whoever watches their growth would not see the first
    /// of a count that comes with it.
    pub fn begin(&self, client: &ClientName) {
        for endpoint in ENDPOINTS.map(Stage::as_str) {
            for end in End::ALL {
                self.count(client, endpoint, end);
            }
        }
    }

    fn count(&self, client: &ClientName, endpoint: &str, end: End) -> Counter {
        self.requests.get_or_create_owned(&[
            ("client", client.to_string()),
            ("endpoint", endpoint.to_owned()),
            ("outcome", end.as_str().to_owned()),
        ])
    }
}

/// A request's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Answered(u16),
    Unreachable,
    Unanswered,
}

impl End {
    /// One of each that is told apart.
    const ALL: [Self; 7] = [
        Self::Answered(200),
        Self::Answered(300),
        Self::Answered(400),
        Self::Answered(429),
        Self::Answered(500),
        Self::Unreachable,
        Self::Unanswered,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Answered(429) => "429",
            Self::Answered(500..) => "5xx",
            Self::Answered(400..) => "4xx",
            Self::Answered(300..) => "3xx",
            Self::Answered(_) => "2xx",
            Self::Unreachable => "unreachable",
            Self::Unanswered => "unanswered",
        }
    }
}

/// The counts of one client.
#[derive(Clone, Debug)]
pub(super) struct ClientMetrics {
    pub(super) client: ClientName,
    pub(super) all: ProviderMetrics,
}

impl ClientMetrics {
    /// A request to an endpoint has ended.
    pub(super) fn ended(&self, endpoint: &str, end: End, took: Duration) {
        self.all.count(&self.client, endpoint, end).inc();
        let (client, endpoint) = (("client", self.client.to_string()), ("endpoint", endpoint.to_owned()));
        self.all.durations.get_or_create(&[client, endpoint]).observe(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart_as_far_as_an_operator_acts_on_it() {
        let named = [
            (200, "2xx"),
            (302, "3xx"),
            (400, "4xx"),
            (404, "4xx"),
            (429, "429"),
            (451, "4xx"),
            (500, "5xx"),
            (599, "5xx"),
        ];
        for (status, name) in named {
            assert_eq!(End::Answered(status).as_str(), name, "{status}");
        }
    }
}
