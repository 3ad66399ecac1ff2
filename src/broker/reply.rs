//! Where answers go, and in which protocol.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use mk_net::codec::Wire;
use mk_net::envelope::{failure, response};
use mk_net::event_loop::{Context, RequestId};
use mk_net::fault::Fault;
use mk_net::frame::FrameHeader;
use mk_net::outgoing::Chunk;

use super::note::Note;
use super::shared::Shared;

/// Where an answer goes that is an `A`, or a fault. Whoever handles a request does not know in which protocol it came.
pub struct Reply<A> {
    /// The loop.
    index: usize,
    /// The request, on one of its connections.
    to: RequestId,
    form: Form<A>,
}

/// How an answer is written.
enum Form<A> {
    /// In our own protocol.
    Own(FrameHeader, fn(&FrameHeader, &A, usize) -> Bytes),
    /// In Kafka's.
    Kafka(Box<Encode<A>>),
}

/// An answer as it is sent; or why it cannot be written, which ends the connection: its client waits for it.
pub type Written = Result<Vec<Chunk>, String>;

/// Writes an answer, with a payload that is sent as it is. Nothing: it is a part of one that others complete.
type Encode<A> = dyn FnOnce(Result<A, Fault>, Vec<Chunk>) -> Option<Written> + Send;

/// An answer that is known, and is given once it is known whether it holds.
pub struct Kept {
    /// The loop.
    index: usize,
    to: RequestId,
    encode: Box<EncodeKept>,
}

/// Writes an answer that holds, or the fault in its place.
type EncodeKept = dyn FnOnce(Result<(), Fault>) -> Option<Written> + Send;

impl<A: Send + 'static> Reply<A> {
    /// The answer to a request of our own protocol.
    pub fn own(index: usize, to: RequestId, header: FrameHeader) -> Reply<A>
    where
        A: Wire,
    {
        Reply {
            index,
            to,
            form: Form::Own(header, |to, answer, payload| response(to, answer, payload)),
        }
    }

    /// The answer to a request of Kafka's protocol, or a part of it, written by `encode`.
    pub fn kafka(
        index: usize,
        to: RequestId,
        encode: impl FnOnce(Result<A, Fault>, Vec<Chunk>) -> Option<Written> + Send + 'static,
    ) -> Reply<A> {
        Reply { index, to, form: Form::Kafka(Box::new(encode)) }
    }

    /// Whose answer it is.
    pub fn to(&self) -> RequestId {
        self.to
    }

    /// Answers, in the connection's own loop.
    pub fn answer(self, context: &mut Context, answer: Result<A, Fault>) {
        if let Some(message) = self.form.encode(answer, Vec::new(), 0) {
            give(context, self.to, message);
        }
    }

    /// Answers with a payload of so many bytes.
    pub fn answer_with(self, context: &mut Context, answer: A, payload: Vec<Chunk>, bytes: u64) {
        if let Some(message) = self.form.encode(Ok(answer), payload, bytes) {
            give(context, self.to, message);
        }
    }

    /// Says that there is no answer. Whoever speaks Kafka's protocol learns by the end of its connection that what was
    /// asked for has failed.
    pub fn no_answer(self, context: &mut Context, failed: Option<&Fault>) {
        context.no_response(self.to);
        if let (Form::Kafka(_), Some(fault)) = (self.form, failed) {
            let why = format!("what nobody is to be told of has failed: {fault}");
            context.end(self.to.connection, why);
        }
    }

    /// Answers by way of the connection's loop.
    pub fn send(self, shared: &Shared, answer: Result<A, Fault>) {
        if let Some(message) = self.form.encode(answer, Vec::new(), 0) {
            shared.mailboxes[self.index].send(Note::Reply { to: self.to, message });
        }
    }

    /// Keeps an answer until it is known whether it holds.
    pub fn keep(self, answer: A) -> Kept {
        let Reply { index, to, form } = self;
        let encode =
            move |holds: Result<(), Fault>| form.encode(holds.map(|()| answer), Vec::new(), 0);
        Kept { index, to, encode: Box::new(encode) }
    }

    /// Lets the thread answer that may wait for the mini-zookeeper.
    pub fn later<R: Send + 'static>(
        self,
        shared: &Arc<Shared>,
        request: R,
        handle: impl FnOnce(&Arc<Shared>, R) -> Result<A, Fault> + Send + 'static,
    ) {
        let worker_shared = shared.clone();
        shared.admin.run(move || {
            let answer = handle(&worker_shared, request);
            self.send(&worker_shared, answer);
        });
    }
}

/// Gives an answer to its connection.
pub fn give(context: &mut Context, to: RequestId, message: Written) {
    match message {
        Ok(message) => context.respond(to, message),
        Err(why) => context.end(to.connection, why),
    }
}

impl<A> Form<A> {
    fn encode(
        self,
        answer: Result<A, Fault>,
        payload: Vec<Chunk>,
        payload_bytes: u64,
    ) -> Option<Written> {
        let (header, write) = match self {
            Form::Kafka(encode) => return encode(answer, payload),
            Form::Own(header, write) => (header, write),
        };
        let message = match answer {
            Ok(answer) => write(&header, &answer, payload_bytes as usize),
            Err(fault) => failure(&header, &fault),
        };
        let mut chunks = payload;
        chunks.insert(0, Chunk::Bytes(message));
        Some(Ok(chunks))
    }
}

impl Kept {
    /// The loop of its connection.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Whose answer it is.
    pub fn to(&self) -> RequestId {
        self.to
    }

    /// Answers, in the connection's own loop: it holds, or it does not.
    pub fn answer(self, context: &mut Context, holds: Result<(), Fault>) {
        if let Some(message) = (self.encode)(holds) {
            give(context, self.to, message);
        }
    }

    /// Answers by way of the connection's loop.
    pub fn send(self, shared: &Shared, holds: Result<(), Fault>) {
        if let Some(message) = (self.encode)(holds) {
            shared.mailboxes[self.index].send(Note::Reply { to: self.to, message });
        }
    }
}

impl<A> fmt::Debug for Reply<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("index", &self.index).field("to", &self.to).finish()
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("index", &self.index).field("to", &self.to).finish()
    }
}
