//! What stands in a folder, so that a test can see whether anything was left behind.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Every file under it, with its bytes, in order.
pub fn listing(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    walk(folder, &mut all);
    all.sort();
    all
}

fn walk(path: &Path, all: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, all) } else { all.push((path.clone(), fs::read(path).unwrap())) }
    }
}
