//! temp
use std::sync::Arc;
use mk_storage::directory::DataDirectory;
use super::super::config::BrokerConfig;
use super::super::server::StartError;
use super::super::shared::Shared;
use super::*;
pub struct Member { pub in_sync: InSync, pub replicator: Replicator }
impl Member { pub fn start(shared: &Arc<Shared>, queues: Queues, _: &BrokerConfig, _: &DataDirectory) -> Result<Member, StartError> {
  let _f = Following::new(shared.clone(), || {});
  Ok(Member { in_sync: InSync::start(shared.clone(), queues.proposals)?, replicator: Replicator::start(shared.clone(), queues.follows)? }) } }
