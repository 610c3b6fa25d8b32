//! `fleet rehearse`: what becomes of it is another program's.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    process::{Command, Output},
};

use super::Home;

impl Home {
    /// A program that says its name and its arguments.
    fn program(&self, name: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\necho {name} \"$@\"\nexit 7\n")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    }

    /// The tool where nothing else is, and a path on which only what this home has is.
    fn rehearse(&self, arguments: &[&str]) -> Output {
        let tool = self.path("os-network-admin");
        if !tool.exists() {
            fs::copy(env!("CARGO_BIN_EXE_os-network-admin"), &tool).unwrap();
        }
        let mut command = Command::new(tool);
        command.env_clear().env("PATH", self.path("bin")).arg("fleet").arg("rehearse").args(arguments).output().unwrap()
    }
}

#[test]
fn a_rehearsal_is_the_labs_with_this_program_and_says_so_where_there_is_no_lab() {
    let home = Home::new();
    let said = |output: &Output| String::from_utf8(output.stdout.clone()).unwrap();
    let none = home.rehearse(&["--nodes", "3"]);
    let error = String::from_utf8(none.stderr).unwrap();
    assert!(none.status.code() == Some(1) && error.contains("`make build` makes it"), "{error}");
    // The one on the path, with all that it is given and its exit code.
    home.program("bin/lab");
    let tool = fs::canonicalize(home.path("os-network-admin")).unwrap();
    let there = home.rehearse(&["claims", "--nodes", "3", "--stay"]);
    let expected = format!("bin/lab rehearse --tool {} claims --nodes 3 --stay\n", tool.display());
    assert_eq!((there.status.code(), said(&there)), (Some(7), expected));
    // The one that was made with this program is nearer.
    home.program("lab");
    assert_eq!(said(&home.rehearse(&["--tool=other"])), "lab rehearse --tool=other\n");
    let json = home.rehearse(&["--json"]);
    assert_eq!(json.status.code(), Some(3), "{}", said(&json));
}
