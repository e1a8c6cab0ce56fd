//! Settings: defaults, one TOML file, the environment and flags, each above the one before, and where each value came from.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use clap::ValueEnum;
use pitwall_archive::facts::Format;
use pitwall_engine::limits::Limits;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

/// The file read when no other is named.
const FILE: &str = "pitwall.toml";
/// What every environment variable of ours begins with; `__` stands between section and key.
const PREFIX: &str = "PITWALL_";
/// Names the file; no setting itself.
const FILE_VARIABLE: &str = "PITWALL_CONFIG";

/// Everything that can be set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) log: Log,
    pub(crate) backtest: Backtest,
    pub(crate) live: Live,
    pub(crate) ingest: Ingest,
    pub(crate) data: pitwall_embedded::data::Options,
    pub(crate) edge: pitwall_edge::Options,
    pub(crate) kafka: pitwall_kafka::options::Options,
    pub(crate) scylla: pitwall_scylla::options::Options,
    pub(crate) redis: pitwall_redis::options::Options,
    pub(crate) limits: Limits,
}

/// How sessions run live.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Live {
    /// Where log and state are kept.
    pub(crate) directory: PathBuf,
    /// Session seconds a second in a replay.
    pub(crate) speed: f64,
    /// Silences of a replay longer than this are shortened to it, ms of session time.
    pub(crate) silence_ms_max: i64,
}

impl Default for Live {
    fn default() -> Self {
        Self { directory: PathBuf::from("pitwall-data"), speed: 20.0, silence_ms_max: 5_000 }
    }
}

/// What is fed into Kafka's raw topics, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Ingest {
    /// Session archives that the role `ingest` feeds, one after the other.
    pub(crate) archives: Vec<PathBuf>,
    /// Session seconds a second; `inf` waits for nothing.
    pub(crate) speed: f64,
    /// Raw records of one transaction. Then it is committed, and the next begins.
    pub(crate) batch_records_max: usize,
}

impl Default for Ingest {
    fn default() -> Self {
        Self { archives: Vec::new(), speed: f64::INFINITY, batch_records_max: 10_000 }
    }
}

/// What is said about the work itself, on standard error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Log {
    pub(crate) level: LogLevel,
    pub(crate) format: LogFormat,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogLevel {
    Off,
    Error,
    #[default]
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Text, coloured on a terminal.
    #[default]
    Auto,
    /// Text without colours.
    Text,
    /// One JSON object a line.
    Json,
}

/// How backtests run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Backtest {
    pub(crate) jobs: NonZeroUsize,
    pub(crate) format: Format,
    pub(crate) batch: NonZeroUsize,
}

impl Default for Backtest {
    fn default() -> Self {
        const BATCH: NonZeroUsize = NonZeroUsize::new(8_192).expect("not zero");
        Self { jobs: NonZeroUsize::MIN, format: Format::default(), batch: BATCH }
    }
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    Default,
    File(PathBuf),
    Variable(String),
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("default"),
            Self::File(path) => write!(formatter, "{}", path.display()),
            Self::Variable(name) => formatter.write_str(name),
            Self::Flag(name) => formatter.write_str(name),
        }
    }
}

/// A value that a flag sets.
#[derive(Debug, Clone)]
pub(crate) struct Override {
    pub(crate) key: String,
    pub(crate) value: Value,
    pub(crate) flag: &'static str,
}

impl Override {
    /// One for a flag that was given.
    pub(crate) fn of(key: &str, flag: &'static str, value: Option<impl Serialize>) -> Option<Self> {
        let value = value.map(|value| Value::try_from(value).expect("flags are plain data"))?;
        Some(Self { key: key.to_owned(), value, flag })
    }
}

/// Settings with the origin of each.
#[derive(Debug)]
pub(crate) struct Effective {
    pub(crate) settings: Settings,
    pub(crate) origins: BTreeMap<String, (Value, Origin)>,
}

/// Puts the layers together.
pub(crate) fn load(file: Option<&Path>, variables: impl Iterator<Item = (String, String)>, flags: Vec<Override>) -> Result<Effective> {
    let defaults = Table::try_from(Settings::default()).expect("settings are plain data");
    let mut layers = Layers { leaves: BTreeMap::new() };
    layers.add_defaults(&defaults);
    let mut variables: Vec<_> = variables.filter(|(name, _)| name.starts_with(PREFIX)).collect();
    variables.sort();
    let named = variables.iter().find(|(name, _)| name == FILE_VARIABLE).map(|(_, path)| PathBuf::from(path));
    layers.add_file(file.map(Path::to_owned).or(named))?;
    for (name, text) in variables.into_iter().filter(|(name, _)| name != FILE_VARIABLE) {
        let key = name[PREFIX.len()..].to_lowercase().replace("__", ".");
        let value = layers.read_like(&key, &text);
        layers.set(&key, value, &Origin::Variable(name))?;
    }
    for flag in flags {
        let value = match &flag.value {
            Value::String(text) => layers.read_like(&flag.key, text),
            value => value.clone(),
        };
        layers.set(&flag.key, value, &Origin::Flag(flag.flag))?;
    }
    let settings = layers.settings()?;
    Ok(Effective { settings, origins: layers.leaves })
}

struct Layers {
    leaves: BTreeMap<String, (Value, Origin)>,
}

impl Layers {
    fn add_defaults(&mut self, defaults: &Table) {
        for (section, values) in defaults {
            for (key, value) in values.as_table().into_iter().flatten() {
                self.leaves.insert(format!("{section}.{key}"), (value.clone(), Origin::Default));
            }
        }
    }

    /// The file named, which must be there, or the one in the working directory, which need not.
    fn add_file(&mut self, named: Option<PathBuf>) -> Result<()> {
        let is_named = named.is_some();
        let path = named.unwrap_or_else(|| PathBuf::from(FILE));
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound && !is_named => return Ok(()),
            text => text.with_context(|| path.display().to_string())?,
        };
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].lines().count().max(1));
            anyhow!("{}: line {line} is not TOML: {}", path.display(), error.message().lines().next().unwrap_or_default())
        })?;
        let origin = Origin::File(path);
        for (section, values) in table {
            match values {
                Value::Table(values) => {
                    for (key, value) in values {
                        self.set(&format!("{section}.{key}"), value, &origin)?;
                    }
                }
                value => self.set(&section, value, &origin)?,
            }
        }
        Ok(())
    }

    /// Reads a text as the kind of value that `key` has; the text itself when it cannot be, so that [`set`](Self::set) says so.
    fn read_like(&self, key: &str, text: &str) -> Value {
        let parsed = match self.leaves.get(key) {
            Some((Value::Integer(_), _)) => text.replace('_', "").parse().ok().map(Value::Integer),
            Some((Value::Boolean(_), _)) => text.parse().ok().map(Value::Boolean),
            Some((Value::Float(_), _)) => text.parse().ok().map(Value::Float),
            // As in the file, for items with commas in them.
            Some((Value::Array(_), _)) if text.trim_start().starts_with('[') => {
                format!("items = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("items"))
            }
            Some((Value::Array(_), _)) => {
                Some(Value::Array(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(Value::from).collect()))
            }
            _ => None,
        };
        parsed.unwrap_or_else(|| Value::String(text.to_owned()))
    }

    fn set(&mut self, key: &str, value: Value, origin: &Origin) -> Result<()> {
        let Some((old, _)) = self.leaves.get(key) else {
            bail!("{origin}: there is no setting `{key}`: did you mean {}?", self.nearest(key, origin));
        };
        refuse_secret(key, &value).with_context(|| origin.to_string())?;
        if old.type_str() != value.type_str() {
            bail!("{origin}: {key} = {value}: {} is needed, not {}", with_article(old.type_str()), with_article(value.type_str()));
        }
        let minimum = minimum_of(key);
        if let (Some(minimum), Value::Integer(number)) = (minimum, &value)
            && *number < minimum
        {
            bail!("{origin}: {key} = {number}: it must be {minimum} or more");
        }
        let shown = value.to_string();
        self.leaves.insert(key.to_owned(), (value, origin.clone()));
        // Names among a few are only known to the types themselves.
        self.settings().map(drop).map_err(|error| anyhow!("{origin}: {key} = {shown}: {error}"))
    }

    fn settings(&self) -> Result<Settings> {
        let mut table = Table::new();
        for (key, (value, _)) in &self.leaves {
            let (section, key) = key.split_once('.').expect("every key is in a section");
            let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            section.as_table_mut().expect("sections are tables").insert(key.to_owned(), value.clone());
        }
        table.try_into().map_err(|error: toml::de::Error| anyhow!("{}", error.message().lines().next().unwrap_or_default()))
    }

    /// The valid key most like `key`, written as its origin would write it.
    fn nearest(&self, key: &str, origin: &Origin) -> String {
        let leaf = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
        let distance = |known: &String| {
            let whole = strsim::damerau_levenshtein(known, key);
            // A right name in the wrong section is nearer than a wrong name in the right one.
            whole.min(strsim::damerau_levenshtein(&leaf(known), &leaf(key)) + 1)
        };
        let nearest = self.leaves.keys().min_by_key(|known| distance(known)).cloned().unwrap_or_default();
        match origin {
            Origin::Variable(_) => variable_of(&nearest),
            _ => format!("`{nearest}`"),
        }
    }
}

/// The environment variable of a setting.
pub(crate) fn variable_of(key: &str) -> String {
    format!("{PREFIX}{}", key.to_uppercase().replace('.', "__"))
}

/// Settings are shown, by `pitwall config` and in errors, so a secret is none of them: it lies in a file that a setting names.
fn refuse_secret(key: &str, value: &Value) -> Result<()> {
    let texts = value.as_array().into_iter().flatten().chain([value]).filter_map(Value::as_str);
    for text in texts {
        match key {
            "kafka.properties" if text.split_once('=').is_some_and(|(name, _)| is_secret_property(name.trim())) => {
                let name = text.split('=').next().unwrap_or_default().trim();
                bail!(
                    "{key}: {name} would be shown: write its value into a file and name that in kafka.property_files = [\"{name}=FILE\"]"
                );
            }
            "redis.url" if text.contains('@') => {
                bail!(
                    "{key}: user and password would be shown: set redis.user, and name a file that holds the password in redis.password_file"
                );
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether librdkafka keeps a secret under this name.
fn is_secret_property(name: &str) -> bool {
    ["password", "secret", "ssl.key.pem", "sasl.oauthbearer.config"].iter().any(|part| name.contains(part))
}

/// The least value of a number: waiting may be nothing, everything else must be something.
fn minimum_of(key: &str) -> Option<i64> {
    let may_be_zero = ["requests_per_window_max", "hold_ms", "clock_ahead_ms_max", "dead_letter_payload_bytes_max", "held_records_max"];
    Some(i64::from(!may_be_zero.iter().any(|name| key.ends_with(name))))
}

fn with_article(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {kind}")
}
