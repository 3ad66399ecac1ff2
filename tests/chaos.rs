//! Real processes, real clients, and whatever can be broken between them, by a seed; then a checker
//! of all that was written and read.
//!
//! `MK_CHAOS_SECONDS=600` runs for longer, `MK_CHAOS_SEED=1` chooses the same faults again (not the
//! same run: threads and the clock are real). `MK_TEST_LOG=info` shows the logs of all processes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "chaos/clients.rs"]
mod clients;
mod common;
#[path = "chaos/datagrams.rs"]
mod datagrams;
#[path = "chaos/faults.rs"]
mod faults;
#[path = "chaos/history.rs"]
mod history;
#[path = "chaos/links.rs"]
mod links;
mod machines;
#[path = "chaos/members.rs"]
mod members;
#[path = "chaos/random.rs"]
mod random;
#[path = "chaos/sharing.rs"]
mod sharing;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clients::{MOST_BYTES, Notes, PARTITIONS, Pause, Readers, TOPIC, Writers};
use common::wait_until;
use faults::{Chaos, Pace};
use history::{History, Verdict};
use links::{Links, Target};
use machines::{Machines, Setup, assert_replicas_equal, own_address};
use members::{Group, journals};
use mk::client::Admin;
use mk_net::message::{At, NewTopic, Setting};
use random::Random;
use sharing::{Promise, Tally};
use tokio::runtime::Runtime;

const BROKERS: std::ops::RangeInclusive<u32> = 1..=3;
/// So long the faults of the short run last.
const SHORT: Duration = Duration::from_secs(12);

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect(name))
}

/// A cluster whose roads all go through `links`. Each process listens at an address of its own, so
/// that its port is still free when it comes back.
fn start_machines(links: &Arc<Links>, seed: u64) -> (Machines, Vec<String>) {
    let mut machines = Machines::start_zoo("127.0.0.10:0", &["leader.rebalance.hold.down.ms=2s"]);
    let mut addresses = Vec::new();
    for id in BROKERS {
        let target = Target::default();
        let road = links::road_to_broker(links, id, target.clone());
        let zoo = links::road_to_zoo(links, id, machines.zoo_address(), seed);
        let settings = vec![
            format!("advertised.listeners={road}"),
            format!("broker.rack=r{id}"),
            "offsets.topic.num.partitions=2".to_owned(),
            "group.consumer.session.timeout.ms=3s".to_owned(),
            "group.consumer.heartbeat.interval.ms=500ms".to_owned(),
        ];
        machines.set_up(id, Setup { listen: own_address(id), zoo, settings });
        machines.start_broker(id);
        links.set_process(id, machines.brokers[&id].id());
        *target.lock() = Some(machines.brokers[&id].address.clone());
        addresses.push(road);
    }
    (machines, addresses)
}

async fn create_topic(admin: &Admin) {
    let setting =
        |name: &str, value: &str| Setting { name: name.to_owned(), value: value.to_owned() };
    let topic = NewTopic {
        name: TOPIC.to_owned(),
        partitions: Some(PARTITIONS),
        replication_factor: Some(3),
        settings: vec![
            setting("max.message.bytes", &MOST_BYTES.to_string()),
            setting("segment.bytes", "1MiB"),
        ],
    };
    let created = admin.create_topics(vec![topic], false).await.unwrap();
    created[0].result.as_ref().unwrap();
}

/// Waits until each broker says that all replicas are in sync.
fn settle(runtime: &Runtime, addresses: &[String]) {
    let admins =
        addresses.iter().map(|address| Admin::new(clients::cluster(std::slice::from_ref(address))));
    let admins: Vec<Admin> = admins.collect();
    wait_until("all replicas are in sync", || {
        admins.iter().all(|admin| {
            let metadata = runtime.block_on(admin.metadata(Some(vec![TOPIC.to_owned()])));
            let Ok(mut metadata) = metadata else { return false };
            let Ok(topic) = metadata.topics.remove(0).result else { return false };
            let is_whole = |p: &mk_net::message::PartitionMetadata| {
                p.in_sync_replicas.len() == 3 && p.leader.is_some()
            };
            topic.partitions.len() == PARTITIONS as usize && topic.partitions.iter().all(is_whole)
        })
    });
}

fn report(seed: u64, chaos: &Chaos<'_>, notes: &Notes, verdict: &Verdict) {
    let lost = verdict.violations.iter().filter(|v| matches!(v, history::Violation::Lost { .. }));
    let doubled = |v: &&history::Violation| matches!(v, history::Violation::Doubled { .. });
    let doubled = verdict.violations.iter().filter(doubled);
    println!("seed {seed}");
    println!("faults: {:?}", chaos.injected);
    println!(
        "records: {} acknowledged, {} refused, {} unknown of which {} are there; {} lost, {} doubled",
        verdict.acknowledged,
        verdict.refused,
        verdict.unknown,
        verdict.unknown_but_there,
        lost.count(),
        doubled.count(),
    );
    let Pause { length, ended_ms, partition } = notes.longest_pause;
    println!("longest pause: {length:?} up to {ended_ms} ms, a writer of partition {partition}");
    println!("errors of writers: {:?}", notes.errors);
}

fn report_group(group: &str, tally: &Tally) {
    println!(
        "group {group}: {} members, {} vanished, {} put out, {} could not close; {} handed out, {} twice, the \
         oldest of them {} ms before its member's end; {} never",
        tally.lives,
        tally.vanished,
        tally.put_out,
        tally.close_failed,
        tally.handed,
        tally.twice,
        tally.oldest_ms,
        tally.never,
    );
    for broken in tally.broken.iter().take(200) {
        println!("VIOLATION {group}: {broken}");
    }
}

#[test]
fn nothing_acknowledged_is_lost_whatever_breaks() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = from_environment("MK_CHAOS_SEED").unwrap_or(now.as_micros() as u64 % 1_000_000);
    let long = from_environment("MK_CHAOS_SECONDS").map(Duration::from_secs);
    println!("MK_CHAOS_SEED={seed}");
    let pace = match long {
        Some(_) => Pace { between: Duration::from_secs(2), lasting: Duration::from_secs(10) },
        None => Pace { between: Duration::from_millis(600), lasting: Duration::from_millis(1500) },
    };
    let origin = Instant::now();
    let links = Arc::new(Links::default());
    let (mut machines, addresses) = start_machines(&links, seed);
    let runtime = Runtime::new().unwrap();
    let admin_cluster = clients::cluster(&addresses);
    runtime.block_on(create_topic(&Admin::new(admin_cluster.clone())));
    let racks: Vec<String> = BROKERS.map(|id| format!("r{id}")).collect();
    let writers = Writers::start(&runtime, &addresses, 2, seed, origin);
    let readers = Readers::start(&runtime, &addresses, &racks, origin);
    let groups = [("readers", Promise::AtLeastOnce), ("hasty", Promise::AtMostOnce)];
    let groups = groups
        .map(|(name, promise)| Group::start(&runtime, &addresses, &racks, name, promise, seed));
    wait_until("records are acknowledged", || writers.acknowledged() >= 100);

    let mut chaos = Chaos::new(&mut machines, links.clone(), Random::new(seed), pace, origin);
    let until = Instant::now() + long.unwrap_or(SHORT);
    chaos.run(until, || settle(&runtime, &addresses));

    let before = writers.acknowledged();
    wait_until("all goes on", || writers.acknowledged() >= before + 100);
    settle(&runtime, &addresses);
    let mut notes = writers.stop(&runtime);
    settle(&runtime, &addresses);
    let partitions: Vec<u32> = (0..PARTITIONS).collect();
    let ends = mk::client::offsets(&admin_cluster, TOPIC, &partitions, At::Latest);
    let ends: Vec<u64> = runtime.block_on(ends).unwrap().into_iter().map(Option::unwrap).collect();
    let shared = groups.map(|group| group.finish(&runtime, &ends));
    let journals = runtime.block_on(journals(&admin_cluster));
    let (readings, errors) = readers.finish(&runtime, ends.clone());
    chaos.complaints.extend(errors);
    let written = std::mem::take(&mut notes.written);
    let whole = readings.iter().filter(|reading| reading.is_whole).count();
    if whole != racks.len() + 2 {
        chaos.complaints.push(format!("only {whole} have read all"));
    }
    let mut broken = 0;
    for (sharing, wrong) in shared {
        chaos.complaints.extend(wrong);
        let tally = sharing.check(&written, &journals[&sharing.group], &ends);
        report_group(&sharing.group, &tally);
        broken += tally.broken.len();
    }
    let verdict = History { written, readings }.check();
    report(seed, &chaos, &notes, &verdict);
    for violation in verdict.violations.iter().take(200) {
        println!("VIOLATION {violation}");
    }
    let complaints = std::mem::take(&mut chaos.complaints);
    for complaint in &complaints {
        println!("COMPLAINT {complaint}");
    }
    if !verdict.violations.is_empty() || broken > 0 {
        println!("the data are in {}", machines.keep_data().display());
    }
    assert_replicas_equal(&mut machines, TOPIC, PARTITIONS);
    links.stop();
    assert!(verdict.violations.is_empty(), "{} violations, seed {seed}", verdict.violations.len());
    assert_eq!(broken, 0, "of what groups were promised, seed {seed}");
    assert!(complaints.is_empty(), "seed {seed}");
}
