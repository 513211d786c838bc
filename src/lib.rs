//! cairld takes users through a CAIRL verification, once and right, for services in any language.
//!
//! One crate; its modules are the rooms of a house. This page is the map: what each room is for, and who may call whom.
//! `docs/architecture.md` tells the rest.
//!
//! # The rooms
//!
//! - [`domain`] **decides.** The state machine ([`domain::Session`]), the parsing of what comes from outside
//!   ([`domain::Callback`], [`domain::Envelope`], [`domain::Userinfo`]), secrets as types, and every reason to say no
//!   with its remedy ([`domain::Reason`], [`domain::Refusal`]). Pure: no clock, no randomness, no I/O. A transition
//!   takes a session, an input and the present moment, and answers what to do, or why not.
//! - [`store`] **remembers.** [`store::Store`] has one method for each atomic fact ("this callback was presented"), not
//!   get and put. Inside its transaction a method reads again, asks the domain, writes, and answers when that is
//!   durable. Everything secret is sealed here. No other room uses a database.
//! - [`provider`] **talks to CAIRL.** [`provider::Provider`] is four requests. Each is sent once; what an answer means
//!   for a session is the domain's to say.
//! - [`flows`] **joins them.** The use cases ([`flows::Flows`]), one file each: refuse early → one atomic fact → act at
//!   the provider → one atomic fact.
//! - [`api`] **is gRPC.** A call passes the door (who is it, may he), is read into what cannot be wrong, goes through a
//!   flow, and comes back as a message or a status. The contract's generated types ([`api::proto`]) stay here.
//! - [`http`] **is plain HTTP**: where the provider delivers webhooks. It has limits of its own for connections, since anybody
//!   may be at the other end, and no door: a webhook's signature is what lets it in.
//! - [`daemon`] **assembles.** Configuration, clocks, listeners, signals, start and drain ([`daemon::run()`]), and the
//!   commands of `cairld` ([`daemon::command`]).
//! - [`sandbox`] **stands in for the provider**, over HTTP alone: for `cairld dev`, for tests, for others' CI.
//! - [`ctl`] **is `cairlctl`**: the daemon's calls from a shell, and its errors explained.
//!
//! # Who may call whom
//!
//! ```text
//! domain ← store, provider ← flows ← api, http ← daemon ← main
//! ```
//!
//! A room may use any room to its left, and none to its right.
//!
//! - `store` and `provider` do not know each other. What one learns the other hears of through `flows`. Neither do `api` and
//!   `http`.
//! - `api` takes from `store` the plain types that flows take and give ([`store::Lookup`], [`store::Event`]), never a
//!   store itself.
//! - `daemon` alone sees all rooms, since somebody must put them together. It decides nothing about a session.
//! - `sandbox` imports no other room: sharing code with the daemon, it would share its mistakes. `daemon` runs it.
//! - `ctl` imports [`api::proto`]: it knows what any client knows. To explain errors without a daemon it also reads the
//!   catalogue of `domain` ([`domain::catalogue()`], [`domain::conditions()`]), which is text, and how a reason is said in
//!   gRPC ([`api::code()`]); nothing else.
//!
//! # Where does a new line belong?
//!
//! - A rule about sessions: `domain`, with its test beside it. What an answer of the provider means, and any text about
//!   an error: an entry of its catalogue.
//! - Something that must survive a crash, or must not happen twice: a method of [`store::Store`].
//! - Another step in a use case: `flows`. Another call or field: `proto/`, then `api`.
//! - A setting: `daemon::config`, and `docs/cairld.toml`.
//! - Reading the clock or making randomness: where it is done already. Everybody else gets the value as an argument.

pub mod api;
pub mod ctl;
pub mod daemon;
pub mod domain;
pub mod flows;
pub mod http;
pub mod provider;
pub mod sandbox;
pub mod store;
