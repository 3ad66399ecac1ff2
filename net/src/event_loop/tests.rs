use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::codec::{decode, encode};
use crate::envelope::{request, response};
use crate::fault::{ErrorCode, Fault};
use crate::frame::{FrameHeader, HEADER_LEN, KAFKA_HEADER_LEN};
use crate::message::{DeleteTopics, Kind, Request};
use crate::outgoing::{Chunk, FileRange};

const HOLD: Duration = Duration::from_millis(300);

/// Sends the payload back; a name is an order.
struct Echo {
    file: Arc<File>,
    parked: Vec<(RequestId, FrameHeader)>,
    mailboxes: Arc<[Mailbox<()>]>,
    deadline: Option<Instant>,
}

impl Service for Echo {
    type Note = ();

    fn on_request(&mut self, context: &mut Context, from: RequestId, frame: Frame<'_>) {
        let order: DeleteTopics = decode(frame.fields).unwrap();
        match order.names.first().map(String::as_str) {
            Some("park") => self.parked.push((from, frame.header)),
            Some("file") => {
                let length: u64 = order.names[1].parse().unwrap();
                let half = length / 2;
                let range = |position, length| {
                    Chunk::File(FileRange { file: self.file.clone(), position, length })
                };
                let fields = response(&frame.header, &0u32, length as usize);
                let ranges = [range(0, half), range(half, length - half)];
                context.respond(from, [Chunk::Bytes(fields)].into_iter().chain(ranges));
            }
            Some("hold") => {
                context.hold(from.connection, context.now() + HOLD);
                context.respond(from, [message(&frame.header, 0)]);
            }
            Some("silent") => context.no_response(from),
            Some("wake all") => {
                self.mailboxes.iter().for_each(|mailbox| mailbox.send(()));
                context.respond(from, [message(&frame.header, 0)]);
            }
            Some("soon") => {
                self.parked.push((from, frame.header));
                self.deadline = Some(context.now() + Duration::from_millis(20));
            }
            _ => context.respond(from, [message(&frame.header, frame.payload.len() as u32)]),
        }
    }

    fn on_kafka_request(&mut self, context: &mut Context, from: RequestId, request: &[u8]) {
        match request[KAFKA_HEADER_LEN..] {
            [b'e', ..] => context.end(from.connection, "asked for".to_owned()),
            _ => context.respond(from, [Chunk::Bytes(Bytes::copy_from_slice(request))]),
        }
    }

    fn on_note(&mut self, context: &mut Context, (): ()) {
        for (id, header) in self.parked.drain(..) {
            context.respond(id, [message(&header, 1)]);
        }
    }

    fn on_deadline(&mut self, context: &mut Context) {
        self.deadline = None;
        self.on_note(context, ());
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn on_ended(&mut self, context: &mut Context, connection: ConnectionId) {
        for (id, header) in self.parked.extract_if(.., |(id, _)| id.connection == connection) {
            context.respond(id, [message(&header, 2)]);
        }
    }

    fn on_closed(&mut self, connection: ConnectionId) {
        self.parked.retain(|(id, _)| id.connection != connection);
    }

    fn on_stop(&mut self, context: &mut Context) {
        self.on_note(context, ());
    }
}

fn message(to: &FrameHeader, number: u32) -> Chunk {
    Chunk::Bytes(response(to, &number, 0))
}

const LIMITS: Limits = Limits {
    connection: ConnectionLimits { max_frame: 8 << 20, max_outgoing: 1 << 20, max_pending: 100 },
    max_connections: 100,
    idle: Duration::from_secs(600),
};

fn start(limits: Limits, loops: usize) -> Server<()> {
    let mut file = tempfile::tempfile().unwrap();
    let bytes: Vec<u8> = (0..64u32 << 20).map(|n| (n / 7) as u8).collect();
    file.write_all(&bytes).unwrap();
    let file = Arc::new(file);
    let prepared = Prepared::bind("127.0.0.1:0".parse().unwrap(), loops, limits).unwrap();
    let mailboxes = prepared.mailboxes();
    let service = |_| Echo {
        file: file.clone(),
        parked: Vec::new(),
        mailboxes: mailboxes.clone(),
        deadline: None,
    };
    prepared.start(service).unwrap()
}

fn connect(server: &Server<()>) -> TcpStream {
    let stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

fn order(correlation: u32, names: &[&str], payload: usize) -> Vec<u8> {
    let names = names.iter().map(|name| name.to_string()).collect();
    let mut bytes = request(correlation, &DeleteTopics { names }, payload).to_vec();
    bytes.resize(bytes.len() + payload, 7);
    bytes
}

fn read_frame(stream: &mut TcpStream) -> (FrameHeader, Vec<u8>) {
    let mut head = [0; HEADER_LEN];
    stream.read_exact(&mut head).unwrap();
    let header = FrameHeader::parse(&head, u32::MAX).unwrap();
    let mut body = vec![0; header.body_len()];
    stream.read_exact(&mut body).unwrap();
    (header, body)
}

fn until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    rest
}

#[test]
fn pipelined_requests_are_answered_in_turn_and_parked_ones_overtaken() {
    let server = start(LIMITS, 2);
    let mut streams: Vec<_> = (0..4).map(|_| connect(&server)).collect();
    for stream in &mut streams {
        let orders = [
            order(1, &["park"], 0),
            order(2, &[], 3 << 20),
            order(3, &["silent"], 10),
            order(4, &[], 0),
        ];
        stream.write_all(&orders.concat()).unwrap();
    }
    for stream in &mut streams {
        let (header, body) = read_frame(stream);
        assert_eq!((header.correlation, body), (2, encode(&(3u32 << 20))));
        assert_eq!(read_frame(stream).0.correlation, 4);
    }
    streams[0].write_all(&order(5, &["wake all"], 0)).unwrap();
    let mut woken =
        [read_frame(&mut streams[0]).0.correlation, read_frame(&mut streams[0]).0.correlation];
    woken.sort();
    assert_eq!(woken, [1, 5]);
    for stream in &mut streams[1..] {
        assert_eq!(read_frame(stream).0.correlation, 1);
    }
    let counters = server.counters();
    assert_eq!(counters.connections.load(std::sync::atomic::Ordering::Relaxed), 4);
    server.stop(Duration::from_secs(5));
}

#[test]
fn files_arrive_whole_and_a_slow_reader_costs_bounded_memory() {
    let server = start(LIMITS, 1);
    let mut stream = connect(&server);
    let length = 30 << 20;
    // Ten answers of 30 MiB each are asked for before one is taken.
    for correlation in 0..10 {
        stream.write_all(&order(correlation, &["file", &length.to_string()], 0)).unwrap();
    }
    // Others are served meanwhile.
    let mut other = connect(&server);
    other.write_all(&order(9, &[], 5)).unwrap();
    assert_eq!(read_frame(&mut other).1, encode(&5u32));
    for correlation in 0..10 {
        let (header, body) = read_frame(&mut stream);
        assert_eq!(header.correlation, correlation);
        assert_eq!(body.len(), 4 + length);
        let right = body[4..].iter().enumerate().all(|(n, byte)| *byte == (n / 7) as u8);
        assert!(right, "answer {correlation}");
    }
    server.stop(Duration::from_secs(5));
}

/// What it was to be answered it is answered; what it sends meanwhile waits, though it says that it sends no
/// more; others do not wait.
#[test]
fn a_connection_that_is_held_waits_and_others_do_not() {
    let server = start(LIMITS, 1);
    for ends in [false, true] {
        let (mut held, mut other) = (connect(&server), connect(&server));
        let begin = Instant::now();
        held.write_all(&[order(1, &["hold"], 0), order(2, &[], 0)].concat()).unwrap();
        if ends {
            held.shutdown(Shutdown::Write).unwrap();
        }
        assert_eq!(read_frame(&mut held).0.correlation, 1);
        for correlation in 0..100 {
            other.write_all(&order(correlation, &[], 0)).unwrap();
            assert_eq!(read_frame(&mut other).0.correlation, correlation);
        }
        let busy = begin.elapsed();
        assert_eq!(read_frame(&mut held).0.correlation, 2);
        assert!(begin.elapsed() >= HOLD && busy < HOLD, "{busy:?} {:?}", begin.elapsed());
    }
    server.stop(Duration::from_secs(5));
}

#[test]
fn deadlines_come_without_events() {
    let server = start(LIMITS, 1);
    let mut stream = connect(&server);
    stream.write_all(&order(1, &["soon"], 0)).unwrap();
    assert_eq!(read_frame(&mut stream).0.correlation, 1);
    server.stop(Duration::from_secs(5));
}

#[test]
fn a_client_that_ends_its_side_is_answered_and_let_go() {
    let server = start(LIMITS, 1);
    // What would wait for ever does not: the client may be gone, which nobody tells.
    for names in [&["park"][..], &["soon"], &[]] {
        let mut stream = connect(&server);
        stream.write_all(&order(1, names, 100_000)).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_frame(&mut stream).0.correlation, 1);
        assert_eq!(until_closed(&mut stream), b"");
    }
    // In the middle of a frame there is nothing to answer.
    let mut stream = connect(&server);
    stream.write_all(&order(1, &[], 100_000)[..50_000]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(until_closed(&mut stream), b"");
    server.stop(Duration::from_secs(5));
}

#[test]
fn too_large_a_frame_is_refused_in_words_even_while_it_is_being_sent() {
    let server = start(LIMITS, 1);
    let mut stream = connect(&server);
    let mut writer = stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        let _ = writer.write_all(&order(42, &[], 9 << 20));
    });
    let (header, body) = read_frame(&mut stream);
    assert!(header.failed && header.kind == Kind::NONE && header.correlation == 42);
    assert_eq!(decode::<Fault>(&body).unwrap().code, ErrorCode::MESSAGE_TOO_LARGE);
    assert_eq!(until_closed(&mut stream), b"");
    sender.join().unwrap();
    let mut stream = connect(&server);
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(until_closed(&mut stream), b"");
    assert_eq!(server.counters().refused.load(std::sync::atomic::Ordering::Relaxed), 2);
    server.stop(Duration::from_secs(5));
}

#[test]
fn idle_connections_and_those_beyond_the_limit_are_closed() {
    let idle = Duration::from_millis(100);
    let server = start(Limits { max_connections: 2, idle, ..LIMITS }, 1);
    let mut first = connect(&server);
    first.write_all(&order(1, &["park"], 0)).unwrap();
    let mut second = connect(&server);
    second.write_all(&order(1, &[], 0)).unwrap();
    read_frame(&mut second);
    let mut third = connect(&server);
    third.write_all(&order(1, &[], 0)).unwrap();
    assert_eq!(read_frame(&mut third).0.kind, Kind::NONE, "beyond the limit");
    assert_eq!(until_closed(&mut second), b"", "idle");
    // Whoever waits for us is not idle.
    let mut other = connect(&server);
    other.write_all(&order(2, &["wake all"], 0)).unwrap();
    assert_eq!(read_frame(&mut first).0.correlation, 1);
    server.stop(Duration::from_secs(5));
}

/// They were closed without a word, and nobody knew why.
#[test]
fn who_comes_beyond_the_limit_is_told_so_and_costs_little() {
    let server = start(Limits { max_connections: 1, ..LIMITS }, 2);
    let mut first = connect(&server);
    first.write_all(&order(1, &[], 0)).unwrap();
    read_frame(&mut first);
    // Whoever speaks at once is told, too: to close a socket with unread bytes would reset it.
    let mut second = connect(&server);
    second.write_all(&order(7, &[], 4 << 20)).unwrap();
    let (header, body) = read_frame(&mut second);
    assert!(header.failed && header.kind == Kind::NONE && header.correlation == 0);
    assert_eq!(decode::<Fault>(&body).unwrap().code, ErrorCode::THROTTLING_QUOTA_EXCEEDED);
    assert_eq!(until_closed(&mut second), b"");
    // Of many that come at once only some are, and they do not count as served.
    let mut surplus = Vec::new();
    loop {
        // One that is not told may be reset, with what it has sent unread.
        let (mut stream, mut head) = (connect(&server), [0; HEADER_LEN]);
        let sent = stream.write_all(&order(1, &[], 0));
        if sent.and_then(|()| stream.read_exact(&mut head)).is_err() {
            break;
        }
        surplus.push(stream);
        assert!(surplus.len() < 10_000, "each is told");
    }
    assert!(surplus.len() >= 60, "{}", surplus.len());
    drop(first);
    let served = || {
        // Until the first is known to be gone this one may be closed without a word, with what it has sent unread: that
        // is a reset.
        let (mut stream, mut head) = (connect(&server), [0; HEADER_LEN]);
        let sent = stream.write_all(&order(1, &[], 0));
        let told = sent.and_then(|()| stream.read_exact(&mut head));
        told.is_ok() && FrameHeader::parse(&head, u32::MAX).unwrap().correlation == 1
    };
    let start = Instant::now();
    while !served() {
        assert!(start.elapsed() < Duration::from_secs(60));
    }
    server.stop(Duration::from_secs(5));
}

#[test]
fn a_stop_answers_what_waits() {
    let server = start(LIMITS, 2);
    let mut streams: Vec<_> = (0..3).map(|_| connect(&server)).collect();
    for stream in &mut streams {
        stream.write_all(&[order(1, &["park"], 0), order(2, &[], 0)].concat()).unwrap();
        assert_eq!(read_frame(stream).0.correlation, 2);
    }
    server.stop(Duration::from_secs(30));
    for stream in &mut streams {
        assert_eq!(read_frame(stream).0.correlation, 1);
        assert_eq!(until_closed(stream), b"");
    }
}

#[test]
fn kinds_have_their_numbers_once() {
    let mut numbers: Vec<_> = Kind::ALL.iter().map(|(kind, _, _)| *kind).collect();
    numbers.dedup();
    assert_eq!(numbers.len(), Kind::ALL.len());
    assert!(Kind::ALL.contains(&(DeleteTopics::KIND, 1, DeleteTopics::VERSION)));
}

/// Both protocols on one port: whose they are is seen at the first byte.
#[test]
fn a_client_of_kafkas_protocol_is_served_and_ended_when_it_asks_for_what_has_no_answer() {
    let server = start(LIMITS, 1);
    let request = |what: &[u8]| {
        let length = (KAFKA_HEADER_LEN + what.len()) as i32;
        [&length.to_be_bytes()[..], &[1; KAFKA_HEADER_LEN], what].concat()
    };
    let mut stream = connect(&server);
    stream.write_all(&[request(b"hello"), request(b"again"), request(b"end")].concat()).unwrap();
    let answer = until_closed(&mut stream);
    assert_eq!(answer, [&[1; 8][..], b"hello", &[1; 8], b"again"].concat());
    assert_eq!(server.counters().refused.load(std::sync::atomic::Ordering::Relaxed), 1);
    let mut ours = connect(&server);
    ours.write_all(&order(5, &["x"], 0)).unwrap();
    assert_eq!(read_frame(&mut ours).0.correlation, 5);
    server.stop(Duration::ZERO);
}
