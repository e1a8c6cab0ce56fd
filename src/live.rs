//! A session live in this process: data directory, session thread, replay and edge, as `demo` and `replay` run them.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use pitwall_archive::archive::Archive;
use pitwall_edge::Hub;
use pitwall_edge::replay::{ReplayControl, SPEED_MAX};
use pitwall_embedded::data::DataDirectory;
use pitwall_embedded::pace::Pace;
use pitwall_embedded::replay::{self, Replay, ReplayHandle};
use pitwall_embedded::runtime::{Runtime, SessionOptions};
use pitwall_embedded::sink::Sink;
use pitwall_engine::log::Committed;
use pitwall_engine::session::Session;
use pitwall_operators::race_clock::RaceClockOperator;
use pitwall_schemas::raw::Sample;

use crate::reader::LogReader;
use crate::settings::{Override, Settings};
use crate::source;

/// How often the session's thread and the replay are looked after.
const UPKEEP: Duration = Duration::from_millis(200);

/// Flags of every command that runs a session live.
#[derive(Debug, Args)]
#[group(id = "live_flags")]
pub(crate) struct Flags {
    /// Session seconds a second; `inf` waits for nothing [default: setting live.speed, 20].
    #[arg(long, value_name = "N")]
    speed: Option<f64>,
    /// Address to serve on; port 0 takes any free one [default: setting edge.listen, 127.0.0.1:8080].
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<std::net::SocketAddr>,
    /// Where log and state are kept [default: setting live.directory, pitwall-data].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Begin again: what the data directory holds is removed first.
    #[arg(long)]
    fresh: bool,
}

impl Flags {
    pub(crate) fn overrides(&self) -> Vec<Override> {
        let flags = [
            Override::of("live.speed", "--speed", self.speed),
            Override::of("edge.listen", "--listen", self.listen),
            Override::of("live.directory", "--data-dir", self.data_dir.as_ref()),
        ];
        flags.into_iter().flatten().collect()
    }
}

/// Replays `archive` through the live engine and serves it, until the process is told to stop.
pub(crate) fn run(archive: Archive, as_session: Option<i32>, flags: &Flags, settings: &Settings, out: &mut impl Write) -> Result<()> {
    if settings.live.speed.is_nan() || settings.live.speed <= 0.0 {
        bail!("--speed {}: a speed is a number above 0", settings.live.speed);
    }
    let asynchronous = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    asynchronous.block_on(serve(archive, as_session, flags, settings, out))
}

async fn serve(archive: Archive, as_session: Option<i32>, flags: &Flags, settings: &Settings, out: &mut impl Write) -> Result<()> {
    // A port that is in use is found before anything is touched.
    let taken = std::net::TcpListener::bind(settings.edge.listen);
    drop(taken.with_context(|| format!("cannot listen on {}: give another address with --listen HOST:PORT", settings.edge.listen))?);
    let directory = &settings.live.directory;
    if flags.fresh {
        DataDirectory::remove(directory)?;
    }
    let kinds = pitwall_operators::graph(&settings.limits)?.kinds().to_vec();
    let data = DataDirectory::open(directory, &kinds, settings.data.clone())?;
    let sink = Arc::new(Sink::start(data.log.clone(), data.store.clone())?);
    let reader = Arc::new(LogReader { log: data.log.clone(), store: data.store, sink: sink.clone(), limits: settings.limits.clone() });
    let hub = Hub::new(settings.edge.clone());
    for session in data.log.catalogue()? {
        let readers = data.log.readers(session.session_key)?;
        let readers = readers.with_context(|| format!("session {} has no commit", session.session_key))?;
        hub.open(session.session_key, &readers.head, &*reader)?;
        hub.roll_back(session.session_key, readers.instead_of);
    }

    let session_key = as_session.unwrap_or_else(|| archive.session_key());
    let announced = hub.clone();
    let observer = move |committed: &Committed<'_>| announced.committed(committed);
    let (quality, limits) = (archive.quality(), settings.limits.clone());
    let graph = move || {
        let graph = pitwall_operators::graph(&limits).expect("a test builds the graph, so a released one is built");
        graph.for_session(session_key, 0, quality)
    };
    let mut options = SessionOptions::replayed(session_key, archive.source_id());
    options.limits = settings.limits.clone();
    let runtime = Runtime::start(data.log.clone(), options, graph, observer, Some(sink.pending()))
        .with_context(|| format!("{}: session {session_key} cannot go on (--fresh begins again)", directory.display()))?;
    let samples = archive.samples();
    let resumed_at = runtime.next_ingest_seq();
    let replay = start_replay(archive, as_session, &runtime, settings)?;
    hub.set_replay(session_key, Some(Arc::new(Steered(replay.handle()))));
    let bound = pitwall_edge::bind(hub.clone(), reader).await?;
    hub.set_ready();
    let how = match resumed_at as u64 {
        0 => "from the start".to_owned(),
        at if at >= samples => "complete: --fresh begins again".to_owned(),
        at => format!("going on at sample {at} of {samples}"),
    };
    writeln!(out, "PitWall: session {session_key}, {samples} samples, {}x, {how}", settings.live.speed)?;
    writeln!(out, "open http://{}", bound.address())?;
    out.flush()?;

    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let server = tokio::spawn(bound.serve(async move {
        let _ = stopped.wait_for(|stopped| *stopped).await;
    }));
    let replay = until_told_to_stop(&runtime, replay).await;
    let _ = stop.send(true);
    // The replay ends first, so that nothing new comes; then what came is committed; the edge goes when its clients have been told.
    drop(replay);
    let ended = runtime.stop();
    server.await?;
    ended?;
    Ok(())
}

/// Starts the replay where the session's log ends; what lies before lights out goes in at once.
fn start_replay(mut archive: Archive, as_session: Option<i32>, runtime: &Runtime, settings: &Settings) -> Result<Replay> {
    let for_start = Session::new(archive.session_key(), source::graph_of(&archive, 0, &settings.limits), settings.limits.clone());
    let has_started = |session: &Session<Sample>| session.state_of::<RaceClockOperator>().is_some_and(|clock| clock.started_at().is_some());
    let lights_out = replay::first_sample_where(&mut archive, for_start, has_started)?.unwrap_or(0);
    let pace = Pace { silence_ms_max: settings.live.silence_ms_max, ..Pace::at(settings.live.speed) }.starting_at(lights_out);
    let (samples, next) = (archive.samples(), runtime.next_ingest_seq());
    archive.seek(next as u64);
    Ok(Replay::start(archive, samples, next, runtime.ingest(), pace, as_session.map(replay::filed_under))?)
}

/// Waits for Ctrl-C, SIGTERM or the end of the session's thread.
async fn until_told_to_stop(runtime: &Runtime, replay: Replay) -> Option<Replay> {
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).ok();
    let mut upkeep = tokio::time::interval(UPKEEP);
    let mut replay = Some(replay);
    loop {
        let terminate = async {
            match &mut terminated {
                Some(signal) => drop(signal.recv().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return replay,
            () = terminate => return replay,
            _ = upkeep.tick() => {
                if runtime.is_stopped() {
                    return replay;
                }
                if let Some(Err(error)) = replay.take_if(|replay| replay.is_finished()).map(Replay::join) {
                    tracing::error!(%error, "the replay ends early; what it gave is kept and served");
                }
            }
        }
    }
}

/// A replay as the edge steers it.
struct Steered(ReplayHandle);

impl ReplayControl for Steered {
    fn status(&self) -> pitwall_edge::replay::Replay {
        let progress = self.0.progress();
        pitwall_edge::replay::Replay {
            speed: progress.speed.min(SPEED_MAX),
            is_paused: progress.is_paused,
            samples: progress.samples,
            ingested: progress.ingested,
        }
    }

    fn set_speed(&self, speed: f64) {
        if let Err(error) = self.0.set_speed(speed) {
            tracing::warn!(%error, "the replay keeps its speed");
        }
    }

    fn set_paused(&self, is_paused: bool) {
        self.0.set_paused(is_paused);
    }
}
