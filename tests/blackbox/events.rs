//! Events out: pages to look at, and streams that consumers go on with, whoever dies meanwhile.

use std::{collections::BTreeSet, time::Duration};

use cairld::api::proto::{
    AcknowledgeEventsRequest, DeleteConsumerRequest, Event, ListEventsRequest, ListEventsResponse,
    WatchEventsRequest, WatchEventsResponse,
};
use serde_json::json;
use tonic::{Code, Status, Streaming};

use crate::support::{Client, OTHER, World, refused, signature};

impl Client {
    async fn knock(&mut self, number: usize) -> Event {
        self.knock_with(&json!({"id": format!("e{number}"), "type": format!("t{}", number % 3)}).to_string())
            .await
    }

    async fn knock_with(&mut self, body: &str) -> Event {
        self.ingest(body.as_bytes(), &signature(body.as_bytes())).await.unwrap().event.unwrap()
    }

    async fn list(&mut self, request: ListEventsRequest) -> Result<ListEventsResponse, Status> {
        let request = self.request(request);
        Ok(self.integration.list_events(request).await?.into_inner())
    }

    async fn consume(&mut self, consumer: &str) -> Result<Streaming<WatchEventsResponse>, Status> {
        let request = WatchEventsRequest { consumer: consumer.into(), ..WatchEventsRequest::default() };
        let request = self.request(request);
        Ok(self.integration.watch_events(request).await?.into_inner())
    }

    async fn acknowledge(&mut self, consumer: &str, cursor: &str) -> Result<(), Status> {
        let message = AcknowledgeEventsRequest {
            consumer: consumer.into(),
            client: String::new(),
            cursor: cursor.into(),
        };
        let request = self.request(message);
        self.integration.acknowledge_events(request).await.map(drop)
    }

    async fn delete_consumer(&mut self, consumer: &str) -> Result<(), Status> {
        let request =
            self.request(DeleteConsumerRequest { consumer: consumer.into(), client: String::new() });
        self.integration.delete_consumer(request).await.map(drop)
    }
}

async fn next(stream: &mut Streaming<WatchEventsResponse>) -> Event {
    stream.message().await.unwrap().expect("an event").event.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_hold_all_that_may_be_seen_and_their_tokens_belong_to_them() {
    let world = World::new().await;
    world.show_all_events();
    let daemon = world.daemon();
    let mut client = world.unix().await;
    let mut ids = Vec::new();
    for number in 0..25 {
        ids.push(client.knock(number).await.id);
    }
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListEventsRequest { page_size: 10, page_token, ..ListEventsRequest::default() };
        let page = client.list(request).await.unwrap();
        found.extend(page.events.iter().map(|event| event.id.clone()));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(found, ids, "all of them, oldest first");
    let request = ListEventsRequest { r#type: "t1".into(), page_size: 5, ..ListEventsRequest::default() };
    let page = client.list(request.clone()).await.unwrap();
    assert!(page.events.len() == 5 && page.events.iter().all(|event| event.r#type == "t1"));
    let crossed =
        ListEventsRequest { r#type: "t2".into(), page_token: page.next_page_token, ..request.clone() };
    let refusal = refused(client.list(crossed).await);
    assert_eq!((refusal.code, refusal.reason.as_str()), (Code::InvalidArgument, "CURSOR_INVALID"));
    assert_eq!(refusal.fields, ["page_token"]);
    for page_size in [-1, 1001] {
        let refusal = refused(client.list(ListEventsRequest { page_size, ..request.clone() }).await);
        assert_eq!(refusal.fields, ["page_size"]);
    }
    let mut other = Client::tcp(daemon.tcp(), Some(OTHER)).await;
    assert!(other.list(ListEventsRequest::default()).await.unwrap().events.is_empty(), "they are nobody's");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_goes_on_where_it_was_done_across_disconnects_and_restarts() {
    let world = World::new().await;
    world.show_all_events();
    let daemon = world.daemon();
    let mut client = world.unix().await;
    let first = client.knock(0).await;
    let mut stream = client.consume("billing").await.unwrap();
    assert_eq!(next(&mut stream).await, first, "a new consumer begins with the oldest");
    let second = client.knock(1).await;
    assert_eq!(next(&mut stream).await, second, "and hears of new ones");
    drop(stream);
    let mut stream = client.consume("billing").await.unwrap();
    assert_eq!(next(&mut stream).await.id, first.id, "what is not acknowledged is told again");
    client.acknowledge("billing", &first.cursor).await.unwrap();
    let refusal = refused(client.acknowledge("billing", "nonsense").await);
    assert_eq!((refusal.reason.as_str(), refusal.fields[0].as_str()), ("CURSOR_INVALID", "cursor"));
    let mut newer = client.consume("billing").await.unwrap();
    assert_eq!(next(&mut newer).await.id, second.id);
    // The older stream has one event in hand; then it ends.
    let ended = loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ends with a reason"),
            Err(status) => break status,
        }
    };
    assert_eq!(ended.code(), Code::Aborted);
    assert_eq!(refused::<()>(Err(ended)).reason, "CONSUMER_SUPERSEDED");
    daemon.kill();

    let daemon = world.daemon();
    let mut client = world.unix().await;
    let mut stream = client.consume("billing").await.unwrap();
    assert_eq!(next(&mut stream).await.id, second.id, "acknowledgements are durable");
    let mut audit = client.consume("audit").await.unwrap();
    assert_eq!(next(&mut audit).await.id, first.id, "each consumer has its own cursor");
    client.delete_consumer("billing").await.unwrap();
    assert_eq!(refused(client.acknowledge("billing", &second.cursor).await).reason, "CURSOR_INVALID");
    assert_eq!(next(&mut client.consume("billing").await.unwrap()).await.id, first.id, "begins anew");
    let refusal = refused(client.consume("a/b").await);
    assert_eq!(refusal.fields, ["consumer"]);
    let (status, log) = daemon.terminate();
    assert!(status.success(), "open streams hold up no stop: {log}");
    let ended = loop {
        match audit.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ends with a reason"),
            Err(status) => break status,
        }
    };
    assert_eq!(refused::<()>(Err(ended)).reason, "SHUTTING_DOWN");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_comes_before_the_callback_reaches_its_sessions_caller() {
    let world = World::new().await;
    let _daemon = world.daemon();
    let mut client = world.unix().await;
    let (id, callback) = world.approved(&mut client).await;
    let session = crate::support::parameter(&callback, "session_id");
    let mut stream = client.consume("mine").await.unwrap();
    let body = json!({"id": "e1", "type": "vae.resolved", "data": {"session_id": session}}).to_string();
    let early = client.knock_with(&body).await;
    assert_eq!(early.session_id, "");
    client.completed(&callback).await.unwrap();
    let told = next(&mut stream).await;
    assert_eq!((told.id.as_str(), told.session_id.as_str()), (early.id.as_str(), id.as_str()));
    assert_eq!(told.body, body.as_bytes());
    let request = ListEventsRequest { session_id: id.clone(), ..ListEventsRequest::default() };
    let listed = client.list(request).await.unwrap().events;
    assert_eq!(listed.iter().map(|event| event.id.as_str()).collect::<Vec<_>>(), [early.id.as_str()]);
    client.acknowledge("mine", &told.cursor).await.unwrap();
}

/// Daemon and consumers die at random while events come in. Each event that was acknowledged to its sender is delivered to
/// each consumer, in order, and none that a consumer has acknowledged comes again.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_whoever_dies() {
    const ROUNDS: usize = 6;
    const EACH: usize = 30;
    let world = World::new().await;
    world.show_all_events();
    let mut accepted: Vec<String> = Vec::new();
    let mut applied = [Vec::<String>::new(), Vec::new()];
    for round in 0..=ROUNDS {
        let daemon = world.daemon();
        let client = world.unix().await;
        let is_last = round == ROUNDS;
        let mut sender = client.clone();
        let knocking = tokio::spawn(async move {
            let mut sent = Vec::new();
            for number in 0..if is_last { 0 } else { EACH } {
                let body = json!({"id": format!("{round}-{number}"), "type": "t"}).to_string();
                // One in ten comes twice.
                for _ in 0..1 + usize::from(number % 10 == 0) {
                    match sender.ingest(body.as_bytes(), &signature(body.as_bytes())).await {
                        Ok(answer) => sent.push(answer.event.unwrap().id),
                        Err(_) => return sent,
                    }
                }
            }
            sent
        });
        let consumers: Vec<_> = ["one", "two"]
            .into_iter()
            .zip([EACH / 2, EACH])
            .map(|(name, most)| {
                let mut client = client.clone();
                tokio::spawn(async move {
                    let mut applied = Vec::new();
                    let Ok(mut stream) = client.consume(name).await else { return applied };
                    // What is missing in the end would show as an error.
                    let silence = Duration::from_secs(if is_last { 10 } else { 2 });
                    while let Ok(Ok(Some(told))) = tokio::time::timeout(silence, stream.message()).await {
                        let event = told.event.unwrap();
                        applied.push(event.id);
                        // It dies before it acknowledges, at some place.
                        if !is_last && applied.len() == most {
                            return applied;
                        }
                        if client.acknowledge(name, &event.cursor).await.is_err() {
                            return applied;
                        }
                    }
                    applied
                })
            })
            .collect();
        if !is_last && round % 2 == 0 {
            // In the midst of it all.
            while client.clone().status().await.unwrap().store.unwrap().events < (round * EACH / 2 + 5) as i64
            {
            }
            daemon.kill();
        }
        for id in knocking.await.unwrap() {
            if accepted.last() != Some(&id) {
                accepted.push(id);
            }
        }
        for (consumer, applied) in consumers.into_iter().zip(&mut applied) {
            for id in consumer.await.unwrap() {
                if applied.last() != Some(&id) {
                    applied.push(id);
                }
            }
        }
    }
    for applied in &applied {
        let set: BTreeSet<_> = applied.iter().collect();
        assert_eq!(set.len(), applied.len(), "what was told again came right after the interruption");
        let missing: Vec<_> = accepted.iter().filter(|id| !set.contains(id)).collect();
        assert!(missing.is_empty(), "{} of {} are missing", missing.len(), accepted.len());
        let order: Vec<_> = applied.iter().filter(|id| accepted.contains(id)).cloned().collect();
        assert_eq!(order, accepted, "in order");
    }
    println!(
        "{} accepted; delivered to two consumers: {} and {}",
        accepted.len(),
        applied[0].len(),
        applied[1].len()
    );
}
