//! What a broker is started with.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use mk_storage::directory::Identity;
use mk_storage::disk::{Disk, MappedDisk};
use std::sync::Arc;
use uuid::Uuid;

use crate::settings::BrokerSettings;

/// What a broker is started with.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// HOST:PORT to listen on; port 0 is any free one.
    pub listen: String,
    /// The data directory; made if there is none.
    pub data: PathBuf,
    /// HOST:PORT of the mini-zookeeper; none: the broker stands alone, and carries it inside.
    pub zoo: Option<String>,
    /// Settings.
    pub settings: BrokerSettings,
}

/// Why a broker cannot be started like this.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// An address that is none.
    #[error(
        "'{address}' is no address to listen on: {what}\nhint: HOST:PORT, such as 127.0.0.1:9092"
    )]
    Address {
        /// As given.
        address: String,
        /// What is wrong with it.
        what: String,
    },
    /// Clients cannot be told to connect to "every address".
    #[error(
        "listening on {address} says nothing about where clients find this broker\n\
         hint: --set advertised.listeners=HOST:PORT with the name clients use"
    )]
    Advertised {
        /// Where it listens.
        address: SocketAddr,
    },
    /// The data is another broker's.
    #[error(
        "broker.id is {asked}, but the data in {} is broker {found}'s\n\
         hint: leave broker.id away, or use another directory", data.display()
    )]
    BrokerId {
        /// The directory.
        data: PathBuf,
        /// As set.
        asked: u64,
        /// As found.
        found: u32,
    },
}

impl BrokerConfig {
    /// The address to listen on.
    pub(super) fn listen_address(&self) -> Result<SocketAddr, ConfigError> {
        let wrong = |what: String| ConfigError::Address { address: self.listen.clone(), what };
        let mut addresses =
            self.listen.to_socket_addrs().map_err(|error| wrong(error.to_string()))?;
        addresses.next().ok_or_else(|| wrong("the name has no address".to_owned()))
    }

    /// Host and port that clients are told.
    pub(super) fn advertised(&self, bound: SocketAddr) -> Result<(String, u16), ConfigError> {
        let text = self.settings.text("advertised.listeners");
        if text.is_empty() {
            if bound.ip().is_unspecified() {
                return Err(ConfigError::Advertised { address: bound });
            }
            return Ok((bound.ip().to_string(), bound.port()));
        }
        let wrong =
            |what: &str| ConfigError::Address { address: text.clone(), what: what.to_owned() };
        let (host, port) = text.rsplit_once(':').ok_or_else(|| wrong("it has no port"))?;
        let port = port.parse().map_err(|_| wrong("the port is no number up to 65535"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(wrong("it has no host"));
        }
        Ok((host.to_owned(), port))
    }

    /// A data directory keeps the id that it was made with.
    pub(super) fn check_id(&self, found: u32) -> Result<(), ConfigError> {
        let asked = self.settings.number("broker.id");
        if self.settings.is_default("broker.id") || asked == u64::from(found) {
            return Ok(());
        }
        Err(ConfigError::BrokerId { data: self.data.clone(), asked, found })
    }

    /// The identity of a new data directory. Of which cluster it is, a broker of one is told when it
    /// registers.
    pub(super) fn identity(&self) -> Identity {
        let broker_id = self.settings.number("broker.id") as u32;
        let cluster_id = match self.zoo {
            Some(_) => String::new(),
            None => Uuid::new_v4().to_string(),
        };
        Identity { cluster_id, broker_id }
    }

    pub(super) fn loops(&self) -> usize {
        match self.settings.number("num.network.threads") as usize {
            0 => std::thread::available_parallelism().map_or(1, |cores| cores.get().min(64)),
            count => count,
        }
    }

    pub(super) fn disk(&self) -> std::io::Result<Arc<dyn Disk>> {
        let reserve = self.settings.number("log.disk.reserve.bytes");
        Ok(Arc::new(MappedDisk::keeping(reserve)?))
    }
}
