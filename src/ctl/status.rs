//! `cairlctl status`.

use super::{
    connect::Daemon,
    failure::Failure,
    output::{Block, Report, bytes, span, time},
};
use crate::api::proto::{
    BudgetStatus, ClientStatus, ConsumerStatus, ErrorCount, GetStatusRequest, GetStatusResponse,
    ReconciliationStatus, StoreStatus, admin_service_client::AdminServiceClient,
};

pub(super) fn get(daemon: &Daemon) -> Result<Report, Failure> {
    let answer = daemon.call("GetStatus", GetStatusRequest {}, async |channel, request| {
        AdminServiceClient::new(channel).get_status(request).await
    })?;
    let text = describe(&answer);
    Ok(Report::new("cairld.v1.GetStatusResponse", &answer, text))
}

fn describe(answer: &GetStatusResponse) -> Block {
    let mut block = Block::default();
    block.heading("daemon");
    block.item("version", &answer.version);
    if let Some(uptime) = &answer.uptime {
        block.item("uptime", span(uptime));
    }
    if let Some(store) = &answer.store {
        describe_store(&mut block, store);
    }
    for client in &answer.clients {
        describe_client(&mut block, client);
    }
    if !answer.errors.is_empty() {
        block.heading("errors since the start");
    }
    for error in &answer.errors {
        describe_error(&mut block, error);
    }
    block
}

fn describe_error(block: &mut Block, error: &ErrorCount) {
    let name = error.reason().as_str_name();
    let reason = name.strip_prefix("REASON_").unwrap_or(name);
    let method = if error.method.is_empty() { "other services" } else { &error.method };
    block.item(method, format!("{} × {reason}", error.count));
}

fn describe_store(block: &mut Block, store: &StoreStatus) {
    block.heading("store");
    block.item("backend", &store.backend);
    block.item("takes writes", if store.writable { "yes" } else { "no" });
    if !store.unwritable_reason.is_empty() {
        block.item("because", &store.unwritable_reason);
    }
    if !store.trouble.is_empty() {
        block.item("trouble", &store.trouble);
    }
    block.item("file", bytes(store.file_bytes));
    block.item("sessions", store.sessions.to_string());
    block.item("events", store.events.to_string());
    if store.unread_events_removed > 0 {
        block.item(
            "events lost",
            format!("{} that a consumer had not acknowledged", store.unread_events_removed),
        );
    }
    block.item("revocations", format!("{} waiting", store.pending_revocations));
    block.item("schema version", store.schema_version.to_string());
    let sweep = store.last_sweep_time.as_ref().map_or_else(
        || "none yet".to_owned(),
        |at| format!("{}, removed {}", time(at), store.last_sweep_removed),
    );
    block.item("last sweep", sweep);
}

fn describe_client(block: &mut Block, client: &ClientStatus) {
    block.heading(&format!("client {}", client.name));
    block.item("mode", if client.test_mode { "test" } else { "live" });
    block.item("provider", &client.base_url);
    let answer = client.last_answer_time.as_ref().map_or_else(
        || "none yet".to_owned(),
        |at| format!("{}, HTTP {}", time(at), client.last_http_status),
    );
    block.item("last answer", answer);
    let failure = client.last_failure_time.as_ref().map_or_else(|| "none".to_owned(), time);
    block.item("last failure", failure);
    for budget in &client.budgets {
        block.item(&format!("budget {}", budget.name), budget_in_words(budget));
    }
    block.item("webhooks", webhooks_in_words(client));
    block.item("last webhook", client.last_webhook_time.as_ref().map_or_else(|| "none yet".to_owned(), time));
    if let Some(reconciliation) = &client.reconciliation {
        block.item("reconciled", reconciliation_in_words(reconciliation));
    }
    for consumer in &client.consumers {
        let ConsumerStatus { caller, name, behind } = consumer;
        block.item(&format!("consumer {name}"), format!("of {caller}, {behind} behind"));
    }
}

/// What came of asking the provider about sessions.
fn reconciliation_in_words(status: &ReconciliationStatus) -> String {
    let ReconciliationStatus { last_time, asked, moved, waiting, unknown } = status;
    let last = last_time.as_ref().map_or_else(|| "not yet".to_owned(), time);
    let mut words =
        format!("{last}; {asked} asked about, {moved} had moved; {unknown} not to be asked about");
    if *waiting > 0 {
        words.push_str(&format!("; {waiting} to go"));
    }
    words
}

/// How many webhooks fitted which secret, since the daemon started: by its place from 0, as in the metrics.
fn webhooks_in_words(client: &ClientStatus) -> String {
    if client.webhooks_verified.is_empty() {
        return format!("no secret is configured, {} refused", client.webhooks_refused);
    }
    let by_secret = client.webhooks_verified.iter().enumerate();
    let by_secret: Vec<_> =
        by_secret.map(|(place, count)| format!("{count} by webhook_secret_files[{place}]")).collect();
    format!("verified {}; {} refused", by_secret.join(", "), client.webhooks_refused)
}

fn budget_in_words(budget: &BudgetStatus) -> String {
    let mut words = format!("{} of {} used in 60 s", budget.used, budget.limit);
    if budget.waiting > 0 {
        words.push_str(&format!(", {} waiting", budget.waiting));
    }
    if let Some(until) = &budget.closed_until {
        words.push_str(&format!(", closed by the provider until {}", time(until)));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::proto::Reason;

    #[test]
    fn the_status_is_told_by_rooms() {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let answer = GetStatusResponse {
            version: "0.1.0".to_owned(),
            uptime: Some(prost_types::Duration { seconds: 3600, nanos: 0 }),
            store: Some(StoreStatus {
                backend: "redb".to_owned(),
                writable: false,
                unwritable_reason: "disk full".to_owned(),
                file_bytes: 1_572_864,
                sessions: 12,
                pending_revocations: 3,
                unread_events_removed: 2,
                schema_version: 1,
                ..StoreStatus::default()
            }),
            clients: vec![ClientStatus {
                name: "demo".to_owned(),
                test_mode: true,
                base_url: "https://provider.example".to_owned(),
                last_answer_time: at(1_735_689_600),
                last_http_status: 200,
                budgets: vec![BudgetStatus {
                    name: "token".to_owned(),
                    limit: 30,
                    used: 30,
                    waiting: 2,
                    closed_until: at(1_735_689_660),
                }],
                webhooks_verified: vec![12, 0],
                webhooks_refused: 3,
                last_webhook_time: at(1_735_689_601),
                reconciliation: Some(ReconciliationStatus {
                    last_time: at(1_735_689_602),
                    asked: 5,
                    moved: 2,
                    waiting: 1,
                    unknown: 40,
                }),
                consumers: vec![ConsumerStatus {
                    caller: "checkout".to_owned(),
                    name: "billing".to_owned(),
                    behind: 7,
                }],
                ..ClientStatus::default()
            }],
            errors: vec![
                ErrorCount {
                    method: "GetSession".to_owned(),
                    reason: Reason::SessionNotFound.into(),
                    count: 3,
                },
                ErrorCount { method: String::new(), reason: Reason::CallerUnknown.into(), count: 1 },
            ],
        };
        let expected = "\
daemon
  version           0.1.0
  uptime            1h
store
  backend           redb
  takes writes      no
  because           disk full
  file              1.5 MiB (1572864 bytes)
  sessions          12
  events            0
  events lost       2 that a consumer had not acknowledged
  revocations       3 waiting
  schema version    1
  last sweep        none yet
client demo
  mode              test
  provider          https://provider.example
  last answer       2025-01-01T00:00:00Z, HTTP 200
  last failure      none
  budget token      30 of 30 used in 60 s, 2 waiting, closed by the provider until 2025-01-01T00:01:00Z
  webhooks          verified 12 by webhook_secret_files[0], 0 by webhook_secret_files[1]; 3 refused
  last webhook      2025-01-01T00:00:01Z
  reconciled        2025-01-01T00:00:02Z; 5 asked about, 2 had moved; 40 not to be asked about; 1 to go
  consumer billing  of checkout, 7 behind
errors since the start
  GetSession        3 × SESSION_NOT_FOUND
  other services    1 × CALLER_UNKNOWN
";
        let mut sink = Vec::new();
        describe(&answer).write(&mut sink).unwrap();
        assert_eq!(String::from_utf8(sink).unwrap(), expected);
    }
}
