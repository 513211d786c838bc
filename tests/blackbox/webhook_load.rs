//! Many webhooks, a tenth of them twice, a daemon that dies five times in their midst, two consumers: all accounted for.
//!
//! `CAIRLD_WEBHOOKS` says how many deliveries; CI makes it 10,000.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write,
    net::SocketAddr,
    sync::Arc,
};

use cairld::api::proto::{AcknowledgeEventsRequest, Event, WatchEventsRequest};
use serde_json::{Value, json};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};
use tonic::Status;

use crate::support::{CLIENT_ID, Client, Daemon, SURELY, World};

/// Deliveries that are under way at a time.
const LANES: usize = 16;
const KILLS: usize = 5;
/// Connections refused at most each time the daemon is down. What met none comes again at once, when the clock is moved, and the
/// listener has 256 places: enough for all of them.
const REFUSED_AT_MOST: usize = 256 / KILLS - LANES - 1;
/// Events that a consumer acknowledges at once: what it had since is told again when the daemon dies.
const ACKNOWLEDGED_AT_ONCE: usize = 7;

/// What stands before the daemon, at an address that stays: a proxy would.
struct Front {
    address: SocketAddr,
    /// Where the daemon is, while it is.
    behind: watch::Sender<Option<String>>,
}

impl Front {
    /// Each time the daemon is down `refused` connections are refused; later ones wait for it.
    async fn open(refused: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (behind, mut present) = watch::channel(None::<String>);
        tokio::spawn(async move {
            loop {
                let (mut sender, _) = listener.accept().await.unwrap();
                for _ in 0..refused {
                    if present.borrow().is_some() {
                        break;
                    }
                    drop(sender);
                    (sender, _) = listener.accept().await.unwrap();
                }
                let Ok(target) = present.wait_for(Option::is_some).await.map(|target| target.clone()) else {
                    return;
                };
                tokio::spawn(async move {
                    if let Ok(mut daemon) = TcpStream::connect(target.unwrap()).await {
                        let _ = copy_bidirectional(&mut sender, &mut daemon).await;
                    }
                });
            }
        });
        Self { address, behind }
    }
}

/// What a consumer did with what it was told.
#[derive(Default)]
struct Ledger {
    /// Numbers of events in the order in which they were told first, and of those told after that.
    applied: Vec<u64>,
    again: usize,
    /// How many are surely acknowledged, of those applied.
    acknowledged: usize,
}

struct Consumer {
    name: &'static str,
    ledger: Ledger,
    /// The place of each number among those applied, from 1.
    places: HashMap<u64, usize>,
    progress: watch::Sender<usize>,
}

impl Consumer {
    fn new(name: &'static str) -> (Self, watch::Receiver<usize>) {
        let (progress, seen) = watch::channel(0);
        (Self { name, ledger: Ledger::default(), places: HashMap::new(), progress }, seen)
    }

    /// Reads on until it has had `all`, whatever becomes of the daemon.
    async fn read(mut self, mut daemons: watch::Receiver<Option<Client>>, all: usize) -> Ledger {
        while self.ledger.acknowledged < all {
            let present = daemons.borrow_and_update().clone();
            if let Some(client) = present {
                let _ = self.read_from(client, all).await;
            }
            if self.ledger.acknowledged < all && daemons.changed().await.is_err() {
                panic!("{} has {} of {all}", self.name, self.ledger.acknowledged);
            }
        }
        self.ledger
    }

    async fn read_from(&mut self, mut client: Client, all: usize) -> Result<(), Status> {
        let request = WatchEventsRequest { consumer: self.name.into(), ..WatchEventsRequest::default() };
        let request = client.request(request);
        let mut stream = client.integration.watch_events(request).await?.into_inner();
        while let Some(told) = stream.message().await? {
            let event = told.event.unwrap();
            let done = self.apply(&event);
            if done == all || done >= self.ledger.acknowledged + ACKNOWLEDGED_AT_ONCE {
                let message = AcknowledgeEventsRequest {
                    consumer: self.name.into(),
                    client: String::new(),
                    cursor: event.cursor,
                };
                let request = client.request(message);
                client.integration.acknowledge_events(request).await?;
                self.ledger.acknowledged = done;
                self.progress.send_replace(done);
            }
            if self.ledger.acknowledged == all {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Answers with how many events it has had, up to this one.
    fn apply(&mut self, event: &Event) -> usize {
        let body: Value = serde_json::from_slice(&event.body).unwrap();
        let number = body["number"].as_u64().unwrap();
        if let Some(place) = self.places.get(&number) {
            self.ledger.again += 1;
            assert!(*place > self.ledger.acknowledged, "{} had acknowledged {number}", self.name);
            return *place;
        }
        self.ledger.applied.push(number);
        let place = self.ledger.applied.len();
        self.places.insert(number, place);
        place
    }
}

/// All deliveries of the sandbox.
async fn deliveries(world: &World) -> Vec<Value> {
    world.provider.get("webhooks").await.as_array().unwrap().clone()
}

async fn start(world: &Arc<World>) -> Daemon {
    let world = Arc::clone(world);
    tokio::task::spawn_blocking(move || world.daemon()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_webhooks_are_accounted_for() {
    let deliveries_wanted: usize =
        std::env::var("CAIRLD_WEBHOOKS").map_or(500, |count| count.parse().expect("CAIRLD_WEBHOOKS"));
    // One in nine comes twice: a tenth of the deliveries are duplicates.
    let distinct = deliveries_wanted * 9 / 10;
    let world = World::new().await;
    world.show_all_events();
    let world = Arc::new(world);
    let front = Front::open(REFUSED_AT_MOST.min(deliveries_wanted / 100)).await;
    world.provider.deliver_webhooks_to(&format!("http://{}/webhooks/shop", front.address)).await;

    let (daemons, present) = watch::channel(None);
    let (one, mut progress) = Consumer::new("one");
    let (two, _) = Consumer::new("two");
    let consumers: Vec<_> =
        [one, two].map(|consumer| tokio::spawn(consumer.read(present.clone(), distinct))).into();
    for lane in 0..LANES {
        let numbers = (0..distinct).filter(|number| number % LANES == lane);
        let list: Vec<_> = numbers
            .map(|number| {
                let times = 1 + usize::from(number % 9 == 0 && number / 9 < deliveries_wanted - distinct);
                json!({"client_id": CLIENT_ID, "times": times, "body": {"id": format!("e{number}"), "type": "load", "number": number}})
            })
            .collect();
        world.provider.post("webhooks", json!(list)).await;
    }

    for life in 1..=KILLS + 1 {
        let daemon = start(&world).await;
        front.behind.send_replace(Some(daemon.webhooks()));
        daemons.send_replace(Some(world.unix().await));
        if life <= KILLS {
            let enough = life * distinct / (KILLS + 2);
            timeout(SURELY * 5, progress.wait_for(|applied| *applied >= enough)).await.unwrap().unwrap();
            front.behind.send_replace(None);
            tokio::task::spawn_blocking(move || daemon.kill()).await.unwrap();
            daemons.send_replace(None);
            continue;
        }
        let all_tried = async { while deliveries(&world).await.iter().any(is_untried) {} };
        timeout(SURELY * 5, all_tried).await.unwrap();
        // What met a daemon that was down comes again, when a minute is over and when six are.
        let all_answered = async {
            while deliveries(&world).await.iter().any(|delivery| delivery["fate"] == "pending") {
                world.provider.post("clock", json!({"advance_s": 60})).await;
            }
        };
        timeout(SURELY * 5, all_answered).await.unwrap();
        let mut ledgers = Vec::new();
        for consumer in consumers {
            ledgers.push(timeout(SURELY * 5, consumer).await.expect("all are told").unwrap());
        }
        println!("{}", account(&world, distinct, &ledgers).await);
        return;
    }
}

fn is_untried(delivery: &Value) -> bool {
    delivery["attempts"].as_array().unwrap().is_empty()
}

/// What became of all of it, in words; all of it has to be there.
async fn account(world: &World, distinct: usize, ledgers: &[Ledger]) -> String {
    let deliveries = deliveries(world).await;
    let attempts: usize =
        deliveries.iter().map(|delivery| delivery["attempts"].as_array().unwrap().len()).sum();
    let mut fates: BTreeMap<&str, usize> = BTreeMap::new();
    for delivery in &deliveries {
        *fates.entry(delivery["fate"].as_str().unwrap()).or_default() += 1;
    }
    let status = world.unix().await.status().await.unwrap();
    let kept = status.store.as_ref().unwrap().events;
    let mut account = format!(
        "sent         {} deliveries of {distinct} webhooks, {attempts} attempts\n\
         accepted     {}\n\
         kept         {kept} events\n",
        deliveries.len(),
        fates.get("delivered").unwrap_or(&0),
    );
    for (ledger, name) in ledgers.iter().zip(["one", "two"]) {
        let Ledger { applied, again, acknowledged } = ledger;
        let told = applied.len() + again;
        writeln!(
            account,
            "consumer {name} {told} delivered, {again} of them again; {} applied, {acknowledged} acknowledged",
            applied.len(),
        )
        .unwrap();
    }
    assert_eq!(fates, BTreeMap::from([("delivered", deliveries.len())]));
    assert_eq!(usize::try_from(kept).unwrap(), distinct, "each once, whatever died");
    for ledger in ledgers {
        let numbers: BTreeSet<_> = ledger.applied.iter().copied().collect();
        assert!(numbers.iter().copied().eq(0..distinct as u64), "each is told");
        assert_eq!(ledger.applied, ledgers[0].applied, "in one order");
    }
    assert!(status.clients[0].consumers.iter().all(|consumer| consumer.behind == 0));
    account
}
