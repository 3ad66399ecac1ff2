//! The node's thread.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tracing::{info, warn};
use uuid::Uuid;

use super::batch::{Answer, Batch};
use super::rebalance::Rebalance;
use super::sessions::Sessions;
use super::{Input, Liveness, NodeError, NodeSettings, Summary};
use crate::clock;
use crate::zoo::detector::Verdict;
use crate::zoo::events::{FenceReason, Suspicion, Timeline, What};
use crate::zoo::heartbeat::Key;
use crate::zoo::message::{Registered, Registration, Rejected, Request, Response};
use crate::zoo::state::{ClusterState, Command, Refused};
use crate::zoo::store::{Saved, StateLog, StoreError};
use crate::zoo::watch::Finding;

/// All that the thread has.
pub(super) struct Machine {
    pub settings: NodeSettings,
    log: Box<dyn StateLog>,
    pub batch: Batch,
    timeline: Timeline,
    sessions: Sessions,
    rebalance: Option<Rebalance>,
    pub started: Instant,
}

/// Inputs that share a commit.
const MOST_AT_ONCE: usize = 1024;
/// Events in one answer.
const MOST_EVENTS: u32 = 10_000;

impl Machine {
    /// Begins with what the log holds, or with a new cluster.
    pub fn load(mut log: Box<dyn StateLog>, settings: NodeSettings) -> Result<Machine, StoreError> {
        let saved = match log.load()? {
            Some(saved) => saved,
            None => {
                let state = ClusterState::new(settings.cluster_id.unwrap_or_else(Uuid::new_v4));
                log.compact(&state)?;
                info!(cluster = %state.cluster_id, "a new cluster");
                Saved { state, events: Vec::new() }
            }
        };
        let mut machine = Machine {
            rebalance: settings.rebalance_after.map(Rebalance::new),
            settings,
            log,
            batch: Batch::new(saved.state),
            timeline: Timeline::new(saved.events),
            sessions: Sessions::default(),
            started: Instant::now(),
        };
        machine.begin()?;
        Ok(machine)
    }

    /// What has to be done before anybody is served.
    fn begin(&mut self) -> Result<(), StoreError> {
        let defaults = self.settings.defaults.clone();
        // Nothing about it can be refused.
        let _ = self.apply(&Command::SetDefaults { defaults });
        match &self.settings.liveness {
            Liveness::Embedded => {
                let state = &self.batch.state;
                let alive = state.brokers.iter().filter(|(_, broker)| !broker.fenced);
                let alive: Vec<_> = alive.map(|(id, broker)| (*id, broker.epoch)).collect();
                for (id, epoch) in alive {
                    let why = (FenceReason::Restarted, None);
                    let _ = self.batch.apply(&Command::Fence { id, epoch }, why);
                }
            }
            Liveness::Watched(watch) => watch.begin(&self.batch.state),
        }
        self.commit()
    }

    pub fn summary(&self) -> Summary {
        let state = &self.batch.state;
        let (brokers, topics) = (state.brokers.len(), state.topics.len());
        Summary { cluster_id: state.cluster_id, brokers, topics }
    }

    /// Takes inputs, commits what they have changed, and only then answers.
    pub fn run(mut self, mut inputs: mpsc::UnboundedReceiver<Input>) -> Result<(), NodeError> {
        while let Some(first) = inputs.blocking_recv() {
            let mut goes_on = self.take(first);
            for _ in 1..MOST_AT_ONCE {
                let Ok(next) = inputs.try_recv() else { break };
                goes_on &= self.take(next);
            }
            self.commit()?;
            if !goes_on {
                break;
            }
        }
        Ok(())
    }

    /// False if it is to stop.
    fn take(&mut self, input: Input) -> bool {
        match input {
            Input::Opened { session, outputs } => self.sessions.open(session, outputs),
            Input::Closed { session } => {
                if let Some(broker) = self.sessions.close(session) {
                    self.suspect(broker, Suspicion::Disconnected);
                }
            }
            Input::Asked { session, .. } if !self.sessions.is_open(session) => {}
            Input::Asked { session, number, request } => {
                let answer = self.answer(session, request);
                self.batch.answers.push((session, number, answer));
            }
            Input::Found(finding) => self.obey(finding),
            Input::Tick => self.give_back(),
            Input::Stop => return false,
        }
        true
    }

    fn suspect(&mut self, broker: u32, why: Suspicion) {
        if let Liveness::Watched(watch) = &self.settings.liveness
            && watch.suspect(broker)
        {
            info!(broker, ?why, "it seems to be gone");
            self.batch.happened.push(What::Suspected { broker, why });
        }
    }

    /// A verdict on a life that is over is refused by the state, and that is all.
    fn obey(&mut self, Finding { verdict, heard_ago }: Finding) {
        let (id, done, result) = match verdict {
            Verdict::Probe { .. } => return,
            Verdict::Fence { id, epoch, why } => {
                let ago = heard_ago.map(|ago| ago.as_millis() as u64);
                let reason = (FenceReason::Detector(why), ago);
                warn!(broker = id, ?why, heard_ago_ms = ago, "it is fenced");
                (id, "fenced", self.batch.apply(&Command::Fence { id, epoch }, reason))
            }
            Verdict::Unfence { id, epoch } => {
                info!(broker = id, "it is ready");
                (id, "ready", self.apply(&Command::Unfence { id, epoch }))
            }
        };
        if let Err(refused) = result {
            info!(broker = id, %refused, "it was not {done}");
        }
    }

    /// Lets preferred leaders lead that have waited for long enough.
    fn give_back(&mut self) {
        let Some(rebalance) = &mut self.rebalance else { return };
        for command in rebalance.due(&self.batch.state, self.started.elapsed()) {
            if let Err(refused) = self.apply(&command) {
                info!(%refused, "a preferred leader does not lead again");
            }
        }
    }

    fn apply(&mut self, command: &Command) -> Result<(), Refused> {
        self.batch.apply(command, (FenceReason::Asked, None))
    }

    fn answer(&mut self, session: u64, request: Request) -> Answer {
        match request {
            Request::Register(registration) => self.register(session, registration),
            Request::Command(command) => Answer::Ready(self.command(command)),
            Request::Report(reports) => {
                self.batch.happened.extend(reports.into_iter().map(What::Reported));
                Answer::Ready(Response::Noted)
            }
            Request::Events { after, most } => Answer::Events { after, most },
            Request::Describe => Answer::Description,
        }
    }

    fn command(&mut self, command: Command) -> Response {
        if let Some(what) = self.not_theirs(&command) {
            return Response::Failed(what.to_owned());
        }
        match self.apply(&command) {
            Ok(()) => Response::Done { version: self.batch.state.version },
            Err(refused) => Response::Refused(refused),
        }
    }

    /// Why a command is not for those who are connected.
    fn not_theirs(&self, command: &Command) -> Option<&'static str> {
        let is_watched = matches!(self.settings.liveness, Liveness::Watched(_));
        match command {
            Command::Register { .. } => Some("registering is a request of its own"),
            Command::SetDefaults { .. } => Some("the defaults are the zookeeper's own settings"),
            Command::Fence { .. } | Command::Unfence { .. } if is_watched => {
                Some("heartbeats say who is fenced")
            }
            _ => None,
        }
    }

    fn register(&mut self, session: u64, registration: Registration) -> Answer {
        let Registration { id, incarnation, address, rack, restart, cluster_id, seen_version } =
            registration;
        if let Err(rejected) = self.belongs(cluster_id, seen_version) {
            warn!(broker = id, %rejected, "it is sent away");
            return Answer::Ready(Response::Rejected(rejected));
        }
        let key = match Key::random() {
            Ok(key) => key,
            Err(error) => return Answer::Ready(Response::Failed(format!("no key: {error}"))),
        };
        match self.apply(&Command::Register { id, incarnation, address, rack, restart }) {
            Ok(()) => {}
            Err(refused) => {
                if let Refused::DuplicateBroker(id) = refused {
                    self.suspect(id, Suspicion::AnotherProcess);
                }
                return Answer::Ready(Response::Refused(refused));
            }
        }
        let Some(broker) = self.batch.state.brokers.get(&id) else {
            unreachable!("broker {id} has registered");
        };
        let (epoch, fenced) = (broker.epoch, broker.fenced);
        if let Liveness::Watched(watch) = &self.settings.liveness {
            watch.registered(id, epoch, fenced, key.clone());
        }
        // What the broker has asked for earlier it may ask for again now, and be refused; so it must not
        // be done later.
        self.sessions.supersede(session, id);
        info!(broker = id, epoch = epoch.0, session, "it is registered");
        Answer::Registered { id, epoch, key }
    }

    fn belongs(&self, cluster_id: Option<Uuid>, seen: u64) -> Result<(), Rejected> {
        let ClusterState { cluster_id: known, version, .. } = self.batch.state;
        match cluster_id {
            Some(found) if found != known => Err(Rejected::OtherCluster { known, found }),
            _ if seen > version => Err(Rejected::OldCopy { seen, version }),
            _ => Ok(()),
        }
    }

    /// Puts all that has changed on the disk, and then tells everybody.
    fn commit(&mut self) -> Result<(), StoreError> {
        let happened = std::mem::take(&mut self.batch.happened);
        let events = self.timeline.add(clock::now_ms(), happened);
        if !self.batch.entries.is_empty() || !events.is_empty() {
            self.log.append(&self.batch.entries, &events)?;
        }
        let mut full = Vec::new();
        if let Some(delta) = self.batch.committed() {
            full.extend(self.sessions.push(delta));
        }
        for (session, number, answer) in std::mem::take(&mut self.batch.answers) {
            let response = self.response(session, answer);
            full.extend(self.sessions.answer(session, number, response));
        }
        for broker in full {
            warn!(broker, "it does not take what it is told; its session is over");
            self.suspect(broker, Suspicion::Disconnected);
        }
        if self.log.is_long() {
            self.log.compact(&self.batch.state)?;
        }
        Ok(())
    }

    fn response(&mut self, session: u64, answer: Answer) -> Response {
        match answer {
            Answer::Ready(response) => response,
            Answer::Registered { id, epoch, key } => {
                self.sessions.follow(session, id);
                Response::Registered(Box::new(Registered {
                    epoch,
                    key,
                    beat_interval_ms: millis(self.settings.beat_interval),
                    session_timeout_ms: millis(self.settings.session_timeout),
                    state: self.batch.state.clone(),
                }))
            }
            Answer::Events { after, most } => {
                Response::Events(self.timeline.after(after, most.min(MOST_EVENTS) as usize))
            }
            Answer::Description => Response::Description(self.description()),
        }
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}
