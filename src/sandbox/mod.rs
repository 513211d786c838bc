//! The provider's stand-in: the same wire contract, a consent page, scripted faults.
//!
//! It serves `cairld dev`, every test, and the continuous integration of those who build on the daemon. What the
//! provider enforces it enforces too, and where it differs on purpose the item concerned says so. Beside the
//! contract it has a control API under `/sandbox/`; everything is reached over HTTP, and nothing is stored.
//!
//! `authorize`, `world`, `query` and `tokens` hold the rules, free of I/O, with time as an argument; `contract`,
//! `browser` and `control` put them on the wire; `serve` owns the connections, so that a fault can break one.

mod authorize;
mod browser;
mod client;
mod clock;
mod contract;
mod control;
mod faults;
mod journal;
mod limits;
mod page;
mod params;
mod query;
mod serve;
#[cfg(test)]
mod tests;
mod tokens;
mod webhooks;
mod world;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use tokio::net::TcpListener;
use tokio::sync::Notify;

pub use client::Client;
use clock::{Clock, Moment};
use limits::Over;
use webhooks::{Endpoint, Sending};
use world::{Outcome, World};

/// What a sandbox starts with. Clients can be added later over the control API.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The clients known from the start.
    pub clients: Vec<Client>,
    /// How many calls a day a test key may make; `None`, the default, is no cap. The provider's is 100.
    pub daily_cap: Option<u32>,
    /// Whether the provider's limits by the minute are left out: for tests of load, which would measure those instead.
    pub unlimited: bool,
}

/// The sandbox was told to listen where strangers could reach it.
#[derive(Debug, thiserror::Error)]
#[error(
    "{address} is not a loopback address: the sandbox vouches for anybody, so it stays on 127.0.0.1 or [::1] unless remote access is allowed explicitly"
)]
pub struct ListenRefused {
    address: SocketAddr,
}

/// Refuses to listen on anything but loopback, unless `allow_remote` says that it is meant.
///
/// # Errors
/// [`ListenRefused`] for any other address.
pub fn check_listen(address: SocketAddr, allow_remote: bool) -> Result<(), ListenRefused> {
    if allow_remote || address.ip().to_canonical().is_loopback() {
        Ok(())
    } else {
        Err(ListenRefused { address })
    }
}

/// Serves until `shutdown` resolves, then drops what is still open: nobody's data is at stake.
///
/// # Errors
/// A client that cannot be registered ([`io::ErrorKind::InvalidInput`]), or no randomness from the system.
pub async fn run(
    listener: TcpListener,
    settings: Settings,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(io::Error::other)?;
    let mut world = World::new(seed, settings.daily_cap);
    if settings.unlimited {
        world.lift_limits();
    }
    for client in settings.clients {
        world.register(client).map_err(|text| io::Error::new(io::ErrorKind::InvalidInput, text))?;
    }
    let webhook_client = webhooks::http_client()?;
    let shared = Arc::new(Shared {
        inside: Mutex::new(Inside {
            clock: Clock::start(),
            world,
            faults: faults::Queue::default(),
            journal: journal::Journal::default(),
            webhooks: webhooks::Deliveries::default(),
        }),
        wake: Notify::new(),
    });
    let router = contract::router(&shared)
        .merge(browser::router())
        .merge(control::router())
        .with_state(Arc::clone(&shared));
    tokio::select! {
        () = shutdown => {}
        () = serve::serve(listener, router) => {}
        () = webhooks::deliver(shared, webhook_client) => {}
    }
    Ok(())
}

/// All that changes.
struct Inside {
    clock: Clock,
    world: World,
    faults: faults::Queue,
    journal: journal::Journal,
    webhooks: webhooks::Deliveries,
}

impl Inside {
    /// The user decides: the browser is sent somewhere, and the client's webhook endpoint hears of it.
    fn decide(&mut self, session_id: &str, outcome: Outcome, now: Moment) -> Option<String> {
        let decision = self.world.decide(session_id, outcome, now)?;
        if let Some((client_id, event)) = decision.event {
            let id = self.world.draw_id("whd_");
            let sending = Sending::ordinary(Bytes::from(event.to_string()));
            match self.world.clients.get(&client_id).and_then(Endpoint::of) {
                Some(endpoint) => self.webhooks.add(&id, &endpoint, &sending, now),
                None => tracing::debug!("the client has no webhook endpoint"),
            }
        }
        Some(decision.callback_url)
    }
}

/// What handlers share.
struct Shared {
    inside: Mutex<Inside>,
    /// Something may be due for the webhooks.
    wake: Notify,
}

impl Shared {
    /// The one way in. A closure cannot await, so the lock is never held across one; and as `now` is read under the
    /// lock, what comes later never sees an earlier time.
    fn with<T>(&self, act: impl FnOnce(&mut Inside, Moment) -> T) -> T {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let now = inside.clock.now();
        act(&mut inside, now)
    }
}

/// A refusal in the provider's general form, `{"success": false, "error": …}`.
#[derive(Debug, PartialEq, Eq)]
struct ApiError {
    status: u16,
    error: &'static str,
    retry_after: Option<u64>,
}

impl ApiError {
    fn new(status: u16, error: &'static str) -> Self {
        Self { status, error, retry_after: None }
    }

    fn over(limit: Over) -> Self {
        Self { status: 429, error: "Too Many Requests", retry_after: Some(limit.retry_after) }
    }
}
