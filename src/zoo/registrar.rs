//! The thread of a session: connects, registers, follows, and begins anew when that ends.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tracing::{info, warn};
use uuid::Uuid;

use super::link::{Link, LinkError, Route};
use super::message::{Registered, Registration, Rejected, Request, Response};
use super::node::Output;
use super::session::{Ask, AskError, Credentials, Follower, Me, Status, Trouble};
use super::state::{ClusterState, Delta};
use super::wire::WireError;

/// All that the thread has.
pub(super) struct Registrar {
    route: Route,
    me: Me,
    follower: Box<dyn Follower>,
    asks: mpsc::UnboundedReceiver<Ask>,
    status: Arc<Mutex<Status>>,
    /// The newest state that it has seen.
    state: Option<ClusterState>,
    next: u32,
}

/// Questions without an answer, by number.
type Waiting = HashMap<u32, Box<dyn FnOnce(Result<Response, AskError>) + Send>>;

/// How a connection ends: by trouble, or because nobody has the session any more.
enum End {
    Trouble(Trouble),
    Dropped,
}

const FIRST_BACKOFF: Duration = Duration::from_millis(20);
const LONGEST_BACKOFF: Duration = Duration::from_millis(500);
/// A registration is answered in so long, or another connection is tried.
const REGISTER: Duration = Duration::from_secs(5);
const MOST_WAITING: usize = 1024;
/// The number of the registration.
const REGISTRATION: u32 = 0;

impl Registrar {
    pub fn new(
        route: Route,
        me: Me,
        follower: Box<dyn Follower>,
        asks: mpsc::UnboundedReceiver<Ask>,
        status: Arc<Mutex<Status>>,
    ) -> Registrar {
        Registrar { route, me, follower, asks, status, state: None, next: 1 }
    }

    /// Until nobody has the session any more.
    pub async fn run(mut self) {
        let mut backoff = FIRST_BACKOFF;
        loop {
            let trouble = match self.register().await {
                Ok((mut link, registered)) => {
                    backoff = FIRST_BACKOFF;
                    self.begin(registered);
                    let Err(end) = self.follow(&mut link).await;
                    drop(link);
                    if matches!(end, End::Trouble(_)) {
                        self.follower.lost();
                    }
                    end
                }
                Err(end) => end,
            };
            let End::Trouble(trouble) = trouble else { return };
            self.note(trouble);
            if self.unless_dropped(tokio::time::sleep(backoff)).await.is_err() {
                return;
            }
            backoff = (backoff * 2).min(LONGEST_BACKOFF);
        }
    }

    /// Says it once, and not at each try.
    fn note(&self, trouble: Trouble) {
        let mut status = self.status.lock();
        if status.trouble.as_ref() != Some(&trouble) {
            warn!(broker = self.me.id, "{trouble}");
            status.trouble = Some(trouble);
        }
    }

    /// Waits for something; who asks meanwhile learns that nobody is there.
    async fn unless_dropped<T>(&mut self, waited: impl Future<Output = T>) -> Result<T, End> {
        tokio::pin!(waited);
        loop {
            tokio::select! {
                done = &mut waited => return Ok(done),
                ask = self.asks.recv() => match ask {
                    Some(ask) => (ask.answer)(Err(AskError::Disconnected)),
                    None => return Err(End::Dropped),
                }
            }
        }
    }

    async fn register(&mut self) -> Result<(Link, Registered), End> {
        let (route, registration) = (self.route.clone(), self.registration());
        let registering = async {
            let mut link = route.connect().await?;
            link.send(REGISTRATION, Request::Register(registration))?;
            let output = tokio::time::timeout(REGISTER, link.next()).await;
            let output = output.map_err(|_| LinkError::TimedOut(REGISTER))??;
            Ok((link, output))
        };
        let registered = self.unless_dropped(registering).await?;
        let (link, output) = registered.map_err(|error| self.broken(error))?;
        match self.check(output) {
            Ok(registered) => Ok((link, registered)),
            Err(trouble) => Err(End::Trouble(trouble)),
        }
    }

    fn registration(&self) -> Registration {
        let Me { id, incarnation, address, rack, restart, .. } = self.me.clone();
        let (cluster_id, seen_version) = (self.cluster_id(), self.seen_version());
        Registration { id, incarnation, address, rack, restart, cluster_id, seen_version }
    }

    fn cluster_id(&self) -> Option<Uuid> {
        self.state.as_ref().map(|state| state.cluster_id).or(self.me.cluster_id)
    }

    fn seen_version(&self) -> u64 {
        self.state.as_ref().map_or(0, |state| state.version).max(self.me.seen_version)
    }

    /// A zookeeper that does not look itself is looked at.
    fn check(&self, output: Output) -> Result<Registered, Trouble> {
        let registered = match output {
            Output::Answer(REGISTRATION, Response::Registered(registered)) => *registered,
            Output::Answer(_, Response::Refused(refused)) => return Err(refused.into()),
            Output::Answer(_, Response::Rejected(rejected)) => return Err(rejected.into()),
            Output::Answer(_, Response::Failed(what)) => return Err(Trouble::Nonsense(what)),
            other => return Err(Trouble::Nonsense(format!("{other:?} to a registration"))),
        };
        let ClusterState { cluster_id, version, .. } = registered.state;
        if let Some(found) = self.cluster_id().filter(|found| *found != cluster_id) {
            return Err(Rejected::OtherCluster { known: cluster_id, found }.into());
        }
        let seen = self.seen_version();
        if version < seen {
            return Err(Rejected::OldCopy { seen, version }.into());
        }
        Ok(registered)
    }

    fn begin(&mut self, registered: Registered) {
        let Registered { epoch, key, beat_interval_ms, state, .. } = registered;
        let (id, cluster_id) = (self.me.id, state.cluster_id);
        let interval = Duration::from_millis(beat_interval_ms.max(1));
        let credentials = Credentials { id, epoch, cluster_id, key, interval };
        *self.status.lock() = Status { credentials: Some(credentials), trouble: None };
        info!(broker = id, epoch = epoch.0, version = state.version, "registered");
        let state = self.state.insert(state);
        self.follower.registered(epoch, state);
    }

    /// Takes what comes, and asks what is to be asked.
    async fn follow(&mut self, link: &mut Link) -> Result<std::convert::Infallible, End> {
        let mut waiting = Waiting::new();
        let end = loop {
            tokio::select! {
                output = link.next() => match output {
                    Ok(Output::Push(delta)) => {
                        if let Err(trouble) = self.change(&delta) {
                            break End::Trouble(trouble);
                        }
                    }
                    Ok(Output::Answer(number, response)) => {
                        if let Some(answer) = waiting.remove(&number) {
                            answer(Ok(response));
                        }
                    }
                    Err(error) => break self.broken(error),
                },
                ask = self.asks.recv() => match ask {
                    Some(ask) => self.ask(link, &mut waiting, ask),
                    None => break End::Dropped,
                }
            }
        };
        for (_, answer) in waiting {
            answer(Err(AskError::Lost));
        }
        Err(end)
    }

    fn change(&mut self, delta: &Delta) -> Result<(), Trouble> {
        let Some(state) = &mut self.state else { return Ok(()) };
        state.follow(delta).map_err(|gap| Trouble::Nonsense(gap.to_string()))?;
        self.follower.changed(state, delta);
        Ok(())
    }

    fn ask(&mut self, link: &Link, waiting: &mut Waiting, Ask { request, answer }: Ask) {
        if waiting.len() >= MOST_WAITING {
            return answer(Err(AskError::Overloaded(waiting.len())));
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1).max(REGISTRATION + 1);
        match link.send(number, request) {
            Ok(()) => _ = waiting.insert(number, answer),
            Err(LinkError::Wire(error @ (WireError::TooLarge { .. } | WireError::Json(_)))) => {
                answer(Err(AskError::Unsendable(error.to_string())));
            }
            Err(_) => answer(Err(AskError::Disconnected)),
        }
    }

    fn broken(&self, error: LinkError) -> End {
        let (address, what) = (self.route.name().to_owned(), error.to_string());
        End::Trouble(Trouble::Unreachable { address, what })
    }
}
