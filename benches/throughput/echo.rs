//! The ceiling: a gRPC server of the same messages that stores nothing, as a process of its own.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    pin::Pin,
    process::{Child, Command, Stdio},
};

use cairld::api::proto::{
    self,
    integration_service_server::{IntegrationService, IntegrationServiceServer},
};
use tokio::{
    net::{TcpListener, UnixListener},
    runtime::Builder,
};
use tokio_stream::{Stream, wrappers::UnixListenerStream};
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

use super::load::Address;

/// The word that has this program serve instead of measuring.
pub const WORD: &str = "echo";

/// A running echo; killed when dropped.
pub struct Echo {
    process: Child,
    pub unix: Address,
    pub tcp: Address,
}

impl Echo {
    /// Starts it with its socket in a folder.
    pub fn start(folder: &Path) -> Self {
        let socket = folder.join("echo.sock");
        let _ = std::fs::remove_file(&socket);
        let program = std::env::current_exe().expect("this program");
        let mut command = Command::new(program);
        let mut process =
            command.arg(WORD).arg(&socket).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { process, unix: Address::Unix(socket), tcp: Address::Tcp(line.trim().to_owned()) }
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Serves for ever; says on standard output where TCP is. Its runtime has the daemon's shape.
pub fn serve(socket: &str) {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut builder =
        if processors <= 2 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    builder.enable_all().build().unwrap().block_on(serve_at(socket));
}

async fn serve_at(socket: &str) {
    let unix = UnixListenerStream::new(UnixListener::bind(socket).unwrap());
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", tcp.local_addr().unwrap());
    let tcp = TcpIncoming::from(tcp).with_nodelay(Some(true));
    // As the daemon is set up, without its door.
    let router = Server::builder()
        .max_concurrent_streams(1024)
        .add_service(IntegrationServiceServer::new(Answers { session: session() }));
    let over_unix = tokio::spawn(router.clone().serve_with_incoming(unix));
    router.serve_with_incoming(tcp).await.unwrap();
    over_unix.await.unwrap().unwrap();
}

/// A session as a start answers with it.
fn session() -> proto::Session {
    let time = |seconds| Some(prost_types::Timestamp { seconds, nanos: 257_000_000 });
    proto::Session {
        id: "ses_06h0j3inp4un3gqeu3djspejfs".into(),
        reference: "order-4711".into(),
        test_mode: true,
        client: "shop".into(),
        status: proto::SessionStatus::Pending.into(),
        scopes: vec!["age_18_plus".into()],
        redirect_uri: super::support::REDIRECT_URI.into(),
        create_time: time(1_795_000_000),
        update_time: time(1_795_000_000),
        expire_time: time(1_795_001_800),
        ..proto::Session::default()
    }
}

struct Answers {
    session: proto::Session,
}

type Answer<T> = Result<Response<T>, Status>;
type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn no<T>() -> Answer<T> {
    Err(Status::unimplemented("an echo"))
}

#[tonic::async_trait]
impl IntegrationService for Answers {
    async fn start_authorization(
        &self,
        _: Request<proto::StartAuthorizationRequest>,
    ) -> Answer<proto::StartAuthorizationResponse> {
        let state = "AaIJjlfJPWbzG0nWqGx4UV9c1m4nZ6Xg0bD2s7kQeT3yLhVfRuCpAoEiMwNdHjKt";
        let url = "http://127.0.0.1:40000/verify/start?client_id=cairl_test_0123456789abcdef&redirect_uri=\
                   http%3A%2F%2F127.0.0.1%3A8910%2Fcallback&state=AaIJjlfJPWbzG0nWqGx4UV9c1m4nZ6Xg0bD2s7kQeT3yLhV\
                   fRuCpAoEiMwNdHjKt&scope=age_18_plus&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM\
                   &code_challenge_method=S256";
        Ok(Response::new(proto::StartAuthorizationResponse {
            session: Some(self.session.clone()),
            authorization_url: url.into(),
            state: state.into(),
        }))
    }

    async fn get_session(&self, _: Request<proto::GetSessionRequest>) -> Answer<proto::GetSessionResponse> {
        Ok(Response::new(proto::GetSessionResponse { session: Some(self.session.clone()) }))
    }

    type WatchSessionStream = Streamed<proto::WatchSessionResponse>;
    type WatchEventsStream = Streamed<proto::WatchEventsResponse>;

    async fn complete_authorization(
        &self,
        _: Request<proto::CompleteAuthorizationRequest>,
    ) -> Answer<proto::CompleteAuthorizationResponse> {
        no()
    }

    async fn watch_session(
        &self,
        _: Request<proto::WatchSessionRequest>,
    ) -> Answer<Self::WatchSessionStream> {
        no()
    }

    async fn cancel_authorization(
        &self,
        _: Request<proto::CancelAuthorizationRequest>,
    ) -> Answer<proto::CancelAuthorizationResponse> {
        no()
    }

    async fn revoke_token(
        &self,
        _: Request<proto::RevokeTokenRequest>,
    ) -> Answer<proto::RevokeTokenResponse> {
        no()
    }

    async fn get_access_token(
        &self,
        _: Request<proto::GetAccessTokenRequest>,
    ) -> Answer<proto::GetAccessTokenResponse> {
        no()
    }

    async fn ingest_webhook(
        &self,
        _: Request<proto::IngestWebhookRequest>,
    ) -> Answer<proto::IngestWebhookResponse> {
        no()
    }

    async fn list_events(&self, _: Request<proto::ListEventsRequest>) -> Answer<proto::ListEventsResponse> {
        no()
    }

    async fn watch_events(&self, _: Request<proto::WatchEventsRequest>) -> Answer<Self::WatchEventsStream> {
        no()
    }

    async fn acknowledge_events(
        &self,
        _: Request<proto::AcknowledgeEventsRequest>,
    ) -> Answer<proto::AcknowledgeEventsResponse> {
        no()
    }

    async fn delete_consumer(
        &self,
        _: Request<proto::DeleteConsumerRequest>,
    ) -> Answer<proto::DeleteConsumerResponse> {
        no()
    }

    async fn explain_session(
        &self,
        _: Request<proto::ExplainSessionRequest>,
    ) -> Answer<proto::ExplainSessionResponse> {
        no()
    }
}
