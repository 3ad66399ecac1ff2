//! Records that are on the disk when they are acknowledged, against a pwrite and an fdatasync of
//! the same bytes.
//!
//! A producer sends its next record when its last is acknowledged, so with one of them every
//! record costs a sync of its own. With more, those that come while a sync runs share the next.
//! What of the difference the network alone costs, an echo shows that syncs before it answers.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use mk_storage::Epoch;
use mk_storage::batch::CheckedBatch;
use mk_storage::disk::{Disk, MappedDisk};

use crate::common::{TestBroker, batch_of, produce_frame, read_head};
use crate::files::{FreshLog, Reserved};
use crate::{Goal, Plan, Row, median_of};

/// Bytes of a batch.
const SMALL: usize = 200;
const ACKS_ALL: i8 = -1;

pub fn rows(plan: Plan) -> Vec<Row> {
    let batch = batch_of(SMALL);
    // Of each producer.
    let records = plan.bytes >> 19;
    let disk: Arc<dyn Disk> = Arc::new(MappedDisk::start().unwrap());
    let broker = TestBroker::start(&[("log.flush.policy", "ack")]);
    let through_broker = |producers| through_broker(&broker, &batch, producers, records);
    let (mut bare, mut echo, mut engine) = (
        || write_and_sync(&batch, records),
        || echo_and_sync(&batch, records),
        || append_and_flush(&disk, &batch, records),
    );
    let (mut one, mut some, mut many) =
        (|| through_broker(1), || through_broker(16), || through_broker(128));
    let [bare, echo, engine, one, some, many] = plan
        .in_turns([&mut bare, &mut echo, &mut engine, &mut one, &mut some, &mut many])
        .map(|rates| median_of(&rates, |rate| *rate));
    let row = |name: &str, limit, ours, goal: Option<f64>| {
        let name = format!("durable {SMALL} B records, {name}");
        Row { name, limit, ours, unit: "/s", goal: goal.map(Goal::AtLeast) }
    };
    vec![
        row("append and flush vs bare fdatasync", bare, engine, Some(0.8)),
        row("1 producer vs bare fdatasync", bare, one, Some(0.8)),
        row("1 producer vs an echo that syncs", echo, one, None),
        row("16 producers vs bare fdatasync", bare, some, Some(0.8)),
        row("128 producers vs bare fdatasync", bare, many, Some(0.8)),
        row("16 producers vs 1", one, some, Some(1.0)),
        row("128 producers vs 16", some, many, Some(1.0)),
    ]
}

/// Records a second.
fn rate(records: u64, run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    records as f64 / start.elapsed().as_secs_f64()
}

fn write_and_sync(batch: &[u8], records: u64) -> f64 {
    let size = batch.len() as u64;
    let file = Reserved::new(records * size);
    rate(records, || {
        for n in 0..records {
            file.file.write_all_at(batch, n * size).unwrap();
            file.file.sync_data().unwrap();
        }
    })
}

/// The least that a server can do which syncs before it answers.
fn echo_and_sync(batch: &[u8], records: u64) -> f64 {
    let size = batch.len() as u64;
    let file = Reserved::new(records * size);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut received = vec![0; batch.len()];
            for n in 0..records {
                server.read_exact(&mut received).unwrap();
                file.file.write_all_at(&received, n * size).unwrap();
                file.file.sync_data().unwrap();
                server.write_all(&[1]).unwrap();
            }
        });
        rate(records, || {
            for _ in 0..records {
                client.write_all(batch).unwrap();
                client.read_exact(&mut [0]).unwrap();
            }
        })
    })
}

/// The engine alone, on this thread.
fn append_and_flush(disk: &Arc<dyn Disk>, batch: &[u8], records: u64) -> f64 {
    let fresh = FreshLog::new(disk);
    let batch = CheckedBatch::check(batch, 2 << 20).unwrap();
    rate(records, || {
        for _ in 0..records {
            let appended = fresh.log.append(&batch, Epoch(0), 0).unwrap();
            assert!(fresh.log.flush().unwrap() >= appended.next_offset);
        }
    })
}

/// The whole way: a connection for each producer, and a broker that syncs before it answers. One
/// thread serves all producers in turn; a sync answers many of them at once anyway.
fn through_broker(broker: &TestBroker, batch: &[u8], producers: u64, records: u64) -> f64 {
    broker.create("t");
    let frame = produce_frame("t", ACKS_ALL, batch);
    let mut connections: Vec<TcpStream> = (0..producers).map(|_| broker.connect()).collect();
    let rate = rate(producers * records, || {
        connections.iter_mut().for_each(|connection| connection.write_all(&frame).unwrap());
        for _ in 1..records {
            for connection in &mut connections {
                read_head(connection);
                connection.write_all(&frame).unwrap();
            }
        }
        connections.iter_mut().for_each(|connection| drop(read_head(connection)));
    });
    broker.delete("t");
    rate
}
