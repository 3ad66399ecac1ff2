//! Groups of consumers whose members come and go, and write down what they are handed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mk::client::{
    Acknowledge, Admin, Cluster, ConsumerSettings, FetchedBatches, GroupConsumer, GroupSettings,
    StartAt, offsets,
};
use mk_net::message::At;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::clients::{PARTITIONS, PATIENCE, TOPIC, named_cluster, number_of};
use super::random::Random;
use super::sharing::{End, Handed, Journal, Life, Promise, Sharing};

/// What a member does again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    /// Nothing else than to read.
    Stays,
    /// It is closed, and joins anew.
    Closes,
    /// It is dropped, and joins anew.
    Vanishes,
}

/// A group has one of each.
const HABITS: [Habit; 3] = [Habit::Stays, Habit::Closes, Habit::Vanishes];
/// Most time that a member of those that go lives.
const LIFE_MS: u64 = 8_000;
/// Much longer than what is done waits to be committed: what is committed too early is found.
const LONG_WORK: Duration = Duration::from_millis(300);
const COMMIT_INTERVAL: Duration = Duration::from_millis(50);

/// A group.
pub struct Group {
    desk: Arc<Desk>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// What its members share.
struct Desk {
    sharing: Mutex<Sharing>,
    /// Behind the last record of each partition that anybody was handed.
    reached: watch::Sender<Vec<u64>>,
    complaints: Mutex<Vec<String>>,
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

impl Group {
    /// Members of a group, each in a rack of its own.
    pub fn start(
        runtime: &Runtime,
        addresses: &[String],
        racks: &[String],
        name: &str,
        promise: Promise,
        seed: u64,
    ) -> Group {
        let desk = Arc::new(Desk {
            sharing: Mutex::new(Sharing::new(name, promise)),
            reached: watch::Sender::new(vec![0; PARTITIONS as usize]),
            complaints: Mutex::default(),
        });
        let (stop, _) = watch::channel(false);
        let _inside = runtime.enter();
        let members = HABITS.into_iter().zip(racks).zip(1..).map(|((habit, rack), slot)| Member {
            desk: desk.clone(),
            addresses: addresses.to_vec(),
            rack: rack.clone(),
            habit,
            random: Random::new(seed.rotate_left(16) ^ slot),
        });
        let tasks = members.map(|member| tokio::spawn(member.live(stop.subscribe()))).collect();
        Group { desk, stop, tasks }
    }

    /// Waits until the group was handed all up to the ends, and has its members close. Answers what they were
    /// handed, and what went wrong.
    pub fn finish(self, runtime: &Runtime, ends: &[u64]) -> (Sharing, Vec<String>) {
        let mut reached = self.desk.reached.subscribe();
        let all = reached.wait_for(|reached| reached.iter().zip(ends).all(|(at, end)| at >= end));
        let waited = runtime.block_on(async { tokio::time::timeout(PATIENCE, all).await.is_ok() });
        self.stop.send_replace(true);
        for task in self.tasks {
            runtime.block_on(task).unwrap();
        }
        let mut complaints = std::mem::take(&mut *self.desk.complaints.lock());
        let sharing = self.desk.sharing.lock().clone();
        if !waited {
            let at = self.desk.reached.borrow().clone();
            complaints.push(format!("group {} has come to {at:?} of {ends:?}", sharing.group));
        }
        (sharing, complaints)
    }
}

/// One life after the other.
struct Member {
    desk: Arc<Desk>,
    addresses: Vec<String>,
    rack: String,
    habit: Habit,
    random: Random,
}

impl Member {
    async fn live(mut self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow_and_update() {
            let (life, mut consumer) = self.join();
            let lasting = match self.habit {
                Habit::Stays => Duration::from_secs(24 * 3600),
                _ => Duration::from_millis(self.random.below(LIFE_MS)),
            };
            let until = Instant::now() + lasting;
            let is_stopped = loop {
                let batches = tokio::select! {
                    batches = consumer.next() => batches,
                    _ = stop.changed() => break true,
                    () = tokio::time::sleep_until(until.into()) => break false,
                };
                match batches {
                    Ok(batches) => {
                        if self.work(life, &batches, until).await.is_none() {
                            break false;
                        }
                    }
                    // Nothing that is broken is to end a membership.
                    Err(error) => {
                        self.desk.complain(life, &error.to_string());
                        break false;
                    }
                }
            };
            let end = if self.habit == Habit::Vanishes && !is_stopped {
                drop(consumer);
                End::Vanished { at_ms: now_ms() }
            } else {
                let (began_ms, began) = (now_ms(), Instant::now());
                match consumer.close().await {
                    Ok(()) => End::Closed { began_ms },
                    Err(error) => {
                        println!("a member could not close for {:?}: {error}", began.elapsed());
                        End::CloseFailed { at_ms: now_ms() }
                    }
                }
            };
            self.desk.sharing.lock().lives[life].end = Some(end);
        }
    }

    /// Does something with what it was handed, and then is done with it; none: it is dropped meanwhile.
    async fn work(&mut self, life: usize, batches: &FetchedBatches, until: Instant) -> Option<()> {
        let at_most_once = self.desk.sharing.lock().promise == Promise::AtMostOnce;
        if at_most_once {
            self.desk.hand(life, batches);
        }
        if self.habit == Habit::Vanishes && self.random.chance(5) {
            tokio::time::sleep(LONG_WORK).await;
            if Instant::now() >= until {
                return None;
            }
        }
        if !at_most_once {
            self.desk.hand(life, batches);
        }
        Some(())
    }

    fn join(&self) -> (usize, GroupConsumer) {
        let mut sharing = self.desk.sharing.lock();
        let life = sharing.lives.len();
        let client_id = format!("{}-{life}", sharing.group);
        sharing.lives.push(Life { client_id: client_id.clone(), end: None });
        let settings = GroupSettings {
            acknowledge: match sharing.promise {
                Promise::AtLeastOnce => Acknowledge::Automatically,
                Promise::AtMostOnce => Acknowledge::BeforeDelivery,
            },
            commit_interval: COMMIT_INTERVAL,
            consumer: ConsumerSettings { rack: self.rack.clone(), ..ConsumerSettings::default() },
            ..GroupSettings::of(&sharing.group)
        };
        let cluster = named_cluster(&self.addresses, &client_id);
        (life, GroupConsumer::join(cluster, settings, &[TOPIC]))
    }
}

impl Desk {
    fn hand(&self, life: usize, batches: &FetchedBatches) {
        let partition = batches.partition;
        let mut records = Vec::new();
        for record in batches.records() {
            match record {
                Ok(record) => {
                    let (offset, number) = (record.offset.0, number_of(&record));
                    records.push(Handed { life, partition, offset, number, at_ms: now_ms() });
                }
                Err(error) => self.complain(life, &error.to_string()),
            }
        }
        self.sharing.lock().handed.extend(records);
        self.reached.send_modify(|reached| {
            let reached = &mut reached[partition as usize];
            *reached = (*reached).max(batches.next_offset);
        });
    }

    fn complain(&self, life: usize, what: &str) {
        let client_id = self.sharing.lock().lives[life].client_id.clone();
        self.complaints.lock().push(format!("{client_id}: {what}"));
    }
}

/// Reads what the offsets topic says of each group.
pub async fn journals(cluster: &Cluster) -> BTreeMap<String, Journal> {
    const TOPIC_OF_OFFSETS: &str = "__consumer_offsets";
    let admin = Admin::new(cluster.clone());
    let metadata = admin.metadata(Some(vec![TOPIC_OF_OFFSETS.to_owned()])).await.unwrap();
    let mut topics = metadata.topics;
    let count = topics.remove(0).result.unwrap().partitions.len() as u32;
    let partitions: Vec<u32> = (0..count).collect();
    let ends = offsets(cluster, TOPIC_OF_OFFSETS, &partitions, At::Latest).await.unwrap();
    let mut ends: BTreeMap<u32, u64> =
        (0..).zip(ends.into_iter().map(Option::unwrap)).filter(|(_, end)| *end > 0).collect();
    let mut consumer = mk::client::Consumer::new(cluster.clone(), ConsumerSettings::default());
    for partition in ends.keys() {
        consumer.assign(TOPIC_OF_OFFSETS, &[*partition], StartAt::Earliest).await.unwrap();
    }
    let mut reader = JournalReader::default();
    while !ends.is_empty() {
        let batches = tokio::time::timeout(PATIENCE, consumer.next()).await.unwrap().unwrap();
        for record in batches.records().map(Result::unwrap) {
            let key = serde_json::from_slice(&record.key.unwrap()).unwrap();
            let value = record.value.map(|value| serde_json::from_slice(&value).unwrap());
            reader.take(&key, value.as_ref(), record.timestamp.0);
        }
        ends.retain(|partition, end| *partition != batches.partition || batches.next_offset < *end);
    }
    reader.journals
}

#[derive(Default)]
struct JournalReader {
    journals: BTreeMap<String, Journal>,
    /// The name of each member's client.
    clients: BTreeMap<String, String>,
}

impl JournalReader {
    fn take(&mut self, key: &Value, value: Option<&Value>, at_ms: i64) {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let journal = self.journals.entry(text(&key["group"])).or_default();
        match (key["kind"].as_str().unwrap(), value) {
            ("offset", Some(value)) => {
                let partition = key["partition"].as_u64().unwrap() as u32;
                journal.commits.push((partition, value["offset"].as_u64().unwrap()));
            }
            ("member", Some(value)) => {
                self.clients.insert(text(&key["member"]), text(&value["profile"]["client_id"]));
            }
            ("member", None) => {
                // One that was never written down was nobody.
                if let Some(client_id) = self.clients.get(&text(&key["member"])) {
                    journal.removed_ms.entry(client_id.clone()).or_default().push(at_ms);
                }
            }
            _ => {}
        }
    }
}
