//! `mkctl top`: what moves, again each second.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::HumanBytes;
use mk::client::{Admin, Cluster};
use mk_net::message::{
    DescribeClusterResponse, DescribedClient, DescribedTopic, ListedGroup, MetadataResponse,
};

use crate::args::time;
use crate::group::lag_of;
use crate::outcome::{Failure, describe};
use crate::table;

/// Watch brokers, topics, groups and clients: what moves most comes first. Ctrl-C ends it.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  mkctl top
  mkctl top -i 5s
  mkctl top -n 2 | cat   two looks, for a file")]
pub struct TopArgs {
    /// How often it looks.
    #[arg(short, long, value_name = "TIME", default_value = "1s", value_parser = time)]
    pub interval: Duration,
    /// Ends after so many looks.
    #[arg(short = 'n', long)]
    pub count: Option<u64>,
}

/// A cluster at a moment.
struct Sample {
    at: Instant,
    cluster: DescribeClusterResponse,
    metadata: MetadataResponse,
    topics: BTreeMap<String, Topic>,
    groups: Vec<(ListedGroup, Option<u64>)>,
    clients: Vec<(u32, DescribedClient)>,
}

#[derive(Clone, Copy)]
struct Topic {
    partitions: usize,
    /// Records that were ever committed.
    end: u64,
    bytes: u64,
}

/// Groups whose lag is asked for: each is a question of its own.
const MOST_GROUPS: usize = 10;

pub async fn run(cluster: &Cluster, args: TopArgs) -> Result<(), Failure> {
    let admin = Admin::new(cluster.clone());
    let mut before: Option<Sample> = None;
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        let frame = match look(&admin).await {
            Ok(sample) => {
                let frame = frame(&sample, before.as_ref());
                before = Some(sample);
                frame
            }
            // Whoever watches waits until somebody answers.
            Err(error) if before.is_some() => vec![format!("no answer: {}", describe(&error))],
            Err(error) => return Err(error.into()),
        };
        show(&frame)?;
        left -= 1;
        if left > 0 {
            tokio::time::sleep(args.interval).await;
        }
    }
    Ok(())
}

async fn look(admin: &Admin) -> Result<Sample, mk::client::ClientError> {
    let cluster = admin.describe_cluster(false).await?;
    let metadata = admin.metadata(None).await?;
    let described = admin.describe_topics(None).await?.into_iter();
    let topics = described.filter_map(|(name, topic)| Some((name, sizes(&topic.ok()?)))).collect();
    let (listed, _) = admin.list_groups().await?;
    let mut groups = Vec::with_capacity(listed.len());
    for (place, group) in listed.into_iter().enumerate() {
        let lag = if place < MOST_GROUPS { lag_of(admin, &group.group).await.ok() } else { None };
        groups.push((group, lag));
    }
    let (clients, _) = admin.list_clients().await?;
    Ok(Sample { at: Instant::now(), cluster, metadata, topics, groups, clients })
}

fn sizes(topic: &DescribedTopic) -> Topic {
    Topic {
        partitions: topic.partitions.len(),
        end: topic.partitions.iter().map(|partition| partition.high_watermark).sum(),
        bytes: topic.partitions.iter().map(|partition| partition.size_bytes).sum(),
    }
}

/// All of it, what moves most first.
fn frame(now: &Sample, before: Option<&Sample>) -> Vec<String> {
    let mut lines = vec![head(now)];
    lines.push(String::new());
    lines.extend(brokers(now));
    lines.push(String::new());
    lines.extend(topics(now, before));
    if !now.groups.is_empty() {
        lines.push(String::new());
        lines.extend(groups(now));
    }
    if !now.clients.is_empty() {
        lines.push(String::new());
        lines.extend(clients(now));
    }
    lines
}

fn head(now: &Sample) -> String {
    let (mut all, mut without, mut behind) = (0, 0, 0);
    for topic in now.metadata.topics.iter().filter_map(|topic| topic.result.as_ref().ok()) {
        for partition in &topic.partitions {
            all += 1;
            without += usize::from(partition.leader.is_none());
            behind += usize::from(partition.in_sync_replicas.len() < partition.replicas.len());
        }
    }
    let up = now.cluster.brokers.iter().filter(|broker| !broker.fenced).count();
    format!(
        "cluster {}  brokers {up}/{}  partitions {all}, {without} without a leader, {behind} not in sync",
        now.cluster.cluster_id,
        now.cluster.brokers.len(),
    )
}

fn brokers(now: &Sample) -> Vec<String> {
    let rows = now.cluster.brokers.iter().map(|broker| {
        let topics = now.metadata.topics.iter().filter_map(|topic| topic.result.as_ref().ok());
        let leads = topics.flat_map(|topic| &topic.partitions);
        let leads = leads.filter(|partition| partition.leader == Some(broker.id)).count();
        let clients =
            now.clients.iter().filter(|(id, _)| *id == broker.id).map(|(_, client)| client);
        let (mut came, mut went) = (0, 0);
        for client in clients {
            came += client.in_per_second;
            went += client.out_per_second;
        }
        let state = match (broker.fenced, broker.stopping) {
            (true, _) => "fenced",
            (false, true) => "stopping",
            (false, false) => "up",
        };
        vec![
            broker.id.to_string(),
            broker.address.clone(),
            state.to_owned(),
            leads.to_string(),
            HumanBytes(came).to_string(),
            HumanBytes(went).to_string(),
        ]
    });
    let header = ["BROKER", "ADDRESS", "STATE", "LEADS", "IN/s", "OUT/s"];
    table::lines(&header, &rows.collect::<Vec<_>>())
}

fn topics(now: &Sample, before: Option<&Sample>) -> Vec<String> {
    let mut rated: Vec<(f64, &String, &Topic)> = now
        .topics
        .iter()
        .map(|(name, topic)| (rate(name, topic, now, before).unwrap_or(0.0), name, topic))
        .collect();
    rated.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    let rows = rated.into_iter().map(|(rate, name, topic)| {
        vec![
            name.clone(),
            topic.partitions.to_string(),
            if before.is_some() { format!("{rate:.0}") } else { "-".to_owned() },
            topic.end.to_string(),
            HumanBytes(topic.bytes).to_string(),
        ]
    });
    let header = ["TOPIC", "PARTITIONS", "RECORDS/s", "RECORDS EVER", "SIZE"];
    table::lines(&header, &rows.collect::<Vec<_>>())
}

/// Records a second that were committed since a moment before.
fn rate(name: &str, topic: &Topic, now: &Sample, before: Option<&Sample>) -> Option<f64> {
    let before = before?;
    let seconds = now.at.duration_since(before.at).max(Duration::from_millis(1)).as_secs_f64();
    let earlier = before.topics.get(name)?;
    Some(topic.end.saturating_sub(earlier.end) as f64 / seconds)
}

fn groups(now: &Sample) -> Vec<String> {
    let rows = now.groups.iter().map(|(group, lag)| {
        vec![
            group.group.clone(),
            group.state.clone(),
            group.members.to_string(),
            lag.map_or_else(|| "-".to_owned(), |lag| lag.to_string()),
        ]
    });
    table::lines(&["GROUP", "STATE", "MEMBERS", "LAG"], &rows.collect::<Vec<_>>())
}

fn clients(now: &Sample) -> Vec<String> {
    let mut clients: Vec<&(u32, DescribedClient)> = now.clients.iter().collect();
    clients
        .sort_by_key(|(_, client)| std::cmp::Reverse(client.in_per_second + client.out_per_second));
    let rows = clients.into_iter().map(|(broker, client)| {
        vec![
            client.client_id.clone(),
            client.address.clone(),
            broker.to_string(),
            client.requests_per_second.to_string(),
            HumanBytes(client.in_per_second).to_string(),
            HumanBytes(client.out_per_second).to_string(),
        ]
    });
    let header = ["CLIENT", "ADDRESS", "BROKER", "REQUESTS/s", "IN/s", "OUT/s"];
    table::lines(&header, &rows.collect::<Vec<_>>())
}

/// On a terminal as much as it holds, in the place of what was there.
fn show(frame: &[String]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let mut most = (usize::MAX, usize::MAX);
    if out.is_terminal() {
        if let Ok(size) = rustix::termios::tcgetwinsize(&out) {
            most = (usize::from(size.ws_row).saturating_sub(1), usize::from(size.ws_col));
        }
        write!(out, "\x1b[H\x1b[J")?;
    }
    for line in frame.iter().take(most.0) {
        writeln!(out, "{}", line.chars().take(most.1).collect::<String>())?;
    }
    Ok(out.flush()?)
}
