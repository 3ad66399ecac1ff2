//! A thread that closes what nobody has used for a while.

use std::sync::Arc;
use std::time::Duration;

use mk_storage::store::Store;

use super::background::Background;

/// Starts the thread, which sweeps once in every `interval`.
pub fn start(store: Arc<Store>, interval: Duration) -> std::io::Result<Background> {
    Background::start("mk-sweeper", move |mut ending| {
        while !ending.wait(interval) {
            store.sweep();
        }
    })
}
