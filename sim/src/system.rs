//! What `system.xml` declares, in the form in which a simulated node looks things up. There is no second copy of it: the
//! description is elaborated for the native board, whose devices are names.

use std::rc::Rc;

use sysdesc::{Board, Perms};

const SYSTEM: &str = include_str!("../../system.xml");
const BOARD: &str = include_str!("../../boards/native.toml");

/// A domain, by its place in [`System::domains`].
pub type DomainId = usize;

/// The timer's priority on the boards (`boards/`), below its parent's only.
const TIMER: u8 = 190;

pub struct System {
    pub domains: Vec<Domain>,
    pub regions: Vec<Region>,
}

pub struct Domain {
    pub name: String,
    pub program: String,
    pub priority: u8,
    /// The parent, and the number of this domain in it.
    pub parent: Option<(DomainId, u8)>,
    pub maps: Vec<Map>,
    pub channels: Vec<Channel>,
    /// Numbers of children, by the symbol that the description sets.
    pub children: Vec<(String, u8)>,
}

pub struct Map {
    pub region: usize,
    pub symbol: String,
    pub writable: bool,
}

/// One end of a channel.
pub struct Channel {
    pub id: u8,
    pub symbol: Option<String>,
    /// The domain at the other end, and the number of the channel there. `None`: this end may not notify.
    pub other: Option<(DomainId, u8)>,
}

pub struct Region {
    pub name: String,
    /// Bytes.
    pub size: usize,
    pub writer: Option<DomainId>,
}

impl System {
    /// The project's own description.
    pub fn of_the_node() -> Rc<Self> {
        let board = Board::parse(BOARD).expect("the native board is checked by a test");
        let system = sysdesc::elaborate(SYSTEM, &board).expect("system.xml is checked by a test");
        Rc::new(Self::new(&system))
    }

    fn new(system: &sysdesc::System) -> Self {
        let all = system.all_domains();
        let place = |name: &str| all.iter().position(|domain| domain.name == name).expect("the check has found it");
        let regions = system.regions.iter().map(|region| {
            let writes = |domain: &&sysdesc::Domain| {
                domain.maps.iter().any(|map| map.region == region.name && map.perms == Perms::ReadWrite)
            };
            Region {
                name: region.name.clone(),
                size: usize::try_from(region.size).expect("regions are small"),
                writer: all.iter().position(writes),
            }
        });
        let regions: Vec<_> = regions.collect();
        let domains = all.iter().enumerate().map(|(id, domain)| {
            let map = |map: &sysdesc::Map| {
                Some(Map {
                    region: regions.iter().position(|region| region.name == map.region)?,
                    symbol: map.setvar_vaddr.clone()?,
                    writable: map.perms == Perms::ReadWrite,
                })
            };
            let channels = system.channels.iter().flat_map(|channel| {
                let [a, b] = &channel.ends;
                [(a, b), (b, a)].into_iter().filter(|(own, _)| own.domain == domain.name).map(|(own, other)| Channel {
                    id: own.id,
                    symbol: own.setvar_id.clone(),
                    other: own.notify.then(|| (place(&other.domain), other.id)),
                })
            });
            let parent = all.iter().position(|parent| parent.children.iter().any(|child| child.name == domain.name));
            Domain {
                name: domain.name.clone(),
                program: domain.image.path.clone(),
                // As on the boards: a domain that asks again and again holds up none that could end that.
                priority: if domain.name == "timer" { TIMER } else { domain.priority },
                parent: parent.map(|parent| (parent, all[id].id.expect("the check has found it"))),
                maps: domain.maps.iter().filter_map(map).collect(),
                channels: channels.collect(),
                children: domain
                    .children
                    .iter()
                    .filter_map(|child| Some((child.setvar_id.clone()?, child.id?)))
                    .collect(),
            }
        });
        let domains = domains.collect();
        Self { domains, regions }
    }

    pub fn domain(&self, name: &str) -> DomainId {
        let found = self.domains.iter().position(|domain| domain.name == name);
        found.unwrap_or_else(|| panic!("system.xml has no domain {name}"))
    }

    /// The regions that this domain writes and that one reads.
    pub fn between(&self, from: DomainId, to: DomainId) -> impl Iterator<Item = usize> {
        let read = &self.domains[to].maps;
        let shared = read.iter().filter(move |map| !map.writable && self.regions[map.region].writer == Some(from));
        shared.map(|map| map.region)
    }
}
