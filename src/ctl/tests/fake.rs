//! A daemon that knows a few answers by heart.

mod admin;

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use tempfile::TempDir;
use tokio::{
    net::{TcpListener, UnixListener},
    runtime::Builder,
    sync::oneshot,
};
use tokio_stream::{
    Stream, StreamExt,
    wrappers::{TcpListenerStream, UnixListenerStream},
};
use tonic::{Code, Request, Response, Status, service::Routes, transport::Server};
use tonic_types::{ErrorDetails, StatusExt};

pub(super) use self::admin::backup;
use crate::api::proto::{
    admin_service_server::AdminServiceServer,
    complete_authorization_request::Callback,
    get_session_request::Lookup,
    integration_service_server::{IntegrationService, IntegrationServiceServer},
    *,
};

/// The one webhook body that is accepted.
pub(super) const BODY: &[u8] = b"{\"type\":\"vae.resolved\"}\n";

type Answer<T> = Result<Response<T>, Status>;
type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// How many events are listed, and told to a consumer.
pub(super) const EVENTS: usize = 5;

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
    calls: Arc<Mutex<Vec<String>>>,
    timed: Arc<Mutex<Vec<bool>>>,
    /// Whether its backups are cut short and its store is damaged.
    is_flawed: Arc<AtomicBool>,
}

impl Seen {
    /// Notes a call about events, in few words.
    fn call(&self, words: String) {
        self.calls.lock().unwrap().push(words);
    }
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

    /// The same, whose backups are cut short and whose store is damaged.
    pub(super) fn flawed(self) -> Self {
        self.seen.is_flawed.store(true, Ordering::Relaxed);
        self
    }

    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(super) fn authorities(&self) -> Vec<String> {
        self.seen.authorities.lock().unwrap().clone()
    }

    /// The calls about events, in few words.
    pub(super) fn calls(&self) -> Vec<String> {
        self.seen.calls.lock().unwrap().clone()
    }

    /// Which calls had a deadline, in order.
    pub(super) fn timed(&self) -> Vec<bool> {
        self.seen.timed.lock().unwrap().clone()
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
    let router = Routes::new(IntegrationServiceServer::new(Knowing(seen.clone())))
        .add_service(AdminServiceServer::new(Knowing(seen.clone())))
        .into_axum_router()
        .layer(axum::middleware::map_request(move |request: axum::extract::Request| {
            if let Some(authority) = request.uri().authority() {
                seen.authorities.lock().unwrap().push(authority.to_string());
            }
            seen.timed.lock().unwrap().push(request.headers().contains_key("grpc-timeout"));
            if let Some(token) = request.headers().get("authorization") {
                seen.tokens.lock().unwrap().push(token.to_str().unwrap().to_owned());
            }
            std::future::ready(request)
        }));
    Routes::from(router)
}

struct Knowing(Seen);

/// The event of that number, from 1.
fn event(number: usize) -> Event {
    Event {
        id: format!("evt_{number}"),
        client: "demo".to_owned(),
        cursor: format!("c{number}"),
        r#type: "vae.resolved".to_owned(),
        body: BODY.to_vec(),
        parsed: true,
        ..Event::default()
    }
}

/// A refusal as the daemon writes it.
fn refusal(code: Code, reason: &str, text: &str, remedy: &str) -> Status {
    let metadata = [("remedy".to_owned(), remedy.to_owned())];
    Status::with_error_details(code, text, ErrorDetails::with_error_info(reason, "cairld", metadata))
}

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
                Err(refusal(Code::NotFound, "SESSION_NOT_FOUND", "no such session", "Check the id."))
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

    type WatchSessionStream = Streamed<WatchSessionResponse>;
    type WatchEventsStream = Streamed<WatchEventsResponse>;

    async fn watch_session(&self, request: Request<WatchSessionRequest>) -> Answer<Self::WatchSessionStream> {
        let id = match request.into_inner().lookup {
            Some(watch_session_request::Lookup::SessionId(id)) => id,
            other => panic!("{other:?}"),
        };
        let told = |status| Ok(WatchSessionResponse { session: session(status) });
        let stream: Self::WatchSessionStream = match id.as_str() {
            "ses_1" => Box::pin(tokio_stream::iter([
                told(SessionStatus::Pending),
                told(SessionStatus::Exchanging),
                told(SessionStatus::Complete),
            ])),
            "ses_stopping" => Box::pin(tokio_stream::iter([
                told(SessionStatus::Pending),
                Err(refusal(Code::Unavailable, "SHUTTING_DOWN", "the daemon stops", "Watch again.")),
            ])),
            "ses_open" => {
                Box::pin(tokio_stream::iter([told(SessionStatus::Pending)]).chain(tokio_stream::pending()))
            }
            _ => {
                return Err(refusal(Code::NotFound, "SESSION_NOT_FOUND", "no such session", "Check the id."));
            }
        };
        Ok(Response::new(stream))
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

    /// Two at a time, whatever is asked for, and the last page is empty; none at all of the type `none`.
    async fn list_events(&self, request: Request<ListEventsRequest>) -> Answer<ListEventsResponse> {
        let asked = request.into_inner();
        let ListEventsRequest { page_size, page_token, client, r#type, session_id } = &asked;
        self.0.call(format!("list {page_size} {page_token:?} {client:?} {:?} {session_id:?}", r#type));
        if r#type == "none" {
            return Ok(Response::new(ListEventsResponse::default()));
        }
        let after: usize = page_token.parse().unwrap_or_default();
        let size = usize::try_from(*page_size).unwrap().min(2);
        let events: Vec<_> = (after + 1..=EVENTS).take(size).map(event).collect();
        let is_last = events.is_empty();
        let next_page_token = if is_last { String::new() } else { (after + events.len()).to_string() };
        Ok(Response::new(ListEventsResponse { events, next_page_token }))
    }

    /// Five events; then the consumer `ended` is told nothing more, `superseded` of another stream, and any other waits.
    async fn watch_events(&self, request: Request<WatchEventsRequest>) -> Answer<Self::WatchEventsStream> {
        let asked = request.into_inner();
        self.0.call(format!("watch {} {:?} {:?}", asked.consumer, asked.client, asked.types));
        let told = tokio_stream::iter(
            (1..=EVENTS).map(|number| Ok(WatchEventsResponse { event: Some(event(number)) })),
        );
        let stream: Self::WatchEventsStream = match asked.consumer.as_str() {
            "ended" => Box::pin(told),
            "superseded" => {
                let status =
                    refusal(Code::Aborted, "CONSUMER_SUPERSEDED", "a newer stream", "Take another name.");
                Box::pin(told.chain(tokio_stream::iter([Err(status)])))
            }
            _ => Box::pin(told.chain(tokio_stream::pending())),
        };
        Ok(Response::new(stream))
    }

    async fn acknowledge_events(
        &self,
        request: Request<AcknowledgeEventsRequest>,
    ) -> Answer<AcknowledgeEventsResponse> {
        let asked = request.into_inner();
        self.0.call(format!("ack {} {:?} {}", asked.consumer, asked.client, asked.cursor));
        if !asked.cursor.starts_with('c') {
            return Err(refusal(
                Code::InvalidArgument,
                "CURSOR_INVALID",
                "no cursor",
                "Take one that was told.",
            ));
        }
        Ok(Response::new(AcknowledgeEventsResponse {}))
    }

    async fn delete_consumer(
        &self,
        request: Request<DeleteConsumerRequest>,
    ) -> Answer<DeleteConsumerResponse> {
        let asked = request.into_inner();
        self.0.call(format!("forget {} {:?}", asked.consumer, asked.client));
        Ok(Response::new(DeleteConsumerResponse {}))
    }

    async fn explain_session(&self, _: Request<ExplainSessionRequest>) -> Answer<ExplainSessionResponse> {
        unasked()
    }
}
