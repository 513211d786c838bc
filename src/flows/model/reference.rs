//! What must be: the rules of sessions, codes, tokens, budgets and events, written down once more, by another hand and from
//! the rules alone. It stores nothing, shares nothing and forgets nothing; so it is short enough to be read.

mod budget;
mod known;

use std::collections::{BTreeMap, BTreeSet};

pub(super) use self::known::{Bound, Known, Place, Token, View, age, sees};
use self::{budget::Budget, known::is_over};
use super::fact::{Fact, Said, Took};
use crate::{
    domain::{
        BudgetKind, CallerName, ClientName, Moment, OpenStatus, ProviderStatus, Reason, Refusal,
        RevocationEnd, SessionId, Status, Terminal, TokenStanding, Viewer,
    },
    store::Slot,
};

const SESSION_LIFE: u64 = 30 * 60_000;
const CODE_LIFE: u64 = 10 * 60_000;
const REPLAY: u64 = 2 * 60_000;
const MAX_SENDS: u32 = 9;
pub(super) const WINDOW: u64 = 60_000;

/// All that there is.
#[derive(Clone, Debug, Default)]
pub(super) struct Reference {
    /// When anything was last seen or done: nothing is done before it any more.
    latest: Moment,
    pub(super) run: u64,
    pub(super) sessions: BTreeMap<SessionId, Known>,
    codes: BTreeMap<String, SessionId>,
    links: BTreeMap<(ClientName, String), (SessionId, bool)>,
    requests: BTreeMap<(CallerName, ClientName, String), (SessionId, String)>,
    pub(super) events: BTreeSet<(ClientName, Vec<u8>)>,
    pub(super) revocations: BTreeSet<SessionId>,
    budgets: BTreeMap<String, Budget>,
    /// Sessions as a sweep may have written them down, which no clock changes any more.
    pub(super) may_be_written: BTreeMap<SessionId, Known>,
    /// Sessions that a sweep may have removed.
    pub(super) may_be_gone: BTreeSet<SessionId>,
}

/// A callback, as it is presented.
pub(super) struct Presented<'p> {
    pub(super) viewer: &'p Viewer,
    pub(super) secret: [u8; 32],
    pub(super) binding: Option<&'p str>,
    pub(super) callback: &'p str,
}

impl Reference {
    /// Another run begins.
    pub(super) fn restart(&mut self, run: u64, now: Moment) {
        (self.run, self.latest) = (run, now);
        self.budgets.values_mut().for_each(|budget| budget.restart(now));
    }

    /// A fact comes about, or is refused: checks that what was said of it is right, and takes it over.
    ///
    /// # Errors
    /// What is wrong.
    pub(super) fn happen(&mut self, fact: &Fact, said: &Said) -> Result<(), String> {
        let expected = self.expect(fact, said)?;
        if expected == *said { Ok(()) } else { Err(format!("it should be {expected:?}, and is {said:?}")) }
    }

    /// Something was seen, or done, at that time.
    pub(super) fn saw(&mut self, now: Moment) {
        if now.boot.millis > self.latest.boot.millis {
            self.latest = now;
        }
    }

    /// A fact may have come about, of which nobody was told anything.
    pub(super) fn suppose(&mut self, fact: &Fact) {
        // Nobody knows the number of its slot, and nobody will give it back.
        let told = if matches!(fact, Fact::Take { .. }) { Said::Sent } else { Said::Claimed(None) };
        let _ = self.expect(fact, &told);
    }

    /// What comes of a fact; where the rules leave a choice, what was said decides.
    fn expect(&mut self, fact: &Fact, said: &Said) -> Result<Said, String> {
        let run = self.run;
        let fact = &fact.not_before(self.latest);
        if let Some(now) = fact.now() {
            self.saw(now);
        }
        Ok(match fact {
            Fact::Start { now, id, client, caller, secret, binding, request, arguments } => {
                if let Some(request) = request {
                    let key = (caller.clone(), client.clone(), request.clone());
                    if let Some((known, same)) = self.requests.get(&key) {
                        if same != arguments {
                            return Ok(Said::Refused(Reason::RequestIdReused));
                        }
                        let Some(session) = self.sessions.get(known) else {
                            return Err("a request id outlives its session".to_owned());
                        };
                        let mut session = session.clone();
                        session.settle(
                            if now.boot.millis < self.latest.boot.millis { self.latest } else { *now },
                            run,
                        );
                        let is_usable = matches!(session.place, Place::Open(_)) && session.bound.is_none();
                        return Ok(Said::Started { id: *known, is_usable });
                    }
                    self.requests.insert(key, (*id, arguments.clone()));
                }
                let session = Known {
                    client: client.clone(),
                    caller: caller.clone(),
                    binding: binding.clone(),
                    secret: *secret,
                    created: *now,
                    place: Place::Open(OpenStatus::Pending),
                    since: *now,
                    bound: None,
                    failure: None,
                    token: Token::None,
                    has_claims: false,
                    hint: None,
                };
                self.sessions.insert(*id, session);
                Said::Started { id: *id, is_usable: true }
            }
            Fact::Take { now, id, viewer, secret, binding, callback, error, since, hint, budget, limit } => {
                let presented = Presented { viewer, secret: *secret, binding: binding.as_deref(), callback };
                if let Err(reason) = self.admit(*id, &presented) {
                    return Ok(Said::Refused(reason));
                }
                let Some(mut session) = self.sessions.get(id).cloned() else {
                    return Ok(Said::Refused(Reason::StateUnknown));
                };
                session.settle(*now, run);
                let took = match session.place {
                    Place::Ended(_) => {
                        let is_replay = session.bound.is_some()
                            && session.binding.is_some()
                            && !is_over(session.since, REPLAY, *now);
                        return Ok(if session.bound.is_none() {
                            Said::Refused(session.own_refusal())
                        } else if is_replay {
                            Said::Took(Took::Answer, session.view(*now, run))
                        } else {
                            Said::Refused(Reason::StateAlreadyUsed)
                        });
                    }
                    Place::Sent { .. } => return Ok(Said::Refused(Reason::ExchangeInProgress)),
                    Place::Token => return Ok(Said::Took(Took::FetchClaims, session.view(*now, run))),
                    Place::Open(before) => {
                        if self.codes.get(callback).is_some_and(|owner| owner != id) {
                            return Ok(Said::Refused(Reason::CodeAlreadyUsed));
                        }
                        session.hint = session.hint.clone().or_else(|| hint.clone());
                        let fresh = || Bound { callback: callback.clone(), first: *since, sends: 0 };
                        let was_bound = session.bound.is_some();
                        let bound = session.bound.get_or_insert_with(fresh);
                        if let Some(is_expired) = error {
                            if *is_expired {
                                session.failure = Some(Reason::SessionExpired);
                                session.end(Terminal::Expired, *now);
                            } else {
                                session.fail(Reason::AccessDenied, *now);
                            }
                            Took::Answer
                        } else if bound.sends >= MAX_SENDS || is_over(bound.first, CODE_LIFE, *now) {
                            // What was never sent binds nothing.
                            session.bound.take_if(|bound| bound.sends == 0 && !was_bound);
                            session.fail(Reason::InvalidGrant, *now);
                            Took::Answer
                        } else {
                            let known = self.budgets.entry(budget.clone()).or_default();
                            let (may_make, may_refuse) = known.allows(*now, *limit);
                            match said {
                                Said::Spent if may_refuse => return Ok(Said::Spent),
                                Said::Took(Took::Send(_), _) | Said::Sent if may_make => {
                                    let slot = if let Said::Took(Took::Send(slot), _) = said {
                                        Some(*slot)
                                    } else {
                                        None
                                    };
                                    known.slots.push((slot, None));
                                    bound.sends += 1;
                                    (session.place, session.since) = (Place::Sent { before, run }, *now);
                                    slot.map_or(Took::Answer, Took::Send)
                                }
                                _ => {
                                    return Err(format!(
                                        "a take says {said:?}; it may be sent: {may_make}, may be refused: {may_refuse}"
                                    ));
                                }
                            }
                        }
                    }
                };
                if error.is_none() {
                    self.codes.insert(callback.clone(), *id);
                }
                self.link(*id, &session, false);
                let view = session.view(*now, run);
                self.sessions.insert(*id, session);
                Said::Took(took, view)
            }
            Fact::EndExchange { now, id, slot, end } => {
                self.end_slot(*now, *slot, end.was_made(), end.limited());
                let Some(session) = self.sessions.get_mut(id) else {
                    return Ok(Said::Refused(Reason::SessionNotFound));
                };
                let Place::Sent { before, .. } = session.place else {
                    return Ok(Said::Refused(Reason::SessionFinished));
                };
                session.since = *now;
                match end {
                    super::fact::End::Token { life } => {
                        session.place = Place::Token;
                        session.token = Token::Held { since: *now, life: *life };
                        session.failure = None;
                    }
                    super::fact::End::AsItWas { reason, was_made, .. } => {
                        session.place = Place::Open(before);
                        session.failure = Some(*reason);
                        if let Some(bound) = &mut session.bound
                            && !was_made
                        {
                            bound.sends -= 1;
                        }
                    }
                    super::fact::End::Final(reason) => session.fail(*reason, *now),
                    super::fact::End::Unknown(reason) => {
                        session.failure = Some(*reason);
                        session.end(Terminal::Indeterminate, *now);
                    }
                }
                let has_token = session.place == Place::Token;
                session.settle(*now, run);
                let session = session.clone();
                if has_token {
                    self.link(*id, &session, true);
                }
                Said::Session(session.view(*now, run))
            }
            Fact::EndClaims { now, id, end } => {
                let Some(session) = self.sessions.get_mut(id) else {
                    return Ok(Said::Refused(Reason::SessionNotFound));
                };
                session.settle(*now, run);
                if session.place == Place::Token {
                    match end {
                        Ok(()) => {
                            (session.has_claims, session.failure) = (true, None);
                            session.end(Terminal::Complete, *now);
                        }
                        Err((reason, true)) => {
                            session.token = Token::Expired;
                            session.fail(*reason, *now);
                        }
                        Err((reason, false)) => session.failure = Some(*reason),
                    }
                }
                session.settle(*now, run);
                Said::Session(session.view(*now, run))
            }
            Fact::Cancel { now, id, viewer } => {
                let known = self.sessions.get(id).filter(|session| sees(viewer, session)).cloned();
                // What is refused changes nothing.
                let Some(mut session) = known else {
                    return Ok(Said::Refused(Reason::SessionNotFound));
                };
                session.settle(*now, run);
                match session.place {
                    Place::Ended(Terminal::Cancelled) => {}
                    Place::Ended(_) => return Ok(Said::Refused(Reason::SessionFinished)),
                    Place::Sent { .. } => return Ok(Said::Refused(Reason::ExchangeInProgress)),
                    Place::Open(_) | Place::Token => {
                        if matches!(session.token, Token::Held { .. }) {
                            session.token = Token::Revoked;
                            self.revocations.insert(*id);
                        }
                        session.end(Terminal::Cancelled, *now);
                    }
                }
                let view = session.view(*now, run);
                self.sessions.insert(*id, session);
                Said::Session(view)
            }
            Fact::Revoke { now, id, viewer } => {
                let known = self.sessions.get(id).filter(|session| sees(viewer, session)).cloned();
                // What is refused changes nothing.
                let Some(mut session) = known else {
                    return Ok(Said::Refused(Reason::SessionNotFound));
                };
                session.settle(*now, run);
                match session.token {
                    Token::Revoked => {}
                    Token::None | Token::Expired => return Ok(Said::Refused(Reason::TokenNotHeld)),
                    Token::Held { .. } if session.place == Place::Token => {
                        return Ok(Said::Refused(Reason::ExchangeInProgress));
                    }
                    Token::Held { .. } => {
                        session.token = Token::Revoked;
                        self.revocations.insert(*id);
                    }
                }
                let view = session.view(*now, run);
                self.sessions.insert(*id, session);
                Said::Session(view)
            }
            Fact::EndRevocation {
                id,
                how: RevocationEnd::Revoked | RevocationEnd::Refused { .. } | RevocationEnd::RanOut,
            } => {
                self.revocations.remove(id);
                Said::Done
            }
            Fact::Claim { now, budget, limit } => {
                let known = self.budgets.entry(budget.clone()).or_default();
                let (may_make, may_refuse) = known.allows(*now, *limit);
                match said {
                    Said::Spent if may_refuse => Said::Spent,
                    Said::Claimed(slot) if may_make => {
                        known.slots.push((*slot, None));
                        Said::Claimed(*slot)
                    }
                    _ => {
                        return Err(format!(
                            "a slot: {said:?}; may be had: {may_make}, may be refused: {may_refuse}"
                        ));
                    }
                }
            }
            Fact::EndQuery { now, id, slot, status, was_made, limited } => {
                self.end_slot(*now, *slot, *was_made, *limited);
                if let (Some(status), Some(mut session)) = (status, self.sessions.get(id).cloned()) {
                    session.settle(*now, run);
                    let before = session.place;
                    session.hear(*status, *now);
                    if session.place != before {
                        self.sessions.insert(*id, session);
                    }
                }
                Said::Done
            }
            Fact::Ingest { now, client, body, about, status } => {
                let is_duplicate = !self.events.insert((client.clone(), body.clone()));
                let linked =
                    about.as_ref().and_then(|about| self.links.get(&(client.clone(), about.clone())));
                if let Some(session) = linked.and_then(|(id, _)| self.sessions.get_mut(id))
                    && let Some(status) = status
                    && !is_duplicate
                {
                    session.settle(*now, run);
                    session.hear(*status, *now);
                }
                Said::Kept { is_duplicate }
            }
            Fact::Sweep { now, retention } => {
                // Which bite does what is the sweep's own affair. What it may remove is not.
                let is_old = |session: &Known| is_over(session.created, SESSION_LIFE + retention, *now);
                let old = self.sessions.iter().filter(|(_, session)| is_old(session)).map(|(id, _)| *id);
                self.may_be_gone.extend(old);
                for (id, session) in &self.sessions {
                    let mut settled = session.clone();
                    settled.settle(*now, run);
                    if settled != *session {
                        self.may_be_written.insert(*id, settled);
                    }
                }
                said.clone()
            }
            Fact::Other => said.clone(),
        })
    }

    /// Whether a callback may be presented at all.
    pub(super) fn admit(&self, id: SessionId, presented: &Presented<'_>) -> Result<(), Reason> {
        let Some(session) = self.sessions.get(&id) else { return Err(Reason::StateUnknown) };
        if !sees(presented.viewer, session) || session.secret != presented.secret {
            return Err(Reason::StateUnknown);
        }
        if session.binding.as_deref() != presented.binding {
            return Err(Reason::BindingMismatch);
        }
        match &session.bound {
            Some(bound) if bound.callback != presented.callback => Err(Reason::StateAlreadyUsed),
            Some(_) | None => Ok(()),
        }
    }

    /// The first session to complete an exchange with the provider's id owns it; until then the first to name it has it.
    fn link(&mut self, id: SessionId, session: &Known, is_owned: bool) {
        let Some(hint) = &session.hint else { return };
        let key = (session.client.clone(), hint.clone());
        let known = self.links.get(&key);
        if known.is_none_or(|(holder, owned)| !owned && (is_owned || *holder == id)) {
            self.links.insert(key, (id, is_owned));
        }
    }

    /// A request ended that held a slot.
    fn end_slot(&mut self, now: Moment, slot: Slot, was_made: bool, limited: Option<Option<u64>>) {
        let is_its = |budget: &&mut Budget| budget.slots.iter().any(|(known, _)| *known == Some(slot));
        if let Some(budget) = self.budgets.values_mut().find(is_its) {
            budget.end(now, slot, was_made, limited);
        }
    }

    /// A session is gone, and all that belonged to it.
    pub(super) fn forget(&mut self, id: SessionId) {
        self.sessions.remove(&id);
        self.may_be_gone.remove(&id);
        self.may_be_written.remove(&id);
        self.codes.retain(|_, owner| *owner != id);
        self.links.retain(|_, (owner, _)| *owner != id);
        self.requests.retain(|_, (owner, _)| *owner != id);
    }

    /// The name of a budget.
    pub(super) fn budget_of(kind: BudgetKind, credential: &str) -> String {
        format!("{} {credential}", kind.as_str())
    }

    /// What the provider refuses, told apart as far as the budgets care.
    pub(super) fn limited(refusal: &Refusal) -> Option<Option<u64>> {
        let retry_after = refusal.said.as_ref().and_then(|said| said.retry_after);
        (refusal.reason == Reason::RateLimited).then(|| retry_after.map(|span| span.as_secs()))
    }
}
