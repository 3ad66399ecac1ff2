use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;

use super::*;
use crate::zoo::detector::Patience;
use crate::zoo::events::{Event, FenceReason, What};
use crate::zoo::message::{Registered, Registration, Rejected};
use crate::zoo::state::{BrokerEpoch, ClusterState, Command, Delta, Refused, Restart};
use crate::zoo::store::{RedbLog, Saved};

/// A log in memory that counts commits, and fails when it is told to.
#[derive(Clone, Default)]
struct MemoryLog {
    commits: Arc<Mutex<Vec<usize>>>,
    broken: Arc<AtomicBool>,
    slow: Arc<Mutex<()>>,
}

impl StateLog for MemoryLog {
    fn load(&mut self) -> Result<Option<Saved>, StoreError> {
        Ok(None)
    }

    fn append(&mut self, entries: &[Delta], _: &[Event]) -> Result<(), StoreError> {
        drop(self.slow.lock());
        if self.broken.load(Ordering::Relaxed) {
            return Err(StoreError::Damaged { path: "memory".into(), what: "broken".to_owned() });
        }
        self.commits.lock().push(entries.len());
        Ok(())
    }

    fn is_long(&self) -> bool {
        false
    }

    fn compact(&mut self, _: &ClusterState) -> Result<(), StoreError> {
        Ok(())
    }
}

fn settings(liveness: Liveness) -> NodeSettings {
    NodeSettings {
        cluster_id: None,
        liveness,
        defaults: BTreeMap::new(),
        beat_interval: Duration::from_millis(25),
        session_timeout: Duration::from_millis(250),
        rebalance_after: None,
    }
}

fn embedded(log: impl StateLog + 'static) -> Node {
    Node::start(Box::new(log), settings(Liveness::Embedded)).unwrap()
}

fn registration(id: u32) -> Registration {
    Registration {
        id,
        incarnation: Uuid::from_u128(id.into()),
        address: format!("broker-{id}:9092"),
        rack: None,
        restart: Restart::Kept,
        cluster_id: None,
        seen_version: 0,
    }
}

fn create(name: &str) -> Request {
    Request::Command(Command::CreateTopic {
        name: name.to_owned(),
        id: Uuid::new_v4(),
        partitions: 2,
        replication_factor: 1,
        settings: BTreeMap::new(),
    })
}

/// A session that keeps what was pushed.
struct Talk {
    session: NodeSession,
    outputs: Outputs,
    pushed: Vec<Arc<Delta>>,
}

impl Talk {
    fn with(node: &Node) -> Talk {
        let (session, outputs) = node.handle().session().unwrap();
        Talk { session, outputs, pushed: Vec::new() }
    }

    /// The answer, and before it what was pushed.
    fn ask(&mut self, request: Request) -> Response {
        self.session.ask(7, request).unwrap();
        self.answer()
    }

    fn answer(&mut self) -> Response {
        loop {
            match self.outputs.blocking_recv().unwrap() {
                Output::Push(delta) => self.pushed.push(delta),
                Output::Answer(number, response) => {
                    assert_eq!(number, 7);
                    return response;
                }
            }
        }
    }

    fn register(&mut self, id: u32) -> Registered {
        match self.ask(Request::Register(registration(id))) {
            Response::Registered(registered) => *registered,
            other => panic!("{other:?}"),
        }
    }

    fn unfence(&mut self, id: u32, epoch: BrokerEpoch) {
        let unfence = Request::Command(Command::Unfence { id, epoch });
        assert!(matches!(self.ask(unfence), Response::Done { .. }));
    }

    fn events(&mut self) -> Vec<What> {
        let Response::Events(events) = self.ask(Request::Events { after: 0, most: 1000 }) else {
            panic!("no events");
        };
        events.into_iter().map(|event| event.what).collect()
    }
}

#[test]
fn a_state_and_the_deltas_behind_it_are_the_state_before_done_is_said() {
    let node = embedded(MemoryLog::default());
    let mut talk = Talk::with(&node);
    let Registered { mut state, epoch, .. } = talk.register(1);
    talk.unfence(1, epoch);
    let mut other = Talk::with(&node);
    for round in 0..20 {
        // Somebody else's changes come, too.
        other.ask(create(&format!("other {round}")));
        let Response::Done { version } = talk.ask(create(&round.to_string())) else { panic!() };
        for delta in talk.pushed.drain(..) {
            state.follow(&delta).unwrap();
        }
        assert!(state.version >= version && state.topics.contains_key(&round.to_string()));
        assert!(state.topics.contains_key(&format!("other {round}")));
    }
    assert!(other.pushed.is_empty(), "it has not registered");
    let again = talk.ask(create("3"));
    assert_eq!(again, Response::Refused(Refused::TopicExists("3".to_owned())));
    assert_eq!(talk.register(1).state, state, "the same process, with the epoch it had");
}

/// What a broker had asked for over an earlier connection was done after it had been told, over a later
/// one, that the same was refused.
#[test]
fn what_comes_over_an_earlier_session_of_a_broker_is_not_done() {
    let node = embedded(MemoryLog::default());
    let (mut early, mut late) = (Talk::with(&node), Talk::with(&node));
    early.register(1);
    let epoch = late.register(1).epoch;
    late.unfence(1, epoch);
    early.session.ask(7, create("early")).unwrap();
    late.ask(create("late"));
    let Response::Registered(registered) = late.ask(Request::Register(registration(1))) else {
        panic!("it is registered");
    };
    assert_eq!(registered.state.topics.keys().collect::<Vec<_>>(), ["late"]);
}

#[test]
fn what_waits_while_the_disk_works_shares_the_next_commit() {
    let log = MemoryLog::default();
    let node = embedded(log.clone());
    let mut talk = Talk::with(&node);
    let epoch = talk.register(1).epoch;
    talk.unfence(1, epoch);
    let before = log.commits.lock().len();
    let working = log.slow.lock();
    for topic in 0..100 {
        talk.session.ask(7, create(&topic.to_string())).unwrap();
    }
    drop(working);
    for _ in 0..100 {
        assert!(matches!(talk.answer(), Response::Done { .. }));
    }
    let commits = log.commits.lock()[before..].to_vec();
    assert_eq!(commits.iter().sum::<usize>(), 100);
    assert!(commits.len() < 50, "{commits:?}");
}

#[test]
fn nobody_sees_what_is_not_on_the_disk() {
    let log = MemoryLog::default();
    let node = embedded(log.clone());
    let mut talk = Talk::with(&node);
    let epoch = talk.register(1).epoch;
    talk.unfence(1, epoch);
    talk.pushed.clear();
    while talk.outputs.try_recv().is_ok() {}
    log.broken.store(true, Ordering::Relaxed);
    talk.session.ask(7, create("t")).unwrap();
    // It may have ended by now.
    let _ = talk.session.ask(7, Request::Describe);
    assert!(talk.outputs.blocking_recv().is_none(), "neither an answer nor a push");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(node.ended());
    assert!(node.handle().session().is_err() && talk.session.ask(7, create("u")).is_err());
    assert!(matches!(node.stop(), Err(NodeError::Store(StoreError::Damaged { .. }))));
}

#[test]
fn who_carries_the_node_inside_begins_fenced_and_says_when_it_is_ready() {
    let dir = tempfile::tempdir().unwrap();
    let node = embedded(RedbLog::open(dir.path()).unwrap());
    let mut talk = Talk::with(&node);
    let Registered { epoch, .. } = talk.register(1);
    talk.unfence(1, epoch);
    talk.ask(create("t"));
    node.stop().unwrap();

    let node = embedded(RedbLog::open(dir.path()).unwrap());
    assert_eq!((node.summary().brokers, node.summary().topics), (1, 1));
    let mut talk = Talk::with(&node);
    let incarnation = Uuid::from_u128(99);
    let again = Request::Register(Registration { incarnation, ..registration(1) });
    let Response::Registered(registered) = talk.ask(again) else { panic!() };
    assert!(registered.epoch > epoch && registered.state.brokers[&1].fenced);
    assert_eq!(registered.state.topics["t"].partitions[0].leader, None);
    talk.unfence(1, registered.epoch);
    let events = talk.events();
    let why = FenceReason::Restarted;
    let fenced = What::Fenced { broker: 1, epoch, why, heard_ago_ms: None };
    assert!(events.contains(&fenced), "{events:?}");
    let (topic, partition, before) = ("t".to_owned(), 0, None);
    let elected = What::Elected { topic, partition, leader: 1, leader_epoch: 3, before };
    assert!(events.contains(&elected), "{events:?}");
}

#[test]
fn another_clusters_broker_and_one_that_knows_more_are_sent_away() {
    let node = embedded(MemoryLog::default());
    let mut talk = Talk::with(&node);
    let found = Uuid::from_u128(5);
    let known = node.summary().cluster_id;
    let foreign = Registration { cluster_id: Some(found), ..registration(1) };
    let rejected = Response::Rejected(Rejected::OtherCluster { known, found });
    assert_eq!(talk.ask(Request::Register(foreign)), rejected);
    let ahead = Registration { seen_version: 9, cluster_id: Some(known), ..registration(1) };
    let rejected = Response::Rejected(Rejected::OldCopy { seen: 9, version: 0 });
    assert_eq!(talk.ask(Request::Register(ahead)), rejected);
    talk.register(1);
}

#[test]
fn who_is_not_to_say_so_is_told_so() {
    let patience = Patience {
        session: Duration::from_secs(60),
        suspicion: Duration::from_secs(60),
        stall: Duration::from_secs(60),
    };
    let watched = Liveness::Watched(Arc::new(Watch::new(patience)));
    let node = Node::start(Box::new(MemoryLog::default()), settings(watched)).unwrap();
    let mut talk = Talk::with(&node);
    let epoch = talk.register(1).epoch;
    for command in [
        Command::Unfence { id: 1, epoch },
        Command::Fence { id: 1, epoch },
        Command::SetDefaults { defaults: BTreeMap::new() },
    ] {
        assert!(matches!(talk.ask(Request::Command(command)), Response::Failed(_)));
    }
    let Response::Description(description) = talk.ask(Request::Describe) else { panic!() };
    assert!(description.brokers[0].heard_ago_ms.is_some());
}

#[test]
fn who_does_not_take_what_it_is_told_is_let_go() {
    let node = embedded(MemoryLog::default());
    let mut slow = Talk::with(&node);
    let epoch = slow.register(1).epoch;
    slow.unfence(1, epoch);
    let mut other = Talk::with(&node);
    for topic in 0..MOST_WAITING + 10 {
        other.ask(create(&topic.to_string()));
    }
    let mut taken = 0;
    while slow.outputs.blocking_recv().is_some() {
        taken += 1;
    }
    assert_eq!(taken, MOST_WAITING);
}
