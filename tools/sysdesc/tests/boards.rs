//! The files of `boards/` are the list of boards.

use std::{fs, path::Path};

use sysdesc::image::assemble::{board, sel4_boards};

#[test]
fn a_board_that_has_an_image_has_its_other_file_and_make_finds_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let boards = sel4_boards().unwrap();
    assert!(!boards.is_empty() && !boards.contains(&"native".to_owned()));
    for board in boards {
        assert!(root.join(format!("kernel-config/{board}.toml")).is_file(), "{board}");
        // pds/sel4.mk looks for this line.
        let text = fs::read_to_string(root.join(format!("boards/{board}.toml"))).unwrap();
        assert!(text.lines().any(|line| line == "platform = \"microkit\""), "{board}");
    }
}

#[test]
fn who_asks_for_another_board_is_told_which_there_are() {
    let error = board("no_such_board").unwrap_err().to_string();
    assert!(error.contains("there is no board no_such_board"), "{error}");
    for known in sel4_boards().unwrap().iter().map(String::as_str).chain(["native"]) {
        assert!(error.contains(known), "{error}");
    }
}
