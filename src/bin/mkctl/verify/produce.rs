//! `mkctl verify produce`.

use std::collections::VecDeque;

use mk::client::{ClientError, Cluster, Delivery, Producer, ProducerRecord, ProducerSettings};
use serde_json::json;

use crate::outcome::{Failure, describe};
use crate::table;

/// Records whose acknowledgement may be outstanding.
const MOST_OUTSTANDING: usize = 100_000;

/// What became of the records.
#[derive(Default)]
struct Count {
    acknowledged: u64,
    /// Nobody knows whether they are there.
    unknown: u64,
    failed: u64,
    last: Option<ClientError>,
}

pub async fn run(
    cluster: &Cluster,
    topic: &str,
    records: u64,
    (quiet, as_json): (bool, bool),
) -> Result<(), Failure> {
    let partitions = u64::from(cluster.topic(topic).await?.count());
    let run = uuid::Uuid::new_v4().simple().to_string();
    let run = &run[..12];
    let producer = Producer::new(cluster.clone(), ProducerSettings::default());
    let (mut count, mut outstanding) = (Count::default(), VecDeque::new());
    for number in 0..records {
        let record = ProducerRecord {
            topic: topic.into(),
            partition: Some((number % partitions) as u32),
            value: Some(format!("{run} {number}/{records}").into()),
            ..ProducerRecord::default()
        };
        match producer.send(record).await {
            Ok(delivery) => outstanding.push_back(delivery),
            Err(error) => count.note(Err(error)),
        }
        while outstanding.len() > MOST_OUTSTANDING
            && let Some(delivery) = outstanding.pop_front()
        {
            count.note(Delivery::receipt(delivery).await.map(drop));
        }
    }
    producer.flush().await;
    for delivery in outstanding {
        count.note(delivery.receipt().await.map(drop));
    }
    let Count { acknowledged, unknown, failed, last } = count;
    // Data for whoever reads them back.
    if as_json {
        table::print_json(&json!({
            "run": run,
            "topic": topic,
            "partitions": partitions,
            "records": records,
            "acknowledged": acknowledged,
            "failed": failed,
            "unknown": unknown,
        }))?;
    } else {
        table::print_lines([run.to_owned()])?;
    }
    if !quiet && !as_json {
        say!(
            "run {run}: {records} records to {partitions} partitions of {topic}; {acknowledged} \
             acknowledged, {failed} failed, {unknown} unknown"
        );
        say!("then: mkctl verify consume {topic} --run {run}");
    }
    match last {
        None => Ok(()),
        Some(error) => Err(Failure::Failed(format!(
            "{} were not acknowledged; the last: {}",
            failed + unknown,
            describe(&error)
        ))),
    }
}

impl Count {
    fn note(&mut self, result: Result<(), ClientError>) {
        match result {
            Ok(()) => self.acknowledged += 1,
            Err(error) => {
                match error.may_be_done() {
                    true => self.unknown += 1,
                    false => self.failed += 1,
                }
                self.last = Some(error);
            }
        }
    }
}
