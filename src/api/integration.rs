//! `IntegrationService`: one short handler for each call.

use std::{pin::Pin, sync::Arc};

use tokio::time::Instant;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::{
    callers::Known,
    door::Patience,
    events::{self, event},
    explain::explanation,
    input::{Fields, callback, lookup, session_id, watch_lookup},
    output::{session, timestamp},
    proto::{self, integration_service_server::IntegrationService},
    tally::Tally,
    visit::About,
};
use crate::{
    domain::{Reason, Refusal, TraceContext, Viewer},
    flows::{Complete, Flows, Start, Webhook},
    store::Lookup,
};

/// The service over the flows.
pub(super) struct Integration {
    pub(super) flows: Arc<Flows>,
    pub(super) tally: Arc<Tally>,
}

type Answer<T> = Result<Response<T>, Status>;
type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Who calls; the door put him there.
pub(super) fn viewer<T>(request: &Request<T>) -> Result<Viewer, Refusal> {
    Ok(known(request)?.caller.viewer.clone())
}

fn known<T>(request: &Request<T>) -> Result<&Known, Refusal> {
    Ok(request.extensions().get::<Arc<Known>>().ok_or(Reason::CallerUnknown)?)
}

/// Until when the call waits in line; the door knows.
fn patience<T>(request: &Request<T>) -> Instant {
    request.extensions().get::<Patience>().map_or_else(Instant::now, |patience| patience.0)
}

/// Where the call says what it is about.
fn about<T>(request: &Request<T>) -> About {
    request.extensions().get().cloned().unwrap_or_default()
}

/// The span that the call is.
fn trace<T>(request: &Request<T>) -> Option<TraceContext> {
    request.extensions().get().cloned()
}

/// The same for a session that is looked up; one by the provider's id is known when it is found.
fn looked_up(about: &About, lookup: &Lookup) {
    match lookup {
        Lookup::Id(id) => about.session(*id),
        Lookup::State(state) => about.session(state.session),
        Lookup::ProviderSession(_) => {}
    }
}

/// What a call of the contract answers that this version does not serve yet.
pub(super) fn not_yet<T>() -> Answer<T> {
    Err(Refusal::from(Reason::Unimplemented).into())
}

#[tonic::async_trait]
impl IntegrationService for Integration {
    async fn start_authorization(
        &self,
        request: Request<proto::StartAuthorizationRequest>,
    ) -> Answer<proto::StartAuthorizationResponse> {
        let about = about(&request);
        let (viewer, pending) = (viewer(&request)?, known(&request)?.caller.limits.pending_sessions);
        let message = request.into_inner();
        let mut fields = Fields::default();
        let start = Start {
            viewer,
            client: fields.client(message.client),
            redirect_uri: fields.redirect_uri(message.redirect_uri),
            scopes: fields.scopes(message.scopes),
            binding: fields.binding(message.binding),
            reference: fields.reference(message.reference),
            request_id: fields.request_id(message.request_id),
            // No caller has a limit of its own yet.
            pending: pending.map(u64::from),
        };
        fields.check()?;
        let started = self.flows.start(start).await?;
        about.session(started.session.id);
        let (authorization_url, state) = started.authorization.unwrap_or_default();
        let session = Some(session(started.session, self.flows.time()));
        Ok(Response::new(proto::StartAuthorizationResponse { session, authorization_url, state }))
    }

    async fn complete_authorization(
        &self,
        request: Request<proto::CompleteAuthorizationRequest>,
    ) -> Answer<proto::CompleteAuthorizationResponse> {
        let (viewer, patience) = (viewer(&request)?, patience(&request));
        let (about, trace) = (about(&request), trace(&request));
        let message = request.into_inner();
        let mut fields = Fields::default();
        let binding = fields.binding(message.binding);
        fields.check()?;
        let callback = callback(message.callback)?;
        about.session(callback.state.session);
        let complete = Complete { viewer, callback, binding, patience, trace };
        let completed = self.flows.complete(complete).await?;
        Ok(Response::new(proto::CompleteAuthorizationResponse {
            session: Some(session(completed, self.flows.time())),
        }))
    }

    async fn get_session(
        &self,
        request: Request<proto::GetSessionRequest>,
    ) -> Answer<proto::GetSessionResponse> {
        let (viewer, patience) = (viewer(&request)?, patience(&request));
        let (about, trace) = (about(&request), trace(&request));
        let message = request.into_inner();
        let lookup = lookup(message.lookup)?;
        looked_up(&about, &lookup);
        let found = if message.refresh {
            self.flows.refreshed_session(&viewer, &lookup, patience, trace.as_ref()).await?
        } else {
            self.flows.session(&viewer, &lookup).await?
        };
        about.session(found.id);
        Ok(Response::new(proto::GetSessionResponse { session: Some(session(found, self.flows.time())) }))
    }

    type WatchSessionStream = Streamed<proto::WatchSessionResponse>;

    async fn watch_session(
        &self,
        request: Request<proto::WatchSessionRequest>,
    ) -> Answer<Self::WatchSessionStream> {
        let (viewer, about) = (viewer(&request)?, about(&request));
        let lookup = watch_lookup(request.into_inner().lookup)?;
        looked_up(&about, &lookup);
        let sessions = self.flows.watch(viewer, &lookup).await?;
        // What ends a stream does not pass the door as an answer.
        let (tally, call) = (Arc::clone(&self.tally), self.tally.call("WatchSession"));
        let flows = Arc::clone(&self.flows);
        let answers = sessions.map(move |told| {
            let told = told.inspect_err(|refusal| tally.add(call, refusal.reason))?;
            Ok(proto::WatchSessionResponse { session: Some(session(told, flows.time())) })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn cancel_authorization(
        &self,
        request: Request<proto::CancelAuthorizationRequest>,
    ) -> Answer<proto::CancelAuthorizationResponse> {
        let (viewer, about) = (viewer(&request)?, about(&request));
        let id = session_id(&request.into_inner().session_id)?;
        about.session(id);
        let cancelled = self.flows.cancel(&viewer, id).await?;
        Ok(Response::new(proto::CancelAuthorizationResponse {
            session: Some(session(cancelled, self.flows.time())),
        }))
    }

    async fn revoke_token(
        &self,
        request: Request<proto::RevokeTokenRequest>,
    ) -> Answer<proto::RevokeTokenResponse> {
        let (viewer, about) = (viewer(&request)?, about(&request));
        let id = session_id(&request.into_inner().session_id)?;
        about.session(id);
        let revoked = self.flows.revoke(&viewer, id).await?;
        Ok(Response::new(proto::RevokeTokenResponse { session: Some(session(revoked, self.flows.time())) }))
    }

    async fn get_access_token(
        &self,
        request: Request<proto::GetAccessTokenRequest>,
    ) -> Answer<proto::GetAccessTokenResponse> {
        let (viewer, about) = (viewer(&request)?, about(&request));
        let id = session_id(&request.into_inner().session_id)?;
        about.session(id);
        let (token, expires) = self.flows.access_token(&viewer, id).await?;
        let access_token = token.expose().to_owned();
        Ok(Response::new(proto::GetAccessTokenResponse {
            access_token,
            expire_time: Some(timestamp(expires)),
        }))
    }

    async fn ingest_webhook(
        &self,
        request: Request<proto::IngestWebhookRequest>,
    ) -> Answer<proto::IngestWebhookResponse> {
        let (viewer, about) = (viewer(&request)?, about(&request));
        let message = request.into_inner();
        let mut fields = Fields::default();
        let webhook = Webhook {
            viewer,
            client: fields.client(message.client),
            body: fields.body(message.body),
            signature: fields.signature(message.signature),
        };
        fields.check()?;
        let ingested = self.flows.ingest(webhook).await?;
        ingested.session.into_iter().for_each(|id| about.session(id));
        let event = Some(event(ingested.event, ingested.session, self.flows.epoch()));
        Ok(Response::new(proto::IngestWebhookResponse { event, duplicate: ingested.duplicate }))
    }

    async fn list_events(
        &self,
        request: Request<proto::ListEventsRequest>,
    ) -> Answer<proto::ListEventsResponse> {
        let viewer = viewer(&request)?;
        Ok(Response::new(events::list(&self.flows, &viewer, request.into_inner()).await?))
    }

    type WatchEventsStream = Streamed<proto::WatchEventsResponse>;

    async fn watch_events(
        &self,
        request: Request<proto::WatchEventsRequest>,
    ) -> Answer<Self::WatchEventsStream> {
        let viewer = viewer(&request)?;
        let told = events::watch(&self.flows, viewer, request.into_inner()).await?;
        let (tally, call) = (Arc::clone(&self.tally), self.tally.call("WatchEvents"));
        let told = told.map(move |event| Ok(event.inspect_err(|refusal| tally.add(call, refusal.reason))?));
        Ok(Response::new(Box::pin(told)))
    }

    async fn acknowledge_events(
        &self,
        request: Request<proto::AcknowledgeEventsRequest>,
    ) -> Answer<proto::AcknowledgeEventsResponse> {
        let viewer = viewer(&request)?;
        Ok(Response::new(events::acknowledge(&self.flows, &viewer, request.into_inner()).await?))
    }

    async fn delete_consumer(
        &self,
        request: Request<proto::DeleteConsumerRequest>,
    ) -> Answer<proto::DeleteConsumerResponse> {
        let viewer = viewer(&request)?;
        Ok(Response::new(events::delete_consumer(&self.flows, &viewer, request.into_inner()).await?))
    }

    async fn explain_session(
        &self,
        request: Request<proto::ExplainSessionRequest>,
    ) -> Answer<proto::ExplainSessionResponse> {
        let (viewer, about) = (viewer(&request)?, about(&request));
        let id = session_id(&request.into_inner().session_id)?;
        about.session(id);
        let session = self.flows.session(&viewer, &Lookup::Id(id)).await?;
        Ok(Response::new(explanation(session, self.flows.time())))
    }
}
