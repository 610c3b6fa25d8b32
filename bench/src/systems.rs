//! The systems that are booted, from the product's own description and boards, put together in temporary directories.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use calls::params::Params;
use sysdesc::{
    Channel, Domain, Map, Perms, Region, System,
    image::assemble::{self, Recipe, assemble, board},
};
use tempfile::TempDir;
use zerocopy::IntoBytes;

const CONFIG: &str = "release";
/// The domain that boards give a serial device to. Small systems call their one speaker so.
const SPEAKER: &str = "console";

/// An image, in a directory that goes with it.
pub struct Built {
    pub system: System,
    pub image: PathBuf,
    /// What the machine's flash holds when it is switched on.
    pub flash: Option<Vec<u8>>,
    dir: TempDir,
}

impl Built {
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn capdl(&self) -> Result<String> {
        let file = self.dir().join("capdl.json");
        fs::read_to_string(&file).with_context(|| file.display().to_string())
    }
}

/// What the SDK has for a board.
pub fn sdk_of(board: &str) -> Result<PathBuf> {
    Ok(assemble::sdk()?.join("board").join(board).join(CONFIG))
}

/// Those that are measured: all that have an image.
pub fn boards() -> Result<Vec<String>> {
    assemble::sel4_boards()
}

/// What is missing here for any of them.
pub fn missing() -> Option<String> {
    let boards = match assemble::sdk().and_then(|_| boards()) {
        Ok(boards) => boards,
        Err(error) => return Some(format!("{error:#}")),
    };
    let lacks = |board: &String| {
        let program = qemu::machine::program(board).unwrap_or_default();
        let there = std::env::split_paths(&std::env::var_os("PATH")?).any(|dir| dir.join(&program).is_file());
        (!there).then(|| format!("there is no {program}"))
    };
    boards.iter().find_map(lacks)
}

/// The product.
pub fn node(board: &str) -> Result<Built> {
    build(board, |dir| Recipe::new(board, CONFIG).system(dir))
}

/// When a measured node says its counter.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// When it holds: the last byte of that line has just been written.
    Hold,
    /// When it has sent the first message of a handshake: what its flash holds is [`Built::flash`]'s.
    Handshake,
    /// When a domain of the highest priority, which is there for nothing else, is the first to run.
    Start,
}

/// The product with a scan of no length. Its entropy domain needs no device that the host must serve.
pub fn measured_node(board: &str, until: Until) -> Result<Built> {
    let params = Params { scan_ms: 0.into(), ..Params::DEFAULT };
    let prefill = BTreeMap::from([("params".to_owned(), params.as_bytes().to_vec())]);
    build(board, |dir| {
        let mut system = Recipe { prefill, ..Recipe::new(board, CONFIG) }.system(dir)?;
        without_device(&mut system, "entropy", "bench-entropy")?;
        let console = domain(&mut system.domains, SPEAKER)?;
        console.image.path = "bench-console".into();
        let console = console.clone();
        let speaks =
            |map: &Map, system: &System| system.regions.iter().any(|r| r.name == map.region && r.device_of.is_some());
        if until == Until::Handshake {
            without_device(&mut system, "net", "bench-nic")?;
            let serial: Vec<_> = console.maps.iter().filter(|map| speaks(map, &system)).cloned().collect();
            domain(&mut system.domains, "net")?.maps.extend(serial);
        }
        if until == Until::Start {
            let mut first =
                Domain { name: "first".into(), priority: 254, id: None, setvar_id: None, ..console.clone() };
            first.image.path = "hello".into();
            first.maps.retain(|map| speaks(map, &system));
            system.domains.push(first);
        }
        Ok(system)
    })
}

/// Another program for a domain, one that needs no device.
fn without_device(system: &mut System, name: &str, program: &str) -> Result<()> {
    let device = |region: &Region| region.device_of.as_deref() == Some(name);
    let gone: Vec<_> = system.regions.iter().filter(|region| device(region)).map(|r| r.name.clone()).collect();
    system.regions.retain(|region| !device(region));
    let domain = domain(&mut system.domains, name)?;
    domain.maps.retain(|map| !gone.contains(&map.region));
    domain.paddrs.clear();
    domain.image.path = program.into();
    Ok(())
}

/// A system of `bench/systems`: nothing but what its file says.
pub fn small(name: &str, board_name: &str) -> Result<Built> {
    build(board_name, |_| {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("systems").join(format!("{name}.xml"));
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        Ok(sysdesc::elaborate(&text, &board(board_name)?)?)
    })
}

/// The product's perimeter, and one domain at the other end of all its rings, cells and channels.
pub fn perimeter(board: &str, frames: &[u8]) -> Result<Built> {
    build(board, |dir| {
        let mut system = Recipe::new(board, CONFIG).system(dir)?;
        let perimeter = domain(&mut system.domains, "perimeter")?.clone();
        let net = domain(&mut system.domains, "net")?.clone();
        let mut other = domain(&mut system.domains, SPEAKER)?.clone();
        system.regions.retain(|region| region.device_of.is_none() || region.device_of.as_deref() == Some(SPEAKER));
        system
            .regions
            .retain(|region| region.device_of.is_some() || perimeter.maps.iter().any(|map| map.region == region.name));
        other.image.path = "bench-net".into();
        other.priority = net.priority;
        other.maps.retain(|map| system.regions.iter().any(|r| r.name == map.region && r.device_of.is_some()));
        other.maps.extend(net.maps.into_iter().filter(|map| perimeter.maps.iter().any(|own| own.region == map.region)));
        let at = system.regions.first().context("no regions")?.at;
        let rules = perimeter.maps.iter().find(|map| map.setvar_vaddr.as_deref() == Some("lifecycle_in"));
        let rules = rules.context("perimeter maps no rules")?.region.clone();
        let file = dir.join("frames.bin");
        fs::write(&file, frames)?;
        system.regions.push(Region {
            name: "frames".into(),
            size: (frames.len() as u64).next_multiple_of(0x1000),
            page_size: None,
            phys_addr: None,
            prefill_path: Some(file.to_str().context("a path that is not UTF-8")?.to_owned()),
            device_of: None,
            at,
        });
        let map = |region: &str, symbol: &str, vaddr, perms| Map {
            region: region.to_owned(),
            vaddr,
            perms,
            cached: None,
            setvar_vaddr: Some(symbol.to_owned()),
            setvar_size: Some(format!("{symbol}_size")),
            setvar_prefill_size: None,
            at,
        };
        other.maps.push(map(&rules, "rules", 0x2100_0000, Perms::ReadWrite));
        other.maps.push(map("frames", "frames", 0x2200_0000, Perms::Read));
        system.channels = system.channels.into_iter().filter_map(|channel| across(channel, &perimeter.name)).collect();
        // Nor a budget: who waits for the next one executes nothing that could be counted.
        let alone = |domain| Domain { id: None, setvar_id: None, budget: None, period: None, ..domain };
        system.domains = [perimeter, other].map(alone).into();
        Ok(system)
    })
}

/// A channel of `one`, with the speaker at its other end: under the same id, and called after whom it stands for.
fn across(mut channel: Channel, one: &str) -> Option<Channel> {
    let own = channel.ends.iter().position(|end| end.domain == one)?;
    let id = channel.ends[own].id;
    let other = &mut channel.ends[1 - own];
    other.setvar_id = match other.domain.as_str() {
        "net" => Some("perimeter_id".into()),
        name @ ("beacon" | "claim") => Some(format!("{name}_id")),
        _ => None,
    };
    other.domain = SPEAKER.into();
    other.id = id;
    Some(channel)
}

fn domain<'a>(domains: &'a mut [Domain], name: &str) -> Result<&'a mut Domain> {
    fn find<'a>(domains: &'a mut [Domain], name: &str) -> Option<&'a mut Domain> {
        domains.iter_mut().find_map(
            |domain| {
                if domain.name == name { Some(domain) } else { find(&mut domain.children, name) }
            },
        )
    }
    find(domains, name).with_context(|| format!("the system has no {name}"))
}

fn build(board: &str, system: impl FnOnce(&Path) -> Result<System>) -> Result<Built> {
    let dir = tempfile::tempdir().context("no temporary directory")?;
    let system = system(dir.path())?;
    let image = assemble(board, CONFIG, &system, None, dir.path())
        .context("`make bench` builds the domains; `make bench-domains BOARD=... CONFIG=release` those of the bench")?;
    Ok(Built { system, image, flash: None, dir })
}
