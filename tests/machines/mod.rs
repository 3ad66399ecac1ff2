//! A cluster of real processes: mkzoo and brokers, on free ports of the loopback.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mk::client::{Admin, Cluster, ClusterSettings, Producer, ProducerRecord, ProducerSettings};
use mk_net::message::PartitionMetadata;
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};

use crate::common::wait_until;

/// A process that is killed when this is dropped.
pub struct Process {
    child: Child,
    pub address: String,
}

impl Process {
    /// Starts a program and waits until it says where it is ready.
    fn start(mut command: Command) -> Process {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.split_once("ready on ").expect(&line).1;
        let address = address.split_once(',').expect(&line).0.to_owned();
        Process { child, address }
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.id() as i32).unwrap(), signal).unwrap();
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; it must end in good order.
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// mkzoo and its brokers.
pub struct Machines {
    root: tempfile::TempDir,
    pub zoo: Option<Process>,
    zoo_address: String,
    pub brokers: BTreeMap<u32, Process>,
    addresses: BTreeMap<u32, String>,
}

impl Machines {
    /// Three brokers that are ready.
    pub fn start() -> Machines {
        let root = tempfile::tempdir().unwrap();
        let zoo = start_zoo(root.path(), "127.0.0.1:0");
        let zoo_address = zoo.address.clone();
        let (brokers, addresses) = (BTreeMap::new(), BTreeMap::new());
        let mut machines = Machines { root, zoo: Some(zoo), zoo_address, brokers, addresses };
        for id in 1..=3 {
            machines.start_broker(id);
        }
        machines
    }

    pub fn data(&self, id: u32) -> PathBuf {
        self.root.path().join(format!("broker-{id}"))
    }

    /// Starts a broker, at the address that it had before if it had one.
    pub fn start_broker(&mut self, id: u32) {
        let listen = self.addresses.get(&id).map_or("127.0.0.1:0", String::as_str);
        let mut command = Command::new(env!("CARGO_BIN_EXE_mkbroker"));
        command.arg("--data").arg(self.data(id)).args(["--listen", listen]);
        command.args(["--zoo", &self.zoo_address, "--set", &format!("broker.id={id}")]);
        let broker = Process::start(command.env("MKBROKER_LOG", log_level()).take());
        self.addresses.insert(id, broker.address.clone());
        self.brokers.insert(id, broker);
    }

    pub fn kill_broker(&mut self, id: u32) {
        self.brokers.remove(&id).unwrap().kill();
    }

    pub fn restart_zoo(&mut self) {
        self.zoo = Some(start_zoo(self.root.path(), &self.zoo_address));
    }

    /// A client of the cluster.
    pub fn client(&self) -> Cluster {
        Cluster::new(self.addresses.values().cloned().collect(), ClusterSettings::default())
    }
}

fn log_level() -> String {
    std::env::var("MK_TEST_LOG").unwrap_or_else(|_| "error".to_owned())
}

fn start_zoo(root: &Path, listen: &str) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mkzoo"));
    command.arg("--data").arg(root.join("zoo")).args(["--listen", listen]);
    Process::start(command.env("MKZOO_LOG", log_level()).take())
}

/// [`Command`] has methods by reference only.
trait Take {
    fn take(&mut self) -> Command;
}

impl Take for Command {
    fn take(&mut self) -> Command {
        std::mem::replace(self, Command::new("false"))
    }
}

/// A producer of numbers, 0 on, each acknowledged before long.
pub struct Numbers {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    /// When acknowledgements came: so long after the one before.
    longest: Arc<Mutex<Duration>>,
    task: tokio::task::JoinHandle<Vec<(u64, u64)>>,
}

impl Numbers {
    /// Produces to partition 0 of a topic until it is stopped.
    pub fn start(runtime: &tokio::runtime::Runtime, cluster: Cluster, topic: &str) -> Numbers {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let longest = Arc::new(Mutex::new(Duration::ZERO));
        let work =
            produce(cluster, topic.to_owned(), stop.clone(), acknowledged.clone(), longest.clone());
        let task = runtime.spawn(work);
        Numbers { stop, acknowledged, longest, task }
    }

    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until so many more are acknowledged.
    pub fn wait_for(&self, more: u64) {
        let goal = self.acknowledged() + more;
        wait_until("records are acknowledged", || self.acknowledged() >= goal);
    }

    /// The longest time between two acknowledgements since it was asked for last.
    pub fn longest_pause(&self) -> Duration {
        std::mem::take(&mut *self.longest.lock())
    }

    /// Ends it; each number with its offset.
    pub fn stop(self, runtime: &tokio::runtime::Runtime) -> Vec<(u64, u64)> {
        self.stop.store(true, Ordering::Relaxed);
        runtime.block_on(self.task).unwrap()
    }
}

async fn produce(
    cluster: Cluster,
    topic: String,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    longest: Arc<Mutex<Duration>>,
) -> Vec<(u64, u64)> {
    let settings = ProducerSettings { linger: Duration::ZERO, ..Default::default() };
    let producer = Producer::new(cluster, settings);
    let mut receipts = Vec::new();
    let mut number = 0u64;
    let mut last = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let mut deliveries = Vec::new();
        for _ in 0..5 {
            let record = ProducerRecord {
                topic: topic.clone(),
                partition: Some(0),
                value: Some(number.to_string().into()),
                ..ProducerRecord::default()
            };
            deliveries.push((number, producer.send(record).await.unwrap()));
            number += 1;
        }
        for (number, delivery) in deliveries {
            receipts.push((number, delivery.receipt().await.unwrap().offset.unwrap()));
            let mut longest = longest.lock();
            *longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        acknowledged.store(number, Ordering::Relaxed);
    }
    producer.close().await;
    receipts
}

/// Where partition 0 of a topic is.
pub async fn place(cluster: &Cluster, topic: &str) -> PartitionMetadata {
    let metadata = Admin::new(cluster.clone()).metadata(Some(vec![topic.to_owned()])).await;
    let topic = metadata.unwrap().topics.remove(0).result.unwrap();
    topic.partitions.into_iter().next().unwrap()
}

/// Waits until all three replicas of partition 0 are in sync.
pub fn wait_in_sync(runtime: &tokio::runtime::Runtime, cluster: &Cluster, topic: &str) {
    wait_until("all replicas are in sync", || {
        let place = runtime.block_on(place(cluster, topic));
        place.in_sync_replicas.len() == 3 && place.leader.is_some()
    });
}
