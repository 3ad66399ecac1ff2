//! clients CLIENT CASE BOOTSTRAP PREFIX: one case with one of Rust's Kafka clients.
//!
//! Exit code 0: passed; 3: not applicable; else failed. The last line on stdout says why.

mod cases;
mod librdkafka;
mod pure;

use std::process::ExitCode;

use cases::NotApplicable;
use rskafka::client::partition::Compression;

const PURE_CODECS: [(&str, Compression); 5] = [
    ("none", Compression::NoCompression),
    ("gzip", Compression::Gzip),
    ("snappy", Compression::Snappy),
    ("lz4", Compression::Lz4),
    ("zstd", Compression::Zstd),
];

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [client, case, bootstrap, prefix] = &arguments[..] else {
        println!("usage: clients CLIENT CASE BOOTSTRAP PREFIX");
        return ExitCode::from(2);
    };
    let topic = format!("{prefix}-{case}");
    let ended = match client.as_str() {
        "rdkafka" => librdkafka::run(case, bootstrap, &topic).await,
        "rskafka" => pure::run(case, bootstrap, &topic, &PURE_CODECS).await,
        _ => Err(anyhow::anyhow!("no client {client}")),
    };
    let Err(error) = ended else { return ExitCode::SUCCESS };
    println!("{}", format!("{error:#}").replace('\n', " "));
    if error.is::<NotApplicable>() { ExitCode::from(3) } else { ExitCode::FAILURE }
}
