//! Looking at all that there is, and comparing it with the reference.

use super::*;

impl World {
    /// What the file says after a start: which of the two that may be is.
    pub(super) async fn find_out(&mut self, life: &Life) -> Checked {
        let Some(doubt) = self.doubt.take() else { return self.look(life, true).await };
        let certain = std::mem::replace(&mut self.reference, doubt);
        if self.look(life, true).await.is_ok() {
            self.tell(|| "      what was under way has come about".to_owned());
            return Ok(());
        }
        self.reference = certain;
        self.tell(|| "      what was under way has not come about".to_owned());
        self.look(life, true).await
    }

    /// Looks at all sessions through all callers' eyes; at all that is kept, where it is `whole`.
    pub(super) async fn look(&mut self, life: &Life, is_whole: bool) -> Checked {
        if self.doubt.is_some() {
            return Ok(());
        }
        let now = life.clock.now();
        let (mut gone, mut written) = (Vec::new(), Vec::new());
        // The others are looked at in turn, unless all are wanted.
        let turn = self.tally.steps as usize % self.reference.sessions.len().max(1);
        let touched = std::mem::take(&mut self.touched);
        for (place, (id, known)) in self.reference.sessions.iter().enumerate() {
            if !is_whole && place != turn && !touched.contains(id) {
                continue;
            }
            let expected = known.view(now, self.reference.run);
            for index in 0..CALLER_NAMES.len() {
                let viewer = viewer(index);
                let seen = life.flows.session(&viewer, &Lookup::Id(*id)).await;
                let may_see = sees(&viewer, known);
                match seen {
                    Ok(_) if !may_see => {
                        return Err(format!("{} sees a session of {}", viewer.caller, known.caller));
                    }
                    Ok(session) => {
                        let seen = View::of(&session);
                        let as_swept = self.reference.may_be_written.get(id);
                        if let Some(swept) = as_swept.filter(|_| is_whole && seen != expected)
                            && swept.view(now, self.reference.run) == seen
                        {
                            written.push((*id, swept.clone()));
                        } else if seen != expected {
                            return Err(format!("session {id} should be {expected:?}, and is {seen:?}"));
                        }
                        if let Status::Ended(how) = seen.status
                            && *self.ended.entry(*id).or_insert(how) != how
                        {
                            return Err(format!("session {id} ended a second time, as {how:?}"));
                        }
                        if !matches!(seen.status, Status::Ended(_)) && self.ended.contains_key(id) {
                            return Err(format!("session {id} is open again"));
                        }
                    }
                    Err(refusal) if refusal.reason == Reason::SessionNotFound && !may_see => {}
                    Err(refusal)
                        if refusal.reason == Reason::SessionNotFound
                            && self.reference.may_be_gone.contains(id) =>
                    {
                        gone.push(*id);
                    }
                    Err(refusal) => {
                        return Err(format!(
                            "session {id} should be {expected:?}, and is {}",
                            refusal.reason
                        ));
                    }
                }
            }
        }
        for id in gone {
            self.reference.forget(id);
        }
        self.reference.sessions.extend(written);
        if is_whole { self.look_at_the_rest(life).await } else { Ok(()) }
    }

    /// Which of the sessions that a sweep may remove it has removed.
    pub(super) async fn find_out_what_is_gone(&mut self, life: &Life) -> Checked {
        for id in self.reference.may_be_gone.clone() {
            let seen = life.store.session(life.clock.now(), &auditor(), &Lookup::Id(id)).await;
            if matches!(seen, Err(StoreError::Refused(refusal)) if refusal.reason == Reason::SessionNotFound)
            {
                self.reference.forget(id);
            }
        }
        Ok(())
    }

    pub(super) async fn look_at_the_rest(&mut self, life: &Life) -> Checked {
        let mut kept = BTreeSet::new();
        for index in 0..CLIENT_NAMES.len() {
            let filter = EventFilter { client: client(index), kinds: Vec::new(), session: None };
            let page =
                life.store.list(&auditor(), &filter, 0, 1000).await.map_err(|error| error.to_string())?;
            for event in page.events {
                if !kept.insert((client(index), event.body)) {
                    return Err("an event is kept twice".to_owned());
                }
            }
        }
        let [counted, there] = life.store.session_counts();
        if counted != there {
            return Err(format!("open sessions are counted as {counted:?}, and there are {there:?}"));
        }
        if kept != self.reference.events {
            let (kept, known) = (kept.len(), self.reference.events.len());
            return Err(format!("{kept} events are kept, and {known} were acknowledged"));
        }
        let status = life.store.status();
        let waiting = self.reference.revocations.len() as u64;
        if status.revocations != waiting {
            return Err(format!("{} tokens wait to be revoked, and {waiting} should", status.revocations));
        }
        let (least, most) = (self.reference.sessions.len(), self.reference.sessions.len());
        let least = least.saturating_sub(self.reference.may_be_gone.len()) as u64;
        if !(least..=most as u64).contains(&status.sessions) {
            return Err(format!("{} sessions are kept, and {most} are known", status.sessions));
        }
        Ok(())
    }

    /// Lets everything run until it waits for the history, looks at what has reached the provider, and at what callers heard.
    pub(super) async fn settle(&mut self, life: &mut Life) -> Checked {
        // The runtime's clock stands still until nothing is left to do, and goes on by a millisecond then.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let news = std::mem::take(&mut Scripted::lock(&life.desk).news);
        for (number, index, asked, boot_millis) in news {
            self.tell(|| format!("      the provider is asked {asked}"));
            let now = self.true_time(boot_millis);
            if let Asked::Exchange { code, challenge } = &asked {
                self.check_exchange(code, challenge)?;
            }
            self.ledger.comes(number, &asked, budget(index, &asked), now)?;
        }
        let mut going_on = Vec::new();
        for call in std::mem::take(&mut life.calls) {
            if call.task.is_finished() {
                let (number, wanted) = (call.number, call.wanted);
                let heard = call.task.await.map_err(|_| format!("call {number} panicked"))?;
                self.hear(number, wanted, heard)?;
            } else {
                going_on.push(call);
            }
        }
        life.calls = going_on;
        Ok(())
    }
}
