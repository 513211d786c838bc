//! A caller: it chooses what to do next, remembers what it was told, and compares afterwards.

use std::{fmt::Debug, sync::Arc};

use cairld::api::proto::{
    CompleteAuthorizationRequest, IngestWebhookResponse, Session, SessionStatus, StartAuthorizationRequest,
};
use serde_json::json;
use tokio::sync::watch;
use tonic::{Code, Status};

use super::{
    ledger::{Account, Flow, Sends, Told, Webhook},
    random::Random,
};
use crate::support::{Client, Refused, World, complete_request, parameter, refused, signature};

/// After so many kills a flow is brought to its end.
const KILLS: u32 = 4;

/// What a call came to: an answer, a refusal, or nothing, since the daemon is gone.
type Heard<T> = Option<Result<T, Refused>>;

fn heard<T: Debug>(result: Result<T, Status>) -> Heard<T> {
    match result {
        Err(status) if !status.metadata().contains_key("cairld-reason") => {
            assert_ne!(status.code(), Code::DeadlineExceeded, "a call hangs");
            None
        }
        Ok(answer) => Some(Ok(answer)),
        refusal @ Err(_) => Some(Err(refused(refusal))),
    }
}

pub struct Caller {
    number: u64,
    world: Arc<World>,
    random: Random,
    client: Option<Client>,
    /// Flows that go on.
    live: Vec<Flow>,
    /// Flows that have ended since the last kill.
    ended: Vec<Flow>,
    /// Flows that are over and were compared.
    archive: Vec<Flow>,
    webhooks: Vec<Webhook>,
    /// How many of the webhooks were compared.
    webhooks_compared: usize,
    /// Codes that must have been sent so often and no more.
    sends_after: Vec<(String, usize)>,
    flows_begun: u64,
    pub account: Account,
}

impl Caller {
    pub fn new(number: u64, world: Arc<World>, random: Random) -> Self {
        Self {
            number,
            world,
            random,
            client: None,
            live: Vec::new(),
            ended: Vec::new(),
            archive: Vec::new(),
            webhooks: Vec::new(),
            webhooks_compared: 0,
            sends_after: Vec::new(),
            flows_begun: 0,
            account: Account::default(),
        }
    }

    /// Calls and calls until nobody answers any more; counts the answers.
    pub async fn work(&mut self, answers: &watch::Sender<u64>) {
        if self.client.is_none() {
            self.client = Some(self.world.unix().await);
        }
        while self.step().await.is_some() {
            answers.send_modify(|answers| *answers += 1);
        }
        self.client = None;
    }

    fn client(&self) -> Client {
        self.client.clone().expect("a connection")
    }

    async fn step(&mut self) -> Option<()> {
        if self.live.len() < 3 || self.random.chance(25) {
            return self.start().await;
        }
        if self.random.chance(15) {
            return self.webhook().await;
        }
        let place = self.random.place(self.live.len());
        let mut flow = self.live.swap_remove(place);
        let answered = self.go_on(&mut flow).await;
        if flow.has_ended() && answered.is_some() {
            self.ended.push(flow);
        } else {
            self.live.push(flow);
        }
        answered
    }

    /// Starts a flow; most can be asked for again.
    async fn start(&mut self) -> Option<()> {
        self.flows_begun += 1;
        let name = format!("{}-{}", self.number, self.flows_begun);
        let request = StartAuthorizationRequest {
            scopes: vec!["age_18_plus".into(), "name_match".into()],
            binding: if self.random.chance(50) { format!("cookie-{name}") } else { String::new() },
            request_id: if self.random.chance(75) { format!("request-{name}") } else { String::new() },
            reference: name,
            ..StartAuthorizationRequest::default()
        };
        let claims = [(); 2].map(|()| [Some(true), Some(false), None][self.random.place(3)]);
        let mut flow = Flow::new(request, claims);
        let answered = self.ask_to_start(&mut flow).await;
        if answered.is_none() && flow.request.request_id.is_empty() {
            self.account.nameless += 1;
        } else {
            self.live.push(flow);
        }
        answered
    }

    async fn ask_to_start(&mut self, flow: &mut Flow) -> Option<()> {
        match heard(self.client().start(flow.request.clone()).await)? {
            Ok(started) => {
                self.account.started += 1;
                let session = started.session.unwrap();
                flow.id.clone_from(&session.id);
                flow.authorization_url = started.authorization_url;
                let is_new = session.status() == SessionStatus::Pending && !flow.authorization_url.is_empty();
                if !is_new || session.reference != flow.request.reference {
                    self.account.wrong.push(format!("{flow:?}\n  was started as {session:?}"));
                }
            }
            Err(refused) => self.account.wrong.push(format!("{flow:?}\n  was not started: {refused:?}")),
        }
        Some(())
    }

    /// One more thing about a flow that has not ended.
    async fn go_on(&mut self, flow: &mut Flow) -> Option<()> {
        match self.random.below(100) {
            0..6 => self.cancel(flow).await,
            6..16 => self.read(flow).await,
            _ if flow.callback.is_none() => {
                self.approve(flow).await;
                // That was the user's doing, and no answer of the daemon's.
                self.read(flow).await
            }
            16..26 => self.complete_and_cancel(flow).await,
            26..46 => self.complete_twice(flow).await,
            _ => self.complete(flow).await,
        }
    }

    async fn approve(&self, flow: &mut Flow) {
        let provider = &self.world.provider;
        flow.callback = Some(provider.approve_with(&flow.authorization_url, flow.claims_json()).await);
    }

    async fn read(&mut self, flow: &mut Flow) -> Option<()> {
        let read = heard(self.client().session(&flow.id).await)?;
        self.take_down_reading(flow, read);
        Some(())
    }

    fn take_down_reading(&mut self, flow: &mut Flow, read: Result<Session, Refused>) {
        let taken_down = match read {
            Ok(session) => flow.read(session),
            Err(refused) => Err(format!("{flow:?}\n  is not there: {refused:?}")),
        };
        self.account.wrong.extend(taken_down.err());
    }

    async fn complete(&mut self, flow: &mut Flow) -> Option<()> {
        let answer = heard(completing(self.client(), flow).await);
        self.take_down_completing(flow, vec![answer])
    }

    /// A double click.
    async fn complete_twice(&mut self, flow: &mut Flow) -> Option<()> {
        let (first, second) = (completing(self.client(), flow), completing(self.client(), flow));
        let (first, second) = tokio::join!(first, second);
        self.take_down_completing(flow, vec![heard(first), heard(second)])
    }

    async fn complete_and_cancel(&mut self, flow: &mut Flow) -> Option<()> {
        let (mut canceller, id) = (self.client(), flow.id.clone());
        let (completed, cancelled) = tokio::join!(completing(self.client(), flow), canceller.cancel(&id));
        let completed = self.take_down_completing(flow, vec![heard(completed)]);
        let cancelled = self.take_down_cancelling(flow, heard(cancelled));
        completed.and(cancelled)
    }

    async fn cancel(&mut self, flow: &mut Flow) -> Option<()> {
        let answer = heard(self.client().cancel(&flow.id).await);
        self.take_down_cancelling(flow, answer)
    }

    /// What completing acknowledged. Of calls at the same time the one that came furthest counts.
    fn take_down_completing(&mut self, flow: &mut Flow, mut answers: Vec<Heard<Session>>) -> Option<()> {
        let silent = answers.iter().filter(|answer| answer.is_none()).count();
        self.account.unanswered += u64::try_from(silent).unwrap();
        flow.unanswered.complete = true;
        answers.sort_by_key(|answer| matches!(answer, Some(Ok(_))));
        for answer in answers.into_iter().flatten() {
            let refused = match answer {
                Ok(session) => {
                    self.take_down_reading(flow, Ok(session));
                    flow.unanswered.complete = true;
                    continue;
                }
                Err(refused) => refused,
            };
            match (refused.reason.as_str(), refused.metadata["stage"].as_str()) {
                ("PROVIDER_ERROR", "userinfo") if !flow.has_ended() => flow.told = Told::Token,
                ("OUTCOME_UNKNOWN", _) => flow.told = Told::Ended(SessionStatus::Indeterminate, None),
                ("SESSION_CANCELLED", _) => flow.told = Told::Ended(SessionStatus::Cancelled, None),
                // A call at the same time ended it.
                ("STATE_ALREADY_USED", _) if !flow.has_ended() => flow.told = Told::Over,
                // As it was.
                ("PROVIDER_ERROR" | "PAYMENT_REQUIRED" | "STATE_ALREADY_USED", _) => {}
                _ => self.account.wrong.push(format!("{flow:?}\n  was not completed: {refused:?}")),
            }
        }
        flow.unanswered.complete = silent > 0;
        (silent == 0).then_some(())
    }

    fn take_down_cancelling(&mut self, flow: &mut Flow, answer: Heard<Session>) -> Option<()> {
        self.account.unanswered += u64::from(answer.is_none());
        flow.unanswered.cancel = true;
        match &answer {
            Some(Ok(session)) => self.take_down_reading(flow, Ok(session.clone())),
            Some(Err(refused)) => match refused.reason.as_str() {
                // A completion at the same time stands in the way.
                "EXCHANGE_IN_PROGRESS" => {}
                "SESSION_FINISHED" if flow.has_ended() => {}
                "SESSION_FINISHED" => flow.told = Told::Over,
                _ => self.account.wrong.push(format!("{flow:?}\n  was not cancelled: {refused:?}")),
            },
            None => {}
        }
        flow.unanswered.cancel = answer.is_none();
        answer.map(|_| ())
    }

    /// A webhook, new or again; about a flow, or about nothing that is known here.
    async fn webhook(&mut self) -> Option<()> {
        let place = if self.webhooks.is_empty() || self.random.chance(70) {
            let session = self.live.iter().find_map(|flow| flow.callback.as_ref());
            let session = session.map_or("hvf_unknown".into(), |callback| parameter(callback, "session_id"));
            let id = format!("event-{}-{}", self.number, self.webhooks.len());
            let body = json!({"id": id, "type": "vae.resolved", "session_id": session});
            self.webhooks.push(Webhook { body: body.to_string().into_bytes(), event: None });
            self.webhooks.len() - 1
        } else {
            self.random.place(self.webhooks.len())
        };
        self.ingest(place).await
    }

    async fn ingest(&mut self, place: usize) -> Option<()> {
        let Webhook { body, event } = self.webhooks[place].clone();
        match heard(self.client().ingest(&body, &signature(&body)).await) {
            None => {
                self.account.unanswered += 1;
                return None;
            }
            Some(Ok(IngestWebhookResponse { event: Some(told), duplicate }))
                if told.body == body && event.as_ref().is_none_or(|event| duplicate && *event == told.id) =>
            {
                self.account.webhooks += u64::from(event.is_none());
                self.webhooks[place].event = Some(told.id);
            }
            Some(answer) => {
                self.account.wrong.push(format!("{:?}\n  is now {answer:?}", self.webhooks[place]))
            }
        }
        Some(())
    }

    /// Compares what happened since the last time with the daemon that was started again, goes on with some flows and
    /// leaves the others to the next round.
    pub async fn reckon(&mut self, sends: &Sends) {
        self.client = Some(self.world.unix().await);
        let mut flows = std::mem::take(&mut self.live);
        flows.append(&mut self.ended);
        for mut flow in flows {
            flow.kills += 1;
            self.reckon_with(&mut flow, sends).await.expect("an answer of a daemon that nobody killed");
            if flow.has_ended() {
                self.account.count(&flow);
                self.archive.push(flow);
            } else {
                self.live.push(flow);
            }
        }
        for place in self.webhooks_compared..self.webhooks.len() {
            self.ingest(place).await.expect("an answer of a daemon that nobody killed");
        }
        self.webhooks_compared = self.webhooks.len();
    }

    async fn reckon_with(&mut self, flow: &mut Flow, sends: &Sends) -> Option<()> {
        if flow.id.is_empty() {
            self.ask_to_start(flow).await?;
        }
        self.read(flow).await?;
        self.account.wrong.extend(flow.check_sends(sends).err());
        let sent = sends.of(&flow.code_digest()).len();
        match flow.told {
            Told::Open(_) if flow.kills < KILLS && self.random.chance(50) => {}
            Told::Open(_) => {
                if flow.callback.is_none() {
                    self.approve(flow).await;
                }
                self.resume(flow).await?;
                self.account.resumed.0 += 1;
                self.sends_after.push((flow.code_digest(), sent + 1));
            }
            Told::Token if flow.kills < KILLS && self.random.chance(20) => {}
            Told::Token => {
                self.resume(flow).await?;
                self.account.resumed.1 += 1;
                self.sends_after.push((flow.code_digest(), sent));
            }
            Told::Over | Told::Ended(..) => self.present_again(flow).await?,
        }
        Some(())
    }

    /// Completes a flow with nothing in its way.
    async fn resume(&mut self, flow: &mut Flow) -> Option<()> {
        self.complete(flow).await?;
        if !matches!(flow.told, Told::Ended(SessionStatus::Complete, _)) {
            self.account.wrong.push(format!("{flow:?}\n  did not complete"));
        }
        Some(())
    }

    /// The callback of a flow that is over: its outcome for the same browser, else a refusal. The sends tell that the code
    /// stays here.
    async fn present_again(&mut self, flow: &mut Flow) -> Option<()> {
        if flow.callback.is_none() {
            return Some(());
        }
        match heard(completing(self.client(), flow).await)? {
            Ok(session) if !flow.request.binding.is_empty() => self.take_down_reading(flow, Ok(session)),
            Err(refused)
                if ["STATE_ALREADY_USED", "OUTCOME_UNKNOWN", "SESSION_CANCELLED"]
                    .contains(&refused.reason.as_str()) => {}
            answer => self.account.wrong.push(format!("{flow:?}\n  is answered with {answer:?}")),
        }
        Some(())
    }

    /// Compares everything once more, from the first round on.
    pub async fn reckon_all(&mut self, sends: &Sends) {
        let mut flows = std::mem::take(&mut self.archive);
        flows.append(&mut self.live.clone());
        for mut flow in flows {
            self.read(&mut flow).await.expect("an answer of a daemon that nobody killed");
            self.account.wrong.extend(flow.check_sends(sends).err());
        }
        for place in 0..self.webhooks.len() {
            self.ingest(place).await.expect("an answer of a daemon that nobody killed");
        }
    }

    /// Whether the calls of the last comparison have sent what they should have, and no more.
    pub fn check_sends_after(&mut self, sends: &Sends) {
        for (digest, expected) in self.sends_after.drain(..) {
            let sent = sends.of(&digest);
            if sent.len() != expected {
                self.account.wrong.push(format!("{digest} was sent {sent:?}, not {expected} times"));
            }
        }
    }
}

/// Presents a flow's callback.
fn completing(mut client: Client, flow: &Flow) -> impl Future<Output = Result<Session, Status>> + use<> {
    let request = CompleteAuthorizationRequest {
        binding: flow.request.binding.clone(),
        ..complete_request(flow.callback.clone().expect("a callback"))
    };
    async move { client.complete(request).await }
}
