//! rdkafka: librdkafka under Rust, built from the source that its crate carries.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::util::Timeout;

use crate::cases::{CODECS, Pace, equal, fields, large, packable, until};

const SOON: Duration = Duration::from_secs(20);

pub async fn run(case: &str, bootstrap: &str, topic: &str) -> Result<()> {
    match case {
        "codecs" => codecs(bootstrap, topic).await,
        "offsets" => offsets(bootstrap, topic).await,
        "fields" => every_field(bootstrap, topic).await,
        "large" => large_record(bootstrap, topic).await,
        "idempotence" => idempotence(bootstrap, topic).await,
        "group" => group(bootstrap, topic).await,
        "commit" => commit(bootstrap, topic).await,
        "admin" => admin(bootstrap, topic).await,
        "failover" => failover(bootstrap, topic).await,
        _ => bail!("no case {case}"),
    }
}

fn config(bootstrap: &str, more: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    for (name, value) in more {
        config.set(*name, *value);
    }
    config
}

fn admin_client(bootstrap: &str) -> Result<AdminClient<DefaultClientContext>> {
    Ok(config(bootstrap, &[]).create()?)
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(SOON))
}

/// The first of the answers for single topics that is an error.
fn all<T>(answers: Vec<Result<T, (String, rdkafka::error::RDKafkaErrorCode)>>) -> Result<Vec<T>> {
    answers.into_iter().map(|one| one.map_err(|(name, code)| anyhow!("{name}: {code}"))).collect()
}

/// Partitions that have a leader.
fn partitions(client: &BaseConsumer, topic: &str) -> Result<usize> {
    let metadata = client.fetch_metadata(Some(topic), SOON)?;
    let found = metadata.topics().first().context("no topic")?;
    Ok(found.partitions().iter().filter(|one| one.leader() >= 0).count())
}

async fn create(bootstrap: &str, topic: &str, count: i32, replicas: i32) -> Result<()> {
    let new = NewTopic::new(topic, count, TopicReplication::Fixed(replicas))
        .set("retention.ms", "3600000");
    all(admin_client(bootstrap)?.create_topics(&[new], &options()).await?)?;
    let client = consumer(bootstrap, "unused")?;
    until("the topic is there", async || Ok(partitions(&client, topic)? == count as usize)).await
}

fn producer(bootstrap: &str, more: &[(&str, &str)]) -> Result<FutureProducer> {
    Ok(config(bootstrap, &[&[("linger.ms", "50")], more].concat()).create()?)
}

/// Sends values to partitions, and waits until each is acknowledged.
async fn produce(producer: &FutureProducer, topic: &str, values: &[(i32, Vec<u8>)]) -> Result<()> {
    let mut sent = vec![];
    for (partition, value) in values {
        let record = FutureRecord::<(), _>::to(topic).partition(*partition).payload(value);
        sent.push(producer.send_result(record).map_err(|(error, _)| error)?);
    }
    for one in sent {
        one.await?.map_err(|(error, _)| error)?;
    }
    Ok(())
}

fn numbered(numbers: std::ops::Range<i32>, partitions: i32) -> Vec<(i32, Vec<u8>)> {
    numbers.map(|n| (n % partitions, n.to_string().into_bytes())).collect()
}

fn consumer(bootstrap: &str, group: &str) -> Result<BaseConsumer> {
    let more =
        [("group.id", group), ("enable.auto.commit", "false"), ("auto.offset.reset", "earliest")];
    Ok(config(bootstrap, &more).create()?)
}

/// The next `count` messages.
fn take(consumer: &BaseConsumer, count: usize) -> Result<Vec<OwnedMessage>> {
    let (mut found, end) = (vec![], Instant::now() + SOON);
    while found.len() < count {
        ensure!(Instant::now() < end, "{} of {count} records within 20 s", found.len());
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => found.push(message.detach()),
            // It tells of a broker that it has lost, too, and goes on by itself.
            Some(Err(error)) => eprintln!("{error}"),
            None => {}
        }
    }
    Ok(found)
}

fn assign(consumer: &BaseConsumer, topic: &str, offset: Offset) -> Result<()> {
    let mut place = TopicPartitionList::new();
    place.add_partition_offset(topic, 0, offset)?;
    Ok(consumer.assign(&place)?)
}

/// All messages of partition 0.
fn read_all(bootstrap: &str, topic: &str) -> Result<Vec<OwnedMessage>> {
    let consumer = consumer(bootstrap, "unused")?;
    let (_, end) = consumer.fetch_watermarks(topic, 0, SOON)?;
    assign(&consumer, topic, Offset::Beginning)?;
    take(&consumer, usize::try_from(end)?)
}

fn number(message: &impl Message) -> Result<i32> {
    Ok(std::str::from_utf8(message.payload().context("no value")?)?.parse()?)
}

fn numbers(messages: &[OwnedMessage]) -> Result<Vec<i32>> {
    messages.iter().map(number).collect()
}

/// What each codec has packed reads back equal, out of one log.
async fn codecs(bootstrap: &str, topic: &str) -> Result<()> {
    create(bootstrap, topic, 1, 1).await?;
    let mut sent = vec![];
    for codec in CODECS {
        let producer = producer(bootstrap, &[("compression.type", codec)])?;
        let values: Vec<_> = (0..20).map(|n| (0, packable(codec, n))).collect();
        produce(&producer, topic, &values).await?;
        sent.extend(values.into_iter().map(|(_, value)| value));
    }
    let found = read_all(bootstrap, topic)?;
    let found = found.iter().map(|one| one.payload().unwrap_or_default().to_vec()).collect();
    equal(found, sent, "records of all codecs")
}

/// A consumer begins wherever it is told to: at both ends, within a batch, at a time.
async fn offsets(bootstrap: &str, topic: &str) -> Result<()> {
    create(bootstrap, topic, 1, 1).await?;
    let producer = producer(bootstrap, &[("linger.ms", "500")])?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis();
    let begin = i64::try_from(now)? - 60_000;
    let mut sent = vec![];
    for (n, (_, value)) in (0..).zip(numbered(0..10, 1)) {
        let record = FutureRecord::<(), _>::to(topic).partition(0).timestamp(begin + n * 1000);
        sent.push(producer.send_result(record.payload(&value)).map_err(|(error, _)| error)?);
    }
    for one in sent {
        one.await?.map_err(|(error, _)| error)?;
    }
    let consumer = consumer(bootstrap, "unused")?;
    let first = |offset| -> Result<i32> {
        assign(&consumer, topic, offset)?;
        number(&take(&consumer, 1)?[0])
    };
    equal(first(Offset::Beginning)?, 0, "at the beginning")?;
    equal(first(Offset::Offset(5))?, 5, "in the middle of a batch")?;
    let mut time = TopicPartitionList::new();
    time.add_partition_offset(topic, 0, Offset::Offset(begin + 6500))?;
    let found = consumer.offsets_for_times(time, SOON)?;
    equal(first(found.elements()[0].offset())?, 7, "by timestamp")?;
    assign(&consumer, topic, Offset::End)?;
    let early = consumer.poll(Duration::from_secs(2)).is_some();
    equal(early, false, "at the end, before there is more")?;
    produce(&producer, topic, &numbered(10..11, 1)).await?;
    equal(numbers(&take(&consumer, 1)?)?, vec![10], "at the end")
}

/// Headers, and keys and values that are null or empty, come back as they were.
async fn every_field(bootstrap: &str, topic: &str) -> Result<()> {
    create(bootstrap, topic, 1, 1).await?;
    let producer = producer(bootstrap, &[])?;
    for (key, value, headers) in fields() {
        let mut owned = OwnedHeaders::new();
        for (key, value) in &headers {
            owned = owned.insert(Header { key, value: Some(value) });
        }
        let mut record = FutureRecord::to(topic).partition(0).headers(owned);
        record.key = key.as_deref();
        record.payload = value.as_deref();
        producer.send(record, Timeout::After(SOON)).await.map_err(|(error, _)| error)?;
    }
    let found = read_all(bootstrap, topic)?;
    let found = found.iter().map(|one| {
        let headers = one.headers().map_or(vec![], |headers| {
            headers
                .iter()
                .map(|h| (h.key.to_owned(), h.value.unwrap_or_default().to_vec()))
                .collect()
        });
        (one.key().map(<[u8]>::to_vec), one.payload().map(<[u8]>::to_vec), headers)
    });
    equal(found.collect(), fields(), "fields")
}

/// A record of 900 KB.
async fn large_record(bootstrap: &str, topic: &str) -> Result<()> {
    create(bootstrap, topic, 1, 1).await?;
    produce(&producer(bootstrap, &[])?, topic, &[(0, large())]).await?;
    let found = read_all(bootstrap, topic)?;
    equal(found[0].payload() == Some(&large()[..]), true, "the large record is the same")
}

/// 10 000 records of an idempotent producer: all, in order, none twice.
async fn idempotence(bootstrap: &str, topic: &str) -> Result<()> {
    create(bootstrap, topic, 1, 1).await?;
    let producer = producer(bootstrap, &[("enable.idempotence", "true"), ("linger.ms", "1")])?;
    produce(&producer, topic, &numbered(0..10_000, 1)).await?;
    equal(numbers(&read_all(bootstrap, topic)?)?, (0..10_000).collect(), "10 000 records")
}

/// A member of a group, in a thread of its own: reads, commits, and tells what it has.
#[derive(Clone, Default)]
struct Member {
    partitions: Arc<Mutex<BTreeSet<i32>>>,
    records: Arc<Mutex<Vec<i32>>>,
    leaving: Arc<AtomicBool>,
    gone: Arc<AtomicBool>,
}

impl Member {
    fn join(bootstrap: &str, topic: &str) -> Result<Self> {
        let consumer = consumer(bootstrap, &format!("{topic}-group"))?;
        consumer.subscribe(&[topic])?;
        let member = Self::default();
        let own = member.clone();
        std::thread::spawn(move || {
            while !own.leaving.load(Ordering::Relaxed) {
                if let Err(error) = own.step(&consumer) {
                    eprintln!("a member: {error}");
                }
            }
            drop(consumer);
            own.gone.store(true, Ordering::Relaxed);
        });
        Ok(member)
    }

    fn step(&self, consumer: &BaseConsumer) -> Result<()> {
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            let message = message?;
            consumer.commit_message(&message, CommitMode::Sync)?;
            self.records.lock().unwrap().push(number(&message)?);
        }
        let assignment = consumer.assignment()?;
        let now = assignment.elements().iter().map(|one| one.partition()).collect();
        *self.partitions.lock().unwrap() = now;
        Ok(())
    }

    async fn leave(&self) -> Result<()> {
        self.leaving.store(true, Ordering::Relaxed);
        until("the member has left", async || Ok(self.gone.load(Ordering::Relaxed))).await
    }
}

async fn share(members: &[&Member], size: usize) -> Result<()> {
    until(&format!("{size} partitions for each of {}", members.len()), async || {
        let held: Vec<_> =
            members.iter().map(|one| one.partitions.lock().unwrap().clone()).collect();
        let all: BTreeSet<_> = held.iter().flatten().collect();
        Ok(held.iter().all(|one| one.len() == size) && all.len() == 4)
    })
    .await
}

fn records_of(members: &[&Member]) -> Vec<i32> {
    let mut all: Vec<_> =
        members.iter().flat_map(|one| one.records.lock().unwrap().clone()).collect();
    all.sort_unstable();
    all
}

async fn read(members: &[&Member], count: usize) -> Result<()> {
    until(&format!("{count} records read"), async || Ok(records_of(members).len() >= count)).await
}

/// Two members share 4 partitions; one comes, one goes, and every record is read once. Records are
/// read and committed before the members change, so none may be read twice.
async fn group(bootstrap: &str, topic: &str) -> Result<()> {
    create(bootstrap, topic, 4, 1).await?;
    let producer = producer(bootstrap, &[])?;
    let first = Member::join(bootstrap, topic)?;
    share(&[&first], 4).await?;
    produce(&producer, topic, &numbered(0..200, 4)).await?;
    read(&[&first], 200).await?;
    let second = Member::join(bootstrap, topic)?;
    share(&[&first, &second], 2).await?;
    produce(&producer, topic, &numbered(200..400, 4)).await?;
    read(&[&first, &second], 400).await?;
    ensure!(!second.records.lock().unwrap().is_empty(), "the second has read nothing");
    second.leave().await?;
    share(&[&first], 4).await?;
    produce(&producer, topic, &numbered(400..600, 4)).await?;
    read(&[&first, &second], 600).await?;
    tokio::time::sleep(Duration::from_secs(1)).await; // for what would come twice
    first.leave().await?;
    equal(records_of(&[&first, &second]), (0..600).collect(), "all records, each once")
}

/// A group that stopped goes on where it had committed, and finds the note it left there.
async fn commit(bootstrap: &str, topic: &str) -> Result<()> {
    create(bootstrap, topic, 1, 1).await?;
    produce(&producer(bootstrap, &[])?, topic, &numbered(0..10, 1)).await?;
    let group = format!("{topic}-group");
    let first = consumer(bootstrap, &group)?;
    first.subscribe(&[topic])?;
    take(&first, 5)?;
    let mut place = TopicPartitionList::new();
    place.add_partition_offset(topic, 0, Offset::Offset(5))?;
    place.find_partition(topic, 0).context("no place")?.set_metadata("half");
    first.commit(&place, CommitMode::Sync)?;
    drop(first);
    let second = consumer(bootstrap, &group)?;
    let mut asked = TopicPartitionList::new();
    asked.add_partition(topic, 0);
    let found = second.committed_offsets(asked, SOON)?;
    let found = &found.elements()[0];
    equal((found.offset(), found.metadata()), (Offset::Offset(5), "half"), "committed")?;
    second.subscribe(&[topic])?;
    equal(numbers(&take(&second, 5)?)?, (5..10).collect(), "the other half")
}

/// A topic and a group from the cradle to the grave, by the admin client.
async fn admin(bootstrap: &str, topic: &str) -> Result<()> {
    create(bootstrap, topic, 2, 1).await?;
    let (client, options) = (admin_client(bootstrap)?, options());
    let consumer = consumer(bootstrap, &format!("{topic}-group"))?;
    all(client.create_partitions(&[NewPartitions::new(topic, 4)], &options).await?)?;
    until("4 partitions", async || Ok(partitions(&consumer, topic)? == 4)).await?;

    let retention = async || -> Result<Option<String>> {
        let asked = [ResourceSpecifier::Topic(topic)];
        let found = client
            .describe_configs(&asked, &options)
            .await?
            .remove(0)
            .map_err(|code| anyhow!("{code}"))?;
        Ok(found.get("retention.ms").and_then(|entry| entry.value.clone()))
    };
    equal(retention().await?.as_deref(), Some("3600000"), "retention.ms as created")?;
    let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set("retention.ms", "7200000");
    for answer in client.alter_configs(&[change], &options).await? {
        answer.map_err(|(_, code)| anyhow!("{code}"))?;
    }
    until("retention.ms as altered", async || Ok(retention().await?.as_deref() == Some("7200000")))
        .await?;

    produce(&producer(bootstrap, &[])?, topic, &numbered(0..10, 1)).await?;
    let mut before = TopicPartitionList::new();
    before.add_partition_offset(topic, 0, Offset::Offset(4))?;
    client.delete_records(&before, &options).await?;
    equal(consumer.fetch_watermarks(topic, 0, SOON)?, (4, 10), "what is left")?;
    admin_group(&client, consumer, topic).await?;

    all(client.delete_topics(&[topic], &options).await?)?;
    let other = self::consumer(bootstrap, "unused")?;
    until("the topic is gone", async || {
        let topics = other.fetch_metadata(None, SOON)?;
        Ok(topics.topics().iter().all(|one| one.name() != topic))
    })
    .await
}

async fn admin_group(
    client: &AdminClient<DefaultClientContext>,
    consumer: BaseConsumer,
    topic: &str,
) -> Result<()> {
    let group = format!("{topic}-group");
    consumer.subscribe(&[topic])?;
    take(&consumer, 6)?;
    consumer.commit_consumer_state(CommitMode::Sync)?;
    let found = client.inner().fetch_group_list(Some(&group), SOON)?;
    let found = found.groups().first().context("the group is not listed")?;
    equal((found.state(), found.members().len()), ("Stable", 1), "the group's state")?;
    drop(consumer);
    all(client.delete_groups(&[&group], &options()).await?)?;
    let listed = client.inner().fetch_group_list(None, SOON)?;
    let there = listed.groups().iter().any(|one| one.name() == group);
    equal(there, false, "the group is listed, after it was deleted")
}

/// The leader is killed under load: every acknowledged record is read back.
async fn failover(bootstrap: &str, topic: &str) -> Result<()> {
    create(bootstrap, topic, 1, 3).await?;
    let producer = producer(bootstrap, &[("acks", "all"), ("linger.ms", "5")])?;
    let pace = Arc::new(Pace::new(topic));
    let mut sent = vec![];
    let mut next = 0;
    while pace.going_on() {
        let (producer, pace, topic) = (producer.clone(), Arc::clone(&pace), topic.to_owned());
        sent.push(tokio::spawn(async move {
            let value = next.to_string();
            let record = FutureRecord::<(), _>::to(&topic).partition(0).payload(&value);
            match producer.send(record, Timeout::After(SOON)).await {
                Ok(_) => pace.acknowledged(next),
                Err((error, _)) => eprintln!("not acknowledged: {error}"),
            }
        }));
        next += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    for one in sent {
        one.await?;
    }
    produce(&producer, topic, &[(0, next.to_string().into_bytes())]).await?;
    pace.acknowledged(next);
    let found: Vec<_> =
        numbers(&read_all(bootstrap, topic)?)?.into_iter().map(|n| n as usize).collect();
    pace.verify(&found)
}
