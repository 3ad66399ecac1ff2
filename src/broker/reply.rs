//! Where answers go, and in which protocol.

use std::fmt;
use std::sync::Arc;

use mk_net::envelope::{failure, response};
use mk_net::event_loop::{Context, RequestId};
use mk_net::fault::Fault;
use mk_net::frame::FrameHeader;
use mk_net::message::Request;
use mk_net::outgoing::Chunk;

use super::note::Note;
use super::shared::Shared;

/// Where the answer to a request goes. Whoever handles a request does not know in which protocol it came.
pub struct Reply<R: Request> {
    /// The loop.
    index: usize,
    /// The request, on one of its connections.
    to: RequestId,
    form: Form<R>,
}

/// How an answer is written.
enum Form<R: Request> {
    /// In our own protocol.
    Own(FrameHeader),
    /// In Kafka's.
    Kafka(Box<Encode<R>>),
}

/// Writes an answer, with a payload that is sent as it is.
type Encode<R> =
    dyn FnOnce(Result<<R as Request>::Response, Fault>, Vec<Chunk>) -> Vec<Chunk> + Send;

/// An answer that is known, and is given once it is known whether it holds.
pub struct Kept {
    /// The loop.
    index: usize,
    to: RequestId,
    encode: Box<dyn FnOnce(Result<(), Fault>) -> Vec<Chunk> + Send>,
}

impl<R: Request> Reply<R> {
    /// The answer to a request of our own protocol.
    pub fn own(index: usize, to: RequestId, header: FrameHeader) -> Reply<R> {
        Reply { index, to, form: Form::Own(header) }
    }

    /// The answer to a request of Kafka's protocol, written by `encode`.
    pub fn kafka(
        index: usize,
        to: RequestId,
        encode: impl FnOnce(Result<R::Response, Fault>, Vec<Chunk>) -> Vec<Chunk> + Send + 'static,
    ) -> Reply<R> {
        Reply { index, to, form: Form::Kafka(Box::new(encode)) }
    }

    /// Whose answer it is.
    pub fn to(&self) -> RequestId {
        self.to
    }

    /// Answers, in the connection's own loop.
    pub fn answer(self, context: &mut Context, answer: Result<R::Response, Fault>) {
        context.respond(self.to, self.form.encode(answer, Vec::new(), 0));
    }

    /// Answers with a payload of so many bytes.
    pub fn answer_with(
        self,
        context: &mut Context,
        answer: R::Response,
        payload: Vec<Chunk>,
        bytes: u64,
    ) {
        context.respond(self.to, self.form.encode(Ok(answer), payload, bytes));
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
    pub fn send(self, shared: &Shared, answer: Result<R::Response, Fault>) {
        let message = self.form.encode(answer, Vec::new(), 0);
        shared.mailboxes[self.index].send(Note::Reply { to: self.to, message });
    }

    /// Keeps an answer until it is known whether it holds.
    pub fn keep(self, answer: R::Response) -> Kept {
        let Reply { index, to, form } = self;
        let encode =
            move |holds: Result<(), Fault>| form.encode(holds.map(|()| answer), Vec::new(), 0);
        Kept { index, to, encode: Box::new(encode) }
    }

    /// Lets the thread answer that may wait for the mini-zookeeper.
    pub fn later(
        self,
        shared: &Arc<Shared>,
        request: R,
        handle: impl FnOnce(&Arc<Shared>, R) -> Result<R::Response, Fault> + Send + 'static,
    ) {
        let worker_shared = shared.clone();
        shared.admin.run(move || {
            let answer = handle(&worker_shared, request);
            self.send(&worker_shared, answer);
        });
    }
}

impl<R: Request> Form<R> {
    fn encode(
        self,
        answer: Result<R::Response, Fault>,
        payload: Vec<Chunk>,
        payload_bytes: u64,
    ) -> Vec<Chunk> {
        let header = match self {
            Form::Kafka(encode) => return encode(answer, payload),
            Form::Own(header) => header,
        };
        let message = match answer {
            Ok(answer) => response(&header, &answer, payload_bytes as usize),
            Err(fault) => failure(&header, &fault),
        };
        let mut chunks = payload;
        chunks.insert(0, Chunk::Bytes(message));
        chunks
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
        context.respond(self.to, (self.encode)(holds));
    }

    /// Answers by way of the connection's loop.
    pub fn send(self, shared: &Shared, holds: Result<(), Fault>) {
        let (to, message) = (self.to, (self.encode)(holds));
        shared.mailboxes[self.index].send(Note::Reply { to, message });
    }
}

impl<R: Request> fmt::Debug for Reply<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("index", &self.index).field("to", &self.to).finish()
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("index", &self.index).field("to", &self.to).finish()
    }
}
