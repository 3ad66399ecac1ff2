//! Keeps a membership alive: what the program says, what has come to its end, and what is due. A file each for
//! heartbeats, partitions that come and go, commits, and the end of it.

mod commit;
mod give_up;
mod heartbeat;
mod leave;
mod take_over;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mk_net::message::{CommitOffsetsResponse, GroupHeartbeatResponse};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tracing::warn;
use uuid::Uuid;

use super::coordination::Coordination;
use super::last_poll::LastPoll;
use super::ledger::{Due, Ledger};
use super::membership::Membership;
use super::settings::GroupSettings;
use crate::client::backoff::{Backoff, sleep_until};
use crate::client::cluster::{Cluster, PartitionKey};
use crate::client::consumer::Steering;
use crate::client::error::ClientError;
use take_over::Begin;

/// What the program's side tells the driver.
#[derive(Debug)]
pub enum Word {
    /// Something is done.
    Done,
    /// All that is done is to be committed now.
    Commit(oneshot::Sender<Result<(), ClientError>>),
    /// An assigned partition is done up to `next`, and that is to be committed before any of it is handed
    /// out: false if it is another's by now.
    CommitOne { assigned: (PartitionKey, u64), next: u64, answer: Handed },
    /// It is to commit and leave.
    Close(oneshot::Sender<Result<(), ClientError>>),
}

/// Who waits whether something may be handed out.
type Handed = oneshot::Sender<Result<bool, ClientError>>;

/// A topic's id and a partition's number.
type PartitionId = (Uuid, u32);

/// What has come to its end.
enum Event {
    Beat {
        generation: u64,
        sent: Instant,
        result: Result<GroupHeartbeatResponse, ClientError>,
    },
    /// Where the group is in partitions, each with the number of its lookup.
    Found {
        taking: Vec<(PartitionId, u64)>,
        result: Result<Vec<Begin>, ClientError>,
    },
    Committed {
        dues: Vec<Due>,
        result: Result<CommitOffsetsResponse, ClientError>,
    },
}

type Answer = oneshot::Sender<Result<(), ClientError>>;

/// So long a member that was not told otherwise may be silent.
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);
/// So often a member that was not told otherwise is heard of.
const INTERVAL: Duration = Duration::from_secs(2);

pub(super) struct Driver {
    cluster: Cluster,
    settings: GroupSettings,
    topics: Vec<String>,
    steering: Steering,
    ledger: Arc<Mutex<Ledger>>,
    last_poll: Arc<LastPoll>,
    fail: mpsc::UnboundedSender<ClientError>,
    coordination: Coordination,
    member: String,
    membership: Membership<PartitionId>,
    names: BTreeMap<Uuid, Arc<str>>,
    interval: Duration,
    session_timeout: Duration,
    /// When the last heartbeat was sent that was answered.
    heard: Instant,
    /// Answers to heartbeats of an earlier one do not count.
    generation: u64,
    backoff: Backoff,
    retry_at: Option<Instant>,
    /// Partitions whose beginning is being looked up, and by which lookup.
    taking: BTreeMap<PartitionId, u64>,
    lookups: u64,
    /// A lookup that failed is not made again before.
    take_backoff: Backoff,
    take_at: Option<Instant>,
    /// Since when partitions are to be given up.
    leaving: BTreeMap<PartitionId, Instant>,
    commit_at: Option<Instant>,
    /// How many commits were made.
    commits: u32,
    is_committing: bool,
    /// Who waits for the commit that is under way, and for the one behind it.
    waiters: [Vec<Answer>; 2],
    /// The session has ended before all that was done was committed, and the program was not told yet.
    has_lost: bool,
    /// What is to be handed out once it is committed.
    to_hand_out: Vec<((PartitionKey, u64), u64, Handed)>,
    /// Since when another process has the instance id.
    refused_since: Option<Instant>,
}
impl Driver {
    /// A driver of this member.
    pub fn new(
        cluster: Cluster,
        settings: GroupSettings,
        member: String,
        topics: &[&str],
        steering: Steering,
        (ledger, last_poll): (Arc<Mutex<Ledger>>, Arc<LastPoll>),
        fail: mpsc::UnboundedSender<ClientError>,
    ) -> Driver {
        let coordination = Coordination::new(cluster.clone(), &settings.group);
        Driver {
            backoff: Backoff::new(cluster.seed()),
            take_backoff: Backoff::new(cluster.seed()),
            cluster,
            settings,
            topics: topics.iter().map(|topic| topic.to_string()).collect(),
            steering,
            ledger,
            last_poll,
            fail,
            coordination,
            member,
            membership: Membership::default(),
            names: BTreeMap::new(),
            interval: INTERVAL,
            session_timeout: SESSION_TIMEOUT,
            heard: Instant::now(),
            generation: 0,
            retry_at: None,
            taking: BTreeMap::new(),
            lookups: 0,
            take_at: None,
            leaving: BTreeMap::new(),
            commit_at: None,
            commits: 0,
            is_committing: false,
            waiters: [Vec::new(), Vec::new()],
            has_lost: false,
            to_hand_out: Vec::new(),
            refused_since: None,
        }
    }

    /// Runs until the consumer is gone or has left, or the group does not want it.
    pub async fn run(mut self, mut words: mpsc::UnboundedReceiver<Word>) {
        let mut under_way: JoinSet<Event> = JoinSet::new();
        loop {
            self.speak(&mut under_way);
            self.take_over(&mut under_way);
            self.give_up(&mut under_way);
            let wake_at = self.wake_at();
            tokio::select! {
                word = words.recv() => match word {
                    Some(Word::Close(answer)) => {
                        // Nobody minds who has given up waiting.
                        let _ = answer.send(self.leave(&mut under_way).await);
                        return;
                    }
                    Some(word) => self.obey(word, &mut under_way),
                    None => return,
                },
                Some(event) = under_way.join_next() => {
                    let result = match event {
                        Ok(event) => self.take_in(event, &mut under_way),
                        Err(error) => Err(ClientError::Invalid(format!("a task failed: {error}"))),
                    };
                    if let Err(error) = result {
                        let _ = self.fail.send(error);
                        // What is done is done, and others go on with the rest.
                        let _ = self.leave(&mut under_way).await;
                        return;
                    }
                }
                () = sleep_until(wake_at) => self.keep_time(&mut under_way),
            }
        }
    }

    fn wake_at(&self) -> Option<Instant> {
        let session_end = (self.membership.epoch() > 0).then(|| self.heard + self.session_timeout);
        let patience = self.patience();
        let leaving = self.leaving.values().map(|since| *since + patience);
        let now = Instant::now();
        // What is overdue already waits for its commit.
        let leaving = leaving.filter(|at| *at > now);
        // Behind the commit that is under way.
        let commit_at = self.commit_at.filter(|_| !self.is_committing);
        let times = [self.retry_at, self.take_at, commit_at, session_end];
        times.into_iter().flatten().chain(leaving).min()
    }

    fn keep_time(&mut self, under_way: &mut JoinSet<Event>) {
        let now = Instant::now();
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
        }
        if self.take_at.is_some_and(|at| at <= now) {
            self.take_at = None;
        }
        if !self.is_committing && self.commit_at.is_some_and(|at| at <= now) {
            self.commit_at = None;
            self.commit(under_way);
        }
        if self.membership.epoch() > 0 && now >= self.heard + self.session_timeout {
            warn!(group = self.settings.group, "no coordinator has answered for a whole session");
            self.expelled();
        }
    }

    fn obey(&mut self, word: Word, under_way: &mut JoinSet<Event>) {
        match word {
            Word::Done => {
                let interval = self.settings.commit_interval;
                self.commit_at.get_or_insert_with(|| Instant::now() + interval);
            }
            Word::Commit(answer) => {
                self.waiters[1].push(answer);
                self.commit(under_way);
            }
            Word::CommitOne { assigned, next, answer } => {
                if self.ledger.lock().done_in(&assigned.0, assigned.1, next) {
                    self.to_hand_out.push((assigned, next, answer));
                    self.commit(under_way);
                } else {
                    let _ = answer.send(Ok(false));
                }
            }
            Word::Close(_) => unreachable!("it is obeyed where the loop can end"),
        }
    }

    /// An error ends the membership.
    fn take_in(&mut self, event: Event, under_way: &mut JoinSet<Event>) -> Result<(), ClientError> {
        match event {
            Event::Beat { generation, .. } if generation != self.generation => {}
            Event::Beat { sent, result, .. } => return self.heard(sent, result),
            Event::Found { taking, result } => return self.found(taking, result, under_way),
            Event::Committed { dues, result } => self.settle(&dues, result, under_way),
        }
        Ok(())
    }
}
