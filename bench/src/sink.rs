//! Committed facts in Kafka's topics to a CQL server, through a sink process of the released program: `-- sink`. Needs broker and CQL server
//! (`docker/services up kafka cassandra`) and the program (`cargo build --release`). Topics and keyspace stay until the services' data goes.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};
use pitwall_engine::log::StateStore;
use pitwall_kafka::log::KafkaLog;
use pitwall_kafka::partition;
use pitwall_scylla::options::Options;
use pitwall_scylla::store::ScyllaStore;

use crate::kafka::{Engine, command, deployment, ingest, program, start, until};

/// The port of `docker/services`.
const PORT: &str = "19042";
const SESSION: i32 = 9_920;

/// Measures how fast the facts of a race are stored.
pub(crate) fn sink(archive: &Path) -> Result<()> {
    let program = program()?;
    let deployment = deployment()?;
    let kafka = &deployment.options;
    let mut log = KafkaLog::open(kafka.clone(), deployment.streams.clone())?;
    ingest(archive, SESSION, &mut log)?;
    let engine = start(&program, kafka)?;
    until(|| Ok(log.standing(SESSION)?.filter(|standing| standing.is_closed)))?;
    let ends = log.fact_ends(partition::of(SESSION, kafka.partitions))?;
    let facts = ends.iter().find(|end| end.session_key == SESSION).context("the engine has committed facts")?.next_fact_seq;
    drop(engine);

    let port = std::env::var("SERVICES_CQL_PORT").unwrap_or_else(|_| PORT.to_owned());
    let options = Options {
        contact_points: vec![format!("127.0.0.1:{port}")],
        keyspace: kafka.prefix.replace(['-', '.'], "_"),
        ..Options::default()
    };
    let with_store = |mut command: Command| {
        command.env("PITWALL_SCYLLA__CONTACT_POINTS", options.contact_points.join(",")).env("PITWALL_SCYLLA__KEYSPACE", &options.keyspace);
        command
    };
    let mut migrate = Command::new(&program);
    migrate.arg("migrate").stdout(Stdio::null());
    anyhow::ensure!(with_store(migrate).status()?.success(), "start a CQL server with `docker/services up cassandra`");
    let mut store = ScyllaStore::open(options.clone())?;
    let _sink = Engine(with_store(command(&program, kafka, "sink")).stdout(Stdio::null()).spawn()?);
    let mut stored = |least: u64| until(|| Ok(Some(store.next_fact_seq(SESSION, 0)?).filter(|next| *next >= least)));
    let (before, begun) = (stored(1)?, Instant::now());
    stored(facts)?;
    let rate = (facts - before) as f64 / begun.elapsed().as_secs_f64();
    println!("Kafka's fact topics to CQL, one sink: {} facts in {:.2} s, {rate:.0} facts/s", facts - before, begun.elapsed().as_secs_f64());
    Ok(())
}
