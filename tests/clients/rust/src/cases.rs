//! What the cases of both clients have in common: the records, and how a wait ends.

use std::collections::BTreeSet;
use std::fmt::{Debug, Display, Formatter};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

pub const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// The client cannot do this by nature; the text says why.
#[derive(Debug)]
pub struct NotApplicable(pub &'static str);

impl Display for NotApplicable {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for NotApplicable {}

pub type Field = (Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Vec<u8>)>);

/// Key, value and headers of the case fields.
pub fn fields() -> Vec<Field> {
    let bytes = |text: &str| Some(text.as_bytes().to_vec());
    let headers = vec![
        ("a".to_owned(), b"1".to_vec()),
        ("b".to_owned(), (0..=255).collect()),
        ("empty".to_owned(), vec![]),
    ];
    vec![
        (bytes("key"), bytes("value"), headers),
        (None, bytes("null key"), vec![]),
        (bytes("null value"), None, vec![]),
        (bytes("empty value"), bytes(""), vec![]),
        (bytes(""), bytes("empty key"), vec![]),
    ]
}

/// 900 KB that cannot be packed, by a generator of little ambition.
pub fn large() -> Vec<u8> {
    let mut state: u64 = 1;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..900_000).map(|_| next()).collect()
}

/// A value that shrinks, so that no producer sends it as it is.
pub fn packable(codec: &str, number: usize) -> Vec<u8> {
    format!("{codec} {number} ").repeat(50).into_bytes()
}

pub fn equal<T: PartialEq + Debug>(found: T, wanted: T, what: &str) -> Result<()> {
    let short = |value: &T| format!("{value:?}").chars().take(200).collect::<String>();
    ensure!(found == wanted, "{what}: found {}, wanted {}", short(&found), short(&wanted));
    eprintln!("{what}: as wanted");
    Ok(())
}

pub async fn until(what: &str, mut done: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(40);
    while !done().await? {
        ensure!(Instant::now() < end, "{what}: not within 40 s");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    eprintln!("{what}");
    Ok(())
}

/// The pace of the case failover: says when the leader may be killed, and ends 10 s later.
pub struct Pace {
    topic: String,
    acknowledged: Mutex<BTreeSet<usize>>,
    end: Mutex<Option<Instant>>,
}

impl Pace {
    pub fn new(topic: &str) -> Self {
        Self { topic: topic.to_owned(), acknowledged: Mutex::default(), end: Mutex::default() }
    }

    pub fn acknowledged(&self, number: usize) {
        self.acknowledged.lock().unwrap().insert(number);
    }

    pub fn going_on(&self) -> bool {
        let mut end = self.end.lock().unwrap();
        if end.is_none() && self.acknowledged.lock().unwrap().len() >= 100 {
            println!("ready {} 0", self.topic);
            *end = Some(Instant::now() + Duration::from_secs(10));
        }
        end.is_none_or(|end| Instant::now() < end)
    }

    pub fn verify(&self, found: &[usize]) -> Result<()> {
        let found: BTreeSet<usize> = found.iter().copied().collect();
        let acknowledged = self.acknowledged.lock().unwrap();
        eprintln!("{} acknowledged, {} found", acknowledged.len(), found.len());
        let missing: Vec<_> = acknowledged.difference(&found).take(10).copied().collect();
        equal(missing, vec![], "acknowledged and not there")
    }
}
