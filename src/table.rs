//! Plain tables for people.

use std::io::{self, Write};

/// A table with a line of headings; columns are as wide as their widest cell.
pub(crate) struct Table<const N: usize> {
    rows: Vec<[String; N]>,
    is_right: [bool; N],
}

impl<const N: usize> Table<N> {
    /// A table with these headings; one that begins with `>` has its column set to the right.
    pub(crate) fn new(headings: &[&str; N]) -> Self {
        let is_right = headings.map(|heading| heading.starts_with('>'));
        Self { rows: vec![headings.map(|heading| heading.trim_start_matches('>').to_owned())], is_right }
    }

    pub(crate) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }

    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let widths: [usize; N] = std::array::from_fn(|column| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
        for row in &self.rows {
            let mut line = String::from("  ");
            for ((cell, width), is_right) in row.iter().zip(widths).zip(self.is_right) {
                let space = " ".repeat(width - cell.chars().count());
                let (before, after) = if is_right { (space.as_str(), "") } else { ("", space.as_str()) };
                line.extend([before, cell, after, "  "]);
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}
