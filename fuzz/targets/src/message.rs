//! Fields of messages: what is read is written alike, byte for byte, and nothing else is read.

use std::fmt::Debug;

use mk_net::codec::{DecodeError, Wire, decode, encode};
use mk_net::envelope::{self, ResponseError, parse_response};
use mk_net::fault::Fault;
use mk_net::frame::{FrameHeader, HEADER_LEN, Kind};
use mk_net::message::{
    AddPartitions, AlterTopic, ApiVersions, ClusterEvents, CommitOffsets, CreateTopics,
    DeleteGroup, DeleteTopics, DescribeCluster, DescribeGroup, DescribeProgress, DescribeTopics,
    ElectLeaders, Fetch, FetchOffsets, FindCoordinator, GroupHeartbeat, InitProducerId, LeaveGroup,
    ListClients, ListGroups, ListOffsets, Metadata, MovePartitions, Produce, RegisterClient,
    Request, TrimTopic, WatchTopics,
};

use crate::edit::edit;
use crate::input::Input;

/// Bytes of a message that is made, at most about.
const MOST_BYTES: usize = 4096;

type Target = fn(&mut Input<'_>);

const KINDS: [(Kind, Target); 28] = [
    target::<ApiVersions>(),
    target::<Metadata>(),
    target::<CreateTopics>(),
    target::<DeleteTopics>(),
    target::<DescribeTopics>(),
    target::<AlterTopic>(),
    target::<AddPartitions>(),
    target::<Produce>(),
    target::<Fetch>(),
    target::<ListOffsets>(),
    target::<TrimTopic>(),
    target::<DescribeCluster>(),
    target::<ElectLeaders>(),
    target::<MovePartitions>(),
    target::<ClusterEvents>(),
    target::<InitProducerId>(),
    target::<FindCoordinator>(),
    target::<GroupHeartbeat>(),
    target::<LeaveGroup>(),
    target::<CommitOffsets>(),
    target::<FetchOffsets>(),
    target::<ListGroups>(),
    target::<DescribeGroup>(),
    target::<DeleteGroup>(),
    target::<DescribeProgress>(),
    target::<RegisterClient>(),
    target::<ListClients>(),
    target::<WatchTopics>(),
];
const _: () = assert!(KINDS.len() == Kind::ALL.len(), "every kind is here");

const fn target<R>() -> (Kind, Target)
where
    R: Request + PartialEq + Debug,
    R::Response: PartialEq + Debug,
{
    (R::KIND, request_and_response::<R>)
}

pub fn message(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (_, target) = input.pick(KINDS);
    target(&mut input);
}

fn request_and_response<R>(input: &mut Input<'_>)
where
    R: Request + PartialEq + Debug,
    R::Response: PartialEq + Debug,
{
    match input.below(3) {
        0 => {
            let request: R = some_message(input);
            let bytes = envelope::request(7, &request, 0);
            let (header, fields) = opened(&bytes);
            assert_eq!((header.kind, header.version), (R::KIND, R::VERSION));
            assert_eq!(decode::<R>(fields).as_ref(), Ok(&request));
        }
        1 => {
            let response: R::Response = some_message(input);
            let bytes = envelope::response(&request_header::<R>(), &response, 0);
            let (header, fields) = opened(&bytes);
            assert_eq!(parse_response::<R>(&header, fields).as_ref(), Ok(&response));
        }
        _ => {
            let fault: Fault = some_message(input);
            let bytes = envelope::failure(&request_header::<R>(), &fault);
            let (header, fields) = opened(&bytes);
            let answer = parse_response::<R>(&header, fields);
            assert_eq!(answer, Err(ResponseError::Fault(fault)));
        }
    }
}

fn request_header<R: Request>() -> FrameHeader {
    FrameHeader {
        response: false,
        failed: false,
        kind: R::KIND,
        version: R::VERSION,
        correlation: 7,
        fields_len: 0,
        payload_len: 0,
    }
}

/// Header and fields of a frame without payload.
fn opened(frame: &[u8]) -> (FrameHeader, &[u8]) {
    let (head, fields) = frame.split_first_chunk::<HEADER_LEN>().expect("a header");
    let header = FrameHeader::parse(head, u32::MAX).expect("a sound header");
    assert_eq!(header.body_len(), fields.len());
    (header, fields)
}

/// A message made of the input, and a look at what is near it.
fn some_message<T: Wire + PartialEq + Debug>(input: &mut Input<'_>) -> T {
    let edits = input.below(4);
    let cut = input.number();
    let mut changes = *input;
    let raw = changes.take(40);
    what_is_read_is_written_alike::<T>(raw);
    let bytes = mended::<T>(input.take(MOST_BYTES));
    let message = decode::<T>(&bytes).expect("mended");
    assert_eq!(encode(&message), bytes);
    nothing_less_and_nothing_more_is_read::<T>(&bytes, cut);
    let mut damaged = bytes;
    for _ in 0..edits {
        edit(&mut changes, &mut damaged);
        what_is_read_is_written_alike::<T>(&damaged);
    }
    message
}

/// So a message is no larger than its bytes: a list has no item that they do not have.
fn what_is_read_is_written_alike<T: Wire + PartialEq + Debug>(bytes: &[u8]) {
    if let Ok(message) = decode::<T>(bytes) {
        let written = encode(&message);
        assert_eq!(written, bytes);
        assert_eq!(decode::<T>(&written), Ok(message));
    }
}

fn nothing_less_and_nothing_more_is_read<T: Wire + PartialEq + Debug>(bytes: &[u8], cut: u64) {
    let extra = 1 + (cut % 5) as usize;
    let more = [bytes, &[0; 5][..extra]].concat();
    assert_eq!(decode::<T>(&more), Err(DecodeError::Extra { extra }));
    if let Some(cut) = cut.checked_rem(bytes.len() as u64) {
        let error = decode::<T>(&bytes[..cut as usize]).expect_err("the end is missing");
        assert!(matches!(error, DecodeError::Short { .. }), "{error}");
    }
}

/// Makes a message of any bytes: an error tells where it is and what is missing, so whatever it
/// names is put right, until there is none.
fn mended<T: Wire>(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut judged_at = 0;
    while let Err(error) = decode::<T>(&bytes).map(drop) {
        let at = mend(&mut bytes, &error);
        assert!(at >= judged_at, "{error} comes before what was put right at {judged_at}");
        judged_at = at;
    }
    bytes
}

/// Puts right what the error names; answers where.
fn mend(bytes: &mut Vec<u8>, error: &DecodeError) -> usize {
    match *error {
        DecodeError::Short { what: "list", at, needed, have } if needed - have > 256 => {
            let few = u32::from(bytes[at] % 4);
            bytes[at..at + 4].copy_from_slice(&few.to_le_bytes());
            at
        }
        DecodeError::Short { what: "text", at, needed, have } if needed - have > 256 => {
            bytes[at - 2..at].copy_from_slice(&(have as u16).to_le_bytes());
            at
        }
        DecodeError::Short { at, needed, have, .. } => {
            bytes.resize(bytes.len() + needed - have, 0);
            at
        }
        DecodeError::Invalid { at, .. } => {
            bytes[at] %= 2;
            at
        }
        DecodeError::NotUtf8 { at } => {
            let length = usize::from(u16::from_le_bytes([bytes[at - 2], bytes[at - 1]]));
            bytes[at..at + length].iter_mut().for_each(|byte| *byte &= 0x7f);
            at
        }
        DecodeError::Extra { extra } => {
            bytes.truncate(bytes.len() - extra);
            bytes.len()
        }
    }
}
