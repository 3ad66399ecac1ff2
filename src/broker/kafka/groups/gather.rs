//! Requests that name many groups, each of which is asked by itself: the last answer completes the response.

use std::sync::Arc;

use kafka_protocol::protocol::Encodable;
use mk_net::fault::Fault;
use parking_lot::Mutex;

use crate::broker::kafka::place::Place;
use crate::broker::reply::Reply;

/// A response whose parts come one by one.
pub struct Gather<P> {
    place: Place,
    parts: Mutex<Vec<Option<P>>>,
}

impl<P: Send + 'static> Gather<P> {
    /// One of so many parts, of which there is at least one.
    pub fn new(place: Place, count: usize) -> Arc<Gather<P>> {
        let parts = (0..count).map(|_| None).collect();
        Arc::new(Gather { place, parts: Mutex::new(parts) })
    }

    /// The reply to the question for one part. `translate` makes the part of its answer, `whole` the response of all.
    pub fn reply<A: Send + 'static, K: Encodable + 'static>(
        self: &Arc<Self>,
        index: usize,
        translate: impl FnOnce(Result<A, Fault>) -> P + Send + 'static,
        whole: fn(Vec<P>) -> K,
    ) -> Reply<A> {
        let gather = self.clone();
        Reply::kafka(self.place.index, self.place.to, move |answer, _| {
            let part = translate(answer);
            let mut parts = gather.parts.lock();
            if let Some(place) = parts.get_mut(index) {
                *place = Some(part);
            }
            if parts.iter().any(Option::is_none) {
                return None;
            }
            let parts = std::mem::take(&mut *parts);
            Some(gather.place.write(&whole(parts.into_iter().flatten().collect())))
        })
    }
}
