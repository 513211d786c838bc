//! The clients: their provider, budgets, webhooks, events and the consumers of these.

use super::{
    book::{Book, Row, entry},
    gauge, seconds,
};
use crate::{
    flows::{BudgetStatus, FlowMetrics, Flows, ReconciliationStatus, WebhookCounts},
    provider::ProviderMetrics,
    store::{ConsumerStatus, StoreStatus},
};

/// How many consumers of a client have a row of their own: those that are furthest behind. Callers choose their names.
const CONSUMERS: usize = 64;

/// The numbers of all clients.
#[derive(Default)]
pub(super) struct Clients(Vec<ClientNumbers>);

struct ClientNumbers {
    name: String,
    budgets: Vec<BudgetStatus>,
    webhooks: WebhookCounts,
    reconciliation: ReconciliationStatus,
    consumers: Vec<ConsumerStatus>,
}

pub(super) fn write_exchanges(book: &mut Book, flows: &FlowMetrics, provider: &ProviderMetrics) {
    book.heading("The provider");
    book.metric(
        entry(
            "cairld_exchanges",
            &["client", "outcome"],
            "What came of callbacks that were sent to the provider, one for each whoever shared it: `COMPLETE`, or a reason \
             (docs/errors.md).",
        ),
        flows.exchanges.clone(),
    );
    book.metric(
        entry(
            "cairld_provider_requests",
            &["client", "endpoint", "outcome"],
            "Requests to the provider: `2xx`, `3xx`, `4xx`, `429` and `5xx` by the answer's status, `unreachable` where no connection \
             was made, `unanswered` where a request was sent and no answer came.",
        ),
        provider.requests.clone(),
    );
    book.metric(
        entry(
            "cairld_provider_request_duration",
            &["client", "endpoint"],
            "How long requests to the provider took.",
        )
        .in_unit("seconds"),
        provider.durations.clone(),
    );
}

#[cfg(test)]
impl Clients {
    /// One client of which nothing is known but its rate budget.
    pub(super) fn of(name: &str) -> Self {
        use crate::domain::BudgetKind;

        let budget =
            BudgetStatus { kind: BudgetKind::Token, limit: 30, used: 0, waiting: 0, closed_until: None };
        Self(vec![ClientNumbers {
            name: name.to_owned(),
            budgets: vec![budget],
            webhooks: WebhookCounts::default(),
            reconciliation: ReconciliationStatus::default(),
            consumers: Vec::new(),
        }])
    }
}

impl Clients {
    pub(super) async fn read(flows: &Flows) -> Self {
        let mut clients = Vec::new();
        for client in flows.clients() {
            // What a store that does not read leaves out is told by cairld_store_writable.
            let budgets = flows.budgets(&client.name).await.map(Vec::from).unwrap_or_default();
            let mut consumers = flows.consumers(&client.name).await.unwrap_or_default();
            consumers.sort_by_key(|consumer| std::cmp::Reverse(consumer.behind));
            clients.push(ClientNumbers {
                name: client.name.to_string(),
                budgets,
                webhooks: flows.webhook_counts(&client.name).unwrap_or_default(),
                reconciliation: flows.reconciliation(&client.name),
                consumers,
            });
        }
        Self(clients)
    }

    pub(super) fn write(&self, book: &mut Book, store: &StoreStatus, unread_removed: u64) {
        self.write_budgets(book);
        self.write_webhooks(book);
        self.write_reconciliation(book);
        self.write_events(book, store, unread_removed);
    }

    fn write_budgets(&self, book: &mut Book) {
        let budgets = || {
            self.0
                .iter()
                .flat_map(|client| client.budgets.iter().map(|budget| (client.name.as_str(), budget)))
        };
        let row = |client, budget: &BudgetStatus, value| {
            Row::of([("client", client), ("budget", budget.kind.as_str())], value)
        };
        book.heading("Rate budgets");
        book.gauges(
            entry(
                "cairld_budget_limit",
                &["client", "budget"],
                "Requests allowed in any 60 seconds; clients that share a credential share its budget.",
            ),
            budgets().map(|(client, budget)| row(client, budget, gauge(budget.limit.into()))),
        );
        book.gauges(
            entry(
                "cairld_budget_used",
                &["client", "budget"],
                "Requests that still count: under way, or answered within the last 60 seconds.",
            ),
            budgets().map(|(client, budget)| row(client, budget, gauge(budget.used.into()))),
        );
        book.gauges(
            entry(
                "cairld_budget_waiting",
                &["client", "budget"],
                "Callbacks, or questions, that wait in line for a slot.",
            ),
            budgets().map(|(client, budget)| row(client, budget, gauge(budget.waiting as u64))),
        );
        book.gauges(
            entry(
                "cairld_budget_closed_until_timestamp",
                &["client", "budget"],
                "Until when the provider has closed the budget with 429; left out while it is open.",
            )
            .in_unit("seconds"),
            budgets().filter_map(|(client, budget)| Some(row(client, budget, seconds(budget.closed_until?)))),
        );
    }

    fn write_webhooks(&self, book: &mut Book) {
        book.heading("Webhooks");
        book.counters(
            entry(
                "cairld_webhooks",
                &["client", "result"],
                "Webhooks, by either way in: `kept`, `duplicate` of one that was kept, `refused` for their signature.",
            ),
            self.0.iter().flat_map(|client| {
                let WebhookCounts { kept, duplicates, refused, .. } = &client.webhooks;
                [("kept", kept), ("duplicate", duplicates), ("refused", refused)]
                    .map(|(result, count)| Row::of([("client", client.name.as_str()), ("result", result)], *count))
            }),
        );
        book.counters(
            entry(
                "cairld_webhooks_verified",
                &["client", "secret"],
                "Webhooks by the secret that verified them: its place in webhook_secret_files, from 0. A secret whose number stands \
                 still can go.",
            ),
            self.0.iter().flat_map(|client| {
                client.webhooks.verified.iter().enumerate().map(|(place, count)| {
                    Row::of([("client", client.name.as_str()), ("secret", &place.to_string())], *count)
                })
            }),
        );
        book.gauges(
            entry(
                "cairld_webhook_last_timestamp",
                &["client"],
                "When the last webhook was verified; left out before the first.",
            )
            .in_unit("seconds"),
            self.0.iter().filter_map(|client| {
                Some(Row::of([("client", client.name.as_str())], seconds(client.webhooks.last?.wall)))
            }),
        );
    }

    fn write_reconciliation(&self, book: &mut Book) {
        let rows = |number: fn(&ReconciliationStatus) -> u64| {
            let rows = self.0.iter().map(move |client| {
                Row::of([("client", client.name.as_str())], number(&client.reconciliation))
            });
            rows.collect::<Vec<_>>()
        };
        book.heading("Reconciliation");
        book.counters(
            entry(
                "cairld_reconciliation_asked",
                &["client"],
                "Sessions that the provider was asked about since webhooks may have been missed.",
            ),
            rows(|status| status.asked),
        );
        book.counters(
            entry(
                "cairld_reconciliation_moved",
                &["client"],
                "Those of them that had moved on: webhooks that were missed, or are late.",
            ),
            rows(|status| status.moved),
        );
        let gauges = |number| rows(number).into_iter().map(|row| row.map(gauge)).collect::<Vec<_>>();
        book.gauges(
            entry("cairld_reconciliation_waiting", &["client"], "Sessions that are still to be asked about."),
            gauges(|status| status.waiting),
        );
        book.gauges(
            entry(
                "cairld_reconciliation_unknown",
                &["client"],
                "Open sessions that could not be asked about in the last round, since no callback has told the provider's id.",
            ),
            gauges(|status| status.unknown),
        );
    }

    fn write_events(&self, book: &mut Book, store: &StoreStatus, unread_removed: u64) {
        book.heading("Events");
        book.gauges(
            entry("cairld_events", &[], "Events kept, of all clients."),
            [Row::only(gauge(store.events))],
        );
        book.gauges(
            entry("cairld_event_consumers", &["client"], "Consumers of a client's events."),
            self.0.iter().map(|client| {
                Row::of([("client", client.name.as_str())], gauge(client.consumers.len() as u64))
            }),
        );
        book.gauges(
            entry(
                "cairld_event_consumer_behind",
                &["client", "caller", "consumer"],
                "Places of the client's inbox that a consumer has not acknowledged; of each client the 64 that are furthest behind.",
            ),
            self.0.iter().flat_map(|client| {
                client.consumers.iter().take(CONSUMERS).map(|ConsumerStatus { consumer, behind }| {
                    let labels = [
                        ("client", client.name.as_str()),
                        ("caller", consumer.caller.as_str()),
                        ("consumer", consumer.name.as_str()),
                    ];
                    Row::of(labels, gauge(*behind))
                })
            }),
        );
        book.counters(
            entry(
                "cairld_events_removed_unread",
                &[],
                "Events that were removed although a consumer had not acknowledged them, since unread_event_size was reached: each is \
                 lost to that consumer.",
            ),
            [Row::only(unread_removed)],
        );
        book.gauges(
            entry(
                "cairld_pending_revocations",
                &[],
                "Revoked access tokens that the provider is still to be told of.",
            ),
            [Row::only(gauge(store.revocations))],
        );
    }
}
