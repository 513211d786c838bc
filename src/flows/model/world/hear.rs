//! What callers wait for, and whether what they hear is right.

use super::*;

/// What a caller waits for.
pub(super) enum Wanted {
    Start {
        session: u8,
        binding: Option<String>,
    },
    Complete {
        id: SessionId,
        caller: usize,
        secret: [u8; 32],
        binding: Option<String>,
        callback: String,
        since: Moment,
    },
    Session {
        id: SessionId,
        caller: usize,
    },
    Cancel {
        id: SessionId,
    },
    Revoke {
        id: SessionId,
    },
    Webhook {
        client: usize,
        body: Vec<u8>,
    },
    Chore,
}

pub(super) enum Heard {
    Started(Result<StartAnswer, Refusal>),
    Session(Result<Session, Refusal>),
    Kept(Result<bool, Refusal>),
    Nothing,
}

pub(super) struct Call {
    pub(super) number: usize,
    pub(super) wanted: Wanted,
    pub(super) task: JoinHandle<Heard>,
}

impl World {
    /// A token request is at the provider: it must be known to be, whatever happens from now on.
    pub(super) fn check_exchange(&self, code: &str, challenge: &str) -> Checked {
        let id =
            self.challenges.get(challenge).ok_or("a token request for a session that nobody was told of")?;
        let known = self.reference.sessions.get(id).ok_or("a token request for a session that is gone")?;
        let is_bound = known.bound.as_ref().is_some_and(|bound| bound.callback == code);
        match known.place {
            Place::Sent { run, .. } if run == self.reference.run && is_bound => Ok(()),
            place => Err(format!("{code} is sent for a session that is {place:?}")),
        }
    }

    /// What a caller hears must be so.
    pub(super) fn hear(&mut self, number: usize, wanted: Wanted, heard: Heard) -> Checked {
        let said = match &heard {
            Heard::Started(Ok(_)) | Heard::Kept(Ok(_)) => "OK".to_owned(),
            Heard::Session(Ok(session)) => format!("{:?}", session.status()),
            Heard::Started(Err(refusal)) | Heard::Session(Err(refusal)) | Heard::Kept(Err(refusal)) => {
                refusal.reason.to_string()
            }
            Heard::Nothing => "done".to_owned(),
        };
        self.tell(|| format!("      call {number} hears {said}"));
        if let Heard::Started(Err(refusal)) | Heard::Session(Err(refusal)) | Heard::Kept(Err(refusal)) =
            &heard
            && matches!(refusal.reason, Reason::Internal | Reason::RecordCorrupt)
        {
            return Err(format!("call {number} hears {}", refusal.reason));
        }
        match (wanted, heard) {
            (Wanted::Start { session, binding }, Heard::Started(Ok(answer))) => {
                let id = answer.session.id;
                if !self.reference.sessions.contains_key(&id) {
                    return Err("a session is told of that is not durable".to_owned());
                }
                let Some((url, state)) = answer.authorization else { return Ok(()) };
                let state = State::parse(&state).map_err(|error| error.to_string())?;
                let url = Url::parse(&url).map_err(|error| error.to_string())?;
                let challenge = url.query_pairs().find(|(name, _)| name == "code_challenge");
                let challenge = challenge.ok_or("a URL without a challenge")?.1.into_owned();
                let slot = usize::from(session);
                let is_known = self.challenges.insert(challenge, id).is_some();
                if !is_known {
                    self.generations[slot] += 1;
                    self.begun[slot] = Some(Begun { id, state, binding });
                }
                Ok(())
            }
            (Wanted::Complete { id, caller, secret, binding, callback, since }, Heard::Session(answer)) => {
                self.hear_completed(id, caller, secret, binding.as_deref(), &callback, since, answer)
            }
            (Wanted::Session { id, caller }, Heard::Session(Ok(session))) => {
                let known = self.reference.sessions.get(&id).ok_or("a session is shown that is gone")?;
                if !sees(&viewer(caller), known) || session.id != id {
                    return Err("a session is shown to another caller".to_owned());
                }
                Ok(())
            }
            (Wanted::Cancel { id }, Heard::Session(Ok(_))) => match self.reference.sessions.get(&id) {
                Some(known) if known.place != Place::Ended(Terminal::Cancelled) => {
                    Err(format!("a cancellation is acknowledged of a session that is {:?}", known.place))
                }
                _ => Ok(()),
            },
            (Wanted::Revoke { id }, Heard::Session(Ok(session))) => {
                let is_revoked = self.reference.sessions.get(&id).is_none_or(|known| {
                    known.token == Token::Revoked && View::of(&session).token == "revoked"
                });
                if is_revoked { Ok(()) } else { Err("a revocation is acknowledged that is none".to_owned()) }
            }
            (Wanted::Webhook { client: index, body }, Heard::Kept(Ok(_))) => {
                if self.reference.events.contains(&(client(index), body)) {
                    Ok(())
                } else {
                    Err("a webhook is acknowledged that is not kept".to_owned())
                }
            }
            _ => Ok(()),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "all that a caller presents")]
    pub(super) fn hear_completed(
        &mut self,
        id: SessionId,
        caller: usize,
        secret: [u8; 32],
        binding: Option<&str>,
        callback: &str,
        since: Moment,
        answer: Result<Session, Refusal>,
    ) -> Checked {
        let viewer = viewer(caller);
        let presented = Presented { viewer: &viewer, secret, binding, callback };
        let Some(known) = self.reference.sessions.get(&id) else { return Ok(()) };
        match answer {
            Ok(session) => {
                // What gets an outcome has shown that it may have it.
                self.reference
                    .admit(id, &presented)
                    .map_err(|reason| format!("claims are handed out, and {reason} should be said"))?;
                if session.status() != Status::Ended(Terminal::Complete) || session.userinfo.is_none() {
                    return Err(format!("completing answers {:?}", session.status()));
                }
                if known.place != Place::Ended(Terminal::Complete) {
                    return Err(format!("claims are handed out of a session that is {:?}", known.place));
                }
                // Whoever comes after the end needs a binding, and two minutes are all he has.
                let had_ended = age(known.since, since).unwrap_or_default() > 0;
                if had_ended && known.binding.is_none() {
                    return Err("claims are handed out again without a binding".to_owned());
                }
                self.tally.completed += 1;
                Ok(())
            }
            Err(refusal) => match refusal.reason {
                Reason::ExchangeInProgress => {
                    Err("who presents the callback of an exchange under way gets its outcome".to_owned())
                }
                Reason::StateUnknown | Reason::BindingMismatch => {
                    match self.reference.admit(id, &presented) {
                        Err(reason) if reason == refusal.reason => Ok(()),
                        // It was swept meanwhile.
                        _ if self.reference.may_be_gone.contains(&id) => Ok(()),
                        other => {
                            Err(format!("it is refused with {}, and should be {other:?}", refusal.reason))
                        }
                    }
                }
                _ => match self.reference.admit(id, &presented) {
                    Err(reason @ (Reason::StateUnknown | Reason::BindingMismatch)) => {
                        Err(format!("it is refused with {}, which tells more than {reason}", refusal.reason))
                    }
                    _ => Ok(()),
                },
            },
        }
    }
}
