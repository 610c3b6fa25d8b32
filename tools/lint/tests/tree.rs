//! The tree that this file is part of keeps the rules.

use std::path::Path;

use lint::Tree;

#[test]
fn the_tree_keeps_its_own_rules() {
    let tree = Tree::of_repository(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).unwrap();
    let breaches = lint::check(&tree).unwrap();
    assert!(breaches.is_empty(), "{}", breaches.iter().map(|breach| format!("\n{breach}")).collect::<String>());
}
