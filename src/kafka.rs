//! Formula 1 on Kafka: which streams and kinds there are, and the flags of every command that talks to a broker.

use anyhow::Result;
use clap::Args;
use pitwall_engine::graph::Graph;
use pitwall_engine::limits::Limits;
use pitwall_kafka::log::KafkaLog;
use pitwall_kafka::schemas::{RawStream, Streams};
use pitwall_schemas::log::SourceProgress;
use pitwall_schemas::raw::{Collection, RECORDS, Sample};
use pitwall_schemas::shared::KnownAtQuality;

use crate::settings::{Override, Settings};

/// Flags of every command that talks to Kafka.
#[derive(Debug, Args)]
#[group(id = "kafka_flags")]
pub(crate) struct Flags {
    /// Brokers, HOST:PORT, several with commas between [default: setting kafka.brokers, 127.0.0.1:19092].
    #[arg(long, value_name = "HOSTS")]
    brokers: Option<String>,
    /// What goes before every topic's name [default: setting kafka.prefix, nothing].
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
}

impl Flags {
    pub(crate) fn overrides(&self) -> Vec<Override> {
        let flags = [
            Override::of("kafka.brokers", "--brokers", self.brokers.as_ref()),
            Override::of("kafka.prefix", "--prefix", self.prefix.as_ref()),
        ];
        flags.into_iter().flatten().collect()
    }
}

/// OpenF1's collections and the facts of this program's graph.
pub(crate) fn streams(settings: &Settings) -> Result<Streams> {
    let schema = |name: &str| {
        let found = RECORDS.iter().find(|(record, _)| *record == name);
        found.expect("every collection is a record declared under schemas/avsc/raw").1.schema
    };
    let raw = Collection::ALL.iter().map(|collection| RawStream { name: collection.name(), schema: schema(collection.name()) }).collect();
    Ok(Streams { raw, kinds: pitwall_operators::graph(&settings.limits)?.kinds().to_vec() })
}

/// Opens the log that the settings name.
pub(crate) fn open(settings: &Settings) -> Result<KafkaLog> {
    let (block, half) = (settings.limits.block_bytes_max, settings.kafka.half_a_message());
    anyhow::ensure!(
        block <= half,
        "limits.block_bytes_max = {block}: a block and the record that fills it up are one message: at most {half} bytes, half of \
         kafka.message_bytes_max, or raise that"
    );
    Ok(KafkaLog::open(settings.kafka.clone(), streams(settings)?)?)
}

/// What makes the graph of a session, given where its source stands.
pub(crate) fn graph_of(limits: &Limits) -> impl Fn(&SourceProgress) -> Graph<Sample> + Send + Sync + 'static {
    let limits = limits.clone();
    move |source| {
        let quality = if source.is_reconstructed { KnownAtQuality::Reconstructed } else { KnownAtQuality::Received };
        let graph = pitwall_operators::graph(&limits).expect("a test builds the graph, so a released one is built");
        graph.for_session(source.session_key, 0, quality)
    }
}
