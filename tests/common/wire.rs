//! Messages on the wire, without the client library.

#![allow(dead_code, reason = "each test file uses a part")]

use std::io::{Read, Write};
use std::net::TcpStream;

use mk_net::codec::decode;
use mk_net::envelope::request;
use mk_net::frame::{FrameHeader, HEADER_LEN};
use mk_net::message::Request;

/// Sends a message; the answer, and its payload.
pub fn exchange<T: Request>(stream: &mut TcpStream, message: &T) -> (T::Response, Vec<u8>) {
    stream.write_all(&request(1, message, 0)).unwrap();
    answer_to(stream, message)
}

/// The answer to a message that was sent.
pub fn answer_to<T: Request>(stream: &mut TcpStream, _: &T) -> (T::Response, Vec<u8>) {
    let mut head = [0; HEADER_LEN];
    stream.read_exact(&mut head).unwrap();
    let header = FrameHeader::parse(&head, 1 << 30).unwrap();
    assert!(!header.failed);
    let mut fields = vec![0; header.fields_len as usize];
    stream.read_exact(&mut fields).unwrap();
    let mut payload = vec![0; header.payload_len as usize];
    stream.read_exact(&mut payload).unwrap();
    (decode(&fields).unwrap(), payload)
}
