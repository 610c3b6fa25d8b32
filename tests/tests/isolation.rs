//! The native platform keeps domains apart: `native run` over `tests/systems/`, where each system has a domain
//! that does one thing it must not. Outside the domain nothing happens but its death, told in one line.

use std::{
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::mpsc,
    time::Duration,
};

use calls::params::Params;
use native::runner::{Cause, Config, Death, Event, Outcome, Plug, StartError, System, program_dir};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open},
};
use zerocopy::IntoBytes;

/// Longer than anything here takes on the slowest machine; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

fn system(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systems").join(name).with_extension("xml")
}

fn native() -> Command {
    let program = program_dir().join("native");
    assert!(program.exists(), "build the domains first: cargo build -p native");
    let mut command = Command::new(program);
    // Away from the repository: it must not depend on where it is run.
    command.arg("run").current_dir("/").stdin(Stdio::null());
    command
}

/// Code and lines of a run, without the one that says that it has started.
fn run(arguments: &[&str]) -> (Option<i32>, Vec<String>) {
    let Output { status, stderr, .. } = native().args(arguments).output().unwrap();
    let text = String::from_utf8(stderr).unwrap();
    let lines = text.lines().filter(|line| !line.ends_with(" domains started")).map(str::to_owned).collect();
    (status.code(), lines)
}

fn ends(name: &str, code: i32, how: &str) {
    let expected = format!("native: domain {name} {how}");
    assert_eq!(run(&[system(name).to_str().unwrap()]), (Some(code), vec![expected]), "{name}");
}

fn killed_for_call(name: &str, call: &str, number: i64) {
    ends(name, 10, &format!("died: SIGSYS, system call {call} ({number})"));
}

#[test]
fn no_file_socket_process_or_code_can_be_made() {
    killed_for_call("opens-a-file", "openat", libc::SYS_openat);
    killed_for_call("opens-a-socket", "socket", libc::SYS_socket);
    killed_for_call("forks", "clone", libc::SYS_clone);
    killed_for_call("executes", "execve", libc::SYS_execve);
    killed_for_call("maps-code", "mmap", libc::SYS_mmap);
}

#[test]
fn no_other_process_can_be_touched() {
    killed_for_call("kills", "kill", libc::SYS_kill);
    killed_for_call("traces", "ptrace", libc::SYS_ptrace);
    killed_for_call("reads-foreign-process", "process_vm_readv", libc::SYS_process_vm_readv);
}

#[test]
fn only_own_descriptors_are_open_and_calls_on_others_kill() {
    killed_for_call("reads-another-descriptor", "read", libc::SYS_read);
    killed_for_call("writes-another-descriptor", "write", libc::SYS_write);
    let (code, lines) = run(&[system("counts-descriptors").to_str().unwrap()]);
    assert_eq!(code, Some(12));
    assert!(lines[0].starts_with("native: domain counts-descriptors died: panic, 2 open descriptors ("), "{lines:?}");
}

#[test]
fn the_isolation_cannot_be_taken_off() {
    killed_for_call("raises-read-only-memory", "mprotect", libc::SYS_mprotect);
    killed_for_call("takes-its-filter-off", "prctl", libc::SYS_prctl);
    killed_for_call("handles-its-own-death", "rt_sigaction", libc::SYS_rt_sigaction);
}

#[test]
fn memory_is_what_the_description_gives() {
    ends("reads-foreign-memory", 11, "died: SIGSEGV, address 0x20000000 (not mapped)");
    ends("writes-read-only-memory", 11, "died: SIGSEGV, address 0x20001000 (mapped, not for this access)");
    for name in ["runs-data", "overflows-its-stack"] {
        let (code, lines) = run(&[system(name).to_str().unwrap()]);
        assert_eq!(code, Some(11));
        assert!(lines[0].starts_with(&format!("native: domain {name} died: SIGSEGV, address 0x")), "{lines:?}");
    }
}

#[test]
fn giving_up_is_told_from_being_killed() {
    ends("exits", 13, "died: exited with status 0, although it must not");
    ends("allocates", 12, "died: panic, asked for 100 bytes of memory after its start");
    let (code, lines) = run(&[system("panics").to_str().unwrap()]);
    assert_eq!(code, Some(12));
    let expected = "native: domain panics died: panic, with words and a number, 42 (tools/native/src/bin/rogue.rs:";
    assert!(lines[0].starts_with(expected), "{lines:?}");
}

#[test]
fn two_domains_talk_by_a_mailbox_and_a_ring() {
    let (code, mut lines) = run(&[system("skeleton").to_str().unwrap()]);
    lines.sort();
    assert_eq!(code, Some(0), "{lines:?}");
    assert_eq!(lines, ["native: domain left finished", "native: domain right finished"]);
}

#[test]
fn a_death_ends_the_others_unless_told_otherwise() {
    let path = system("opens-a-file-beside-others");
    let (code, mut lines) = run(&[path.to_str().unwrap(), "--keep-going"]);
    assert_eq!(code, Some(10));
    lines.sort();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[1].contains("domain opens-a-file died") || lines[2].contains("domain opens-a-file died"));
    let (code, lines) = run(&[path.to_str().unwrap()]);
    assert_eq!(code, Some(10));
    assert!(lines.last().unwrap().contains("domain opens-a-file died"), "{lines:?}");
}

fn start(name: &str) -> Result<System, StartError> {
    let mut config = Config::new(std::fs::read_to_string(system(name)).unwrap());
    config.search_path = vec![program_dir()];
    System::start(config)
}

fn next(system: &System) -> Death {
    match system.events().recv_timeout(PATIENCE) {
        Ok(Event::Died(death)) => death,
        other => panic!("{other:?} and no death"),
    }
}

#[test]
fn a_domain_that_never_waits_holds_up_nobody() {
    let system = start("spins").unwrap();
    let mut finished = [next(&system), next(&system)];
    finished.sort_by(|a, b| a.domain.cmp(&b.domain));
    let names = ["left", "right"].map(|domain| Death { domain: domain.to_owned(), cause: Cause::Finished });
    assert_eq!(finished, names);
    let (_, spinner) = system.pids().iter().find(|(name, _)| name == "spins").unwrap();
    assert!(!ends_within(*spinner, Duration::ZERO));
    let outcome = system.stop();
    assert_eq!(outcome.exit_code(), 0);
    assert_eq!(outcome.deaths.len(), 2);
}

#[test]
fn a_domain_killed_from_outside_is_reported_with_its_signal() {
    let system = start("idles").unwrap();
    let [(_, pid)] = system.pids() else { panic!("one domain") };
    // It may not have been started fully: then it did not start, which is said.
    kill_process(process(*pid), Signal::KILL).unwrap();
    let death = next(&system);
    let expected =
        [Cause::Signal { signal: libc::SIGKILL }, Cause::NotStarted { reason: "signal: 9 (SIGKILL)".to_owned() }];
    assert!(expected.contains(&death.cause), "{death}");
    assert_eq!(system.wait(), Outcome { deaths: vec![death] });
}

fn process(pid: u32) -> Pid {
    Pid::from_raw(pid.cast_signed()).unwrap()
}

fn ends_within(pid: u32, patience: Duration) -> bool {
    let Ok(pidfd) = pidfd_open(process(pid), PidfdFlags::empty()) else { return true };
    let time = Timespec { tv_sec: patience.as_secs().cast_signed(), tv_nsec: 0 };
    poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&time)).unwrap() == 1
}

/// Starts the system that idles and tells its runner and its domain.
fn idle() -> (std::process::Child, u32) {
    let mut runner =
        native().arg(system("idles")).arg("--json").process_group(0).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(runner.stderr.take().unwrap()).read_line(&mut line).unwrap();
    let started: serde_json::Value = serde_json::from_str(&line).unwrap();
    let pid = started["started"][0]["pid"].as_u64().unwrap();
    assert_eq!(started["started"][0]["domain"], "bystander");
    (runner, u32::try_from(pid).unwrap())
}

#[test]
fn domains_end_with_their_runner_however_it_ends() {
    for (signal, code) in [(Signal::TERM, Some(0)), (Signal::INT, Some(0)), (Signal::KILL, None)] {
        let (mut runner, domain) = idle();
        // As a terminal does: the whole group, which is the runner alone.
        kill_process_group(process(runner.id()), signal).unwrap();
        assert_eq!(runner.wait().unwrap().code(), code);
        assert!(ends_within(domain, PATIENCE));
    }
}

#[test]
fn a_region_holds_its_prefill_and_zeros() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("text");
    std::fs::write(&file, "from a file").unwrap();
    let region = format!("text={}", file.display());
    let (code, lines) = run(&[system("recites").to_str().unwrap(), "--region", &region]);
    assert_eq!(code, Some(12));
    assert!(lines[0].starts_with("native: domain recites died: panic, from a file ("), "{lines:?}");
}

#[test]
fn what_cannot_run_is_refused_with_its_own_code() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("system.xml");
    let refused = |text: &str, arguments: &[&str], code, line: &str| {
        std::fs::write(&path, text).unwrap();
        let arguments: Vec<_> = [path.to_str().unwrap()].into_iter().chain(arguments.iter().copied()).collect();
        let line = line.replace("FILE", path.to_str().unwrap());
        assert_eq!(run(&arguments), (Some(code), vec![format!("native: {line}")]));
    };
    let domain = r#"<system><memory_region name="r" size="0x1000" prefill_path="${file}"/>
        <protection_domain name="a"><program_image path="rogue"/><map mr="r" vaddr="0x20000000" perms="r"/>
        </protection_domain></system>"#;
    refused("<system><what/></system>", &[], 3, "FILE: line 1: <system> has no element <what>");
    refused(domain, &[], 3, "FILE: line 1: prefill_path: the board does not define ${file}");
    refused(domain, &["--var", "file=missing"], 4, "region r: there is no file missing");
    let big = dir.path().join("big");
    std::fs::write(&big, [0; 4097]).unwrap();
    let big = format!("r={}", big.display());
    refused(domain, &["--var", "file=", "--region", &big], 4, "region r: 4097 bytes do not fit into 4096");
    refused(domain, &["--var", "file=", "--region", "s=/dev/null"], 4, "there is no region s");
    refused(domain, &["--var", "file=", "--device", "a.b=c"], 4, "--device: no domain asks for a device a.b");
    refused(&domain.replace("rogue", "nobody"), &["--var", "file="], 4, "domain a: there is no program nobody");
    // The program of a domain whose name is no deed.
    let (code, lines) = {
        std::fs::write(&path, domain).unwrap();
        run(&[path.to_str().unwrap(), "--var", "file="])
    };
    assert_eq!(code, Some(4));
    assert!(lines[0].starts_with("native: domain a did not start: a is no deed ("), "{lines:?}");
    assert_eq!(native().output().unwrap().status.code(), Some(2));
}

#[test]
fn a_domain_writes_only_to_what_is_plugged_in() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let text = std::fs::read_to_string(system("writes-a-line")).unwrap();
    let mut config = Config::new(text);
    config.search_path = vec![program_dir()];
    config.devices.insert("writes-a-line.out".to_owned(), Plug::Descriptor(writer.into()));
    let outcome = System::start(config).unwrap().wait();
    assert_eq!(outcome.exit_code(), 0, "{outcome:?}");
    let mut said = String::new();
    // Ends: nobody else holds the other end.
    reader.read_to_string(&mut said).unwrap();
    assert_eq!(said, "a line\n");
}

#[test]
fn a_parent_hears_of_its_childs_death_and_has_it_started_anew() {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut config = Config::new(include_str!("../../system.xml"));
    config.search_path = vec![program_dir()];
    config.keep_going = true;
    // No scan: it boots straight to hold.
    let params = Params { scan_ms: 0.into(), ..Params::DEFAULT };
    config.prefill.insert("params".to_owned(), params.as_bytes().to_vec());
    config.devices.insert("console.serial".to_owned(), Plug::Descriptor(writer.into()));
    let system = System::start(config).unwrap();
    let (tell, lines) = mpsc::channel();
    std::thread::spawn(move || {
        BufReader::new(reader).lines().map_while(Result::ok).try_for_each(|line| tell.send(line))
    });
    let wait_for = |wanted: &str| {
        let next = || lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("the console never says: {wanted}"));
        while !next().starts_with(wanted) {}
    };
    wait_for("genesis: phase hold");
    let (_, beacon) = system.pids().iter().find(|(name, _)| name == "beacon").unwrap();
    kill_process(process(*beacon), Signal::KILL).unwrap();
    wait_for("genesis: fault beacon died; started anew (1 so far, ");
    let death = next(&system);
    assert_eq!((&*death.domain, &death.cause), ("beacon", &Cause::Signal { signal: 9 }));
    let Ok(Event::Restarted { domain, pid }) = system.events().recv_timeout(PATIENCE) else { panic!("no restart") };
    assert!(domain == "beacon" && pid != *beacon);
    // The other is as confined as the first.
    kill_process(process(pid), Signal::KILL).unwrap();
    wait_for("genesis: fault beacon died; started anew in 1 s (2 so far, ");
    let outcome = system.stop();
    assert_eq!(outcome.exit_code(), 14);
    assert_eq!(outcome.deaths.len(), 2);
}

/// Those that are nobody's child: without `--keep-going` their death ends all, with it nobody else.
#[test]
fn a_death_of_nobodys_child_ends_the_others_unless_told_otherwise() {
    for (root, keep_going) in ["keystore", "lifecycle"].into_iter().flat_map(|root| [(root, false), (root, true)]) {
        let mut config = Config::new(include_str!("../../system.xml"));
        config.search_path = vec![program_dir()];
        config.keep_going = keep_going;
        config.devices.insert("console.serial".to_owned(), Plug::Descriptor(std::io::pipe().unwrap().1.into()));
        let system = System::start(config).unwrap();
        let pids = system.pids().to_vec();
        let pid = |name| pids.iter().find(|(domain, _)| domain == name).unwrap().1;
        kill_process(process(pid(root)), Signal::KILL).unwrap();
        assert_eq!(next(&system).domain, root);
        if keep_going {
            assert!(pids.iter().all(|(domain, pid)| domain == root || !ends_within(*pid, Duration::ZERO)));
            // lifecycle alone has another started anew.
            kill_process(process(pid("beacon")), Signal::KILL).unwrap();
            assert_eq!(next(&system).domain, "beacon");
            if root == "lifecycle" {
                assert_eq!(system.stop().deaths.len(), 2);
            }
        } else {
            assert!(pids.iter().all(|(_, pid)| ends_within(*pid, PATIENCE)));
            assert_eq!(system.wait().deaths.len(), 1);
        }
    }
}
