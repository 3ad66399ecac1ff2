//! Who is connected, and what for.

use uuid::Uuid;

use super::message;

message! {
    /// A client says who it is, once on each of its connections.
    pub struct RegisterClient {
        /// What the program calls itself (`client.id`).
        pub client_id: String,
        /// The client library.
        pub software_name: String,
        /// Its version.
        pub software_version: String,
        /// Names the client itself, the same on all of its connections; nil: this connection is all of it.
        pub instance: Uuid,
        /// True if it produces or fetches over this connection: one that owes for bytes is held.
        pub carries_records: bool,
    }

    /// It is known until its last connection ends.
    pub struct RegisterClientResponse {}

    /// Which clients are connected to this broker?
    pub struct ListClients {}

    /// Those that have said who they are.
    pub struct ListClientsResponse {
        /// Each once, however many connections it has.
        pub clients: Vec<DescribedClient>,
    }

    /// A client.
    pub struct DescribedClient {
        /// What the program calls itself.
        pub client_id: String,
        /// The client library.
        pub software_name: String,
        /// Its version.
        pub software_version: String,
        /// The other end of its first connection, IP:PORT.
        pub address: String,
        /// How many connections it has.
        pub connections: u32,
        /// How long it has been connected, in milliseconds.
        pub connected_ms: u64,
        /// How long it has not asked for anything, in milliseconds.
        pub idle_ms: u64,
        /// Its group, if it reads as a member of one; empty: it does not.
        pub group: String,
        /// To which topics it has produced.
        pub produces: Vec<ClientTopic>,
        /// Of which topics it was given records.
        pub consumes: Vec<ConsumedTopic>,
        /// Requests that came, a second, over the last ten.
        pub requests_per_second: u64,
        /// Bytes of batches that came, a second, over the last ten.
        pub in_per_second: u64,
        /// Bytes of batches that went, a second, over the last ten.
        pub out_per_second: u64,
    }

    /// What a client has done with a topic since it is connected.
    pub struct ClientTopic {
        /// The topic.
        pub topic: String,
        /// Bytes of batches.
        pub bytes: u64,
    }

    /// What a client was given of a topic since it is connected.
    pub struct ConsumedTopic {
        /// The topic.
        pub topic: String,
        /// Bytes of batches.
        pub bytes: u64,
        /// How far it has been given each partition that it reads.
        pub delivered: Vec<DeliveredTo>,
    }

    /// How far a client has been given a partition.
    pub struct DeliveredTo {
        /// The partition.
        pub partition: u32,
        /// What it has asked for last: it was given all before.
        pub offset: u64,
    }
}
