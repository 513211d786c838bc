//! What each step of a history does.

use super::*;

impl World {
    pub(super) fn call(
        &mut self,
        life: &mut Life,
        wanted: Wanted,
        work: impl Future<Output = Heard> + Send + 'static,
    ) {
        self.calls += 1;
        let number = self.calls;
        self.tell(|| format!("      that is call {number}"));
        life.calls.push(Call { number, wanted, task: tokio::spawn(work) });
    }

    pub(super) async fn perform(&mut self, life: &mut Life, step: Step) -> Checked {
        let flows = Arc::clone(&life.flows);
        match step {
            Step::Start { session, caller: by, client: at, is_bound, has_request } => {
                let (by, at) = (usize::from(by), usize::from(at));
                let binding = is_bound.then(|| format!("browser {session}"));
                let start = Start {
                    viewer: viewer(by),
                    client: CLIENT_NAMES[at].to_owned(),
                    redirect_uri: String::new(),
                    scopes: Vec::new(),
                    binding: binding.as_ref().map(Binding::new),
                    reference: String::new(),
                    request_id: has_request.then(|| format!("request {session}")),
                    pending: None,
                };
                let wanted = Wanted::Start { session, binding };
                self.call(life, wanted, async move { Heard::Started(flows.start(start).await) });
            }
            Step::Present { session, code, caller: by, shown, patience } => {
                let generation = self.generations[usize::from(code % SESSIONS)];
                let code = AuthorizationCode::new(format!("code {code}.{generation}"));
                self.present(life, session, by, shown, patience, Shows::Code(code));
            }
            Step::PresentError { session, caller: by, is_expired } => {
                let error = if is_expired { "session_expired" } else { "access_denied" }.to_owned();
                let error = Shows::Error { error, description: String::new() };
                self.present(life, session, by, Shown::Right, 60_000, error);
            }
            Step::GiveUp { call } => {
                if let Some(place) = usize::from(call).checked_rem(life.calls.len()) {
                    let call = life.calls.remove(place);
                    self.tell(|| format!("      that is call {}", call.number));
                    call.task.abort();
                }
            }
            Step::Refresh { session, caller: by, patience } => {
                let Some(begun) = self.begun[usize::from(session)].clone() else { return Ok(()) };
                let (viewer, patience) =
                    (viewer(by.into()), Instant::now() + Duration::from_millis(patience));
                let wanted = Wanted::Session { id: begun.id, caller: by.into() };
                self.call(life, wanted, async move {
                    let lookup = Lookup::Id(begun.id);
                    Heard::Session(flows.refreshed_session(&viewer, &lookup, patience, None).await)
                });
            }
            Step::Cancel { session, caller: by } => {
                let Some(begun) = self.begun[usize::from(session)].clone() else { return Ok(()) };
                let viewer = viewer(by.into());
                self.call(life, Wanted::Cancel { id: begun.id }, async move {
                    Heard::Session(flows.cancel(&viewer, begun.id).await)
                });
            }
            Step::Revoke { session, caller: by } => {
                let Some(begun) = self.begun[usize::from(session)].clone() else { return Ok(()) };
                let viewer = viewer(by.into());
                self.call(life, Wanted::Revoke { id: begun.id }, async move {
                    Heard::Session(flows.revoke(&viewer, begun.id).await)
                });
            }
            Step::Webhook { session, client: at, status, number } => {
                let status = status.as_str();
                let body = format!(
                    r#"{{"id":"e{number}","type":"session.moved","session_id":"hvf_{session}","status":"{status}"}}"#
                )
                .into_bytes();
                let signature = signed(&body);
                let webhook = Webhook {
                    viewer: viewer(0),
                    client: CLIENT_NAMES[usize::from(at)].to_owned(),
                    body: body.clone(),
                    signature,
                };
                self.call(life, Wanted::Webhook { client: at.into(), body }, async move {
                    Heard::Kept(flows.ingest(webhook).await.map(|answer| answer.duplicate))
                });
            }
            Step::Sweep => self.call(life, Wanted::Chore, async move {
                let _ = flows.sweep().await;
                Heard::Nothing
            }),
            Step::Trim => self.call(life, Wanted::Chore, async move {
                let _ = flows.trim_events().await;
                Heard::Nothing
            }),
            Step::Commit { pick, count } => {
                let picked = {
                    let mut waiting = life.store.waiting();
                    let Some(place) = usize::from(pick).checked_rem(waiting.len()) else { return Ok(()) };
                    let end = waiting.len().min(place + usize::from(count));
                    waiting.drain(place..end).collect()
                };
                self.commit(life, picked).await?;
            }
            Step::CommitAll => {
                // What follows from what was done is done, too, for a while.
                for _ in 0..12 {
                    let next = {
                        let mut waiting = life.store.waiting();
                        if waiting.is_empty() { None } else { Some(waiting.remove(0)) }
                    };
                    let Some(next) = next else { break };
                    self.commit(life, vec![next]).await?;
                    self.settle(life).await?;
                }
            }
            Step::Reply { pick, with } => self.reply(life, usize::from(pick), with),
            Step::Pass { millis } => tokio::time::sleep(Duration::from_millis(millis)).await,
            Step::PassToEnd { session, before } => {
                let Some(begun) = &self.begun[usize::from(session)] else { return Ok(()) };
                let Some(known) = self.reference.sessions.get(&begun.id) else { return Ok(()) };
                let old = age(known.created, life.clock.now()).unwrap_or(u64::MAX);
                // The step itself ends with a millisecond.
                let left = 1_800_000_u64.saturating_sub(old).saturating_sub(before + 1);
                tokio::time::sleep(Duration::from_millis(left)).await;
            }
            Step::Fault { after } => self.disk.fail_after(after),
            Step::Crash { .. } | Step::Restart { .. } => {}
        }
        Ok(())
    }

    pub(super) fn present(
        &mut self,
        life: &mut Life,
        session: u8,
        by: u8,
        shown: Shown,
        patience: u64,
        shows: Shows,
    ) {
        let Some(begun) = self.begun[usize::from(session)].clone() else { return };
        let binding = match (shown, begun.binding) {
            (Shown::Right, binding) => binding,
            (Shown::Wrong, Some(_)) => None,
            (Shown::Wrong, None) => Some("another browser".to_owned()),
        };
        let secret = *begun.state.secret.expose();
        let (callback, _) = callback(&shows);
        let complete = Complete {
            viewer: viewer(by.into()),
            callback: Callback {
                state: begun.state,
                presented: shows,
                provider_session: ProviderSessionId::parse(&format!("hvf_{session}")).ok(),
                issuer: None,
            },
            binding: binding.as_ref().map(Binding::new),
            patience: Instant::now() + Duration::from_millis(patience),
            trace: None,
        };
        let flows = Arc::clone(&life.flows);
        let since = life.clock.now();
        let wanted = Wanted::Complete { id: begun.id, caller: by.into(), secret, binding, callback, since };
        self.call(life, wanted, async move { Heard::Session(flows.complete(complete).await) });
    }

    pub(super) fn reply(&mut self, life: &mut Life, pick: usize, with: Answer) {
        let request = {
            let mut desk = Scripted::lock(&life.desk);
            let Some(place) = pick.checked_rem(desk.waiting.len()) else { return };
            desk.waiting.remove(place)
        };
        let now = self.true_time(life.clock.now().boot.millis);
        let client = CLIENT_NAMES[request.client];
        self.tell(|| format!("      that is {client}'s, which asks {}", request.asked));
        self.ledger.answered(request.number, with, now);
        // Whoever asked may have gone.
        let _ = request.answer.send(with);
    }

    /// The writer does some of what waits for it.
    pub(super) async fn commit(&mut self, life: &Life, facts: Vec<Waiting>) -> Checked {
        let mut doubt = None;
        self.touched.extend(facts.iter().filter_map(|waiting| waiting.fact.session()));
        self.reference.saw(life.store.last_read());
        for happened in life.store.let_pass(facts) {
            let (fact, said) = (&happened.fact, &happened.said);
            self.tally.facts += 1;
            self.tell(|| format!("      {}: {}", short(fact), said.brief()));
            if *said == Said::Unavailable {
                if self.doubt.is_none() {
                    let after = doubt.get_or_insert_with(|| self.reference.clone());
                    if happened.was_begun {
                        after.suppose(fact);
                    }
                }
            } else if self.doubt.is_none() && doubt.is_none() {
                self.reference.happen(fact, said).map_err(|wrong| format!("{}: {wrong}", short(fact)))?;
            } else if !matches!(fact, Fact::Sweep { .. } | Fact::Other)
                && !matches!(said, Said::Refused(_) | Said::Spent)
            {
                return Err(format!("{} is acknowledged after the disk has failed", short(fact)));
            }
            if matches!(fact, Fact::Sweep { .. }) && self.doubt.is_none() {
                self.find_out_what_is_gone(life).await?;
            }
            (happened.deliver)();
        }
        if doubt.is_some() {
            self.tally.doubts += 1;
            self.doubt = doubt;
        }
        Ok(())
    }

    /// The history is over: all that was begun comes to an end, and all that was acknowledged is still there after another
    /// start.
    pub(super) async fn finish(&mut self, life: &mut Life) -> Checked {
        if self.doubt.is_some() {
            return Ok(());
        }
        self.disk.mend();
        self.tell(|| "      the end: the provider answers everything, and time passes".to_owned());
        let good = Answer::Good { life: 600, status: crate::domain::ProviderStatus::Verified };
        for _ in 0..40 {
            while !life.store.waiting().is_empty() {
                self.perform(life, Step::CommitAll).await?;
                self.settle(life).await?;
            }
            while !Scripted::lock(&life.desk).waiting.is_empty() {
                self.reply(life, 0, good);
                self.settle(life).await?;
            }
            let is_quiet = life.store.waiting().is_empty() && life.calls.is_empty();
            if is_quiet {
                break;
            }
            tokio::time::sleep(Duration::from_secs(20)).await;
            self.settle(life).await?;
        }
        if let Some(call) = life.calls.first() {
            return Err(format!("call {} never ends", call.number));
        }
        self.look(life, true).await
    }
}

/// A fact, in short.
pub(super) fn short(fact: &Fact) -> String {
    match fact {
        Fact::Start { .. } => "a start".to_owned(),
        Fact::Take { id, callback, .. } => format!("a take of {callback} for {id}"),
        Fact::EndExchange { id, end, .. } => format!("the end of an exchange of {id}, {end:?}"),
        Fact::EndClaims { id, end, .. } => format!("the end of fetching claims of {id}, {end:?}"),
        Fact::Cancel { id, .. } => format!("a cancellation of {id}"),
        Fact::Revoke { id, .. } => format!("a revocation of {id}"),
        Fact::EndRevocation { id, how } => format!("the end of a revocation of {id}, {how}"),
        Fact::Claim { budget, .. } => format!("a slot of {budget}"),
        Fact::EndQuery { id, status, .. } => format!("the end of a question about {id}, {status:?}"),
        Fact::Ingest { status, about, .. } => format!("a webhook about {about:?}, {status:?}"),
        Fact::Sweep { .. } => "a bite of the sweep".to_owned(),
        Fact::Other => "a bite of trimming".to_owned(),
    }
}
