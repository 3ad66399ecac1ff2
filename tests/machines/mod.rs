//! A cluster of real processes: mkzoo and brokers, on free ports of the loopback.

#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mk::client::{Admin, Cluster, ClusterSettings, Producer, ProducerRecord, ProducerSettings};
use mk_net::message::PartitionMetadata;
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};

use crate::common::{assert_clean, wait_until};

/// A process that is killed when this is dropped.
pub struct Process {
    child: Child,
    pub address: String,
}

impl Process {
    /// Starts a program and waits until it says where it is ready.
    fn start(command: Command) -> Process {
        let mut process = Process::launch(command, String::new());
        let mut line = String::new();
        BufReader::new(process.child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.split_once("ready on ").expect(&line).1;
        process.address = address.split_once(',').expect(&line).0.to_owned();
        process
    }

    /// Starts a program that will be ready at a known address, some time.
    fn launch(mut command: Command, address: String) -> Process {
        Process { child: command.stdout(Stdio::piped()).spawn().unwrap(), address }
    }

    /// The id of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it has ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
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
    /// `NAME=VALUE`, for mkzoo.
    zoo_settings: Vec<String>,
    pub brokers: BTreeMap<u32, Process>,
    setups: BTreeMap<u32, Setup>,
}

/// How a broker is started.
pub struct Setup {
    /// Where it listens; once it has, the port is known.
    pub listen: String,
    /// Where it finds mkzoo.
    pub zoo: String,
    /// `NAME=VALUE`, beside `broker.id`.
    pub settings: Vec<String>,
}

impl Machines {
    /// Three brokers that are ready.
    pub fn start() -> Machines {
        Machines::start_with(&[])
    }

    /// The same, with settings of mkzoo.
    pub fn start_with(zoo_settings: &[&str]) -> Machines {
        let mut machines = Machines::start_zoo("127.0.0.10:0", zoo_settings);
        for id in 1..=3 {
            let (listen, zoo) = (own_address(id), machines.zoo_address.clone());
            machines.set_up(id, Setup { listen, zoo, settings: Vec::new() });
            machines.start_broker(id);
        }
        machines
    }

    /// A mkzoo that is ready, and no broker.
    pub fn start_zoo(listen: &str, settings: &[&str]) -> Machines {
        let root = tempfile::tempdir().unwrap();
        let zoo_settings: Vec<String> = settings.iter().map(|text| text.to_string()).collect();
        let zoo = start_zoo(root.path(), listen, &zoo_settings);
        let zoo_address = zoo.address.clone();
        let (brokers, setups) = (BTreeMap::new(), BTreeMap::new());
        Machines { root, zoo: Some(zoo), zoo_address, zoo_settings, brokers, setups }
    }

    pub fn zoo_address(&self) -> &str {
        &self.zoo_address
    }

    pub fn data(&self, id: u32) -> PathBuf {
        self.root.path().join(format!("broker-{id}"))
    }

    /// Leaves all data where it is when the test ends; answers where.
    pub fn keep_data(&mut self) -> &Path {
        self.root.disable_cleanup(true);
        self.root.path()
    }

    /// Says how a broker is to be started.
    pub fn set_up(&mut self, id: u32, setup: Setup) {
        self.setups.insert(id, setup);
    }

    /// Starts a broker, at the address that it had before if it had one.
    pub fn start_broker(&mut self, id: u32) {
        let broker = Process::start(self.broker_command(id));
        self.setups.get_mut(&id).unwrap().listen = broker.address.clone();
        self.brokers.insert(id, broker);
    }

    /// The same for one that was ready before, without waiting until it is again.
    pub fn launch_broker(&mut self, id: u32) {
        let address = self.setups[&id].listen.clone();
        let broker = Process::launch(self.broker_command(id), address);
        self.brokers.insert(id, broker);
    }

    fn broker_command(&self, id: u32) -> Command {
        let Setup { listen, zoo, settings } = &self.setups[&id];
        let mut command = Command::new(env!("CARGO_BIN_EXE_mkbroker"));
        command.arg("--data").arg(self.data(id)).args(["--listen", listen, "--zoo", zoo]);
        command.args(["--set", &format!("broker.id={id}")]);
        for setting in settings {
            command.args(["--set", setting]);
        }
        command.env("MKBROKER_LOG", log_level());
        command
    }

    pub fn kill_broker(&mut self, id: u32) {
        self.brokers.remove(&id).unwrap().kill();
    }

    pub fn restart_zoo(&mut self) {
        self.zoo = Some(start_zoo(self.root.path(), &self.zoo_address, &self.zoo_settings));
    }

    /// mkctl for a broker, which need not live.
    pub fn ctl(&self, broker: u32, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mkctl"));
        command.args(["-b", &self.setups[&broker].listen]).args(arguments);
        command
    }

    /// A client of the cluster.
    pub fn client(&self) -> Cluster {
        let addresses = self.setups.values().map(|setup| setup.listen.clone());
        Cluster::new(addresses.collect(), ClusterSettings::default())
    }
}

/// Where a broker may listen: on an address of its own, where no connection that others make takes its
/// port while it is away.
pub fn own_address(id: u32) -> String {
    format!("127.0.0.{}:0", 10 + id)
}

fn log_level() -> String {
    std::env::var("MK_TEST_LOG").unwrap_or_else(|_| "error".to_owned())
}

fn start_zoo(root: &Path, listen: &str, settings: &[String]) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mkzoo"));
    command.arg("--data").arg(root.join("zoo")).args(["--listen", listen]);
    for setting in settings {
        command.args(["--set", setting]);
    }
    command.env("MKZOO_LOG", log_level());
    Process::start(command)
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
                topic: topic.as_str().into(),
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

/// The replicas are the same, byte for byte, once the brokers have stopped.
pub fn assert_replicas_equal(machines: &mut Machines, topic: &str, partitions: u32) {
    for id in [1, 2, 3] {
        machines.brokers.remove(&id).unwrap().stop();
        assert_clean(&machines.data(id));
    }
    for partition in 0..partitions {
        let bytes = |id| log_of(&machines.data(id), topic, partition);
        let first = bytes(1);
        for id in [2, 3] {
            let other = bytes(id);
            let differs = first.iter().zip(&other).position(|(one, other)| one != other);
            let lengths = (first.len(), other.len());
            assert!(
                first == other,
                "partition {partition} of brokers 1 and {id}: {lengths:?} bytes, {differs:?} differs"
            );
        }
    }
}

/// What a stopped broker has of a partition, its segments one behind the other.
fn log_of(data: &Path, topic: &str, partition: u32) -> Vec<u8> {
    let entries = std::fs::read_dir(data.join("topics").join(topic).join(partition.to_string()));
    let paths = entries.unwrap().map(|entry| entry.unwrap().path());
    let is_log = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "log");
    let mut logs: Vec<PathBuf> = paths.filter(is_log).collect();
    logs.sort();
    logs.into_iter().flat_map(|path| std::fs::read(path).unwrap()).collect()
}
