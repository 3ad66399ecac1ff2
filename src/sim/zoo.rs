//! The mini-zookeeper: [`ClusterState`] and [`Detector`], with a commit that takes its time between a
//! change and its being told, as in [`crate::zoo::node`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::context::{Context, Wake};
use super::message::{Ask, Class, Message, Place, Told};
use crate::zoo::detector::{Detector, Patience, Verdict};
use crate::zoo::state::{Change, ClusterState, Command, Delta, Refused};

/// The mini-zookeeper's machine: what is on its disk, and its process, if it runs.
#[derive(Debug)]
pub struct Zoo {
    disk: ClusterState,
    process: Option<Process>,
}

#[derive(Debug)]
struct Process {
    state: ClusterState,
    detector: Detector,
    /// With the broker that each has registered.
    sessions: BTreeMap<u64, (Place, Option<u32>)>,
    inputs: Vec<Input>,
    committing: bool,
    changes: Vec<Change>,
    answers: Vec<(u64, Place, Told)>,
    /// Of sessions that follow the state from this commit on.
    registered: Vec<(u64, u32)>,
}

#[derive(Debug)]
enum Input {
    Asked(Place, u64, u64, Ask),
    Over(u64),
    Found(Verdict),
}

pub const PATIENCE: Patience = Patience {
    session: Duration::from_millis(300),
    suspicion: Duration::from_millis(80),
    stall: Duration::from_millis(1500),
};
/// So long after its start nobody is missed who was alive before.
const GRACE: Duration = Duration::from_millis(600);
const TICK: Duration = Duration::from_millis(10);

impl Zoo {
    /// A mini-zookeeper with this state on its disk.
    pub fn new(state: ClusterState) -> Zoo {
        Zoo { disk: state, process: None }
    }

    /// The state as everybody may know it.
    pub fn committed(&self) -> &ClusterState {
        &self.disk
    }

    /// The state with what is about to be committed.
    pub fn newest(&self) -> &ClusterState {
        self.process.as_ref().map_or(&self.disk, |process| &process.state)
    }

    pub fn is_up(&self) -> bool {
        self.process.is_some()
    }

    pub fn start(&mut self, context: &mut Context<'_>) {
        let state = self.disk.clone();
        let mut detector = Detector::new(PATIENCE, context.now);
        for (id, broker) in state.brokers.iter().filter(|(_, broker)| !broker.fenced) {
            detector.expect(*id, broker.epoch, context.now, context.now + GRACE);
        }
        self.process = Some(Process {
            state,
            detector,
            sessions: BTreeMap::new(),
            inputs: Vec::new(),
            committing: false,
            changes: Vec::new(),
            answers: Vec::new(),
            registered: Vec::new(),
        });
        context.wake(TICK, Wake::Tick);
    }

    /// Its process dies; answers whom it had sessions with.
    pub fn kill(&mut self) -> Vec<(u64, Place)> {
        let Some(Process { sessions, inputs, .. }) = self.process.take() else { return Vec::new() };
        let known = sessions.into_iter().map(|(session, (place, _))| (session, place));
        let fresh = inputs.into_iter().filter_map(|input| match input {
            Input::Asked(place, session, ..) => Some((session, place)),
            _ => None,
        });
        known.chain(fresh).filter(|(_, place)| *place != Place::Zoo).collect()
    }

    /// Does a command that an operator gives.
    pub fn command(&mut self, context: &mut Context<'_>, command: Command) {
        let ask = Input::Asked(Place::Zoo, 0, 0, Ask::Change(command));
        self.input(context, ask);
    }

    pub fn receive(&mut self, context: &mut Context<'_>, from: Place, message: Message) {
        let Some(process) = &mut self.process else { return };
        match message {
            Message::ToZoo { session, number, ask } => {
                self.input(context, Input::Asked(from, session, number, ask));
            }
            Message::SessionOver { session } => self.input(context, Input::Over(session)),
            Message::Beat(beat) => {
                if let Some(verdict) = process.detector.heard(beat, context.now) {
                    self.input(context, Input::Found(verdict));
                }
            }
            Message::Unreachable(id) => {
                if let Some(verdict) = process.detector.gone(id) {
                    self.input(context, Input::Found(verdict));
                }
            }
            _ => {}
        }
    }

    pub fn wake(&mut self, context: &mut Context<'_>, wake: &Wake) {
        let Some(process) = &mut self.process else { return };
        match wake {
            Wake::Tick => {
                let verdicts = process.detector.tick(context.now);
                for verdict in verdicts {
                    self.input(context, Input::Found(verdict));
                }
                context.wake(TICK, Wake::Tick);
            }
            Wake::Committed => self.committed_now(context),
            _ => {}
        }
    }

    fn input(&mut self, context: &mut Context<'_>, input: Input) {
        let Some(process) = &mut self.process else { return };
        process.inputs.push(input);
        if !process.committing {
            process.batch(context);
        }
    }

    fn committed_now(&mut self, context: &mut Context<'_>) {
        let Some(process) = &mut self.process else { return };
        let before = self.disk.version;
        self.disk.clone_from(&process.state);
        context.oracle.decided(context.now, &self.disk);
        process.tell(context, before);
        process.committing = false;
        if !process.inputs.is_empty() {
            process.batch(context);
        }
    }
}

impl Process {
    /// Does all that has come; it is told when it is on the disk.
    fn batch(&mut self, context: &mut Context<'_>) {
        self.committing = true;
        for input in std::mem::take(&mut self.inputs) {
            match input {
                Input::Asked(from, session, number, ask) => {
                    self.answer(context, from, session, number, ask);
                }
                Input::Over(session) => {
                    if let Some((_, Some(broker))) = self.sessions.remove(&session) {
                        self.suspect(context, broker);
                    }
                }
                Input::Found(verdict) => self.obey(context, verdict),
            }
        }
        let delay = match self.changes.is_empty() {
            true => Duration::ZERO,
            false if context.chance.one_in(30) => context.between(5_000, 150_000),
            false => context.between(200, 3_000),
        };
        context.wake(delay, Wake::Committed);
    }

    fn suspect(&mut self, context: &mut Context<'_>, broker: u32) {
        if let Some(Verdict::Probe { id }) = self.detector.suspect(broker, context.now) {
            context.send(Place::Broker(id), Class::Datagram, Message::Probe);
        }
    }

    fn obey(&mut self, context: &mut Context<'_>, verdict: Verdict) {
        let command = match verdict {
            Verdict::Probe { .. } => return,
            Verdict::Fence { id, epoch, .. } => Command::Fence { id, epoch },
            Verdict::Unfence { id, epoch } => Command::Unfence { id, epoch },
        };
        // What is said of a life that is over is refused.
        let _ = self.apply(context, &command);
    }

    fn apply(&mut self, context: &mut Context<'_>, command: &Command) -> Result<(), Refused> {
        let changes = self.state.apply(command);
        context.trace.say(context.now, || match &changes {
            Ok(changes) if changes.is_empty() => format!("zoo: {command:?} changes nothing"),
            Ok(_) => format!("zoo: {command:?}"),
            Err(refused) => format!("zoo: refuses {command:?}: {refused}"),
        });
        self.changes.extend(changes?);
        Ok(())
    }

    fn answer(
        &mut self,
        context: &mut Context<'_>,
        from: Place,
        session: u64,
        number: u64,
        ask: Ask,
    ) {
        let told = match ask {
            Ask::Change(_) if from != Place::Zoo && !self.sessions.contains_key(&session) => return,
            Ask::Change(command) => {
                let result = self.apply(context, &command);
                Told::Answer(number, result)
            }
            Ask::Register(seen, command) => {
                self.sessions.insert(session, (from, None));
                match self.register(context, seen, &command) {
                    Some(id) => {
                        self.registered.push((session, id));
                        return;
                    }
                    None => Told::SentAway,
                }
            }
        };
        self.answers.push((session, from, told));
    }

    /// The broker's id, if it is registered.
    fn register(&mut self, context: &mut Context<'_>, seen: u64, command: &Command) -> Option<u32> {
        if seen > self.state.version {
            return None;
        }
        if let Err(refused) = self.apply(context, command) {
            if let Refused::DuplicateBroker(id) = refused {
                self.suspect(context, id);
            }
            return None;
        }
        let Command::Register { id, .. } = command else { return None };
        let broker = self.state.brokers.get(id)?;
        self.detector.watch(*id, broker.epoch, broker.fenced, context.now);
        Some(*id)
    }

    /// Tells everybody what has changed, and then those who asked.
    fn tell(&mut self, context: &mut Context<'_>, before: u64) {
        let changes = std::mem::take(&mut self.changes);
        if !changes.is_empty() {
            let delta = Arc::new(Delta::of(before, &self.state, &changes));
            for (session, (place, broker)) in &self.sessions {
                if broker.is_some() {
                    let (session, told) = (*session, Told::Push(delta.clone()));
                    let message = Message::FromZoo { session, told };
                    context.send(*place, Class::Session, message);
                }
            }
        }
        for (session, id) in std::mem::take(&mut self.registered) {
            let Some(broker) = self.state.brokers.get(&id) else { continue };
            let told = Told::Registered(broker.epoch, Box::new(self.state.clone()));
            self.sessions.retain(|known, (_, of)| *known == session || *of != Some(id));
            if let Some((place, of)) = self.sessions.get_mut(&session) {
                *of = Some(id);
                context.send(*place, Class::Session, Message::FromZoo { session, told });
            }
        }
        for (session, place, told) in std::mem::take(&mut self.answers) {
            if place != Place::Zoo {
                context.send(place, Class::Session, Message::FromZoo { session, told });
            }
        }
    }
}
