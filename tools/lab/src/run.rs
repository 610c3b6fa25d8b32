//! `lab run`: a node's first life from end to end, with a word about each step. What it claims about silence it reads
//! from the segment's record, not from what the node says.

use std::{
    cell::Cell,
    ffi::OsString,
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use calls::params::Params;
use clap::Args;
use native::runner::program_dir;
use segment::{enter::INTERFACE, switch::Frame};

use crate::{Lab, Node, NodeOptions, SYSTEM, files::SEGMENT, stranger::EXIT_ANSWERED};

const ADMIN: &str = "os-network-admin";
/// What it exits with if no node has answered.
const ADMIN_NO_ANSWER: i32 = 5;
/// What it exits with if one has.
const ADMIN_FOUND: i32 = 0;
/// A hang detector.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Args)]
pub struct Run {
    /// How long the node scans before it forks, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 3000)]
    pub scan_ms: u32,
    /// Keep the console log, the record of the segment and the registry here
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// One life. The error says what went wrong; the console has then been printed.
pub fn run(run: &Run) -> Result<()> {
    let temporary = tempfile::tempdir().context("no temporary directory")?;
    let dir = run.dir.as_deref().unwrap_or(temporary.path());
    fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    ensure!(fs::read_dir(dir)?.next().is_none(), "{} is not empty", dir.display());
    let admin = program_dir().join(ADMIN);
    ensure!(admin.is_file(), "there is no {}; `make build` makes it", admin.display());
    let lab = Lab::start_with(Some(&dir.join(SEGMENT)), true, SYSTEM.to_owned())?;
    may_enter(&lab)?;
    let mut params = Params::DEFAULT;
    params.scan_ms = run.scan_ms.into();
    let log = Some(dir.join("console.log"));
    say::show!("== A node is switched on, on a segment of its own. Its image has no anchor: it will show a ticket.");
    let mut node = lab.node(NodeOptions { params, log, ..NodeOptions::default() })?;
    let show = |node: &Node, live: &dyn Fn(&Show<'_>) -> Result<()>| {
        let show = Show { lab: &lab, node, dir, admin: &admin, shown: Cell::new(0) };
        live(&show).inspect_err(|_| say::tell!("--- The node's console:\n{}---", node.console()))
    };
    show(&node, &|show| show.life())?;
    let fiduciary = node.seen().fiduciary;
    say::show!("== Its power is cut, wherever it is. Then it is switched on again, and nobody does anything more.");
    node.cut();
    node.on()?;
    show(&node, &|show| show.again(fiduciary.as_deref()))?;
    if run.dir.is_some() {
        say::show!("   logs, registry and record: {}", dir.display());
    }
    Ok(())
}

/// Whether a program can be put on the segment at all: this is seen before anything is shown.
fn may_enter(lab: &Lab) -> Result<()> {
    let tried = enter(lab, "trial", Path::new("true"), &[])?.output().context("lab enter")?;
    ensure!(tried.status.success(), "{}", String::from_utf8_lossy(&tried.stderr).trim_end());
    Ok(())
}

/// A program on the segment, with a port of that name.
fn enter(lab: &Lab, name: &str, program: &Path, arguments: &[OsString]) -> Result<Command> {
    let own = std::env::current_exe().context("cannot find this program")?;
    let mut command = Command::new(own);
    command.args(["enter", "--switch"]).arg(lab.switch().dir()).args(["--name", name]);
    command.arg(program).args(arguments);
    Ok(command)
}

struct Show<'a> {
    lab: &'a Lab,
    node: &'a Node,
    dir: &'a Path,
    admin: &'a Path,
    /// Phases that have been printed.
    shown: Cell<usize>,
}

impl Show<'_> {
    fn life(&self) -> Result<()> {
        self.watch_until("hold")?;
        let fingerprint = self.node.seen().fingerprint.context("the node has shown no fingerprint")?;
        say::show!("   {:<10} the fingerprint of its identity F: {fingerprint}", "");
        let address = self.node.seen().address.context("the node has shown no address")?;
        self.lab.switch().mark();
        self.stranger(&address.to_string())?;

        say::show!("== The administrator claims the node, with the ticket from its console.");
        let ticket = self.node.ticket().context("the node has shown no ticket")?;
        self.secret("ticket", &ticket)?;
        self.make_key("admin")?;
        let ticket = self.dir.join("ticket");
        say::show!("   $ {ADMIN} claim --ticket-file {}", ticket.display());
        let claim = ["claim".into(), "--ticket-file".into(), ticket.into()];
        // What it prints at the end is shown below; on the way it tells its progress on standard error.
        let mut command = self.enter("admin", self.admin, &self.key("admin", &claim))?;
        let status = command.stdout(Stdio::null()).status().context("lab enter")?;
        ensure!(status.success(), "the claim failed ({status})");
        self.watch_until("claimed")?;
        self.judge()?;

        say::show!("== The pairing, as the administrator keeps it.");
        self.say("admin", &["nodes", "list"])?;
        self.say("admin", &["nodes", "show", &fingerprint])
    }

    /// After the power was cut. What follows in the mesh is with the node as it came back.
    fn again(&self, fiduciary: Option<&str>) -> Result<()> {
        self.watch_until("claimed")?;
        let seen = self.node.seen();
        ensure!(seen.fiduciary.as_deref() == fiduciary && fiduciary.is_some(), "the node has come back as another");
        say::show!(
            "   {:<10} the same identity F: {}",
            "",
            seen.fingerprint.context("a node with an F has a fingerprint")?
        );
        say::show!(
            "== The administrator brings up the mesh. Without a rule the node is as silent there as it was before."
        );
        self.visit()?;
        say::show!("== Done: the node has one administrator, and lets in what his policy names.");
        Ok(())
    }

    /// Prints phases as they come, until one is reached.
    fn watch_until(&self, goal: &str) -> Result<()> {
        loop {
            let at = self.shown.get();
            let next = self.node.wait(PATIENCE, |seen| match seen.phases.get(at) {
                Some(phase) => Some(Some(phase.clone())),
                None => seen.ended.then_some(None),
            });
            let Some(Some(phase)) = next else { bail!("the node did not reach {goal}") };
            self.shown.set(at + 1);
            say::show!("   {phase:<10} {}", meaning(&phase));
            if phase == goal {
                return Ok(());
            }
            ensure!(phase != "sealed", "the node is sealed: {}", self.node.seen().faults.join("; "));
        }
    }

    fn stranger(&self, address: &str) -> Result<()> {
        say::show!("== A stranger on the same segment knocks everywhere.");
        let own = std::env::current_exe().context("cannot find this program")?;
        let status =
            self.enter("stranger", &own, &["stranger".into(), address.into()])?.status().context("lab enter")?;
        match status.code() {
            Some(0) => {}
            Some(code) if code == i32::from(EXIT_ANSWERED) => bail!("the stranger got an answer"),
            _ => bail!("the stranger could not knock everywhere, so nothing is shown ({status})"),
        }
        say::show!("== The stranger has the administrator's tool too, and a key of his own.");
        self.make_key("stranger")?;
        say::show!("   $ {ADMIN} discover");
        let discover = ["discover", "--wait", "3"].map(OsString::from);
        let status =
            self.enter("stranger", self.admin, &self.key("stranger", &discover))?.status().context("lab enter")?;
        match status.code() {
            Some(ADMIN_NO_ANSWER) => {}
            Some(ADMIN_FOUND) => bail!("with a foreign key a node was found"),
            _ => bail!("the stranger could not look for nodes, so nothing is shown ({status})"),
        }
        let sent = self.lab.switch().frames_from("stranger").len();
        ensure!(sent > 0, "the stranger has sent nothing");
        let frames = self.lab.switch().frames_from(self.node.name());
        say::show!("   the segment's record: stranger's frames: {sent}; node frames to the stranger: {}", frames.len());
        ensure!(frames.is_empty(), "the node has answered a stranger: {frames:02x?}");
        Ok(())
    }

    /// Inside the mesh, from the host that has claimed.
    fn visit(&self) -> Result<()> {
        let list = ["nodes", "list", "--json"].map(OsString::from);
        let listed = Command::new(self.admin).args(self.key("admin", &list)).output().context(ADMIN)?;
        let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).context("nodes list --json")?;
        let node = listed["nodes"][0]["mesh"]["v4"].as_str().context("the node has no place in the mesh")?;
        let own = std::env::current_exe().context("cannot find this program")?;
        let mut arguments = vec!["visit".into(), node.into(), self.admin.into()];
        arguments.extend(self.key("admin", &[]));
        let status = self.enter("admin", &own, &arguments)?.status().context("lab enter")?;
        ensure!(status.success(), "the visit in the mesh has failed ({status}): the reason is above");
        Ok(())
    }

    /// What the whole record since hold says, the claim included.
    fn judge(&self) -> Result<()> {
        let judged = self.lab.switch().wait(Duration::ZERO, |frames| {
            let of = |name: &str| frames.iter().filter(move |frame| &*frame.port == name).collect::<Vec<_>>();
            Some((of(self.node.name()).len(), early(frames, self.node.name()), strangers(frames, self.node.name())))
        });
        let (all, early, strangers) = judged.context("there is no record")?;
        say::show!(
            "   the segment's record: node frames: {all}; before the administrator spoke: {early}; to the stranger: {strangers}"
        );
        ensure!(all > 0 && early == 0 && strangers == 0, "the node has spoken to others than its administrator");
        Ok(())
    }

    /// A key under a random passphrase.
    fn make_key(&self, who: &str) -> Result<()> {
        let mut passphrase = [0; 16];
        getrandom::fill(&mut passphrase).context("no random bytes")?;
        self.secret(&format!("{who}.passphrase"), &passphrase.map(|byte| format!("{byte:02x}")).concat())?;
        let made = Command::new(self.admin).args(self.key(who, &["init".into()])).output().context(ADMIN)?;
        ensure!(made.status.success(), "{ADMIN} init: {}", String::from_utf8_lossy(&made.stderr));
        Ok(())
    }

    /// Runs the administrator's tool beside the segment; it must succeed.
    fn say(&self, who: &str, words: &[&str]) -> Result<()> {
        say::show!("   $ {ADMIN} {}", words.join(" "));
        let words: Vec<_> = words.iter().map(OsString::from).collect();
        let status = Command::new(self.admin).args(self.key(who, &words)).status().context(ADMIN)?;
        ensure!(status.success(), "{ADMIN} failed ({status})");
        Ok(())
    }

    /// The arguments that name a person's files and interface, and then `words`.
    fn key(&self, who: &str, words: &[OsString]) -> Vec<OsString> {
        let files = [
            ("--key", self.dir.join(format!("{who}.key"))),
            ("--passphrase-file", self.dir.join(format!("{who}.passphrase"))),
            ("--registry", self.dir.join(format!("{who}.sqlite"))),
            ("--interface", INTERFACE.into()),
        ];
        let files = files.into_iter().flat_map(|(flag, value)| [flag.into(), value.into()]);
        words.iter().cloned().chain(files).collect()
    }

    /// A program on the segment, with a port of that name.
    fn enter(&self, name: &str, program: &Path, arguments: &[OsString]) -> Result<Command> {
        enter(self.lab, name, program, arguments)
    }

    fn secret(&self, name: &str, text: &str) -> Result<()> {
        let path = self.dir.join(name);
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        file.and_then(|mut file| writeln!(file, "{text}")).with_context(|| path.display().to_string())
    }
}

fn meaning(phase: &str) -> &'static str {
    match phase {
        "blind" => "closed both ways: it tests its entropy and makes its identity",
        "scan" => "a few hellos, which only its administrator can read; does one answer?",
        "fork" => "nobody did: it signs its record of a private fleet of one",
        "hold" => "it sends nothing at all, until its administrator finds it",
        "committed" => "it has verified and stored the administrator's binding",
        "claimed" => "the administrator has confirmed it; the claim endpoint is closed for good",
        "sealed" => "something failed for good: closed both ways until the next power-up",
        _ => "",
    }
}

/// Frames of the node before the administrator's first.
fn early(frames: &[Frame], node: &str) -> usize {
    frames.iter().take_while(|frame| &*frame.port != "admin").filter(|frame| &*frame.port == node).count()
}

/// Frames of the node to an address that the stranger has sent from.
fn strangers(frames: &[Frame], node: &str) -> usize {
    let sources: Vec<_> =
        frames.iter().filter(|frame| &*frame.port == "stranger").filter_map(|f| f.bytes.get(6..12)).collect();
    let to_stranger = |frame: &&Frame| frame.bytes.get(..6).is_some_and(|to| sources.contains(&to));
    frames.iter().filter(|frame| &*frame.port == node).filter(to_stranger).count()
}
