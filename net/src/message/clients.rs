//! Who is connected, and what for.

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
    }

    /// It is known until its connection ends.
    pub struct RegisterClientResponse {}

    /// Which clients are connected to this broker?
    pub struct ListClients {}

    /// Those that have said who they are.
    pub struct ListClientsResponse {
        /// One a connection.
        pub clients: Vec<DescribedClient>,
    }

    /// A connection of a client.
    pub struct DescribedClient {
        /// What the program calls itself.
        pub client_id: String,
        /// The client library.
        pub software_name: String,
        /// Its version.
        pub software_version: String,
        /// The other end of the connection, IP:PORT.
        pub address: String,
        /// How long it has been connected, in milliseconds.
        pub connected_ms: u64,
        /// How long it has not asked for anything, in milliseconds.
        pub idle_ms: u64,
        /// Its group, if it reads as a member of one; empty: it does not.
        pub group: String,
        /// To which topics it has produced.
        pub produces: Vec<ClientTopic>,
        /// Of which topics it was given records.
        pub consumes: Vec<ClientTopic>,
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
}
