//! What `cairld dev` shows the browser that comes back: the callback URL, and lines to paste that complete with it.

use std::{env, net::SocketAddr, path::PathBuf, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{HeaderValue, Uri, header},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;

use super::place::{Addresses, Files};

/// Command lines for a shell, ready to be pasted.
pub(super) struct Commands {
    grpc: SocketAddr,
    sandbox: SocketAddr,
    callback: SocketAddr,
    token: PathBuf,
    socket: PathBuf,
    cairlctl: String,
}

impl Commands {
    pub(super) fn new(files: &Files, addresses: &Addresses) -> Self {
        Self {
            grpc: addresses.grpc,
            sandbox: addresses.sandbox,
            callback: addresses.callback,
            token: files.path("caller.token"),
            socket: files.path("cairld.sock"),
            cairlctl: cairlctl(),
        }
    }

    pub(super) fn start_grpcurl(&self) -> String {
        self.grpcurl("StartAuthorization", r#"{"scopes": ["age_18_plus"]}"#)
    }

    pub(super) fn complete_grpcurl(&self, callback_url: &str) -> String {
        self.grpcurl("CompleteAuthorization", &format!(r#"{{"callback_url": "{callback_url}"}}"#))
    }

    fn grpcurl(&self, method: &str, message: &str) -> String {
        format!(
            "grpcurl -plaintext -H \"authorization: Bearer $(cat {token})\" -d '{message}' {grpc} \
             cairld.v1.IntegrationService/{method}",
            token = self.token.display(),
            grpc = self.grpc,
        )
    }

    pub(super) fn start_cairlctl(&self) -> String {
        format!("{} start --scope age_18_plus", self.cairlctl())
    }

    pub(super) fn complete_cairlctl(&self, callback_url: &str) -> String {
        format!("{} complete '{callback_url}'", self.cairlctl())
    }

    fn cairlctl(&self) -> String {
        format!("{} --endpoint unix:{}", self.cairlctl, self.socket.display())
    }

    pub(super) fn decide(&self, authorization_url: &str) -> String {
        format!(
            "curl -s http://{}/sandbox/decide -H 'content-type: application/json' \
             -d '{{\"authorization_url\": \"{authorization_url}\", \"outcome\": \"approve\"}}'",
            self.sandbox
        )
    }
}

/// How cairlctl is called from here: the program beside this one, or Cargo where that is not built.
fn cairlctl() -> String {
    let beside = env::current_exe().ok().map(|path| path.with_file_name("cairlctl"));
    match beside {
        Some(path) if path.exists() => path.display().to_string(),
        _ => "cargo run -q --bin cairlctl --".to_owned(),
    }
}

/// Serves the page.
pub(super) async fn serve(listener: TcpListener, commands: Commands) -> std::io::Result<()> {
    let app = Router::new().route("/callback", get(page)).with_state(Arc::new(commands));
    axum::serve(listener, app).await
}

async fn page(State(commands): State<Arc<Commands>>, uri: Uri) -> Response {
    // A quote would end the shell's string in the lines below.
    let url = format!("http://{}{uri}", commands.callback).replace('\'', "%27");
    let block = |text: &str| format!("<pre>{}</pre>", escape(text));
    let html = format!(
        r#"<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Back from the provider</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere; padding: .75rem 1rem; border-radius: .5rem;
      background: color-mix(in srgb, currentColor 8%, transparent); }}
</style>
<h1>Back from the provider</h1>
<p>Here your service would take over: it hands the whole callback URL to <code>CompleteAuthorization</code>, once.</p>
{url_block}
<p>Paste one of these into a terminal:</p>
{grpcurl}
{cairlctl}
<p>A second time it is refused: a state is used once.</p>
</html>
"#,
        url_block = block(&url),
        grpcurl = block(&commands.complete_grpcurl(&url)),
        cairlctl = block(&commands.complete_cairlctl(&url)),
    );
    let mut response = Html(html).into_response();
    let policy = HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'");
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    // The URL carries a code: it goes nowhere from here.
    response.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}
