//! `fleet rehearse`: the program `lab` does the work, and calls this one; nothing of it is linked here.

use std::{
    env,
    ffi::{OsStr, OsString},
    io,
    os::unix::{ffi::OsStrExt, process::CommandExt},
    process::Command,
};

use super::common::Common;
use crate::base::error::{Error, Exit};

const LAB: &str = "lab";
const TOOL: &str = "--tool";

/// Becomes `lab rehearse`, with the lab that lies beside this program, or else the one on PATH.
pub fn run(common: &Common, arguments: &[OsString]) -> Result<(), Error> {
    if common.json {
        return Err(Error::input("a rehearsal prints no JSON: its transcript is lines of JSON"));
    }
    let own = env::current_exe().map_err(|error| Error::new(Exit::Other, format!("where this program is: {error}")))?;
    let beside = own.with_file_name(LAB);
    let lab = if beside.is_file() { beside } else { LAB.into() };
    let mut command = Command::new(&lab);
    command.arg("rehearse");
    // What is rehearsed is this program, unless another is named.
    if !arguments.iter().any(|word| names_tool(word)) {
        command.arg(TOOL).arg(&own);
    }
    // It returns if there is nothing to become.
    let error = command.args(arguments).exec();
    let lab = lab.display();
    Err(Error::new(
        Exit::Other,
        if error.kind() == io::ErrorKind::NotFound {
            format!(
                "a rehearsal needs the program {lab}, which is neither beside this one nor on PATH: it is of the same \
                 project, and `make build` makes it"
            )
        } else {
            format!("{lab} cannot be run: {error}")
        },
    ))
}

fn names_tool(word: &OsStr) -> bool {
    word == TOOL || word.as_bytes().starts_with(b"--tool=")
}
