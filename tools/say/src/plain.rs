//! Text of others, made safe to show: a name out of somebody's registry, what a node or a file says.
//!
//! What a terminal would obey, or what makes a line read otherwise than it is, is shown in the form `\u{1b}` instead.

use std::fmt::Write;

/// Whether a character is shown as something else than itself: controls of both sets, what turns the direction of writing, what
/// ends a line without being seen to, and what has no width.
fn is_trick(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A name, which is one line.
pub fn name(text: &str) -> String {
    shown(text, |c| !is_trick(c))
}

/// A text, which may have lines.
pub fn text(text: &str) -> String {
    shown(text, |c| matches!(c, '\n' | '\t') || !is_trick(c))
}

fn shown(text: &str, is_plain: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        if is_plain(c) {
            shown.push(c);
        } else {
            shown.extend(c.escape_unicode());
        }
    }
    shown
}

/// A JSON document in one line: what is not plain in it stands in strings, and has a form of its own there.
pub fn json(document: &str) -> String {
    let mut shown = String::with_capacity(document.len() + 1);
    for c in document.chars() {
        if is_trick(c) {
            for half in c.encode_utf16(&mut [0; 2]) {
                // A string takes everything.
                let _ = write!(shown, "\\u{half:04x}");
            }
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRICKS: &str =
        "\u{1b}]0;x\u{7} \u{9b}2J \u{7f} \r \u{202e} \u{2066} \u{2028} \u{200b} \u{feff} \u{85} \u{e0041} \0 \u{8}";

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        for shown in [name(TRICKS), text(TRICKS), json(TRICKS)] {
            assert!(!shown.chars().any(is_trick), "{shown}");
        }
        assert_eq!(text("\u{1b}[31m"), "\\u{1b}[31m");
        assert_eq!((name("a\nb\tc"), text("a\nb\tc")), ("a\\u{a}b\\u{9}c".into(), "a\nb\tc".into()));
        assert_eq!(json("{\"a\":\"\u{9b}\u{e0041}\"}"), "{\"a\":\"\\u009b\\udb40\\udc41\"}");
    }

    #[test]
    fn what_people_write_stays_as_it_is() {
        for plain in ["rack 4 / lab-2", "Werk Süd", "नमस्ते", "北京", "e\u{301}", "\"quoted\" \\ back"] {
            assert_eq!((name(plain), text(plain), json(plain)), (plain.into(), plain.into(), plain.into()));
        }
    }
}
