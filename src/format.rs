//! The two ways in which reading commands print.

use clap::ValueEnum;

/// For people, or for programs.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum Format {
    #[default]
    Text,
    Json,
}
