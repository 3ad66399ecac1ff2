//! The zookeeper as a process of its own: the node, the thread that hears, the server.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::JoinHandle;

use super::node::{Liveness, Node, NodeError, NodeSettings, Summary};
use super::server::serve;
use super::store::{RedbLog, StoreError};
use super::watch::{Watch, Watcher};
use crate::settings::ZooSettings;

/// What a zookeeper is started with.
#[derive(Clone, Debug)]
pub struct ZooConfig {
    /// HOST:PORT to listen on, TCP and UDP; port 0 is any that is free for both.
    pub listen: String,
    /// The data directory; made if there is none.
    pub data: PathBuf,
    /// Settings.
    pub settings: ZooSettings,
}

/// Why a zookeeper cannot begin, or has ended.
#[derive(Debug, thiserror::Error)]
pub enum ZooError {
    /// Its log.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its node.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The address cannot be listened on.
    #[error("cannot listen on '{address}': {source}\nhint: HOST:PORT, such as 127.0.0.1:2181")]
    Listen {
        /// As given.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The system refuses a thread.
    #[error("the system refuses a thread: {0}")]
    Thread(io::Error),
}

/// A zookeeper that runs.
#[derive(Debug)]
pub struct Zookeeper {
    address: SocketAddr,
    server: JoinHandle<()>,
    watcher: Watcher,
    node: Node,
}

/// Free ports that are tried until one is free for UDP as well.
const TRIES: u32 = 20;

impl Zookeeper {
    /// Begins to serve. Within a tokio runtime.
    pub fn start(config: &ZooConfig) -> Result<Zookeeper, ZooError> {
        let ZooSettings { patience, beat_interval, rebalance_after, defaults } =
            config.settings.clone();
        let log = RedbLog::open(&config.data)?;
        let wrong = |source| ZooError::Listen { address: config.listen.clone(), source };
        let (tcp, udp) = listen(&config.listen).map_err(wrong)?;
        let address = tcp.local_addr().map_err(wrong)?;
        tcp.set_nonblocking(true).map_err(wrong)?;
        let listener = tokio::net::TcpListener::from_std(tcp).map_err(wrong)?;

        let watch = Arc::new(Watch::new(patience));
        let liveness = Liveness::Watched(watch.clone());
        let session_timeout = patience.session;
        let settings = NodeSettings {
            liveness,
            cluster_id: None,
            defaults,
            beat_interval,
            session_timeout,
            rebalance_after,
        };
        let node = Node::start(Box::new(log), settings)?;
        let watcher = Watcher::start(watch, udp, node.handle().clone());
        let watcher = watcher.map_err(ZooError::Thread)?;
        let server = tokio::spawn(serve(listener, node.handle().clone()));
        Ok(Zookeeper { address, server, watcher, node })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has begun with.
    pub fn summary(&self) -> Summary {
        self.node.summary()
    }

    /// Waits until it has ended by itself; [`Zookeeper::stop`] says why.
    pub async fn ended(&self) {
        self.node.ended().await;
    }

    /// Ends it. Nobody is fenced for that.
    pub fn stop(self) -> Result<(), ZooError> {
        let Zookeeper { server, watcher, node, .. } = self;
        // First who would take the ends of the connections for those of the brokers.
        drop(watcher);
        let stopped = node.stop();
        server.abort();
        Ok(stopped?)
    }
}

fn listen(address: &str) -> io::Result<(TcpListener, UdpSocket)> {
    let addresses: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
    let mut tries = 0;
    loop {
        let tcp = TcpListener::bind(&addresses[..])?;
        tries += 1;
        match UdpSocket::bind(tcp.local_addr()?) {
            Ok(udp) => return Ok((tcp, udp)),
            Err(_) if address.ends_with(":0") && tries < TRIES => {}
            Err(error) => return Err(error),
        }
    }
}
