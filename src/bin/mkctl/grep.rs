//! `mkctl grep`.

use mk::client::Cluster;
use regex::bytes::RegexBuilder;

use crate::args::GrepArgs;
use crate::consume::{Plan, read};
use crate::format::Format;
use crate::outcome::Failure;

pub async fn run(cluster: &Cluster, args: GrepArgs) -> Result<(), Failure> {
    let format = Format::of(&args.output).map_err(Failure::Usage)?;
    let pattern = RegexBuilder::new(&args.pattern).case_insensitive(args.ignore_case).build();
    let pattern = pattern.map_err(|error| Failure::Usage(error.to_string()))?;
    let plan = Plan {
        topics: args.topics,
        start: args.offset,
        group: None,
        until_end: true,
        count: None,
        partitions: vec![],
        rack: String::new(),
    };
    let mut found = false;
    read(cluster, plan, |out, from, record| {
        let matches = |bytes: Option<&[u8]>| bytes.is_some_and(|bytes| pattern.is_match(bytes));
        let in_key = args.key && matches(record.key.as_deref());
        if (in_key || matches(record.value.as_deref())) != args.invert_match {
            found = true;
            format.print(out, from, record)?;
        }
        Ok(true)
    })
    .await?;
    if found { Ok(()) } else { Err(Failure::Reported) }
}
