//! `mkctl cluster`.

use mk::client::{Admin, Cluster};
use serde_json::json;

use crate::args::ClusterCommand;
use crate::outcome::Failure;
use crate::table;

pub async fn run(cluster: &Cluster, command: ClusterCommand) -> Result<(), Failure> {
    let ClusterCommand::Info { json } = command;
    let admin = Admin::new(cluster.clone());
    let versions = admin.api_versions().await?;
    let metadata = admin.metadata(None).await?;
    if json {
        let brokers: Vec<_> = metadata
            .brokers
            .iter()
            .map(|broker| json!({ "id": broker.id, "host": broker.host, "port": broker.port }))
            .collect();
        let line = json!({
            "cluster_id": metadata.cluster_id,
            "software": versions.software,
            "topics": metadata.topics.len(),
            "brokers": brokers,
        });
        table::print_json(&line)?;
        return Ok(());
    }
    let mut rows = vec![
        vec!["cluster".to_owned(), metadata.cluster_id],
        vec!["software".to_owned(), versions.software],
        vec!["topics".to_owned(), metadata.topics.len().to_string()],
    ];
    for broker in metadata.brokers {
        rows.push(vec![
            format!("broker {}", broker.id),
            format!("{}:{}", broker.host, broker.port),
        ]);
    }
    table::print(&["WHAT", "VALUE"], &rows)?;
    Ok(())
}
