//! Settings of topics and brokers, with values as Kafka's clients read them: sizes are bytes and times milliseconds.

mod alter;
mod describe;
mod entry;
mod list;

use mk_net::fault::{ErrorCode, Fault};

pub use alter::{alter, alter_incrementally};
pub use describe::describe;
pub use entry::of_new_topic;

/// What has settings: `type` of Kafka's `ConfigResource`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resource {
    /// A topic, by its name.
    Topic,
    /// A broker, by its id; without one, what holds for all brokers.
    Broker,
    /// What a broker logs, by the broker's id.
    BrokerLogger,
}

impl Resource {
    /// What a request names by a number.
    fn of(number: i8) -> Result<Resource, Fault> {
        match number {
            2 => Ok(Resource::Topic),
            4 => Ok(Resource::Broker),
            8 => Ok(Resource::BrokerLogger),
            other => {
                let what = format!("resources of type {other} have no settings");
                Err(Fault::new(ErrorCode::INVALID_REQUEST, what))
            }
        }
    }
}
