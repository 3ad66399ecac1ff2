//! How a member of a group works.

use std::time::Duration;

use crate::client::consumer::ConsumerSettings;

/// When a record counts as done. What is not done when a member ends, or its partition goes to another, is
/// read again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acknowledge {
    /// When the next batches are asked for: whoever does has done with those before (at least once).
    #[default]
    Automatically,
    /// When the program says so: [`super::GroupConsumer::acknowledge`] (at least once).
    ByHand,
    /// Before it is handed out, which waits for the commit: a record comes once or never (at most once).
    BeforeDelivery,
}

/// How a member of a group works; Kafka's names.
#[derive(Clone, Debug)]
pub struct GroupSettings {
    /// `group.id`.
    pub group: String,
    /// `group.instance.id`: a name that outlives the process, for which the partitions are kept when it ends
    /// and comes back soon.
    pub instance_id: Option<String>,
    /// `group.remote.assignor`: `uniform` or `range`; none: it does not mind.
    pub assignor: Option<String>,
    /// When a record counts as done.
    pub acknowledge: Acknowledge,
    /// `auto.commit.interval.ms`: so often is committed what was done since. 1 s.
    pub commit_interval: Duration,
    /// `max.poll.interval.ms`: so long the program may take with what it was handed when a partition goes to
    /// another; then the other begins, with what was not done. 60 s.
    pub rebalance_timeout: Duration,
    /// How it reads.
    pub consumer: ConsumerSettings,
}

impl GroupSettings {
    /// The usual, for a group.
    pub fn of(group: &str) -> GroupSettings {
        GroupSettings {
            group: group.to_owned(),
            instance_id: None,
            assignor: None,
            acknowledge: Acknowledge::default(),
            commit_interval: Duration::from_secs(1),
            rebalance_timeout: Duration::from_secs(60),
            consumer: ConsumerSettings::default(),
        }
    }
}
