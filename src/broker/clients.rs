//! The clients that are connected, and what they do here. A client is known while it has a connection. Who
//! does not say who it is is a client without a name.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use mk_net::event_loop::ConnectionId;
use mk_net::message::{
    ClientTopic, ConsumedTopic, DeliveredTo, DescribedClient, ListClientsResponse, RegisterClient,
};
use parking_lot::Mutex;
use uuid::Uuid;

use super::quotas::{Quota, Quotas};
use super::rate::Rate;

/// The clients of a broker, by where they are: an event loop, and a connection of it.
#[derive(Debug)]
pub struct Clients<P = (usize, ConnectionId)>(Mutex<Registry<P>>);

#[derive(Debug)]
struct Registry<P> {
    by_place: HashMap<P, Arc<Client>>,
    /// Those that may have several connections, each with how many it has.
    by_instance: HashMap<Uuid, (Arc<Client>, usize)>,
}

/// A client.
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
    consumed: BTreeMap<String, Consumed>,
    group: String,
    asked: Instant,
    requests: Rate,
    bytes_in: Rate,
    bytes_out: Rate,
}

/// What a client was given of a topic.
#[derive(Debug, Default)]
struct Consumed {
    bytes: u64,
    /// How far, by partition.
    delivered: BTreeMap<u32, u64>,
}

/// Characters of what a client says of itself that are kept.
pub const MOST_TEXT: usize = 249;
/// Topics of a client that are told apart; of others nothing is said.
const MOST_TOPICS: usize = 100;
/// Partitions of a topic that are told apart.
const MOST_PARTITIONS: usize = 1000;

impl<P> Default for Clients<P> {
    fn default() -> Clients<P> {
        let (by_place, by_instance) = (HashMap::new(), HashMap::new());
        Clients(Mutex::new(Registry { by_place, by_instance }))
    }
}

impl<P: Copy + Eq + Hash> Clients<P> {
    /// A client says who it is; or asks for something without having said so, and has no name.
    pub fn register(
        &self,
        place: P,
        who: &RegisterClient,
        peer: Option<SocketAddr>,
        quotas: &Quotas,
    ) -> Arc<Client> {
        let mut registry = self.0.lock();
        registry.leave(place);
        let who = short(who);
        let known = registry.by_instance.get_mut(&who.instance);
        if let Some((client, connections)) = known
            && client.who.client_id == who.client_id
        {
            *connections += 1;
            let client = client.clone();
            registry.by_place.insert(place, client.clone());
            return client;
        }
        let client = Arc::new(Client::new(who, peer, quotas));
        registry.by_place.insert(place, client.clone());
        // Whoever has the instance of another, but not its name, is by itself.
        if !client.who.instance.is_nil() {
            let entry = registry.by_instance.entry(client.who.instance);
            entry.or_insert_with(|| (client.clone(), 1));
        }
        client
    }

    /// A connection has ended.
    pub fn deregister(&self, place: P) {
        self.0.lock().leave(place);
    }

    /// All that are connected.
    pub fn list(&self) -> ListClientsResponse {
        let by_place: Vec<Arc<Client>> = self.0.lock().by_place.values().cloned().collect();
        let mut connections: BTreeMap<*const Client, (Arc<Client>, u32)> = BTreeMap::new();
        for client in by_place {
            connections.entry(Arc::as_ptr(&client)).or_insert((client, 0)).1 += 1;
        }
        let each = connections.values();
        let mut clients: Vec<_> = each.map(|(client, count)| client.describe(*count)).collect();
        // Brokers that follow have no name, and neither produce nor consume.
        clients.retain(|client| {
            let is_known = !client.client_id.is_empty();
            is_known || !client.produces.is_empty() || !client.consumes.is_empty()
        });
        clients.sort_by(|a, b| (&a.client_id, &a.address).cmp(&(&b.client_id, &b.address)));
        ListClientsResponse { clients }
    }
}

impl<P: Eq + Hash> Registry<P> {
    /// What is at a place is there no more.
    fn leave(&mut self, place: P) {
        let Some(client) = self.by_place.remove(&place) else { return };
        if let Entry::Occupied(mut entry) = self.by_instance.entry(client.who.instance)
            && Arc::ptr_eq(&entry.get().0, &client)
        {
            entry.get_mut().1 -= 1;
            if entry.get().1 == 0 {
                entry.remove();
            }
        }
    }
}

/// A client that has not said who it is.
pub fn nobody() -> RegisterClient {
    RegisterClient {
        client_id: String::new(),
        software_name: String::new(),
        software_version: String::new(),
        instance: Uuid::nil(),
        carries_records: false,
    }
}

fn short(who: &RegisterClient) -> RegisterClient {
    let short = |text: &str| text.chars().take(MOST_TEXT).collect();
    RegisterClient {
        client_id: short(&who.client_id),
        software_name: short(&who.software_name),
        software_version: short(&who.software_version),
        ..*who
    }
}

impl Client {
    fn new(who: RegisterClient, peer: Option<SocketAddr>, quotas: &Quotas) -> Client {
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
        let address = peer.map_or_else(String::new, |peer| peer.to_string());
        let quota = quotas.of(&who.client_id);
        Client { who, address, since: now, quota, activity: Mutex::new(activity) }
    }

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

    /// Until when a connection that it has just made for records is to be held: what it owed on another, it
    /// owes on this one.
    pub fn owes(&self, now: Instant) -> Option<Instant> {
        self.quota.owes(now)
    }

    /// Most bytes that it may be given at once.
    pub fn most_at_once(&self) -> u64 {
        self.quota.most_at_once()
    }

    /// So many bytes of it were appended to a topic. Until when it is to be held, if these are too many.
    pub fn produced(&self, topic: &str, bytes: u64, now: Instant) -> Option<Instant> {
        let second = self.second(now);
        let mut activity = self.activity.lock();
        if let Some(produced) = of_topic(&mut activity.produced, topic) {
            *produced += bytes;
        }
        activity.bytes_in.add(second, bytes);
        self.quota.produced(bytes, now)
    }

    /// So many bytes of a topic were sent to it, perhaps as to a member of a group. Until when it is to be
    /// held, if these are too many.
    pub fn consumed(&self, topic: &str, bytes: u64, group: &str, now: Instant) -> Option<Instant> {
        let second = self.second(now);
        let mut activity = self.activity.lock();
        if let Some(consumed) = of_topic(&mut activity.consumed, topic) {
            consumed.bytes += bytes;
        }
        activity.bytes_out.add(second, bytes);
        if activity.group != group {
            activity.group = group.chars().take(MOST_TEXT).collect();
        }
        self.quota.consumed(bytes, now)
    }

    /// It asks for records of a partition from an offset on.
    pub fn reads(&self, topic: &str, partition: u32, offset: u64) {
        let mut activity = self.activity.lock();
        let Some(consumed) = of_topic(&mut activity.consumed, topic) else { return };
        let delivered = &mut consumed.delivered;
        if delivered.len() < MOST_PARTITIONS || delivered.contains_key(&partition) {
            delivered.insert(partition, offset);
        }
    }

    fn describe(&self, connections: u32) -> DescribedClient {
        let now = Instant::now();
        let second = self.second(now);
        let activity = self.activity.lock();
        let produces = activity.produced.iter();
        let produces =
            produces.map(|(topic, bytes)| ClientTopic { topic: topic.clone(), bytes: *bytes });
        let consumes = activity.consumed.iter().map(|(topic, consumed)| {
            let delivered = consumed.delivered.iter();
            let delivered = delivered
                .map(|(partition, offset)| DeliveredTo { partition: *partition, offset: *offset });
            let (topic, delivered) = (topic.clone(), delivered.collect());
            ConsumedTopic { topic, bytes: consumed.bytes, delivered }
        });
        let (produces, consumes) = (produces.collect(), consumes.collect());
        DescribedClient {
            client_id: self.who.client_id.clone(),
            software_name: self.who.software_name.clone(),
            software_version: self.who.software_version.clone(),
            address: self.address.clone(),
            connections,
            connected_ms: now.saturating_duration_since(self.since).as_millis() as u64,
            idle_ms: now.saturating_duration_since(activity.asked).as_millis() as u64,
            group: activity.group.clone(),
            produces,
            consumes,
            requests_per_second: activity.requests.per_second(second),
            in_per_second: activity.bytes_in.per_second(second),
            out_per_second: activity.bytes_out.per_second(second),
        }
    }
}

/// What is counted of a topic, unless there are too many.
fn of_topic<'a, T: Default>(topics: &'a mut BTreeMap<String, T>, topic: &str) -> Option<&'a mut T> {
    if !topics.contains_key(topic) {
        if topics.len() >= MOST_TOPICS {
            return None;
        }
        topics.insert(topic.to_owned(), T::default());
    }
    topics.get_mut(topic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_topics_has_an_end() {
        let mut topics = BTreeMap::new();
        for n in 0..1000 {
            if let Some(bytes) = of_topic(&mut topics, &format!("t{n}")) {
                *bytes += 1u64;
            }
        }
        *of_topic(&mut topics, "t0").unwrap() += 1;
        assert_eq!((topics.len(), topics["t0"]), (MOST_TOPICS, 2));
    }

    #[test]
    fn a_client_is_one_on_all_its_connections_and_known_until_the_last_ends() {
        let (clients, quotas) = (Clients::<usize>::default(), Quotas::default());
        let register = |place: usize, name: &str, instance: u128| {
            let who = RegisterClient {
                client_id: name.to_owned(),
                software_name: "mk".to_owned(),
                software_version: "1".to_owned(),
                instance: Uuid::from_u128(instance),
                carries_records: true,
            };
            clients.register(place, &who, None, &quotas)
        };
        let told = || {
            let all = clients.list().clients.into_iter();
            all.map(|client| (client.client_id, client.connections)).collect::<Vec<_>>()
        };
        let (one, two) = (register(0, "a", 7), register(1, "a", 7));
        assert!(Arc::ptr_eq(&one, &two));
        register(2, "a", 8);
        register(3, "b", 7);
        register(4, "c", 0);
        let [a, b, c] = ["a", "b", "c"].map(str::to_owned);
        let mut all = told();
        all.sort();
        assert_eq!(all, [(a.clone(), 1), (a.clone(), 2), (b.clone(), 1), (c.clone(), 1)]);
        clients.deregister(3);
        clients.deregister(2);
        clients.deregister(0);
        assert_eq!(told(), [(a, 1), (c.clone(), 1)]);
        // A connection may say again who it is.
        register(1, "a", 9);
        assert!(clients.0.lock().by_instance.contains_key(&Uuid::from_u128(9)));
        clients.deregister(1);
        assert_eq!((told(), clients.0.lock().by_instance.len()), (vec![(c, 1)], 0));
    }

    #[test]
    fn it_is_told_how_far_a_client_was_given_each_partition() {
        let quotas = Quotas::default();
        let who = RegisterClient {
            client_id: "a".to_owned(),
            software_name: String::new(),
            software_version: String::new(),
            instance: Uuid::nil(),
            carries_records: true,
        };
        let client = Client::new(who, None, &quotas);
        for partition in 0..2000 {
            client.reads("t", partition, 5);
        }
        client.reads("t", 1, 9);
        let told = client.describe(1).consumes.remove(0);
        assert_eq!((told.delivered.len(), told.delivered[1].offset), (MOST_PARTITIONS, 9));
    }
}
