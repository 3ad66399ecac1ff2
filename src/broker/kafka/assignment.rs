//! Brokers that a client chooses for new partitions. The cluster chooses them itself; a partition is moved afterwards.

use kafka_protocol::messages::BrokerId;
use mk_net::fault::{ErrorCode, Fault};

use crate::broker::shared::Shared;

/// An error unless these are the brokers that a partition gets anyway, as where there is one only.
pub fn check(shared: &Shared, replicas: &[BrokerId]) -> Result<(), Fault> {
    let state = shared.cluster.state();
    let mut brokers = state.brokers.keys();
    if let ([BrokerId(chosen)], Some(only), None) = (replicas, brokers.next(), brokers.next())
        && u32::try_from(*chosen) == Ok(*only)
    {
        return Ok(());
    }
    Err(refused(
        "the cluster chooses the brokers of new partitions: create them, and move them then",
    ))
}

/// What is said of an assignment that cannot be followed.
pub fn refused(what: impl Into<String>) -> Fault {
    Fault::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, what)
}
