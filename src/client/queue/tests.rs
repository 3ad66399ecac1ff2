//! A queue against a leader that keeps its records by the rules of the log, with everything between them
//! that goes wrong. What is checked: no record is in the log twice or out of order, what was acknowledged is
//! there, and what is said not to have been delivered is not.

use std::collections::BTreeSet;

use mk_net::fault::Fault;
use mk_net::message::Durability;
use mk_storage::batch::{Compression, Header, RecordFields};
use mk_storage::producers::{Producers, Verdict};
use mk_storage::{Offset, Timestamp};

use super::super::batch::Delivery;
use super::*;

const SETTINGS: BatchSettings = BatchSettings::SMALL;
const PRODUCER: i64 = 7;

/// A batch in the leader's log.
#[derive(Clone, Debug)]
struct Logged {
    serial: u64,
    header: Header,
    base: u64,
    acknowledged: bool,
}

/// What becomes of a request.
type Request = Vec<Batch>;

struct World {
    seed: u64,
    now: Instant,
    queue: Queue,
    /// In some worlds the program gives up what was sent three times, in some all that fails.
    interceptor: Option<RetryInterceptor>,
    deliveries: Vec<(u64, Delivery)>,
    log: Vec<Logged>,
    producers: Producers,
    end: u64,
    /// Requests that were sent over the connection and not looked at by the leader.
    sent: VecDeque<Request>,
    /// What it has answered, on its way back.
    answered: VecDeque<Vec<(Batch, Answer)>>,
}

fn give_up_the_third(retry: &Retry<'_>) -> RetryDecision {
    match retry.attempts {
        3.. => RetryDecision::GiveUp,
        _ => RetryDecision::SendAgain,
    }
}

impl World {
    fn new(seed: u64) -> World {
        World {
            seed,
            now: Instant::now(),
            queue: Queue::default(),
            interceptor: match seed % 3 {
                0 => None,
                1 => Some(RetryInterceptor::new(give_up_the_third)),
                _ => Some(RetryInterceptor::new(|_| RetryDecision::GiveUp)),
            },
            deliveries: Vec::new(),
            log: Vec::new(),
            producers: Producers::default(),
            end: 0,
            sent: VecDeque::new(),
            answered: VecDeque::new(),
        }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.seed ^ (self.seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((mixed ^ (mixed >> 27)) >> 8) % n
    }

    fn step(&mut self, calm: bool) {
        let choice = self.below(if calm { 60 } else { 75 });
        match choice {
            0..20 => self.push(),
            20..35 => self.send(),
            35..48 => self.process(false),
            48..58 => self.deliver_answer(),
            58..60 => self.wait(Duration::from_millis(30)),
            60 => self.process(true),
            61..65 => self.time_out(),
            65..68 => self.disconnect(),
            68 => self.change_leader(),
            69 => self.wait(Duration::from_secs(1)),
            70 => self.wait(Duration::from_secs(4)),
            71 => self.give_up_sending(),
            72..75 => self.forget_idle(),
            _ => {}
        }
    }

    fn push(&mut self) {
        let record = RecordFields { value: Some(&[7; 50]), ..RecordFields::default() };
        let key = ("t".into(), 0);
        let (batch, _) = self.queue.open_batch(&key, self.now, 57, &SETTINGS);
        let delivery = batch.next_delivery();
        batch.push(Timestamp(1), &record, 1);
        let serial = batch.serial;
        if self.deliveries.last().is_none_or(|(last, _)| *last != serial) {
            self.deliveries.push((serial, delivery));
        }
    }

    fn land(&mut self, answers: Vec<(Batch, Answer)>, pause: Duration) {
        let landed = Landed { answers, interceptor: self.interceptor.as_ref() };
        self.queue.landed(&("t".into(), 0), landed, self.now, pause);
    }

    fn send(&mut self) {
        let run = self.queue.take(self.now, &SETTINGS, true, (SETTINGS.max_request_size, true));
        if !run.is_empty() {
            self.sent.push_back(run);
        }
        assert!(self.queue.under_way.len() <= BATCHES);
    }

    /// The leader takes the next request, or says that it cannot.
    fn process(&mut self, refuse: bool) {
        let Some(request) = self.sent.pop_front() else { return };
        let mut failed = false;
        let mut answers = Vec::new();
        for mut batch in request {
            let answer = match (failed, refuse) {
                (true, _) => Err(fault(ErrorCode::OPERATION_NOT_ATTEMPTED)),
                (false, true) => Err(fault(ErrorCode::NOT_ENOUGH_REPLICAS)),
                (false, false) => self.append(&mut batch),
            };
            failed |= answer.is_err();
            answers.push((batch, answer));
        }
        self.answered.push_back(answers);
    }

    fn append(&mut self, batch: &mut Batch) -> Answer {
        if batch.serial % 23 == 5 {
            return Err(fault(ErrorCode::INVALID_RECORD));
        }
        let header = Header::parse(&batch.bytes(PRODUCER).unwrap()).unwrap();
        let base = match self.producers.judge(&header) {
            Ok(Verdict::Duplicate(before)) => before.base.0,
            Ok(Verdict::Next) => {
                let base = self.end;
                self.producers.note(&header, Offset(base), 0);
                self.log.push(Logged { serial: batch.serial, header, base, acknowledged: false });
                self.end += u64::from(header.record_count);
                base
            }
            Err(_) => return Err(fault(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER)),
        };
        let durability = Durability::Disk;
        Ok(Some(Appended {
            base_offset: base,
            log_append_time_ms: -1,
            log_start_offset: 0,
            durability,
        }))
    }

    /// Answers overtake each other.
    fn deliver_answer(&mut self) {
        let any = self.below(self.answered.len().max(1) as u64) as usize;
        let Some(answers) = self.answered.remove(any) else { return };
        for (batch, answer) in &answers {
            if answer.is_ok() {
                let logged = self.log.iter_mut().find(|logged| logged.serial == batch.serial);
                logged.expect("what is acknowledged is in the log").acknowledged = true;
            }
        }
        self.land(answers, Duration::from_millis(20));
    }

    /// What the leader took is not committed in time.
    fn time_out(&mut self) {
        self.process(false);
        for (_, answer) in self.answered.back_mut().into_iter().flatten() {
            if answer.is_ok() {
                *answer = Err(fault(ErrorCode::REQUEST_TIMED_OUT));
            }
        }
    }

    /// The connection ends: the leader may still take some of what was sent, and no answer comes.
    fn disconnect(&mut self) {
        for _ in 0..self.below(3) {
            self.process(false);
        }
        let unanswered = self.answered.drain(..).flatten().map(|(batch, _)| batch);
        let batches: Vec<Batch> = unanswered.chain(self.sent.drain(..).flatten()).collect();
        for batch in batches {
            let gone = ClientError::Disconnected { address: "a".to_owned(), reason: "b".into() };
            self.land(vec![(batch, Err(gone))], Duration::from_millis(20));
        }
    }

    /// Another leads; of what was not acknowledged it may have less.
    fn change_leader(&mut self) {
        self.disconnect();
        let kept = self.log.iter().rposition(|logged| logged.acknowledged).map_or(0, |at| at + 1);
        let keep = kept + self.below((self.log.len() - kept + 1) as u64) as usize;
        self.log.truncate(keep);
        self.producers = Producers::default();
        self.end = 0;
        for logged in &self.log {
            self.producers.note(&logged.header, Offset(logged.base), 0);
            self.end = logged.base + u64::from(logged.header.record_count);
        }
    }

    /// The leader forgets a producer that has sent nothing for a while: longer than anybody tries to deliver
    /// a batch.
    fn forget_idle(&mut self) {
        let tries = self.queue.waiting.iter().any(|batch| batch.may_be_written);
        if self.queue.under_way.is_empty() && !tries {
            self.producers = Producers::default();
            self.now += QUIET;
        }
    }

    /// What was taken to be sent is not sent: nobody leads.
    fn give_up_sending(&mut self) {
        if let Some(request) = self.sent.pop_back() {
            for batch in request {
                let unknown = Err(ClientError::LeaderFound);
                self.land(vec![(batch, unknown)], Duration::ZERO);
            }
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.queue.expire(self.now, SETTINGS.delivery_timeout);
    }

    fn check(&self) {
        let serials: Vec<u64> = self.log.iter().map(|logged| logged.serial).collect();
        assert!(serials.is_sorted_by(|a, b| a < b), "twice, or out of order: {serials:?}");
        let logged: BTreeSet<u64> = serials.into_iter().collect();
        for (serial, delivery) in &self.deliveries {
            match delivery.try_receipt() {
                None | Some(Err(ClientError::TimedOut { .. })) => {}
                Some(Ok(receipt)) => {
                    let found = self.log.iter().find(|logged| logged.serial == *serial);
                    let base = found.map(|logged| logged.base);
                    assert_eq!(base, receipt.offset, "batch {serial}");
                }
                Some(Err(_)) => assert!(!logged.contains(serial), "{serial} failed and is there"),
            }
        }
    }
}

fn fault(code: ErrorCode) -> ClientError {
    Fault::new(code, "").into()
}

#[test]
fn each_batch_is_in_the_log_once_whatever_goes_wrong() {
    let (mut delivered, mut failed, mut unknown) = (0, 0, 0);
    for seed in 0..3000 {
        let mut world = World::new(seed);
        for _ in 0..400 {
            world.step(false);
            world.check();
        }
        for _ in 0..600 {
            world.step(true);
        }
        for _ in 0..200 {
            world.wait(Duration::from_millis(30));
            world.send();
            world.process(false);
            world.deliver_answer();
        }
        world.check();
        for (serial, delivery) in &world.deliveries {
            match delivery.try_receipt() {
                Some(Ok(_)) => delivered += 1,
                Some(Err(ClientError::TimedOut { .. })) => unknown += 1,
                Some(Err(_)) => failed += 1,
                None => panic!("seed {seed}: batch {serial} goes nowhere: {:?}", world.queue),
            }
        }
    }
    println!("{delivered} batches delivered, {failed} failed, of {unknown} nobody knows");
    assert!(delivered > failed && failed > 1000 && unknown > 10);
}

#[test]
fn several_are_on_their_way_once_one_is_acknowledged() {
    let mut world = World::new(0);
    for _ in 0..40 {
        world.push();
    }
    world.send();
    assert_eq!(world.queue.under_way.len(), 1, "nobody knows the producer yet");
    world.send();
    assert_eq!(world.queue.under_way.len(), 1);
    world.process(false);
    world.deliver_answer();
    world.send();
    assert_eq!(world.queue.under_way.len(), BATCHES);
    world.disconnect();
    world.wait(Duration::from_millis(20));
    world.send();
    assert_eq!(world.queue.under_way.len(), 1, "what is sent again is sent alone");
    world.process(false);
    world.deliver_answer();
    world.send();
    assert_eq!(world.queue.under_way.len(), BATCHES);
}

/// A batch that had grown while others were on their way was larger than its topic took, and was lost to its
/// records.
#[test]
fn a_batch_grows_while_none_can_be_sent_as_far_as_the_topic_takes_it() {
    let sizes = |limit: Option<usize>| {
        let mut world = World::new(0);
        world.queue.limit = limit;
        world.push();
        world.send();
        for _ in 0..60 {
            world.push();
        }
        world.queue.waiting.iter().map(Batch::size).max().unwrap()
    };
    let most = SETTINGS.batch_size * GROWTH;
    assert!(sizes(None) <= SETTINGS.batch_size, "nobody has said how large it may be");
    assert!((most - 60..=most).contains(&sizes(Some(1 << 20))));
    assert!((440..=500).contains(&sizes(Some(500))));
    assert!((90..=150).contains(&sizes(Some(150))));
}

/// Five were unanswered, but not in a row: the leader, which remembers the last five, had forgotten the
/// first, which was sent again, and taken again.
#[test]
fn five_are_counted_from_the_oldest_that_is_not_acknowledged() {
    let mut world = World::new(0);
    for _ in 0..60 {
        world.push();
    }
    world.send();
    world.process(false);
    world.deliver_answer();
    world.send();
    let batches = world.sent.pop_front().unwrap();
    world.sent.extend(batches.into_iter().map(|batch| vec![batch]));
    (0..BATCHES).for_each(|_| world.process(false));
    // All but the first are answered.
    let first = world.answered.pop_front().unwrap();
    (1..BATCHES).for_each(|_| world.deliver_answer());
    world.send();
    assert_eq!(world.queue.under_way.len(), 1, "the first is to be remembered still");
    world.answered.push_back(first);
    world.deliver_answer();
    world.send();
    assert_eq!(world.queue.under_way.len(), BATCHES);
}

/// What was refused because the batch before had not come keeps its number when that one has: a copy that
/// comes late must be known.
#[test]
fn a_number_is_kept_when_what_was_missing_has_come() {
    let mut world = World::new(0);
    for _ in 0..12 {
        world.push();
    }
    world.send();
    world.process(false);
    world.deliver_answer();
    world.send();
    let mut batches = world.sent.pop_front().unwrap().into_iter();
    let (first, second) = (batches.next().unwrap(), batches.next().unwrap());
    let gone = ClientError::Disconnected { address: "a".to_owned(), reason: "b".into() };
    let missing = fault(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    for (batch, error) in [(second, missing), (first, gone.clone())]
        .into_iter()
        .chain(batches.map(|batch| (batch, gone.clone())))
    {
        world.land(vec![(batch, Err(error))], Duration::ZERO);
    }
    for _ in 0..2 {
        world.send();
        assert_eq!(world.sent[0][0].number.unwrap().epoch, 0);
        world.process(false);
        world.deliver_answer();
    }
}

#[test]
fn behind_the_last_epoch_comes_another_id() {
    let mut next = Number::default();
    for _ in 0..=i16::MAX as u32 {
        next.begin_epoch();
    }
    assert_eq!(next.take(3), Number { generation: 1, epoch: 0, first: 0 });
    assert_eq!(next.take(1), Number { generation: 1, epoch: 0, first: 3 });
    let mut batch = Batch::new(("t".into(), 0), Instant::now(), 0, (Compression::None, 0));
    batch.push(Timestamp(1), &RecordFields::default(), 1);
    batch.number = Some(next.take(1));
    let header = Header::parse(&batch.bytes(i64::MAX).unwrap()).unwrap();
    assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (0, 0, 4));
}

/// What a program gave up left a number missing. The next batch was refused for want of it, and given up as well,
/// and so on for as long as the producer lived.
#[test]
fn what_is_given_up_stops_nothing_behind_it() {
    let mut world = World::new(2);
    let settle = |world: &mut World| {
        for _ in 0..20 {
            world.wait(Duration::from_millis(30));
            world.send();
            world.process(false);
            world.deliver_answer();
        }
    };
    world.push();
    settle(&mut world);
    world.push();
    world.send();
    // The leader has not seen it.
    let request = world.sent.pop_front().unwrap();
    let gone = ClientError::Disconnected { address: "a".to_owned(), reason: "b".into() };
    let answers = request.into_iter().map(|batch| (batch, Err(gone.clone()))).collect();
    world.land(answers, Duration::ZERO);
    for _ in 0..3 {
        world.push();
        settle(&mut world);
    }
    let told: Vec<bool> = world
        .deliveries
        .iter()
        .map(|(_, delivery)| delivery.try_receipt().is_some_and(|receipt| receipt.is_ok()))
        .collect();
    assert_eq!(told, [true, false, true, true, true]);
    world.check();
}
