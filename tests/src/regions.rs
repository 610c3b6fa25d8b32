//! The memory that the domains of a native node share. The runner has made it, and the runner is in the test's process.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

/// The region of this name. With two nodes in this process it could be either's.
pub fn open(name: &str) -> File {
    let wanted = format!("/memfd:{name} (deleted)");
    let is_it = |path: &PathBuf| fs::read_link(path).is_ok_and(|to| to == Path::new(&wanted));
    let opened = descriptors().filter(is_it).find_map(|path| File::options().read(true).write(true).open(path).ok());
    opened.unwrap_or_else(|| panic!("there is no region {name}"))
}

fn descriptors() -> impl Iterator<Item = PathBuf> {
    fs::read_dir("/proc/self/fd").expect("own descriptors").filter_map(|entry| Some(entry.ok()?.path()))
}
