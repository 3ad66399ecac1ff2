//! Leaves the group.

use std::time::Duration;

use mk_net::fault::ErrorCode;
use mk_net::message::LeaveGroup;
use tokio::task::JoinSet;
use tracing::warn;

use super::{Driver, Event};
use crate::client::error::ClientError;

/// So long it tries to say that it leaves; else the group finds out when the session ends.
const LEAVE_PATIENCE: Duration = Duration::from_secs(10);

impl Driver {
    /// Commits what is done, and leaves.
    pub(super) async fn leave(
        &mut self,
        under_way: &mut JoinSet<Event>,
    ) -> Result<(), ClientError> {
        // A word to join that arrives behind the word to leave would have it join for good.
        let joined = async {
            while self.membership.epoch() == 0
                && let Some(Ok(event)) = under_way.join_next().await
            {
                let _ = self.take_in(event, under_way);
            }
        };
        let _ = tokio::time::timeout(LEAVE_PATIENCE, joined).await;
        // Nor may an earlier commit arrive behind the last one.
        let settled = async {
            while self.is_committing
                && let Some(Ok(event)) = under_way.join_next().await
            {
                let _ = self.take_in(event, under_way);
            }
        };
        let _ = tokio::time::timeout(LEAVE_PATIENCE, settled).await;
        under_way.abort_all();
        let dues = self.ledger.lock().due();
        let committed = if dues.is_empty() || self.membership.epoch() <= 0 {
            Ok(())
        } else {
            let request = self.commit_of(&dues);
            let result = self.coordination.insist(&request).await;
            self.committed(&dues, result)
        };
        let request = LeaveGroup {
            group: self.settings.group.clone(),
            member: self.member.clone(),
            comes_back: self.settings.instance_id.is_some(),
        };
        let left = tokio::time::timeout(LEAVE_PATIENCE, self.coordination.insist(&request)).await;
        match left {
            Ok(Err(error)) if error.code() != Some(ErrorCode::UNKNOWN_MEMBER_ID) => {
                warn!(group = self.settings.group, %error, "could not say that it leaves");
            }
            Err(_) => warn!(group = self.settings.group, "could not say that it leaves"),
            _ => {}
        }
        committed.and_then(|()| self.tell_lost())
    }
}
