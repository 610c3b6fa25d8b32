//! `tools/doctor`, on machines that lack something: one line for each need, which says what to install or which setting to
//! change.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

const DOCTOR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../doctor");

/// A machine with these programs and no others.
fn machine(programs: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, script) in programs {
        let file = dir.path().join(name);
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o700)).unwrap();
    }
    dir
}

fn doctor(path: &Path, needs: &[&str]) -> Output {
    let mut command = Command::new("/bin/bash");
    command.arg(DOCTOR).args(needs).env_clear().env("PATH", path).env("MICROKIT_SDK", "/no/sdk");
    command.output().expect("bash")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_is_missing_is_named_in_one_line_with_what_to_install() {
    let bare = machine(&[]);
    for (need, line) in [
        ("rust", "no Rust: install "),
        ("cc", "no C compiler cc: apt-get install gcc libc6-dev\n"),
        ("namespaces", "no unshare: apt-get install util-linux\n"),
        ("rustfmt", "no rustfmt: rustup component add rustfmt\n"),
        ("clippy", "no clippy: rustup component add clippy\n"),
        ("git", "no git: apt-get install git\n"),
        ("sdk", "no Microkit SDK at /no/sdk: get version "),
        ("core", "there is no compiler rustc\n"),
        ("lld", "no linker rust-lld or ld.lld: "),
    ] {
        let output = doctor(bare.path(), &[need]);
        let text = said(&output);
        assert_eq!((output.status.code(), text.lines().count()), (Some(1), 1), "{need}: {text}");
        assert!(text.starts_with(line), "{need}: {text}");
    }
    let output = doctor(bare.path(), &["rust", "cc"]);
    assert_eq!((output.status.code(), said(&output).lines().count()), (Some(1), 2));
}

#[test]
fn a_compiler_that_is_too_old_is_told_from_one_that_is_not() {
    for (version, code) in [("1.80.1 (abc 2024-01-01)", 1), ("1.1000.0-nightly (abc)", 0), ("2.0.0", 0)] {
        let machine = machine(&[("cargo", ""), ("rustc", &format!("echo 'rustc {version}'"))]);
        let output = doctor(machine.path(), &["rust"]);
        assert_eq!(output.status.code(), Some(code), "{version}: {}", said(&output));
        assert_eq!(said(&output).contains("rustup update stable"), code == 1);
    }
}

#[test]
fn a_c_compiler_without_a_library_and_a_target_without_a_core_are_named() {
    let machine = machine(&[("cc", "exit 1"), ("rustc", "echo /no/sysroot")]);
    assert!(said(&doctor(machine.path(), &["cc"])).contains("apt-get install libc6-dev"));
    assert!(said(&doctor(machine.path(), &["core"])).contains("rustup target add aarch64-unknown-none"));
}

#[test]
fn a_core_library_without_bitcode_is_named() {
    let grep = ("grep", "exec /bin/grep \"$@\"");
    let sysroot = tempfile::tempdir().unwrap();
    let lib = sysroot.path().join("lib/rustlib/aarch64-unknown-none/lib");
    fs::create_dir_all(&lib).unwrap();
    let machine = machine(&[grep, ("rustc", &format!("echo {}", sysroot.path().display()))]);
    for (core, code) in [("", 1), (".text", 1), (".llvmbc", 0)] {
        if !core.is_empty() {
            fs::write(lib.join("libcore-1.rlib"), core).unwrap();
        }
        let output = doctor(machine.path(), &["core"]);
        assert_eq!(output.status.code(), Some(code), "{core}: {}", said(&output));
        assert_eq!(said(&output).contains("has no bitcode"), core == ".text");
    }
}

#[test]
fn the_setting_that_refuses_namespaces_is_named() {
    let none = "echo 0 >/proc/sys/user/max_user_namespaces; echo 0 >/proc/sys/user/max_net_namespaces; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-Urmpf", "--mount-proc", "sh", "-ec", none, "sh", DOCTOR, "namespaces"]);
    let output = command.output().expect("unshare, of util-linux, is needed");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("sysctl user.max_user_namespaces=10000"), "{}", said(&output));
}

#[test]
fn without_a_need_all_are_listed() {
    let output = doctor(machine(&[]).path(), &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!((output.status.code(), text.lines().count()), (Some(1), 11), "{text}");
    assert_eq!(doctor(machine(&[]).path(), &["luck"]).status.code(), Some(2));
}
