//! How much a client may do. A client is a name (`client.id`), over all of its connections to this broker;
//! those that do not say who they are count as one.
//!
//! Who has done too much is answered, and its connection is held until it is within its quota again
//! (KIP-219): its requests wait in its own socket.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::settings::{BrokerSettings, NO_LIMIT};

/// The quotas of a broker; none by default.
#[derive(Debug, Default)]
pub struct Quotas {
    rates: Rates,
    clients: Mutex<HashMap<String, Arc<Quota>>>,
}

/// What each client may do in a second; none: as much as it likes.
#[derive(Clone, Copy, Debug, Default)]
struct Rates {
    bytes_in: Option<u64>,
    bytes_out: Option<u64>,
    requests: Option<u64>,
}

/// What a client has done.
#[derive(Debug)]
pub struct Quota {
    rates: Rates,
    paid: Mutex<Paid>,
}

/// By when what was done is within the quota; none: nothing was done.
#[derive(Debug, Default)]
struct Paid {
    bytes_in: Option<Instant>,
    bytes_out: Option<Instant>,
    requests: Option<Instant>,
}

/// What a client may do at once after it has done nothing: a second's worth.
const BURST: Duration = Duration::from_secs(1);
/// Nobody is held for longer at a time.
const LONGEST: Duration = Duration::from_secs(30);

impl Quotas {
    /// As the settings say.
    pub fn new(settings: &BrokerSettings) -> Quotas {
        let rate = |name| Some(settings.number(name)).filter(|rate| *rate != NO_LIMIT);
        let rates = Rates {
            bytes_in: rate("quota.producer.default"),
            bytes_out: rate("quota.consumer.default"),
            requests: rate("quota.request.default"),
        };
        Quotas { rates, clients: Mutex::default() }
    }

    /// The quota of a client.
    pub fn of(&self, client_id: &str) -> Arc<Quota> {
        let mut clients = self.clients.lock();
        // Names that nobody has any more, and that owe nothing.
        if clients.len() >= clients.capacity() {
            let now = Instant::now();
            clients.retain(|_, quota| Arc::strong_count(quota) > 1 || !quota.is_paid(now));
        }
        let fresh = || Arc::new(Quota::new(self.rates));
        clients.entry(client_id.to_owned()).or_insert_with(fresh).clone()
    }
}

impl Quota {
    fn new(rates: Rates) -> Quota {
        Quota { rates, paid: Mutex::default() }
    }

    /// It has sent so many bytes. Until when it is to be held, if it is.
    pub fn produced(&self, bytes: u64, now: Instant) -> Option<Instant> {
        let rate = self.rates.bytes_in?;
        charge(&mut self.paid.lock().bytes_in, bytes, rate, now)
    }

    /// It was given so many bytes.
    pub fn consumed(&self, bytes: u64, now: Instant) -> Option<Instant> {
        let rate = self.rates.bytes_out?;
        charge(&mut self.paid.lock().bytes_out, bytes, rate, now)
    }

    /// Until when it owes for bytes, if it does.
    pub fn owes(&self, now: Instant) -> Option<Instant> {
        let paid = self.paid.lock();
        let until = paid.bytes_in.max(paid.bytes_out)?;
        (until > now).then(|| until.min(now + LONGEST))
    }

    /// True if nothing is owed, of requests neither.
    fn is_paid(&self, now: Instant) -> bool {
        let paid = self.paid.lock();
        paid.bytes_in.max(paid.bytes_out).max(paid.requests) <= Some(now)
    }

    /// Most bytes that it may be given at once: what a second allows, so that nobody is held for long.
    pub fn most_at_once(&self) -> u64 {
        self.rates.bytes_out.unwrap_or(u64::MAX)
    }

    /// It has asked for something.
    pub fn asked(&self, now: Instant) -> Option<Instant> {
        let rate = self.rates.requests?;
        charge(&mut self.paid.lock().requests, 1, rate, now)
    }
}

fn charge(paid: &mut Option<Instant>, amount: u64, rate: u64, now: Instant) -> Option<Instant> {
    let earliest = now.checked_sub(BURST).unwrap_or(now);
    let cost = Duration::from_secs_f64((amount as f64 / rate as f64).min(1e6));
    let until = paid.unwrap_or(now).max(earliest) + cost;
    *paid = Some(until);
    (until > now).then(|| until.min(now + LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_too_much_is_held_until_it_is_within_its_quota() {
        let rates = Rates { bytes_in: Some(1000), ..Rates::default() };
        let start = Instant::now() + Duration::from_secs(100);
        let at = |ms: i64| start + Duration::from_millis((10_000 + ms) as u64);
        let quota = Quota::new(rates);
        assert_eq!(quota.produced(0, at(-1000)), None);
        assert_eq!(quota.produced(1000, at(0)), None, "a second's worth at once");
        assert_eq!(quota.produced(500, at(0)), Some(at(500)));
        assert_eq!(quota.produced(100, at(500)), Some(at(600)));
        assert_eq!(quota.produced(100, at(700)), None);
        assert_eq!(quota.produced(1 << 40, at(700)), Some(at(700) + LONGEST));
        assert_eq!((quota.consumed(1 << 40, at(0)), quota.asked(at(0))), (None, None), "no quota");
    }

    /// A client's first records came in the same turn of its loop as the client: by the loop's clock, which stands still
    /// in a turn, it was not there yet, and so it was told that it owes.
    #[test]
    fn who_has_just_come_owes_nothing() {
        let before = Instant::now();
        let quota = Quotas::default().of("a");
        assert_eq!((quota.owes(before), quota.is_paid(before)), (None, true));
    }

    #[test]
    fn connections_of_a_name_share_its_quota_and_names_are_forgotten() {
        let quotas = Quotas::default();
        let first = quotas.of("a");
        assert!(Arc::ptr_eq(&first, &quotas.of("a")));
        for n in 0..10_000 {
            quotas.of(&n.to_string());
        }
        assert!(quotas.clients.lock().len() < 10_000);
        assert!(Arc::ptr_eq(&first, &quotas.of("a")), "it is connected");
    }

    /// A quota went with the last connection, and with it what was owed.
    #[test]
    fn who_owes_is_not_forgotten() {
        let rates = Rates { bytes_in: Some(1000), requests: Some(1), ..Rates::default() };
        let quotas = Quotas { rates, clients: Mutex::default() };
        let now = Instant::now();
        assert!(quotas.of("a").produced(60_000, now).is_some());
        for _ in 0..60 {
            quotas.of("b").asked(now);
        }
        for n in 0..10_000 {
            quotas.of(&n.to_string());
        }
        assert!(quotas.of("a").owes(now).is_some_and(|until| until > now));
        assert!(!quotas.of("b").is_paid(now));
    }
}
