//! Idempotent producers (KIP-98). There are no transactions.

use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};
use mk_net::event_loop::Context;
use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{self, InitProducerId};

use super::NoAnswer;
use super::place::{Place, code_of};
use crate::broker::produce;

/// Makes a producer. Who asks for another epoch of an id that it has gets another id, as from Kafka.
pub fn init(context: &mut Context, place: Place, fields: &[u8]) -> Result<(), NoAnswer> {
    let request: InitProducerIdRequest = place.read(fields)?;
    let made = match request.transactional_id {
        Some(_) => Err(no_transactions()),
        None => produce::init_producer(&InitProducerId { client_id: String::new() }),
    };
    let answer = InitProducerIdResponse::default().with_error_code(code_of(&made));
    let answer = match made {
        Ok(message::InitProducerIdResponse { producer_id, producer_epoch }) => {
            answer.with_producer_id(producer_id.into()).with_producer_epoch(producer_epoch)
        }
        Err(_) => answer.with_producer_id((-1).into()).with_producer_epoch(-1),
    };
    place.answer(context, &answer);
    Ok(())
}

/// What is said to whoever begins a transaction.
pub fn no_transactions() -> Fault {
    Fault::new(ErrorCode::INVALID_REQUEST, "there are no transactions: leave transactional.id out")
}
