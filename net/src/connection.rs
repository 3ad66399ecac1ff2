//! One connection of the server without its socket: bytes go in, requests come out; responses go
//! in, what to send comes out. Here are the limits of what one client may occupy, and here answers in Kafka's
//! protocol are brought into the order of their requests.

use std::collections::VecDeque;

use crate::deframer::{Deframer, Incoming, Next, Protocol};
use crate::envelope::failure;
use crate::fault::{ErrorCode, Fault};
use crate::frame::{FrameError, FrameHeader};
use crate::message::Kind;
use crate::outgoing::{Chunk, Outgoing, Transmit};

/// What one connection may occupy.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Largest frame, in bytes behind its header.
    pub max_frame: u32,
    /// No further request is taken while so many bytes wait to be sent.
    pub max_outgoing: u64,
    /// No further request is taken while so many wait for their answer.
    pub max_pending: usize,
}

/// Most requests of Kafka's protocol that wait for their answer on one connection.
const KAFKA_PENDING: usize = 32;

/// A connection.
#[derive(Debug)]
pub struct Connection {
    limits: ConnectionLimits,
    incoming: Deframer,
    outgoing: Outgoing,
    /// Requests that were handed out and not answered yet.
    pending: usize,
    /// The number of the next request.
    next_number: u64,
    /// Answers that wait for those before them; only in Kafka's protocol, which has them in order.
    in_order: InOrder,
    /// No further request is taken until it is let go.
    held: bool,
    /// Set if nothing of the client is taken: why.
    turned_away: Option<Fault>,
    state: State,
}

/// Answers to requests of which the first is not answered yet.
#[derive(Debug, Default)]
struct InOrder {
    /// The number of the first.
    first: u64,
    /// One a request; done: true once no more is to come.
    answers: VecDeque<(Vec<Chunk>, bool)>,
    /// Bytes of all of them.
    bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// The client sends no more; what it asked for is still answered.
    HalfClosed,
    /// The client sent what is no frame; what is queued is sent and then the connection ends.
    Refused,
}

/// Why a connection ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// What came is no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A response, from a client.
    #[error("a response, where requests are expected")]
    Response,
}

impl Connection {
    /// A fresh connection.
    pub fn new(limits: ConnectionLimits) -> Connection {
        let incoming = Deframer::new(limits.max_frame);
        let outgoing = Outgoing::default();
        Connection {
            limits,
            incoming,
            outgoing,
            pending: 0,
            next_number: 0,
            in_order: InOrder::default(),
            held: false,
            turned_away: None,
            state: State::Open,
        }
    }

    /// True if bytes should be read from the socket. A client that asks for more than it takes is
    /// not read from, until it has taken.
    pub fn wants_read(&self) -> bool {
        self.state == State::Open && !self.is_congested()
    }

    /// True if no further request is taken for now.
    pub fn is_congested(&self) -> bool {
        self.held
            || self.outgoing_bytes() >= self.limits.max_outgoing
            || self.pending >= self.most_pending()
    }

    /// Requests that may wait for their answer. Those of Kafka's protocol are kept decoded, by a library that is not
    /// frugal; and its clients have few under way.
    fn most_pending(&self) -> usize {
        match self.incoming.protocol() {
            Some(Protocol::Kafka) => self.limits.max_pending.min(KAFKA_PENDING),
            _ => self.limits.max_pending,
        }
    }

    /// Takes no further request, and reads nothing more, until it is let go.
    pub fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// Where bytes that are read go.
    pub fn space(&mut self) -> &mut [u8] {
        self.incoming.space()
    }

    /// Takes note that so many bytes were read; 0: the client sends no more.
    pub fn received(&mut self, count: usize) {
        match count {
            0 => self.state = State::HalfClosed,
            count => self.incoming.filled(count),
        }
    }

    /// The next request, with its number; `None` if more bytes must come, or if answers must be taken first. After
    /// an error, which the client is told of if it can be told, there is none any more.
    pub fn next_request(&mut self) -> Result<Option<(u64, Incoming<'_>)>, ProtocolError> {
        if self.state == State::Refused || self.is_turned_away() || self.is_congested() {
            return Ok(None);
        }
        // A frame is looked at twice, since an error must be able to change the connection that a
        // frame would borrow; to look is to parse 24 bytes.
        match self.incoming.peek() {
            Ok(None) => Ok(None),
            Ok(Some(Next::Own(header))) if header.response => {
                self.refuse(
                    ErrorCode::INVALID_REQUEST,
                    header.correlation,
                    &ProtocolError::Response,
                );
                Err(ProtocolError::Response)
            }
            Ok(Some(_)) => {
                let number = self.next_number;
                self.next_number += 1;
                self.pending += 1;
                if self.incoming.protocol() == Some(Protocol::Kafka) {
                    self.in_order.answers.push_back((Vec::new(), false));
                }
                Ok(self.incoming.take_next()?.map(|incoming| (number, incoming)))
            }
            Err(error) => {
                let error = ProtocolError::Frame(error);
                match error {
                    ProtocolError::Frame(FrameError::TooLarge { correlation, .. }) => {
                        self.refuse(ErrorCode::MESSAGE_TOO_LARGE, correlation, &error);
                    }
                    ProtocolError::Frame(FrameError::Version { .. }) => {
                        self.refuse(ErrorCode::UNSUPPORTED_VERSION, 0, &error);
                    }
                    _ => self.state = State::Refused,
                }
                Err(error)
            }
        }
    }

    /// Takes no request of the client, and says why, once it is known what the client speaks: Kafka's protocol has no
    /// place for that, and its clients would take the words for the length of an answer.
    pub fn turn_away(&mut self, fault: Fault) {
        self.turned_away = Some(fault);
    }

    /// True if the client was turned away, and has been told so if it can be.
    fn is_turned_away(&mut self) -> bool {
        let Some(fault) = &self.turned_away else { return false };
        match self.incoming.protocol() {
            None => {}
            Some(Protocol::Own) if self.state != State::Refused => {
                let fault = fault.clone();
                self.say_last(0, &fault);
            }
            Some(Protocol::Own | Protocol::Kafka) => self.state = State::Refused,
        }
        true
    }

    /// Ends the connection once what is queued is sent: the last request cannot be answered.
    pub fn end(&mut self) {
        self.state = State::Refused;
    }

    /// True if a request is there that may be taken.
    pub fn has_request(&self) -> bool {
        self.state != State::Refused
            && !self.is_congested()
            && !matches!(self.incoming.peek(), Ok(None))
    }

    fn refuse(&mut self, code: ErrorCode, correlation: u32, error: &ProtocolError) {
        self.say_last(correlation, &Fault::new(code, error.to_string()));
    }

    fn say_last(&mut self, correlation: u32, fault: &Fault) {
        self.state = State::Refused;
        let to = FrameHeader {
            response: false,
            failed: false,
            kind: Kind::NONE,
            version: 1,
            correlation,
            fields_len: 0,
            payload_len: 0,
        };
        self.outgoing.push(Chunk::Bytes(failure(&to, fault)));
    }

    /// Queues a part of the response to the request of this number.
    pub fn send(&mut self, number: u64, chunk: Chunk) {
        match self.in_order.of(number) {
            None => self.outgoing.push(chunk),
            Some((chunks, _)) => {
                let length = chunk.len();
                chunks.push(chunk);
                self.in_order.bytes += length;
            }
        }
    }

    /// Takes note that the request of this number was answered, or that it has no answer.
    pub fn answered(&mut self, number: u64) {
        debug_assert!(self.pending > 0, "an answer without a request");
        self.pending = self.pending.saturating_sub(1);
        if let Some((_, done)) = self.in_order.of(number) {
            *done = true;
        }
        self.in_order.move_done(&mut self.outgoing);
    }

    /// What to send next.
    pub fn transmit(&self) -> Option<Transmit<'_>> {
        self.outgoing.next()
    }

    /// Takes note that so many bytes were sent.
    pub fn sent(&mut self, count: u64) {
        self.outgoing.sent(count);
    }

    /// Bytes that wait to be sent, or for answers that go before them.
    pub fn outgoing_bytes(&self) -> u64 {
        self.outgoing.len() + self.in_order.bytes
    }

    /// Requests that wait for their answer.
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// True if the client sends no more, and all that it sent was handed out.
    pub fn has_ended(&self) -> bool {
        self.state == State::HalfClosed && matches!(self.incoming.peek(), Ok(None))
    }

    /// True if nothing is left to do for the client: it, or we, said the last word.
    pub fn is_finished(&self) -> bool {
        match self.state {
            State::Open => false,
            // What came before the end is answered, though it may have to wait.
            State::HalfClosed => self.outgoing.is_empty() && self.pending == 0 && self.has_ended(),
            State::Refused => self.outgoing.is_empty(),
        }
    }

    /// True if the client sent what is no frame, or was turned away.
    pub fn is_refused(&self) -> bool {
        self.state == State::Refused
    }

    /// Gives back memory that was needed for a moment.
    pub fn shrink(&mut self) {
        self.incoming.shrink();
    }

    /// Gives back all memory that is not needed, as on a connection that has gone quiet.
    pub fn release(&mut self) {
        self.incoming.release();
    }
}

impl InOrder {
    /// The answer to a request; `None` where answers need no order.
    fn of(&mut self, number: u64) -> Option<&mut (Vec<Chunk>, bool)> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.answers.get_mut(index)
    }

    /// Moves what is answered, and has nothing before it that is not.
    fn move_done(&mut self, outgoing: &mut Outgoing) {
        while let Some((chunks, _)) = self.answers.pop_front_if(|(_, done)| *done) {
            self.first += 1;
            for chunk in chunks {
                self.bytes -= chunk.len();
                outgoing.push(chunk);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Wire, decode};
    use crate::envelope::request;
    use crate::frame::HEADER_LEN;
    use crate::message::{DeleteTopics, Request};

    const LIMITS: ConnectionLimits =
        ConnectionLimits { max_frame: 1000, max_outgoing: 100, max_pending: 3 };

    fn feed(connection: &mut Connection, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let space = connection.space();
            let count = space.len().min(bytes.len());
            space[..count].copy_from_slice(&bytes[..count]);
            connection.received(count);
            bytes = &bytes[count..];
        }
    }

    fn delete(correlation: u32) -> bytes::Bytes {
        request(correlation, &DeleteTopics { names: vec!["a".into()] }, 0)
    }

    fn next_correlation(connection: &mut Connection) -> u32 {
        match connection.next_request().unwrap() {
            Some((_, Incoming::Own(frame))) => frame.header.correlation,
            other => panic!("{other:?}"),
        }
    }

    fn sent(connection: &mut Connection) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(Transmit::Bytes { slices, .. }) = connection.transmit() {
            let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            connection.sent(bytes.len() as u64);
            all.extend(bytes);
        }
        all
    }

    #[test]
    fn a_client_that_does_not_take_its_answers_is_not_asked_for_more() {
        let mut connection = Connection::new(LIMITS);
        feed(&mut connection, &[delete(1), delete(2), delete(3), delete(4)].concat());
        for correlation in 1..=3 {
            assert_eq!(next_correlation(&mut connection), correlation);
        }
        assert!(connection.next_request().unwrap().is_none(), "three are pending");
        connection.answered(0);
        connection.send(0, Chunk::Bytes(vec![0; 100].into()));
        assert!(connection.next_request().unwrap().is_none(), "100 bytes wait");
        assert!(!connection.wants_read());
        connection.sent(1);
        assert!(connection.next_request().unwrap().is_some());
    }

    #[test]
    fn a_client_that_ends_its_side_gets_its_answers() {
        let mut connection = Connection::new(LIMITS);
        feed(&mut connection, &delete(1));
        connection.received(0);
        assert!(connection.next_request().unwrap().is_some());
        assert!(!connection.is_finished());
        connection.send(0, Chunk::Bytes(vec![1].into()));
        connection.answered(0);
        assert!(!connection.is_finished());
        connection.sent(1);
        assert!(connection.is_finished());
    }

    /// A client that asked for much and then ended its side lost the requests that were held back
    /// while its answers waited, if these went all at once.
    #[test]
    fn what_was_held_back_is_answered_after_the_end_too() {
        let mut connection = Connection::new(LIMITS);
        feed(&mut connection, &[delete(1), delete(2)].concat());
        connection.received(0);
        assert!(connection.next_request().unwrap().is_some());
        connection.send(0, Chunk::Bytes(vec![0; 200].into()));
        connection.answered(0);
        assert!(connection.next_request().unwrap().is_none(), "held back");
        connection.sent(200);
        assert!(!connection.is_finished());
        assert_eq!(next_correlation(&mut connection), 2);
    }

    #[test]
    fn a_frame_that_is_too_large_is_refused_with_its_number() {
        let mut connection = Connection::new(LIMITS);
        feed(&mut connection, &request(77, &DeleteTopics { names: vec![] }, 1 << 31));
        assert!(matches!(
            connection.next_request(),
            Err(ProtocolError::Frame(FrameError::TooLarge { correlation: 77, .. }))
        ));
        assert!(connection.next_request().unwrap().is_none());
        assert!(!connection.wants_read() && !connection.is_finished());
        let answer = sent(&mut connection);
        let header = answer.first_chunk::<HEADER_LEN>().unwrap();
        let header = FrameHeader::parse(header, 1000).unwrap();
        assert!(header.failed && header.correlation == 77);
        let fault: Fault = decode(&answer[HEADER_LEN..]).unwrap();
        assert_eq!(fault.code, ErrorCode::MESSAGE_TOO_LARGE);
        assert!(connection.is_finished());
    }

    #[test]
    fn what_is_no_frame_ends_the_connection() {
        for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0, 0, 0, 2, 0, 18], &[0xff; 64]] {
            let mut connection = Connection::new(LIMITS);
            feed(&mut connection, bytes);
            assert!(connection.next_request().is_err());
            assert!(connection.is_finished());
        }
        let mut connection = Connection::new(LIMITS);
        let to = FrameHeader {
            response: false,
            failed: false,
            kind: DeleteTopics::KIND,
            version: 1,
            correlation: 1,
            fields_len: <u32 as Wire>::MIN_SIZE as u32,
            payload_len: 0,
        };
        feed(&mut connection, &crate::envelope::response(&to, &0u32, 0));
        assert_eq!(connection.next_request().unwrap_err(), ProtocolError::Response);
    }
    /// A request of Kafka's protocol.
    fn kafka(correlation: u8) -> [u8; 12] {
        [0, 0, 0, 8, 0, 18, 0, 0, 0, 0, 0, correlation]
    }

    #[test]
    fn answers_in_kafkas_protocol_go_out_in_the_order_of_their_requests() {
        let mut connection = Connection::new(LIMITS);
        feed(&mut connection, &[kafka(1), kafka(2), kafka(3), kafka(4)].concat());
        for number in 0..3 {
            let (found, Incoming::Kafka(body)) = connection.next_request().unwrap().unwrap() else {
                panic!("a frame of ours");
            };
            assert_eq!((found, body.last()), (number, Some(&(number as u8 + 1))));
        }
        connection.send(2, Chunk::Bytes(vec![30].into()));
        connection.answered(2);
        connection.send(1, Chunk::Bytes(vec![20].into()));
        connection.send(1, Chunk::Bytes(vec![21].into()));
        assert_eq!((sent(&mut connection), connection.outgoing_bytes()), (vec![], 3));
        connection.send(0, Chunk::Bytes(vec![10].into()));
        connection.answered(0);
        assert_eq!(sent(&mut connection), [10], "the second may have more to say");
        connection.answered(1);
        assert_eq!(sent(&mut connection), [20, 21, 30]);
        assert_eq!((connection.pending(), connection.outgoing_bytes()), (0, 0));
        let (number, _) = connection.next_request().unwrap().unwrap();
        connection.send(number, Chunk::Bytes(vec![40].into()));
        connection.answered(number);
        assert_eq!(sent(&mut connection), [40]);
    }

    /// What waits behind a long poll counts as what is to be sent: or a client could have it heap up.
    #[test]
    fn answers_that_wait_for_others_are_bounded() {
        let mut connection = Connection::new(LIMITS);
        feed(&mut connection, &[kafka(1), kafka(2), kafka(3)].concat());
        assert!(connection.next_request().unwrap().is_some());
        assert!(connection.next_request().unwrap().is_some());
        connection.send(1, Chunk::Bytes(vec![0; 100].into()));
        connection.answered(1);
        assert!(connection.is_congested() && !connection.wants_read());
        assert!(connection.next_request().unwrap().is_none());
    }
    /// A client of Kafka's took the words for the length of an answer, of 1.3 GB.
    #[test]
    fn who_is_turned_away_is_told_so_in_our_protocol_alone() {
        let away = || {
            let mut connection = Connection::new(LIMITS);
            connection.turn_away(Fault::new(ErrorCode::THROTTLING_QUOTA_EXCEEDED, "too many"));
            assert!(connection.next_request().unwrap().is_none() && !connection.is_finished());
            connection
        };
        let mut kafkas = away();
        feed(&mut kafkas, &kafka(1)[..1]);
        assert!(kafkas.next_request().unwrap().is_none());
        assert!(kafkas.is_finished() && sent(&mut kafkas).is_empty());
        let mut ours = away();
        feed(&mut ours, &delete(1));
        assert!(ours.next_request().unwrap().is_none() && ours.next_request().unwrap().is_none());
        let answer = sent(&mut ours);
        let fault: Fault = decode(&answer[HEADER_LEN..]).unwrap();
        assert_eq!(fault.code, ErrorCode::THROTTLING_QUOTA_EXCEEDED);
        assert!(ours.is_finished());
    }
}
