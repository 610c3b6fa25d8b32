//! The administrator's own programs on the segment: `os-network-admin` behind `lab enter`, with kernel sockets.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crypto::AnchorPublic;
use native::runner::program_dir;
use wire::anchor::{AnchorFile, AnchorIn};

use crate::bed::Bed;

/// An administrator with a key, a registry and an interface of his own.
pub struct Tool {
    dir: PathBuf,
    segment: PathBuf,
}

impl Tool {
    /// Makes the key.
    pub fn new(bed: &Bed, name: &str) -> Self {
        let dir = bed.dir().join(name);
        fs::create_dir(&dir).expect("a directory for the administrator");
        let tool = Self { dir, segment: bed.segment().to_owned() };
        fs::write(tool.file("passphrase"), "correct horse\n").expect("the passphrase");
        fs::set_permissions(tool.file("passphrase"), fs::Permissions::from_mode(0o600)).expect("its mode");
        tool.succeeds(&["init"]);
        tool
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The public anchor, as `anchor` writes it for an image.
    pub fn anchor(&self) -> AnchorPublic {
        let file = self.file("anchor.bin");
        self.succeeds(&["anchor", "--out", file.to_str().expect("UTF-8")]);
        let bytes = fs::read(file).expect("anchor.bin");
        match AnchorFile::read_file(&bytes) {
            AnchorIn::Some(anchor) => anchor.reception,
            other => panic!("{other:?}"),
        }
    }

    /// Runs it on this host, where no segment is needed.
    pub fn here(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(program("os-network-admin"));
        self.with_files(&mut command).args(arguments).output().expect("os-network-admin; `make build` makes it")
    }

    /// Runs it on the segment, behind a port and an interface of its own.
    pub fn on_segment(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(program("lab"));
        command.args(["enter", "--switch"]).arg(&self.segment).arg(program("os-network-admin"));
        self.with_files(&mut command).args(["--interface", "lab0"]).args(arguments);
        command.output().expect("lab; `make build` makes it")
    }

    fn with_files<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        let with = |command: &mut Command, flag: &str, name: &str| {
            command.arg(flag).arg(self.file(name));
        };
        command.arg("--json");
        with(command, "--key", "key");
        with(command, "--registry", "registry.sqlite");
        with(command, "--passphrase-file", "passphrase");
        command
    }

    fn succeeds(&self, arguments: &[&str]) {
        let output = self.here(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    }

    /// The registry's nodes.
    pub fn nodes(&self) -> Vec<serde_json::Value> {
        let output = self.here(&["nodes", "list"]);
        assert!(output.status.success(), "{}", said(&output));
        json(&output)["nodes"].as_array().expect("a list of nodes").clone()
    }
}

pub fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(output)))
}

/// Everything that a program said, for a failed test.
pub fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{} {} {}", output.status, text(&output.stdout), text(&output.stderr))
}

fn program(name: &str) -> PathBuf {
    let path = program_dir().join(name);
    assert!(Path::is_file(&path), "{} is not there: make build", path.display());
    path
}
