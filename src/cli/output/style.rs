//! Styles of text on a terminal.

use std::io::IsTerminal;

use anstream::stream::RawStream;
use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};

pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const DIMMED: Style = Style::new().dimmed();
pub(crate) const GREEN: Style = AnsiColor::Green.on_default();
pub(crate) const YELLOW: Style = AnsiColor::Yellow.on_default();
pub(crate) const RED: Style = AnsiColor::Red.on_default();
pub(crate) const MAGENTA: Style = AnsiColor::Magenta.on_default();

/// Returns `true` if a stream is a terminal that supports colour and the environment does not forbid it (`NO_COLOR`,
/// `CLICOLOR=0`, `TERM=dumb`). The environment cannot force colour into a pipe.
pub(crate) fn is_colour_allowed(stream: &(impl RawStream + IsTerminal)) -> bool {
    IsTerminal::is_terminal(stream) && AutoStream::choice(stream) != ColorChoice::Never
}

/// Puts text in a style if `colour` is set.
pub(crate) fn paint(text: &str, style: Style, colour: bool) -> String {
    if colour { format!("{style}{text}{style:#}") } else { text.to_owned() }
}
