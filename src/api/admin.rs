//! `AdminService`: what operators ask.

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::{
    integration::not_yet,
    output::{reason, timestamp},
    proto::{self, admin_service_server::AdminService},
    tally::Tally,
};
use crate::{
    domain::{Clock, Moment, Reason, Refusal},
    flows::{BudgetStatus, Client, Flows, ReconciliationStatus},
    store::{Compacted, ConsumerStatus, KeyId, Rotation},
};

/// The service over the flows.
pub(super) struct Admin {
    pub(super) flows: Arc<Flows>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) started: Moment,
    pub(super) tally: Arc<Tally>,
}

type Answer<T> = Result<Response<T>, Status>;
type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Admin {
    fn store_status(&self) -> proto::StoreStatus {
        let status = self.flows.store_status();
        let last_sweep = self.flows.last_sweep();
        proto::StoreStatus {
            backend: status.backend.to_owned(),
            writable: status.unwritable.is_none(),
            unwritable_reason: status.unwritable.unwrap_or_default(),
            trouble: status.trouble.unwrap_or_default(),
            file_bytes: count(status.bytes),
            sessions: count(status.sessions),
            events: count(status.events),
            pending_revocations: count(status.revocations),
            unread_events_removed: count(self.flows.unread_events_removed()),
            schema_version: i32::try_from(status.schema_version).unwrap_or(i32::MAX),
            last_sweep_time: last_sweep.as_ref().map(|(at, _)| timestamp(at.wall)),
            last_sweep_removed: last_sweep.map_or(0, |(_, swept)| count(swept.removed)),
        }
    }

    /// A stream of messages, its end by an error counted: that does not pass the door as an answer.
    fn streamed<T, M: 'static>(
        &self,
        call: &'static str,
        parts: impl Stream<Item = Result<T, Refusal>> + Send + 'static,
        message: impl Fn(T) -> M + Send + 'static,
    ) -> Response<Streamed<M>> {
        let (tally, call) = (Arc::clone(&self.tally), self.tally.call(call));
        let told = parts.map(move |part| {
            let part = part.inspect_err(|refusal| tally.add(call, refusal.reason))?;
            Ok(message(part))
        });
        Response::new(Box::pin(told))
    }
}

async fn client_status(flows: &Flows, client: &Client) -> Result<proto::ClientStatus, Refusal> {
    let contact = client.provider.contact();
    let webhooks = flows.webhook_counts(&client.name).unwrap_or_default();
    Ok(proto::ClientStatus {
        name: client.name.to_string(),
        test_mode: client.test_mode,
        base_url: client.base_url.to_string(),
        last_answer_time: contact.answered.map(|(time, _)| timestamp(time)),
        last_http_status: contact.answered.map_or(0, |(_, status)| status.into()),
        last_failure_time: contact.failed.map(timestamp),
        budgets: flows.budgets(&client.name).await?.iter().map(budget_status).collect(),
        webhooks_verified: webhooks.verified.into_iter().map(count).collect(),
        webhooks_refused: count(webhooks.refused),
        last_webhook_time: webhooks.last.map(|at| timestamp(at.wall)),
        reconciliation: Some(reconciliation_status(&flows.reconciliation(&client.name))),
        consumers: flows.consumers(&client.name).await?.iter().map(consumer_status).collect(),
    })
}

fn reconciliation_status(status: &ReconciliationStatus) -> proto::ReconciliationStatus {
    let ReconciliationStatus { last, asked, moved, waiting, unknown } = status;
    proto::ReconciliationStatus {
        last_time: last.map(timestamp),
        asked: count(*asked),
        moved: count(*moved),
        waiting: count(*waiting),
        unknown: count(*unknown),
    }
}

fn consumer_status(status: &ConsumerStatus) -> proto::ConsumerStatus {
    let ConsumerStatus { consumer, behind } = status;
    proto::ConsumerStatus {
        caller: consumer.caller.to_string(),
        name: consumer.name.to_string(),
        behind: count(*behind),
    }
}

fn budget_status(budget: &BudgetStatus) -> proto::BudgetStatus {
    proto::BudgetStatus {
        name: budget.kind.as_str().to_owned(),
        limit: i32::try_from(budget.limit).unwrap_or(i32::MAX),
        used: i32::try_from(budget.used).unwrap_or(i32::MAX),
        closed_until: budget.closed_until.map(timestamp),
        waiting: i32::try_from(budget.waiting).unwrap_or(i32::MAX),
    }
}

fn error_count((method, reason, number): (&str, Reason, u64)) -> proto::ErrorCount {
    proto::ErrorCount { method: method.to_owned(), reason: self::reason(reason).into(), count: count(number) }
}

fn rotation(rotation: &Rotation) -> proto::RotateKeyResponse {
    let ids = |ids: &[KeyId]| ids.iter().map(ToString::to_string).collect();
    let end = rotation.end.as_ref();
    proto::RotateKeyResponse {
        sealed: count(rotation.sealed),
        total: count(rotation.total),
        checked: count(rotation.checked),
        unreadable: count(rotation.unreadable),
        done: end.is_some(),
        key: end.map(|end| end.key.to_string()).unwrap_or_default(),
        removable_keys: end.map(|end| ids(&end.removable)).unwrap_or_default(),
        kept_keys: end.map(|end| ids(&end.kept)).unwrap_or_default(),
    }
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn duration(span: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(span).unwrap_or_default()
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn get_status(&self, _: Request<proto::GetStatusRequest>) -> Answer<proto::GetStatusResponse> {
        let mut clients = Vec::new();
        for client in self.flows.clients() {
            clients.push(client_status(&self.flows, &client).await?);
        }
        let uptime = self.started.age(self.clock.now()).unwrap_or_default();
        Ok(Response::new(proto::GetStatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: Some(duration(uptime)),
            store: Some(self.store_status()),
            clients,
            errors: self.tally.counted().into_iter().map(error_count).collect(),
        }))
    }

    async fn list_sessions(
        &self,
        _: Request<proto::ListSessionsRequest>,
    ) -> Answer<proto::ListSessionsResponse> {
        not_yet()
    }

    type BackupStoreStream = Streamed<proto::BackupStoreResponse>;

    async fn backup_store(&self, _: Request<proto::BackupStoreRequest>) -> Answer<Self::BackupStoreStream> {
        let pieces = self.flows.back_up()?;
        Ok(self.streamed("BackupStore", pieces, |piece| proto::BackupStoreResponse {
            chunk: piece.bytes,
            copied: count(piece.done),
            total: count(piece.total),
        }))
    }

    type VerifyStoreStream = Streamed<proto::VerifyStoreResponse>;

    async fn verify_store(&self, _: Request<proto::VerifyStoreRequest>) -> Answer<Self::VerifyStoreStream> {
        let parts = self.flows.check_store()?;
        Ok(self.streamed("VerifyStore", parts, |part| proto::VerifyStoreResponse {
            checked: count(part.checked),
            total: count(part.total),
            problems: part.problems,
        }))
    }

    async fn compact_store(
        &self,
        _: Request<proto::CompactStoreRequest>,
    ) -> Answer<proto::CompactStoreResponse> {
        let Compacted { before, after } = self.flows.compact_store().await?;
        let (bytes_before, bytes_after) = (count(before), count(after));
        Ok(Response::new(proto::CompactStoreResponse { bytes_before, bytes_after }))
    }

    type RotateKeyStream = Streamed<proto::RotateKeyResponse>;

    async fn rotate_key(&self, _: Request<proto::RotateKeyRequest>) -> Answer<Self::RotateKeyStream> {
        Ok(self.streamed("RotateKey", self.flows.rotate_keys(), |told| rotation(&told)))
    }

    async fn check_provider(
        &self,
        _: Request<proto::CheckProviderRequest>,
    ) -> Answer<proto::CheckProviderResponse> {
        not_yet()
    }
}
