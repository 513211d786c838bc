//! A daemon that knows a few answers by heart.

use std::{
    sync::{Arc, Mutex},
    thread,
};

use tempfile::TempDir;
use tokio::{
    net::{TcpListener, UnixListener},
    runtime::Builder,
    sync::oneshot,
};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::{Code, Request, Response, Status, service::Routes, transport::Server};
use tonic_types::{ErrorDetails, StatusExt};

use crate::api::proto::{
    admin_service_server::{AdminService, AdminServiceServer},
    complete_authorization_request::Callback,
    get_session_request::Lookup,
    integration_service_server::{IntegrationService, IntegrationServiceServer},
    *,
};

/// The one webhook body that is accepted.
pub(super) const BODY: &[u8] = b"{\"type\":\"vae.resolved\"}\n";

type Answer<T> = Result<Response<T>, Status>;
type NoStream<T> = tokio_stream::Empty<Result<T, Status>>;

/// A running stand-in; stops when dropped.
pub(super) struct Fake {
    endpoint: String,
    seen: Seen,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
    _folder: TempDir,
}

/// What reached it.
#[derive(Clone, Debug, Default)]
struct Seen {
    authorities: Arc<Mutex<Vec<String>>>,
    tokens: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    pub(super) fn on_unix() -> Self {
        Self::start(true)
    }

    pub(super) fn on_tcp() -> Self {
        Self::start(false)
    }

    fn start(unix: bool) -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("cairld.sock");
        let seen = Seen::default();
        let routes = routes(&seen);
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                let router = Server::builder().add_routes(routes);
                let stopped = async {
                    let _ = stopped.await;
                };
                if unix {
                    let listener = UnixListener::bind(&path).unwrap();
                    ready.send(format!("unix:{}", path.display())).unwrap();
                    let incoming = UnixListenerStream::new(listener);
                    router.serve_with_incoming_shutdown(incoming, stopped).await.unwrap();
                } else {
                    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                    ready.send(format!("http://{}", listener.local_addr().unwrap())).unwrap();
                    let incoming = TcpListenerStream::new(listener);
                    router.serve_with_incoming_shutdown(incoming, stopped).await.unwrap();
                }
            });
        });
        let endpoint = is_ready.recv().unwrap();
        Self { endpoint, seen, stop: Some(stop), thread: Some(thread), _folder: folder }
    }

    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(super) fn authorities(&self) -> Vec<String> {
        self.seen.authorities.lock().unwrap().clone()
    }

    pub(super) fn tokens(&self) -> Vec<String> {
        self.seen.tokens.lock().unwrap().clone()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn routes(seen: &Seen) -> Routes {
    let seen = seen.clone();
    let router = Routes::new(IntegrationServiceServer::new(Knowing))
        .add_service(AdminServiceServer::new(Knowing))
        .into_axum_router()
        .layer(axum::middleware::map_request(move |request: axum::extract::Request| {
            if let Some(authority) = request.uri().authority() {
                seen.authorities.lock().unwrap().push(authority.to_string());
            }
            if let Some(token) = request.headers().get("authorization") {
                seen.tokens.lock().unwrap().push(token.to_str().unwrap().to_owned());
            }
            std::future::ready(request)
        }));
    Routes::from(router)
}

struct Knowing;

fn session(status: SessionStatus) -> Option<Session> {
    Some(Session { id: "ses_1".to_owned(), status: status.into(), ..Session::default() })
}

fn unasked<T>() -> Answer<T> {
    Err(Status::unimplemented("not asked by cairlctl"))
}

#[tonic::async_trait]
impl IntegrationService for Knowing {
    async fn start_authorization(
        &self,
        request: Request<StartAuthorizationRequest>,
    ) -> Answer<StartAuthorizationResponse> {
        let request = request.into_inner();
        assert_eq!(request.client, "demo");
        assert_eq!(request.scopes, ["age_18_plus", "resident"]);
        Ok(Response::new(StartAuthorizationResponse {
            session: session(SessionStatus::Pending),
            authorization_url: "https://provider.example/verify?state=st".to_owned(),
            state: "st".to_owned(),
        }))
    }

    async fn complete_authorization(
        &self,
        request: Request<CompleteAuthorizationRequest>,
    ) -> Answer<CompleteAuthorizationResponse> {
        let request = request.into_inner();
        assert_eq!(request.callback, Some(Callback::CallbackUrl("/callback?state=st&code=c".to_owned())));
        assert_eq!(request.binding, "b");
        let mut session = session(SessionStatus::Complete);
        if let Some(session) = &mut session {
            let kind = Some(claim_value::Kind::BoolValue(true));
            session.claims.insert("age_18_plus".to_owned(), ClaimValue { kind });
        }
        Ok(Response::new(CompleteAuthorizationResponse { session }))
    }

    async fn get_session(&self, request: Request<GetSessionRequest>) -> Answer<GetSessionResponse> {
        match request.into_inner().lookup {
            Some(Lookup::SessionId(id)) if id == "ses_slow" => std::future::pending().await,
            Some(Lookup::SessionId(id)) if id != "ses_1" => {
                let metadata = [("remedy".to_owned(), "Check the id.".to_owned())];
                let details = ErrorDetails::with_error_info("SESSION_NOT_FOUND", "cairld", metadata);
                Err(Status::with_error_details(Code::NotFound, "no such session", details))
            }
            _ => Ok(Response::new(GetSessionResponse { session: session(SessionStatus::Pending) })),
        }
    }

    async fn cancel_authorization(
        &self,
        _: Request<CancelAuthorizationRequest>,
    ) -> Answer<CancelAuthorizationResponse> {
        Ok(Response::new(CancelAuthorizationResponse { session: session(SessionStatus::Cancelled) }))
    }

    async fn ingest_webhook(&self, request: Request<IngestWebhookRequest>) -> Answer<IngestWebhookResponse> {
        assert_eq!(request.into_inner().body, BODY);
        let event = Some(Event { id: "evt_1".to_owned(), parsed: true, ..Event::default() });
        Ok(Response::new(IngestWebhookResponse { event, duplicate: false }))
    }

    type WatchSessionStream = NoStream<WatchSessionResponse>;
    type WatchEventsStream = NoStream<WatchEventsResponse>;

    async fn watch_session(&self, _: Request<WatchSessionRequest>) -> Answer<Self::WatchSessionStream> {
        unasked()
    }

    async fn revoke_token(&self, request: Request<RevokeTokenRequest>) -> Answer<RevokeTokenResponse> {
        assert_eq!(request.into_inner().session_id, "ses_1");
        let mut session = session(SessionStatus::Complete);
        if let Some(session) = &mut session {
            session.token = Some(Token { status: TokenStatus::Revoked.into(), expire_time: None });
        }
        Ok(Response::new(RevokeTokenResponse { session }))
    }

    async fn get_access_token(&self, _: Request<GetAccessTokenRequest>) -> Answer<GetAccessTokenResponse> {
        unasked()
    }

    async fn list_events(&self, _: Request<ListEventsRequest>) -> Answer<ListEventsResponse> {
        unasked()
    }

    async fn watch_events(&self, _: Request<WatchEventsRequest>) -> Answer<Self::WatchEventsStream> {
        unasked()
    }

    async fn acknowledge_events(
        &self,
        _: Request<AcknowledgeEventsRequest>,
    ) -> Answer<AcknowledgeEventsResponse> {
        unasked()
    }

    async fn delete_consumer(&self, _: Request<DeleteConsumerRequest>) -> Answer<DeleteConsumerResponse> {
        unasked()
    }

    async fn explain_session(&self, _: Request<ExplainSessionRequest>) -> Answer<ExplainSessionResponse> {
        unasked()
    }
}

#[tonic::async_trait]
impl AdminService for Knowing {
    async fn get_status(&self, _: Request<GetStatusRequest>) -> Answer<GetStatusResponse> {
        Ok(Response::new(GetStatusResponse { version: "0.1.0".to_owned(), ..GetStatusResponse::default() }))
    }

    type BackupStoreStream = NoStream<BackupStoreResponse>;
    type VerifyStoreStream = NoStream<VerifyStoreResponse>;
    type RotateKeyStream = NoStream<RotateKeyResponse>;

    async fn list_sessions(&self, _: Request<ListSessionsRequest>) -> Answer<ListSessionsResponse> {
        unasked()
    }

    async fn backup_store(&self, _: Request<BackupStoreRequest>) -> Answer<Self::BackupStoreStream> {
        unasked()
    }

    async fn verify_store(&self, _: Request<VerifyStoreRequest>) -> Answer<Self::VerifyStoreStream> {
        unasked()
    }

    async fn compact_store(&self, _: Request<CompactStoreRequest>) -> Answer<CompactStoreResponse> {
        unasked()
    }

    async fn rotate_key(&self, _: Request<RotateKeyRequest>) -> Answer<Self::RotateKeyStream> {
        unasked()
    }

    async fn check_provider(&self, _: Request<CheckProviderRequest>) -> Answer<CheckProviderResponse> {
        unasked()
    }
}
