//! Every file in `bad/` breaks one rule, is named after it, and says in its comment how it is refused. The
//! board is `bad/NAME.toml`, or else `bad/board.toml`.

use std::{ffi::OsStr, fs, path::Path};

use sysdesc::{Board, elaborate};

#[test]
fn each_bad_system_is_refused_for_its_own_reason() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad");
    let (mut seen, mut wrong) = (0, Vec::new());
    for entry in fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension() != Some(OsStr::new("xml")) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let (_, comment) = text.split_once("<!-- ").unwrap();
        let (expected, _) = comment.split_once(" -->").unwrap();
        let own = path.with_extension("toml");
        let board = if own.exists() { own } else { dir.join("board.toml") };
        let board = Board::parse(&fs::read_to_string(board).unwrap()).unwrap();
        let refused = elaborate(&text, &board).map_or_else(|refused| refused.to_string(), |_| "accepted".to_owned());
        if refused != expected {
            wrong.push(format!("{}\n  expected {expected}\n  got      {refused}", path.display()));
        }
        seen += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 60, "only {seen} bad systems found");
}
