//! Who the zookeeper is, and whom it hears.

use super::Liveness;
use super::run::{Machine, millis};
use crate::zoo::message::{DescribedBroker, Description};

impl Machine {
    pub(super) fn description(&self) -> Description {
        let state = &self.batch.state;
        let (watch, ignored_datagrams) = match &self.settings.liveness {
            Liveness::Embedded => (None, 0),
            Liveness::Watched(watch) => (Some(watch), watch.ignored()),
        };
        let brokers = state.brokers.iter().map(|(id, broker)| {
            let (ago, suspected) = watch.map_or((None, false), |watch| watch.describe(*id));
            let heard_ago_ms = ago.map(millis);
            let (epoch, fenced) = (broker.epoch, broker.fenced);
            DescribedBroker { id: *id, epoch, fenced, suspected, heard_ago_ms }
        });
        Description {
            software: env!("CARGO_PKG_VERSION").to_owned(),
            cluster_id: state.cluster_id,
            version: state.version,
            uptime_ms: millis(self.started.elapsed()),
            ignored_datagrams,
            brokers: brokers.collect(),
        }
    }
}
