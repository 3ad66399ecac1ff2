//! Consumers read from a replica in their rack, and lose nothing when it goes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;
mod machines;
#[path = "common/wire.rs"]
mod wire;

use std::collections::BTreeSet;
use std::net::TcpStream;
use std::time::Duration;

use common::wait_until;
use machines::{Machines, Numbers, Setup, own_address, place, wait_in_sync};
use mk::client::{Cluster, Consumer, ConsumerSettings, StartAt};
use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{Fetch, FetchPart, Fetched};
use rustix::process::Signal;
use tokio::runtime::Runtime;
use uuid::Uuid;
use wire::exchange;

/// Three brokers, each in a rack of its own: r1, r2, r3.
fn start() -> Machines {
    let mut machines = Machines::start_zoo("127.0.0.10:0", &[]);
    for id in 1..=3 {
        let (listen, zoo) = (own_address(id), machines.zoo_address().to_owned());
        machines.set_up(id, Setup { listen, zoo, settings: vec![format!("broker.rack=r{id}")] });
        machines.start_broker(id);
    }
    machines
}

/// A consumer of topic `t`, and what it has got.
struct Reader {
    consumer: Consumer,
    found: Vec<u64>,
    next: u64,
    brokers: BTreeSet<u32>,
}

impl Reader {
    async fn start(cluster: Cluster, rack: &str) -> Reader {
        let settings = ConsumerSettings { rack: rack.to_owned(), ..ConsumerSettings::default() };
        let consumer = Consumer::new(cluster, settings);
        consumer.assign("t", &[0], StartAt::Earliest).await.unwrap();
        Reader { consumer, found: Vec::new(), next: 0, brokers: BTreeSet::new() }
    }

    /// Reads on until it has a number; offsets are dense.
    async fn read_up_to(&mut self, number: u64) {
        while self.found.last().is_none_or(|last| *last < number) {
            let batches = self.consumer.next().await.unwrap();
            self.brokers.insert(batches.broker);
            for record in batches.records() {
                let record = record.unwrap();
                assert_eq!(record.offset.0, self.next, "nothing is skipped, nothing comes twice");
                self.next += 1;
                let text = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                self.found.push(text.parse().unwrap());
            }
        }
    }

    /// Reads on until something comes from one of these brokers only.
    async fn read_from(&mut self, numbers: &Numbers, brokers: &[u32]) {
        loop {
            self.brokers.clear();
            self.read_up_to(numbers.acknowledged()).await;
            if !self.brokers.is_empty() && self.brokers.iter().all(|id| brokers.contains(id)) {
                return;
            }
        }
    }
}

async fn soon(what: &str, work: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(60), work).await.expect(what);
}

#[test]
fn a_consumer_reads_from_its_rack_while_a_replica_is_there() {
    let mut machines = start();
    let runtime = Runtime::new().unwrap();
    let cluster = machines.client();
    let numbers = Numbers::start(&runtime, cluster.clone(), "t");
    numbers.wait_for(200);
    wait_in_sync(&runtime, &cluster, "t");
    let leader = runtime.block_on(place(&cluster, "t")).leader.unwrap();
    let near = (1..=3).find(|id| *id != leader).unwrap();
    let rack = format!("r{near}");

    // From the beginning, and then what comes.
    let mut reader = runtime.block_on(Reader::start(cluster.clone(), &rack));
    runtime.block_on(soon("it reads from its rack", reader.read_from(&numbers, &[near])));
    let mut far = runtime.block_on(Reader::start(cluster.clone(), ""));
    runtime.block_on(far.read_up_to(numbers.acknowledged()));
    assert_eq!(far.brokers, BTreeSet::from([leader]), "without a rack it reads from the leader");
    let mut home = runtime.block_on(Reader::start(cluster.clone(), &format!("r{leader}")));
    runtime.block_on(home.read_up_to(numbers.acknowledged()));
    assert_eq!(home.brokers, BTreeSet::from([leader]));

    // It dies, and is back; it stands still, and goes on.
    machines.kill_broker(near);
    runtime.block_on(soon("it goes back to the leader", reader.read_from(&numbers, &[leader])));
    machines.start_broker(near);
    runtime.block_on(soon("it comes back to its rack", reader.read_from(&numbers, &[near])));
    machines.brokers[&near].signal(Signal::STOP);
    runtime.block_on(soon(
        "a replica that stands still does not hold it up",
        reader.read_from(&numbers, &[leader]),
    ));
    machines.brokers[&near].signal(Signal::CONT);

    // The leader dies; whoever leads then sends it where it belongs.
    wait_in_sync(&runtime, &cluster, "t");
    machines.kill_broker(leader);
    numbers.wait_for(100);
    runtime.block_on(soon(
        "it finds its rack under a new leader",
        reader.read_from(&numbers, &[near]),
    ));
    let receipts = numbers.stop(&runtime);
    let last = receipts.last().unwrap();
    runtime.block_on(reader.read_up_to(last.0));
    for (number, offset) in &receipts {
        assert_eq!(reader.found[*offset as usize], *number);
    }
}

fn fetch(address: &str, offset: u64, rack: &str) -> Result<Fetched, Fault> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let part = FetchPart {
        topic: "t".to_owned(),
        topic_id: Uuid::nil(),
        partition: 0,
        offset,
        max_bytes: 1 << 20,
        leader_epoch: -1,
        last_epoch: -1,
        high_watermark: 0,
    };
    let request = Fetch {
        max_wait_ms: 300,
        min_bytes: 1,
        max_bytes: 1 << 20,
        rack: rack.to_owned(),
        replica: None,
        reader: None,
        parts: vec![part],
    };
    exchange(&mut stream, &request).0.parts.remove(0)
}

#[test]
fn a_leader_names_a_replica_and_the_replica_serves_what_is_committed() {
    let mut machines = start();
    let runtime = Runtime::new().unwrap();
    let cluster = machines.client();
    let numbers = Numbers::start(&runtime, cluster.clone(), "t");
    numbers.wait_for(100);
    numbers.stop(&runtime);
    wait_in_sync(&runtime, &cluster, "t");
    let leader = runtime.block_on(place(&cluster, "t")).leader.unwrap();
    let near = (1..=3).find(|id| *id != leader).unwrap();
    let addresses: Vec<String> = (1..=3).map(|id| machines.brokers[&id].address.clone()).collect();
    let ask = |id: u32, offset, rack: &str| fetch(&addresses[id as usize - 1], offset, rack);
    let sent = ask(leader, 0, &format!("r{near}")).unwrap();
    assert_eq!((sent.preferred_replica, sent.length), (Some(near), 0));
    for (id, rack) in [(leader, ""), (leader, "nowhere"), (near, "r9"), (near, "")] {
        let found = ask(id, 0, rack).unwrap();
        assert!(found.preferred_replica.is_none() && found.length > 0, "{id} {rack} {found:?}");
    }
    let own = ask(leader, 0, &format!("r{leader}")).unwrap();
    assert!(own.preferred_replica.is_none() && own.length > 0);
    // Of what lies behind what it knows to be committed a follower says nothing.
    let end = ask(leader, 0, "").unwrap().log_end_offset;
    let beyond = ask(near, end + 1, "r9").unwrap_err();
    assert_eq!(beyond.code, ErrorCode::OFFSET_NOT_AVAILABLE);
    // Whom the zookeeper has fenced nobody is sent to.
    machines.kill_broker(near);
    wait_until("the leader serves itself", || {
        let found = ask(leader, 0, &format!("r{near}"));
        found.is_ok_and(|part| part.preferred_replica.is_none())
    });
}
