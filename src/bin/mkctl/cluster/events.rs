//! `mkctl cluster events`: the timeline of every incident.

use std::time::Duration;

use mk::client::Admin;
use mk_net::message::ClusterEvent;
use serde_json::json;

use crate::outcome::Failure;
use crate::table;

/// How often it is looked for more.
const INTERVAL: Duration = Duration::from_millis(300);
/// What comes so much later belongs to something else.
const INCIDENT_MS: i64 = 3_000;

/// The newest so many, and then whatever comes.
pub async fn run(admin: &Admin, follow: bool, count: u32, json: bool) -> Result<(), Failure> {
    let (mut after, mut most, mut before) = (0, count, None);
    loop {
        let mut events = match admin.cluster_events(after, most).await {
            Ok(events) => events,
            // The one that was asked may be what the timeline is about.
            Err(error) if follow && error.is_retriable() => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        after = events.iter().map(|event| event.id).max().unwrap_or(after);
        // When a broker was last heard of is known when it is fenced.
        events.sort_by_key(|event| event.at_ms);
        for event in &events {
            print(event, before, json)?;
            before = Some(event.at_ms);
        }
        if !follow {
            return Ok(());
        }
        most = 0;
        tokio::time::sleep(INTERVAL).await;
    }
}

fn print(event: &ClusterEvent, before: Option<i64>, json: bool) -> Result<(), Failure> {
    let since =
        before.map(|before| event.at_ms - before).filter(|since| (0..INCIDENT_MS).contains(since));
    if json {
        let partition = event.partition.as_ref();
        table::print_json(&json!({
            "id": event.id,
            "at_ms": event.at_ms,
            "since_ms": since,
            "kind": event.kind,
            "broker": event.broker,
            "topic": partition.map(|of| of.topic.clone()),
            "partition": partition.map(|of| of.partition),
            "text": event.text,
        }))?;
        return Ok(());
    }
    let time = jiff::Timestamp::from_millisecond(event.at_ms);
    let time = time.map_or_else(|_| event.at_ms.to_string(), |time| format!("{time:.3}"));
    let since = since.map_or(String::new(), |since| format!("+{since} ms"));
    let of = event.partition.as_ref();
    let of = of.map_or(String::new(), |of| format!("{}:{} ", of.topic, of.partition));
    let line = format!("{time}  {since:>9}  {:<18}  {of}{}", event.kind, event.text);
    Ok(table::print_lines([line])?)
}
