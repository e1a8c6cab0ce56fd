//! `pitwall graph`: the operators and what flows between them, drawn.

use std::io::{self, Write};

use anyhow::Result;
use clap::{Args, ValueEnum};
use pitwall_engine::graph::NodeDescription;
use serde_json::json;

use crate::settings::Settings;

/// Draw the operator graph.
///
/// Raw collections on the left, operators with their versions in the middle, fact kinds on the right. The hash at its head names
/// operators, versions, parameters, inputs and fact schemas: runs of one hash derive the same facts of the same input.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pitwall graph                                         mermaid, as GitHub and many editors show it
  pitwall graph --format dot | dot -Tsvg > graph.svg    for Graphviz
  pitwall graph --format json | jq .graph_hash")]
pub(crate) struct Arguments {
    /// What to draw it in.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Format {
    #[default]
    Mermaid,
    Dot,
    Json,
}

pub(crate) fn run(arguments: &Arguments, settings: &Settings, out: &mut impl Write) -> Result<()> {
    let graph = pitwall_operators::graph(&settings.limits)?;
    let (hash, nodes) = (graph.hash().to_string(), graph.description());
    match arguments.format {
        Format::Mermaid => mermaid(&hash, nodes, out)?,
        Format::Dot => dot(&hash, nodes, out)?,
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&json!({"graph_hash": hash, "operators": nodes}))?)?,
    }
    Ok(())
}

fn mermaid(hash: &str, nodes: &[NodeDescription], out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "%% graph {hash}\nflowchart LR")?;
    for input in raw_inputs(nodes) {
        writeln!(out, "  {}[/{}/]", identifier(input), label(input))?;
    }
    for node in nodes {
        writeln!(out, "  operator_{}[\"{} v{}\"]", node.name, node.name, node.version)?;
        for input in &node.inputs {
            writeln!(out, "  {} --> operator_{}", identifier(input), node.name)?;
        }
        if let Some((kind, _)) = &node.publishes {
            writeln!(out, "  operator_{} --> fact_{kind}([{kind}])", node.name)?;
        }
    }
    Ok(())
}

fn dot(hash: &str, nodes: &[NodeDescription], out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "// graph {hash}\ndigraph pitwall {{\n  rankdir=LR\n  node [fontname=\"sans-serif\"]")?;
    for input in raw_inputs(nodes) {
        writeln!(out, "  {} [label=\"{}\" shape=parallelogram]", identifier(input), label(input))?;
    }
    for node in nodes {
        writeln!(out, "  operator_{} [label=\"{} v{}\" shape=box]", node.name, node.name, node.version)?;
        for input in &node.inputs {
            writeln!(out, "  {} -> operator_{}", identifier(input), node.name)?;
        }
        if let Some((kind, _)) = &node.publishes {
            writeln!(out, "  fact_{kind} [label=\"{kind}\" shape=oval]\n  operator_{} -> fact_{kind}", node.name)?;
        }
    }
    writeln!(out, "}}")
}

/// Inputs that no operator gives, each once, in the order of first use.
fn raw_inputs(nodes: &[NodeDescription]) -> Vec<&str> {
    let mut inputs = Vec::new();
    for input in nodes.iter().flat_map(|node| &node.inputs).filter(|input| !input.starts_with("operator:")) {
        if !inputs.contains(&input.as_str()) {
            inputs.push(input.as_str());
        }
    }
    inputs
}

fn label(input: &str) -> &str {
    input.split_once(':').map_or(input, |(_, name)| name)
}

/// `sample:laps` as a name that both languages take.
fn identifier(input: &str) -> String {
    input.replace(':', "_")
}
