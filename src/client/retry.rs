//! The program's word in what is sent again.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::error::ClientError;

/// A batch that was not acknowledged and may be sent again.
#[derive(Clone, Copy, Debug)]
pub struct Retry<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// Its partition.
    pub partition: u32,
    /// How many records it has.
    pub records: u32,
    /// How often it was tried to send it, 1 at least; perhaps nobody was there to take it.
    pub attempts: u32,
    /// How long ago its first record was given to the producer.
    pub age: Duration,
    /// Why it is not acknowledged.
    pub error: &'a ClientError,
}

/// What is to become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryDecision {
    /// It is sent again, until the delivery timeout is over.
    SendAgain,
    /// Its records fail, with [`ClientError::TimedOut`] if they may be in the log, else with
    /// [`ClientError::NotDelivered`].
    GiveUp,
}

/// Asked before a batch is sent again. It must neither block nor use the producer, which is locked meanwhile; one
/// that panics counts as [`RetryDecision::SendAgain`].
#[derive(Clone)]
pub struct RetryInterceptor(Arc<dyn Fn(&Retry<'_>) -> RetryDecision + Send + Sync>);

impl RetryInterceptor {
    /// Asks this function.
    pub fn new(
        decide: impl Fn(&Retry<'_>) -> RetryDecision + Send + Sync + 'static,
    ) -> RetryInterceptor {
        RetryInterceptor(Arc::new(decide))
    }

    pub(super) fn decide(&self, retry: &Retry<'_>) -> RetryDecision {
        let decide = std::panic::AssertUnwindSafe(|| (self.0)(retry));
        std::panic::catch_unwind(decide).unwrap_or(RetryDecision::SendAgain)
    }
}

impl fmt::Debug for RetryInterceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RetryInterceptor")
    }
}
