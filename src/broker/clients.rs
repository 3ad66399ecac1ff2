//! The clients that are connected, and what they do here. They are registered by connection: what ends it,
//! ends that. Who does not say who it is is a client without a name.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use mk_net::event_loop::ConnectionId;
use mk_net::message::{ClientTopic, DescribedClient, ListClientsResponse, RegisterClient};
use parking_lot::Mutex;

use super::quotas::{Quota, Quotas};

/// The clients of a broker, by event loop and connection.
#[derive(Debug, Default)]
pub struct Clients(Mutex<HashMap<(usize, ConnectionId), Arc<Client>>>);

/// A connection of a client.
#[derive(Debug)]
pub struct Client {
    who: RegisterClient,
    address: String,
    since: Instant,
    quota: Arc<Quota>,
    activity: Mutex<Activity>,
}

/// What a client does.
#[derive(Debug)]
struct Activity {
    produced: BTreeMap<String, u64>,
    consumed: BTreeMap<String, u64>,
    group: String,
    asked: Instant,
    requests: Rate,
    bytes_in: Rate,
    bytes_out: Rate,
}

/// Characters of what a client says of itself that are kept.
const MOST_TEXT: usize = 249;
/// Topics of a connection that are told apart; of others nothing is said.
const MOST_TOPICS: usize = 100;
/// Seconds that a rate is over.
const WINDOW: usize = 10;

/// How much there was in each of the last seconds.
#[derive(Debug, Default)]
struct Rate {
    seconds: [u64; WINDOW],
    /// The second that was counted last.
    last: u64,
}

impl Rate {
    fn add(&mut self, second: u64, amount: u64) {
        self.pass(second);
        self.seconds[second as usize % WINDOW] += amount;
    }

    /// Forgets what is out of the window by now.
    fn pass(&mut self, second: u64) {
        let passed = second.saturating_sub(self.last).min(WINDOW as u64);
        for gone in 0..passed {
            self.seconds[(second - gone) as usize % WINDOW] = 0;
        }
        self.last = self.last.max(second);
    }

    /// A second's share of what is in the window; of a connection that is younger, of its age.
    fn per_second(&mut self, second: u64) -> u64 {
        self.pass(second);
        self.seconds.iter().sum::<u64>() / (second + 1).min(WINDOW as u64)
    }
}

impl Clients {
    /// A client says who it is; or asks for something without having said so, and has no name.
    pub fn register(
        &self,
        place: (usize, ConnectionId),
        who: &RegisterClient,
        peer: Option<SocketAddr>,
        quotas: &Quotas,
    ) -> Arc<Client> {
        let now = Instant::now();
        let activity = Activity {
            produced: BTreeMap::new(),
            consumed: BTreeMap::new(),
            group: String::new(),
            asked: now,
            requests: Rate::default(),
            bytes_in: Rate::default(),
            bytes_out: Rate::default(),
        };
        let short = |text: &str| text.chars().take(MOST_TEXT).collect();
        let who = RegisterClient {
            client_id: short(&who.client_id),
            software_name: short(&who.software_name),
            software_version: short(&who.software_version),
        };
        let address = peer.map_or_else(String::new, |peer| peer.to_string());
        let quota = quotas.of(&who.client_id);
        let client = Client { who, address, since: now, quota, activity: Mutex::new(activity) };
        let client = Arc::new(client);
        self.0.lock().insert(place, client.clone());
        client
    }

    /// Its connection has ended.
    pub fn deregister(&self, place: (usize, ConnectionId)) {
        self.0.lock().remove(&place);
    }

    /// All that are connected.
    pub fn list(&self) -> ListClientsResponse {
        let clients: Vec<Arc<Client>> = self.0.lock().values().cloned().collect();
        let mut clients: Vec<_> = clients.iter().map(|client| client.describe()).collect();
        // Brokers that follow have no name, and neither produce nor consume.
        clients.retain(|client| {
            let is_known = !client.client_id.is_empty();
            is_known || !client.produces.is_empty() || !client.consumes.is_empty()
        });
        clients.sort_by(|a, b| (&a.client_id, &a.address).cmp(&(&b.client_id, &b.address)));
        ListClientsResponse { clients }
    }
}

impl Client {
    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.since).as_secs()
    }

    /// It has asked for something.
    pub fn asked(&self, now: Instant) {
        let second = self.second(now);
        let mut activity = self.activity.lock();
        activity.asked = now;
        activity.requests.add(second, 1);
    }

    /// Until when it is to be held, if it asks too often.
    pub fn charge_request(&self, now: Instant) -> Option<Instant> {
        self.quota.asked(now)
    }

    /// So many bytes of it were appended to a topic. Until when it is to be held, if these are too many.
    pub fn produced(&self, topic: &str, bytes: u64, now: Instant) -> Option<Instant> {
        let second = self.second(now);
        let mut activity = self.activity.lock();
        count(&mut activity.produced, topic, bytes);
        activity.bytes_in.add(second, bytes);
        self.quota.produced(bytes, now)
    }

    /// So many bytes of a topic were sent to it, perhaps as to a member of a group. Until when it is to be
    /// held, if these are too many.
    pub fn consumed(&self, topic: &str, bytes: u64, group: &str, now: Instant) -> Option<Instant> {
        let second = self.second(now);
        let mut activity = self.activity.lock();
        count(&mut activity.consumed, topic, bytes);
        activity.bytes_out.add(second, bytes);
        if activity.group != group {
            activity.group = group.chars().take(MOST_TEXT).collect();
        }
        self.quota.consumed(bytes, now)
    }

    fn describe(&self) -> DescribedClient {
        let now = Instant::now();
        let second = self.second(now);
        let mut activity = self.activity.lock();
        let topics = |counted: &BTreeMap<String, u64>| {
            let each = counted.iter();
            each.map(|(topic, bytes)| ClientTopic { topic: topic.clone(), bytes: *bytes }).collect()
        };
        DescribedClient {
            client_id: self.who.client_id.clone(),
            software_name: self.who.software_name.clone(),
            software_version: self.who.software_version.clone(),
            address: self.address.clone(),
            connected_ms: now.saturating_duration_since(self.since).as_millis() as u64,
            idle_ms: now.saturating_duration_since(activity.asked).as_millis() as u64,
            group: activity.group.clone(),
            produces: topics(&activity.produced),
            consumes: topics(&activity.consumed),
            requests_per_second: activity.requests.per_second(second),
            in_per_second: activity.bytes_in.per_second(second),
            out_per_second: activity.bytes_out.per_second(second),
        }
    }
}

fn count(topics: &mut BTreeMap<String, u64>, topic: &str, bytes: u64) {
    if let Some(known) = topics.get_mut(topic) {
        *known += bytes;
    } else if topics.len() < MOST_TOPICS {
        topics.insert(topic.to_owned(), bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_seconds() {
        let mut rate = Rate::default();
        assert_eq!(rate.per_second(0), 0);
        rate.add(0, 50);
        rate.add(0, 50);
        assert_eq!(rate.per_second(0), 100, "of the first second");
        assert_eq!(rate.per_second(3), 25, "of four");
        for second in 4..20 {
            rate.add(second, 10);
        }
        assert_eq!(rate.per_second(19), 10);
        assert_eq!(rate.per_second(24), 5);
        assert_eq!(rate.per_second(40), 0);
        rate.add(1000, 70);
        assert_eq!(rate.per_second(1000), 7);
    }

    #[test]
    fn what_is_told_of_topics_has_an_end() {
        let mut topics = BTreeMap::new();
        for n in 0..1000 {
            count(&mut topics, &format!("t{n}"), 1);
        }
        count(&mut topics, "t0", 1);
        assert_eq!((topics.len(), topics["t0"]), (MOST_TOPICS, 2));
    }
}
