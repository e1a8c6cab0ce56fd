//! `pitwall completions`: what a shell needs to complete commands, flags and values.

use std::io::Write;

use anyhow::Result;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// Print completions for a shell.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pitwall completions bash > ~/.local/share/bash-completion/completions/pitwall
  pitwall completions zsh > ~/.zfunc/_pitwall
  pitwall completions fish > ~/.config/fish/completions/pitwall.fish")]
pub(crate) struct Arguments {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(arguments: &Arguments, out: &mut impl Write) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut crate::Cli::command(), "pitwall", &mut script);
    Ok(out.write_all(&script)?)
}
