//! Where a response of Kafka's protocol goes, and how it is written.

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use mk_net::event_loop::{Context, RequestId};
use mk_net::fault::{ErrorCode, Fault};
use mk_net::kafka::api::Api;
use mk_net::kafka::{frame, shape};
use mk_net::outgoing::Chunk;

use super::NoAnswer;
use crate::broker::note::Note;
use crate::broker::reply::{Reply, Written, give};
use crate::broker::shared::Shared;

/// Largest response, in bytes: clients do not read larger ones, and a length has 31 bits.
const MOST_RESPONSE: usize = 1 << 30;

/// Where the response to a request goes, and how it is written.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The loop.
    pub index: usize,
    /// The request.
    pub to: RequestId,
    /// What was asked for.
    pub api: &'static Api,
    /// In which version, which is served.
    pub version: i16,
    /// The response has it, too.
    pub correlation: i32,
}

impl Place {
    /// Reads a request's fields.
    pub fn read<K: Decodable>(self, fields: &[u8]) -> Result<K, NoAnswer> {
        let (name, version) = (self.api.name, self.version);
        let unreadable = |error: &dyn std::fmt::Display| {
            format!("{name} in version {version} cannot be read: {error}")
        };
        // What reads it reserves what a length claims.
        let length = shape::check(self.api.key, version, fields);
        let length = length.map_err(|error| unreadable(&error))?;
        let mut bytes = Bytes::copy_from_slice(fields.get(..length).unwrap_or(fields));
        K::decode(&mut bytes, version).map_err(|error| unreadable(&error))
    }

    /// Writes a response.
    pub fn write(self, response: &impl Encodable) -> Written {
        let (name, version) = (self.api.name, self.version);
        let mut bytes = BytesMut::new();
        response.encode(&mut bytes, version).map_err(|error| {
            format!("the response to {name} in version {version} cannot be written: {error}")
        })?;
        if bytes.len() > MOST_RESPONSE {
            let length = bytes.len();
            return Err(format!("the response to {name} would have {length} bytes"));
        }
        let mut writer = frame::response(self.api, self.version, self.correlation);
        writer.raw(&bytes);
        Ok(vec![Chunk::Bytes(frame::finish(writer, 0).into())])
    }

    /// Answers, in the connection's own loop.
    pub fn answer(self, context: &mut Context, response: &impl Encodable) {
        give(context, self.to, self.write(response));
    }

    /// Answers by way of the connection's loop.
    pub fn send(self, shared: &Shared, response: &impl Encodable) {
        let message = self.write(response);
        shared.mailboxes[self.index].send(Note::Reply { to: self.to, message });
    }

    /// The reply to one of our own requests, into which the request was turned; `translate` turns its answer back.
    pub fn reply<A: Send + 'static, K: Encodable>(
        self,
        translate: impl FnOnce(Result<A, Fault>) -> K + Send + 'static,
    ) -> Reply<A> {
        Reply::kafka(self.index, self.to, move |answer, _| Some(self.write(&translate(answer))))
    }
}

/// The number of an error, or 0.
pub fn code_of<T>(result: &Result<T, Fault>) -> i16 {
    result.as_ref().err().map_or(0, |fault| fault.code.0)
}

/// The number of an error of a coordinator, or 0. What is wrong with the offsets topic clients are told as Kafka tells
/// it: its coordinator is not there.
pub fn group_code_of<T>(result: &Result<T, Fault>) -> i16 {
    match result.as_ref().err().map(|fault| fault.code) {
        None => 0,
        Some(ErrorCode::NOT_ENOUGH_REPLICAS) => ErrorCode::COORDINATOR_NOT_AVAILABLE.0,
        Some(code) => code.0,
    }
}

/// A text as Kafka's messages have it.
pub fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}
