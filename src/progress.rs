//! Progress bars for long work, on a terminal; silence elsewhere.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over `total` bytes or samples called `what`.
pub(crate) fn bar(total: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template(&format!("{{msg}} {{bar:40}} {{percent:>3}} % of {{len}} {what}, {{per_sec}}, {{eta}} left"))
        .expect("the template is well-formed");
    ProgressBar::new(total).with_style(style)
}
