//! Brokers of a cluster on disks that stand still or have no room: others lead meanwhile, and they come
//! back by themselves. On small volumes, which takes root.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;
mod machines;
#[path = "common/volume.rs"]
mod volume;

use std::path::PathBuf;
use std::process::Command;

use common::wait_until;
use machines::{Machines, Numbers, Setup, own_address, wait_in_sync};
use mk::client::{Admin, Cluster, ClusterSettings, Producer, ProducerRecord, ProducerSettings};
use mk_net::message::{NewTopic, PartitionMetadata};
use tokio::runtime::Runtime;
use volume::{Volume, fill, remove};

/// Three brokers, of which the second has its data on a volume of its own.
fn start(volume: &Volume) -> Machines {
    let mut machines = Machines::start_zoo("127.0.0.10:0", &[]);
    let data = volume.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::os::unix::fs::symlink(data, machines.data(2)).unwrap();
    for id in 1..=3 {
        let (listen, zoo) = (own_address(id), machines.zoo_address().to_owned());
        machines.set_up(
            id,
            Setup { listen, zoo, settings: vec!["log.disk.reserve.bytes=1MiB".to_owned()] },
        );
        machines.start_broker(id);
    }
    machines
}

/// A client that asks the first broker, whose disk works.
fn client_of_first(machines: &Machines) -> Cluster {
    Cluster::new(vec![machines.brokers[&1].address.clone()], ClusterSettings::default())
}

/// A file system on which every write waits, until this is dropped.
struct Frozen(PathBuf);

impl Frozen {
    fn freeze(volume: &Volume) -> Option<Frozen> {
        let frozen = fsfreeze("-f", &volume.path()).then(|| Frozen(volume.path()));
        if frozen.is_none() {
            println!("skipped: a file system cannot be frozen here; that takes fsfreeze");
        }
        frozen
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        fsfreeze("-u", &self.0);
    }
}

fn fsfreeze(flag: &str, path: &std::path::Path) -> bool {
    Command::new("fsfreeze").arg(flag).arg(path).status().is_ok_and(|status| status.success())
}

/// It beats on, and nothing that it is sent gets to its disk.
#[test]
fn a_broker_whose_disk_stands_still_is_fenced_until_it_works_again() {
    let Some(volume) = Volume::mount(64) else { return };
    let mut machines = start(&volume);
    let runtime = Runtime::new().unwrap();
    let cluster = client_of_first(&machines);
    let admin = Admin::new(cluster.clone());
    // A client of its own: whom it turns away from is not to be asked here.
    let numbers = Numbers::start(&runtime, machines.client(), "t");
    numbers.wait_for(100);
    wait_in_sync(&runtime, &cluster, "t");
    let Some(frozen) = Frozen::freeze(&volume) else { return };
    let is_fenced = |wanted: bool| {
        let described = runtime.block_on(admin.describe_cluster(false));
        described.is_ok_and(|described| {
            described.brokers.iter().any(|broker| broker.id == 2 && broker.fenced == wanted)
        })
    };
    wait_until("it is fenced", || is_fenced(true));
    let events = runtime.block_on(admin.cluster_events(0, 0)).unwrap();
    let fenced = events.iter().find(|event| event.kind == "fenced" && event.broker == Some(2));
    let text = &fenced.unwrap().text;
    assert!(text.contains("it beats, but has stood still"), "{text}");
    numbers.wait_for(100);
    drop(frozen);
    wait_until("it is back", || is_fenced(false));
    wait_in_sync(&runtime, &cluster, "t");
    numbers.stop(&runtime);
    machines::assert_replicas_equal(&mut machines, "t", 1);
}

async fn produce_to_each(cluster: &Cluster, partitions: u32) {
    let producer = Producer::new(cluster.clone(), ProducerSettings::default());
    for partition in 0..partitions {
        let record = ProducerRecord {
            topic: "t".into(),
            partition: Some(partition),
            value: Some("a record".into()),
            ..ProducerRecord::default()
        };
        producer.send(record).await.unwrap().receipt().await.unwrap();
    }
}

/// A topic was made while the disk of a broker was full. The broker said so in its log, and led
/// partitions that it did not have until it was started anew; then it took them for lost.
#[test]
fn a_topic_that_a_broker_has_no_room_for_is_led_by_others_and_made_later() {
    const PARTITIONS: u32 = 6;
    let Some(volume) = Volume::mount(32) else { return };
    let mut machines = start(&volume);
    let runtime = Runtime::new().unwrap();
    let cluster = client_of_first(&machines);
    let admin = Admin::new(cluster.clone());
    let filler = fill(&volume, 0);
    let topic = NewTopic {
        name: "t".to_owned(),
        partitions: Some(PARTITIONS),
        replication_factor: Some(3),
        settings: Vec::new(),
    };
    let created = runtime.block_on(admin.create_topics(vec![topic], false)).unwrap();
    created[0].result.as_ref().unwrap();
    let all = |is_so: fn(&PartitionMetadata) -> bool| {
        let metadata = runtime.block_on(admin.metadata(Some(vec!["t".to_owned()]))).unwrap();
        metadata.topics[0].result.as_ref().is_ok_and(|topic| topic.partitions.iter().all(is_so))
    };
    wait_until("others lead", || {
        all(|p| p.leader.is_some_and(|leader| leader != 2) && !p.in_sync_replicas.contains(&2))
    });
    runtime.block_on(produce_to_each(&cluster, PARTITIONS));
    remove(&filler);
    wait_until("it has all of them", || all(|p| p.in_sync_replicas.len() == 3));
    machines::assert_replicas_equal(&mut machines, "t", PARTITIONS);
}
