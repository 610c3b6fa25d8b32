//! What a terminal can do.

use std::{env, ffi::OsStr, io::IsTerminal, os::fd::AsFd};

use rustix::termios::tcgetwinsize;

/// Rows and columns of one that does not say.
const USUAL: (usize, usize) = (24, 80);

/// Whether this is a terminal that can move its cursor.
pub fn can_redraw(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && is_capable(env::var_os("TERM").as_deref())
}

fn is_capable(term: Option<&OsStr>) -> bool {
    term.is_some_and(|term| !term.is_empty() && term != "dumb")
}

/// Its rows and columns.
pub fn size(stream: &impl AsFd) -> (usize, usize) {
    match tcgetwinsize(stream) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => (size.ws_row.into(), size.ws_col.into()),
        _ => USUAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_that_is_dumb_or_of_no_name_gets_no_escapes() {
        for (term, capable) in [(Some("dumb"), false), (Some(""), false), (None, false), (Some("xterm"), true)] {
            assert_eq!(is_capable(term.map(OsStr::new)), capable, "{term:?}");
        }
    }
}
