//! What is done with claimed nodes: policy, commands, telemetry, revocation, further peers.

use std::{
    io::{self, IsTerminal},
    path::Path,
    time::{Duration, Instant},
};

use crypto::AnchorSecret;
use policy::{Because, Flow};
use serde_json::{Value, json};
use tokio::time::timeout;
use wire::{Key, command::operation, update};

use super::{fleet_id, key_path, passphrase, print, registry_path};
use crate::{
    cli::{self, Common, InFleet, Operation, Wait},
    error::{Error, Exit},
    fleet::{
        View, peer, rules, show,
        talk::{self, Lane, Outcome, Task},
    },
    key::KeyFile,
    mesh::{control::Mesh, key::MeshKey},
    output,
    registry::{
        Registry,
        fleet::{Fleet, Member, NewMember, Rules, Who},
    },
};

/// The fleet of this name; if keys have made several, that of the key in use.
pub fn fleet_named(common: &Common, registry: &Registry, name: &str) -> Result<Fleet, Error> {
    let mut fleets = registry.fleets_named(name)?;
    if fleets.len() > 1 {
        let id = fleet_id(&KeyFile::load(&key_path(common)?)?.public(), name);
        fleets.retain(|fleet| fleet.id == id);
    }
    fleets.pop().ok_or_else(|| {
        Error::new(
            Exit::Other,
            format!("the registry has no fleet {name}: claim a node, or run `os-network-admin mesh up`"),
        )
    })
}

/// A fleet of an existing registry.
fn open(common: &Common, name: &str) -> Result<(Registry, View), Error> {
    let path = registry_path(common)?;
    let registry = Registry::open_existing(&path)?
        .ok_or_else(|| Error::new(Exit::Other, format!("there is no registry {}: claim a node", path.display())))?;
    let fleet = fleet_named(common, &registry, name)?;
    let view = View::load(&registry, &fleet, MeshKey::of_registry(&path)?.public())?;
    Ok((registry, view))
}

fn unlock(common: &Common) -> Result<AnchorSecret, Error> {
    KeyFile::load(&key_path(common)?)?.unlock(&passphrase(common, false)?)
}

pub async fn policy(common: &Common, command: cli::Policy) -> Result<(), Error> {
    match command {
        cli::Policy::Set { rules, none: _, node, inherit, fleet, wait } => {
            let rules = if inherit { None } else { Some(rules::read(&rules)?) };
            set(common, rules, node.as_deref(), &fleet, &wait).await
        }
        cli::Policy::Push { fleet, wait } => {
            let (registry, view) = open(common, &fleet.fleet)?;
            let told = bring_up_to_date(common, &registry, &view, &wait).await?;
            report(common, json!({}), Vec::new(), told)
        }
        cli::Policy::Show { node, fleet } => {
            let (_, view) = open(common, &fleet.fleet)?;
            let one = node.as_deref().map(|text| view.find(text)).transpose()?;
            print(common, || show::policy_json(&view, one), || show::policy_text(&view, one))
        }
        cli::Policy::Explain { node, flow, fleet } => {
            let flow: Flow = flow.join(" ").parse().map_err(|why| Error::input(format!("no flow: {why}")))?;
            let (_, view) = open(common, &fleet.fleet)?;
            let member = view.find(&node)?;
            let explained = rules::explain(&view, member, &flow)?;
            print(common, || explained.json(), || explained.text())
        }
    }
}

/// Sets rules if every node could have the configuration that follows, and tells those that lack it.
async fn set(
    common: &Common,
    rules: Option<Rules>,
    node: Option<&str>,
    fleet: &InFleet,
    wait: &Wait,
) -> Result<(), Error> {
    let (registry, mut view) = open(common, &fleet.fleet)?;
    let member = node.map(|text| view.find(text).map(|member| member.id)).transpose()?;
    match member {
        Some(id) => view.set_member_rules(id, rules.clone()),
        None => view.fleet.rules = rules.clone().unwrap_or_default(),
    }
    let configurations: Result<Vec<_>, Error> = view.live().map(|member| view.configuration(member)).collect();
    configurations?;
    // What would be refused is refused before anything is stored.
    let authority = if view.behind().next().is_some() { Some(unlock(common)?) } else { None };
    let mut mesh = match &authority {
        Some(_) => Some(Mesh::connect(&registry_path(common)?).await?),
        None => None,
    };
    match member {
        Some(id) => registry.set_member_rules(id, rules.as_ref())?,
        None => registry.set_fleet_rules(&view.fleet.id, &rules.unwrap_or_default())?,
    }
    let told = match (&authority, &mut mesh) {
        (Some(authority), Some(mesh)) => {
            mesh.reload().await?;
            push(mesh, &registry, &view, authority, wait).await?
        }
        _ => Vec::new(),
    };
    let one = node.map(|text| view.find(text)).transpose()?;
    report(common, show::policy_json(&view, one), vec![show::policy_text(&view, one)], told)
}

/// How it went with each node, by its fingerprint.
type Told = Vec<(String, Outcome)>;

/// Tells every node that lacks its configuration what it should have, if there is one.
async fn bring_up_to_date(common: &Common, registry: &Registry, view: &View, wait: &Wait) -> Result<Told, Error> {
    if view.behind().next().is_none() {
        return Ok(Vec::new());
    }
    let authority = unlock(common)?;
    let mut mesh = Mesh::connect(&registry_path(common)?).await?;
    mesh.reload().await?;
    push(&mut mesh, registry, view, &authority, wait).await
}

async fn push(
    lane: &mut impl Lane,
    registry: &Registry,
    view: &View,
    authority: &AnchorSecret,
    wait: &Wait,
) -> Result<Told, Error> {
    let mut tasks = Vec::new();
    for member in view.behind() {
        let configuration = view.configuration(member)?;
        tasks.push((member, talk::update(registry, view, authority, member, &configuration)?));
    }
    let members: Vec<&Member> = tasks.iter().map(|(member, _)| *member).collect();
    let updates: Vec<Vec<u8>> = tasks.iter().map(|(_, task)| task.bytes().to_vec()).collect();
    let outcomes = talk::run(lane, registry, view, authority, tasks, Duration::from_secs(wait.wait)).await?;
    for ((member, bytes), outcome) in members.iter().zip(&updates).zip(&outcomes) {
        if let (Outcome::Done { .. }, Some((head, configuration))) = (outcome, update::parse(bytes)) {
            registry.store_configuration(member.id, configuration, head.counter.get())?;
        }
    }
    Ok(members.iter().map(|member| member.who.to_string()).zip(outcomes).collect())
}

/// Prints what was done and how each node took it; an error if one did not.
fn report(common: &Common, mut document: Value, mut lines: Vec<String>, told: Told) -> Result<(), Error> {
    let refused = told.iter().any(|(_, outcome)| matches!(outcome, Outcome::Refused(_)));
    let silent = told.iter().filter(|(_, outcome)| *outcome == Outcome::NoAnswer).count();
    let error = match (refused, silent) {
        (true, _) => Some(Error::new(Exit::Refused, "a node refused its update: see above")),
        (false, 0) => None,
        (false, silent) => Some(Error::new(
            Exit::NotShown,
            format!(
                "{silent} of {} nodes did not show in time that they have it: when they are there, run: os-network-admin \
                 policy push",
                told.len()
            ),
        )),
    };
    document["nodes"] = told.iter().map(|(who, outcome)| show::outcome_json(who, outcome)).collect();
    lines.extend(told.iter().map(|(who, outcome)| show::outcome_text(who, outcome)));
    if lines.is_empty() {
        lines.push("every node has what it should have".into());
    }
    if let Some(error) = &error {
        document["error"] = json!({"code": error.exit as u8, "message": error.message});
    }
    print(common, || document, || lines.join("\n"))?;
    error.map_or(Ok(()), |error| Err(Error { told: true, ..error }))
}

pub async fn command(
    common: &Common,
    node: &str,
    operation: Operation,
    fleet: &InFleet,
    wait: &Wait,
) -> Result<(), Error> {
    let (registry, view) = open(common, &fleet.fleet)?;
    let member = view.find(node)?;
    talk::paired(&view, member)?;
    let authority = unlock(common)?;
    let mut mesh = Mesh::connect(&registry_path(common)?).await?;
    let number = match operation {
        Operation::Status => operation::STATUS,
        Operation::Isolate => operation::ISOLATE,
        Operation::Rejoin => operation::REJOIN,
        Operation::Rotate => operation::ROTATE,
    };
    let tasks = vec![(member, Task::Command(number))];
    let outcomes = talk::run(&mut mesh, &registry, &view, &authority, tasks, Duration::from_secs(wait.wait)).await?;
    match outcomes.into_iter().next().unwrap_or(Outcome::NoAnswer) {
        Outcome::Done { record, after } => print(
            common,
            || json!({"after_ms": millis(after), "telemetry": show::record_json(&view, member, &record, None)}),
            || format!("done after {}\n{}", show::seconds(after), show::record_text(&view, member, &record)),
        ),
        Outcome::Refused(why) => {
            Err(Error::new(Exit::Refused, format!("{} did not do it: {}", member.who, talk::why(why))))
        }
        Outcome::NoAnswer => Err(Error::new(
            Exit::NotShown,
            format!(
                "{} did not show within {} s that it has done it: is it there? See `os-network-admin mesh status`",
                member.who, wait.wait
            ),
        )),
    }
}

pub async fn telemetry(common: &Common, once: bool, fleet: &InFleet) -> Result<(), Error> {
    let (registry, mut view) = open(common, &fleet.fleet)?;
    let lines = |view: &View| -> Result<(), Error> {
        for member in &view.members {
            if let Some((record, ms)) = &member.telemetry {
                print(
                    common,
                    || show::record_json(view, member, record, Some(*ms)),
                    || show::record_text(view, member, record),
                )?;
            }
        }
        Ok(())
    };
    if once {
        return if common.json { lines(&view) } else { output::line(show::table(&view)) };
    }
    let mut mesh = Mesh::connect(&registry_path(common)?).await?;
    let table = !common.json && io::stdout().is_terminal();
    loop {
        if table {
            // Home, and clear to the end.
            output::line(format!("\x1b[H\x1b[J{}", show::table(&view)))?;
        }
        let heard = tokio::select! {
            heard = timeout(Duration::from_secs(1), mesh.next()) => heard,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        let heard = heard.ok().transpose()?;
        view = View::load(&registry, &view.fleet, view.authority)?;
        if let (false, Some((id, record))) = (table, heard)
            && let Some(member) = view.members.iter().find(|member| member.id == id)
        {
            let ms = member.telemetry.as_ref().map(|(_, ms)| *ms);
            print(
                common,
                || show::record_json(&view, member, &record, ms),
                || show::record_text(&view, member, &record),
            )?;
        }
    }
}

pub async fn revoke(common: &Common, text: &str, fleet: &InFleet, wait: &Wait) -> Result<(), Error> {
    let (registry, view) = open(common, &fleet.fleet)?;
    let (id, who) = view.find(text).map(|member| (member.id, member.who.to_string()))?;
    // Typed before the clock runs; needed only if somebody is to be told.
    let authority = if view.without(id).behind().next().is_some() { Some(unlock(common)?) } else { None };
    let start = Instant::now();
    registry.revoke(id)?;
    let view = View::load(&registry, &view.fleet, view.authority)?;
    // The registry first: whatever fails now, it is no member any more.
    let path = registry_path(common)?;
    let (own, told) = match (cut(&path).await, &authority) {
        (Ok(mut mesh), Some(authority)) => {
            let own = start.elapsed();
            (Some(own), push(&mut mesh, &registry, &view, authority, wait).await?)
        }
        (Ok(_), None) => (Some(start.elapsed()), Vec::new()),
        (Err(_), None) => (None, Vec::new()),
        (Err(error), Some(_)) => {
            let message = format!(
                "{who} is revoked in the registry, but no node has been told: {error}; then run: os-network-admin policy push"
            );
            return Err(Error::new(error.exit, message));
        }
    };
    let after = |outcome: &Outcome| match outcome {
        Outcome::Done { after, .. } => Some(*after),
        Outcome::Refused(_) | Outcome::NoAnswer => None,
    };
    // Of the nodes' times each is from when they began to be told.
    let slowest =
        told.iter().map(|(_, outcome)| after(outcome)).try_fold(Duration::ZERO, |most, one| Some(most.max(one?)));
    let last = own.zip(slowest).map(|(own, slowest)| own + slowest);
    let mut lines = vec![format!("revoked      {who}")];
    lines.push(match own {
        Some(own) => format!("this host    refuses it after {}", show::seconds(own)),
        None => "this host    the mesh is not up, there is no interface to refuse it".into(),
    });
    if let Some(last) = last {
        lines.push(format!("last peer    refuses it after {}", show::seconds(last)));
    }
    let exported: Vec<String> = view.exported_to(id).map(|member| member.who.to_string()).collect();
    if !exported.is_empty() {
        lines
            .push(format!("remove it by hand from the configurations of {}, or export them anew", exported.join(", ")));
    }
    let document = json!({
        "revoked": who,
        "own_ms": own.map(millis),
        "last_ms": last.map(millis),
        "exported": exported,
    });
    report(common, document, lines, told)
}

/// The own interface refuses from here on.
async fn cut(registry: &Path) -> Result<Mesh, Error> {
    let mut mesh = Mesh::connect(registry).await?;
    mesh.reload().await?;
    Ok(mesh)
}

pub async fn export(
    common: &Common,
    name: &str,
    public_key: Option<Key>,
    fleet: &InFleet,
    wait: &Wait,
) -> Result<(), Error> {
    let (registry, view) = open(common, &fleet.fleet)?;
    let who = Who::Peer(name.into());
    let known = view.members.iter().find(|member| member.who == who && member.revoked_ms.is_none());
    let (key, secret) = match (public_key, known) {
        (Some(key), _) => (key, None),
        // It is in the registry; its private key is nowhere but where it was exported to.
        (None, Some(member)) => (member.key, None),
        (None, None) => {
            let made = MeshKey::generate()?;
            (made.public(), Some(made))
        }
    };
    if view.members.iter().any(|member| member.key == key && member.who != who) || key == view.authority {
        return Err(Error::input("another member has this public key"));
    }
    let new = NewMember { who: &who, key, claim_key: None, underlay: None, authority: None };
    let member = registry.enroll(&view.fleet, &new)?;
    let view = View::load(&registry, &view.fleet, view.authority)?;
    let text = peer::configuration(&view, &member, secret.as_ref(), common.interface.as_deref());
    // The key is nowhere else: it is printed before anything can fail.
    if !common.json {
        output::line(text.trim_end())?;
    }
    let told = bring_up_to_date(common, &registry, &view, wait).await;
    let (v4, v6) = view.fleet.addresses(member.host);
    let (told, error) = match told {
        Ok(told) => (told, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    let mut document = json!({"name": name, "v4": v4.to_string(), "v6": v6.to_string(), "configuration": *text});
    if let Some(error) = error {
        if common.json {
            document["nodes"] = json!([]);
            document["error"] = json!({"code": error.exit as u8, "message": error.message});
            output::line(document)?;
        }
        return Err(Error { told: common.json, ..error });
    }
    if common.json {
        return report(common, document, Vec::new(), told);
    }
    // Standard output is the configuration and nothing else.
    for (who, outcome) in &told {
        eprintln!("{}", show::outcome_text(who, outcome));
    }
    match told.iter().find(|(_, outcome)| !matches!(outcome, Outcome::Done { .. })) {
        None => Ok(()),
        Some((who, _)) => Err(Error::new(
            Exit::NotShown,
            format!("{who} has not shown that it knows {name}: when it is there, run: os-network-admin policy push"),
        )),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What `decide` says, in words.
impl rules::Explained {
    fn json(&self) -> Value {
        json!({
            "allowed": self.because.is_some(),
            "because": self.reason,
            "rule": match self.because { Some(Because::Rule(at)) => Some(at + 1), _ => None },
            "isolated": self.isolated,
        })
    }

    fn text(&self) -> String {
        format!("{}: {}", if self.because.is_some() { "yes" } else { "no" }, self.reason)
    }
}
