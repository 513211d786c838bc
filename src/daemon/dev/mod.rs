//! `cairld dev`: the daemon and its sandbox in one process, and a flow to try by hand.

mod callback;
mod place;

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use data_encoding::HEXLOWER;
use sysexits::ExitCode;
use tokio::{net::TcpListener, sync::oneshot};
use tonic::{Request, metadata::MetadataValue};

use self::{
    callback::Commands,
    place::{Addresses, Files, cannot},
};
use super::{
    config::{Config, Environment, Grpc, Http, Sockets, load},
    exit::{Failure, say},
    inherited::Inherited,
    listener::{Listeners, UnixSocket},
    run::{Stage, run},
    signals::Stop,
};
use crate::{
    api::proto::{StartAuthorizationRequest, integration_service_client::IntegrationServiceClient},
    domain::Tracer,
    sandbox,
    store::MasterKey,
};

/// Where `cairld dev` listens and keeps its files.
#[derive(Args, Debug)]
pub(super) struct Options {
    /// Where gRPC is served on loopback TCP; a free port by default.
    #[arg(long, value_name = "ADDR")]
    grpc: Option<SocketAddr>,
    /// Where the sandbox listens; a free port by default.
    #[arg(long, value_name = "ADDR")]
    sandbox: Option<SocketAddr>,
    /// Where webhooks are received over HTTP on loopback; a free port by default.
    #[arg(long, value_name = "ADDR")]
    webhooks: Option<SocketAddr>,
    /// The folder for the store, the socket and the secrets, kept afterwards; by default a temporary one.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Runs both until interrupted.
pub(super) async fn dev(options: Options, tracer: Arc<dyn Tracer>, stop: Stop) -> Result<(), Failure> {
    let temporary = tempfile::Builder::new().prefix("cairld-dev-").tempdir();
    let temporary = temporary.map_err(|error| cannot(Path::new("a temporary folder"), &error))?;
    let folder = options.data.clone().unwrap_or_else(|| temporary.path().to_owned());
    fs::create_dir_all(&folder).map_err(|error| cannot(&folder, &error))?;
    let folder = folder.canonicalize().map_err(|error| cannot(&folder, &error))?;
    let files = Files { folder };

    let (grpc, grpc_address) = bind(options.grpc).await?;
    let (sandbox_listener, sandbox_address) = bind(options.sandbox).await?;
    let (callback_listener, callback_address) = bind(None).await?;
    let (webhooks, webhooks_address) = bind(options.webhooks).await?;
    let (ops, ops_address) = bind(None).await?;
    let addresses = Addresses {
        grpc: grpc_address,
        sandbox: sandbox_address,
        callback: callback_address,
        webhooks: webhooks_address,
        ops: ops_address,
    };

    let client = sandbox_client(&files, &addresses)?;
    let config = configuration(&files, &addresses)?;
    let listeners = Listeners {
        unix: Some(bind_socket(&config).await?),
        tcp: Some(grpc),
        webhooks: Some(webhooks),
        ops: Some(ops),
    };

    let settings = sandbox::Settings { clients: vec![client], ..sandbox::Settings::default() };
    let sandbox = sandbox::run(sandbox_listener, settings, std::future::pending());
    let callback_page = callback::serve(callback_listener, Commands::new(&files, &addresses));

    let (ready, is_ready) = oneshot::channel();
    let (mut ready, ending) = (Some(ready), stop.ending());
    let tell = move |stage| {
        ending.follow(&stage);
        if matches!(stage, Stage::Serving(_)) {
            // Without an ear for it, the greeting below has ended already.
            let _ = ready.take().map(|ready| ready.send(()));
        }
    };
    let daemon = run(config, listeners, tell, tokio_stream::empty(), tracer, stop.asked());
    let greeting = async {
        if is_ready.await.is_ok() {
            greet(&files, &addresses).await?;
        }
        Ok::<(), Failure>(())
    };
    let gone = |what: &str, error: &dyn std::fmt::Display| {
        Failure::new(ExitCode::Software, format!("{what}: {error}"))
    };
    tokio::select! {
        ended = async { tokio::try_join!(async { daemon.await.map_err(Failure::from) }, greeting) } => ended.map(|_| ()),
        Err(error) = sandbox => Err(gone("the sandbox", &error)),
        Err(error) = callback_page => Err(gone("the callback page", &error)),
    }
}

async fn bind(address: Option<SocketAddr>) -> Result<(TcpListener, SocketAddr), Failure> {
    let address = address.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 0).into());
    let failed = |error: io::Error| {
        Failure::new(ExitCode::Unavailable, format!("{address}: {error}; choose another port, or 0 for any"))
    };
    if !address.ip().to_canonical().is_loopback() {
        let what = format!(
            "{address} is not a loopback address: what a throw-away daemon does stays on this machine"
        );
        return Err(Failure::new(ExitCode::Usage, what));
    }
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

async fn bind_socket(config: &Config) -> Result<UnixSocket, Failure> {
    let unavailable = |error: &dyn std::fmt::Display| Failure::new(ExitCode::Unavailable, error);
    let unix_only = Grpc { tcp: None, ..config.grpc.clone() };
    let bound = Listeners::bind(&unix_only, &Http::default(), Inherited::default())
        .await
        .map_err(|error| unavailable(&error))?;
    bound.unix.ok_or_else(|| unavailable(&"no Unix socket is configured"))
}

fn sandbox_client(files: &Files, addresses: &Addresses) -> Result<sandbox::Client, Failure> {
    Ok(sandbox::Client {
        client_id: files.secret("client.id", &format!("cairl_test_{}", random_text()?))?,
        client_secret: files.secret("client.secret", &random_text()?)?,
        redirect_uris: vec![addresses.redirect_uri()],
        webhook_url: Some(addresses.webhook_url()),
        webhook_secret: Some(files.secret("webhook.secret", &random_text()?)?),
        name: Some("Demo shop".to_owned()),
    })
}

/// Writes the configuration that a daemon of one's own would have, and loads it.
fn configuration(files: &Files, addresses: &Addresses) -> Result<Config, Failure> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| Failure::new(ExitCode::OsErr, error))?;
    files.secret("store.key", &MasterKey::new(key).expose())?;
    files.secret("caller.token", &random_text()?)?;
    let text = format!(
        r#"# Written anew by each `cairld dev`.
[grpc]
unix = "cairld.sock"
tcp = "{grpc}"
insecure = true

[http]
webhooks = "{webhooks}"
ops = "{ops}"

[store]
path = "cairld.redb"

[keys]
files = ["store.key"]

[[client]]
name = "demo"
base_url = "http://{sandbox}"
client_id_file = "client.id"
client_secret_file = "client.secret"
webhook_secret_files = ["webhook.secret"]
redirect_uris = ["{redirect_uri}"]

[[caller]]
name = "dev"
uid = {uid}
token_file = "caller.token"
clients = ["demo"]
rpcs = ["*"]
events = true
access_token = true
admin = true
"#,
        grpc = addresses.grpc,
        webhooks = addresses.webhooks,
        ops = addresses.ops,
        sandbox = addresses.sandbox,
        redirect_uri = addresses.redirect_uri(),
        uid = rustix::process::geteuid().as_raw(),
    );
    let path = files.path("dev.toml");
    fs::write(&path, text).map_err(|error| cannot(&path, &error))?;
    load(&path, &Environment::from_process(Sockets::default()))
        .map_err(|problems| Failure::new(ExitCode::Software, problems))
}

/// Starts a flow as a service would, over the network, and prints what to do with it.
async fn greet(files: &Files, addresses: &Addresses) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new(ExitCode::Software, error);
    let token = files.secret("caller.token", "")?;
    let mut client = IntegrationServiceClient::connect(format!("http://{}", addresses.grpc))
        .await
        .map_err(|error| failed(&error))?;
    let mut request = Request::new(StartAuthorizationRequest {
        scopes: vec!["age_18_plus".to_owned(), "identity_verified".to_owned()],
        ..StartAuthorizationRequest::default()
    });
    let bearer = MetadataValue::try_from(format!("Bearer {token}")).map_err(|error| failed(&error))?;
    request.metadata_mut().insert("authorization", bearer);
    let started = client.start_authorization(request).await.map_err(|status| failed(&status))?.into_inner();
    let commands = Commands::new(files, addresses);
    say(format_args!(
        r"cairld {version} with its own sandbox of the provider; nothing here is real, all of it is loopback

  grpc        {grpc}
  unix        {unix}
  sandbox     http://{sandbox}
  callback    {callback}
  webhooks    {webhooks}
  metrics     http://{ops}/metrics, and /readyz?verbose
  data        {data}

1. Be the user: open this in a browser and answer the page. It lives for thirty minutes.

  {url}

   Without a browser:

  {decide}

2. Complete with the callback URL that came of it; the page after the consent has both lines filled in.

  {complete_grpcurl}

  {complete_cairlctl}

3. Start another:

  {start_grpcurl}

  {start_cairlctl}

Ctrl-C ends it.",
        version = env!("CARGO_PKG_VERSION"),
        grpc = addresses.grpc,
        unix = files.path("cairld.sock").display(),
        sandbox = addresses.sandbox,
        callback = addresses.redirect_uri(),
        webhooks = addresses.webhook_url(),
        ops = addresses.ops,
        data = files.folder.display(),
        url = started.authorization_url,
        decide = commands.decide(&started.authorization_url),
        complete_grpcurl = commands.complete_grpcurl("CALLBACK_URL"),
        complete_cairlctl = commands.complete_cairlctl("CALLBACK_URL"),
        start_grpcurl = commands.start_grpcurl(),
        start_cairlctl = commands.start_cairlctl(),
    ))
}

fn random_text() -> Result<String, Failure> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes).map_err(|error| Failure::new(ExitCode::OsErr, error))?;
    Ok(HEXLOWER.encode(&bytes))
}
