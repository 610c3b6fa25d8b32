//! The description as values.

use super::{board::DeviceKind, refused::At};

/// A whole system, as [`super::elaborate`] made it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct System {
    pub regions: Vec<Region>,
    /// The roots; children stand in their parents.
    pub domains: Vec<Domain>,
    pub channels: Vec<Channel>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    pub name: String,
    /// Bytes.
    pub size: u64,
    pub page_size: Option<u64>,
    pub phys_addr: Option<u64>,
    pub prefill_path: Option<String>,
    /// The domain whose device it belongs to, if the board supplied it.
    pub device_of: Option<String>,
    pub at: At,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    pub name: String,
    pub priority: u8,
    /// Microseconds.
    pub budget: Option<u64>,
    pub period: Option<u64>,
    pub stack_size: Option<u64>,
    pub fpu: Option<bool>,
    /// Of a child, in its parent.
    pub id: Option<u8>,
    /// The parent's symbol for `id`.
    pub setvar_id: Option<String>,
    pub image: Image,
    pub maps: Vec<Map>,
    pub irqs: Vec<Irq>,
    pub paddrs: Vec<PaddrOf>,
    pub devices: Vec<Device>,
    pub children: Vec<Domain>,
    pub at: At,
}

/// A program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    pub path: String,
    pub path_for_symbols: Option<String>,
}

/// What a mapping allows. Nothing is executable but program images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Perms {
    Read,
    ReadWrite,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map {
    pub region: String,
    pub vaddr: u64,
    pub perms: Perms,
    pub cached: Option<bool>,
    pub setvar_vaddr: Option<String>,
    pub setvar_size: Option<String>,
    pub setvar_prefill_size: Option<String>,
    pub at: At,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    Level,
    Edge,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Irq {
    pub irq: u32,
    /// In the number space of the domain's channels.
    pub id: u8,
    pub trigger: Option<Trigger>,
    pub setvar_id: Option<String>,
    pub at: At,
}

/// `<setvar symbol region_paddr>`: the domain learns a region's physical address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaddrOf {
    pub symbol: String,
    pub region: String,
    pub at: At,
}

/// A device that stays an element: on native. Elsewhere it has become regions and interrupts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub name: String,
    pub kind: Option<DeviceKind>,
    pub at: At,
}

/// A pair of notifications.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    pub ends: [End; 2],
    pub at: At,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    pub domain: String,
    pub id: u8,
    /// Whether this end may notify the other.
    pub notify: bool,
    pub setvar_id: Option<String>,
    pub at: At,
}

impl System {
    /// Every domain, parents before their children.
    pub fn all_domains(&self) -> Vec<&Domain> {
        fn walk<'a>(domains: &'a [Domain], into: &mut Vec<&'a Domain>) {
            for domain in domains {
                into.push(domain);
                walk(&domain.children, into);
            }
        }
        let mut all = Vec::new();
        walk(&self.domains, &mut all);
        all
    }

    pub fn domain(&self, name: &str) -> Option<&Domain> {
        self.all_domains().into_iter().find(|domain| domain.name == name)
    }

    /// The program of a domain, to put another in its place.
    pub fn image_mut(&mut self, domain: &str) -> Option<&mut Image> {
        fn find<'a>(domains: &'a mut [Domain], name: &str) -> Option<&'a mut Image> {
            domains.iter_mut().find_map(|domain| {
                if domain.name == name { Some(&mut domain.image) } else { find(&mut domain.children, name) }
            })
        }
        find(&mut self.domains, domain)
    }

    pub fn region(&self, name: &str) -> Option<&Region> {
        self.regions.iter().find(|region| region.name == name)
    }

    /// The domains that map a region, and how.
    pub fn mappers(&self, region: &str) -> impl Iterator<Item = (&Domain, &Map)> {
        let of = move |domain| Domain::map_of(domain, region).map(|map| (domain, map));
        self.all_domains().into_iter().filter_map(of)
    }

    /// Whether a device is told where a region is.
    pub fn is_dma(&self, region: &str) -> bool {
        self.all_domains().into_iter().any(|domain| domain.knows_paddr(region))
    }

    /// The channels of a domain: its own end and the other.
    pub fn ends_of(&self, domain: &str) -> impl Iterator<Item = (&End, &End)> {
        self.channels.iter().filter_map(move |channel| {
            let [a, b] = &channel.ends;
            if a.domain == domain {
                Some((a, b))
            } else if b.domain == domain {
                Some((b, a))
            } else {
                None
            }
        })
    }
}

impl Domain {
    pub fn map_of(&self, region: &str) -> Option<&Map> {
        self.maps.iter().find(|map| map.region == region)
    }

    /// Whether it learns the physical address of a region.
    pub fn knows_paddr(&self, region: &str) -> bool {
        self.paddrs.iter().any(|paddr| paddr.region == region)
    }
}

impl Perms {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "r",
            Self::ReadWrite => "rw",
        }
    }
}

impl Trigger {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Level => "level",
            Self::Edge => "edge",
        }
    }
}

impl Map {
    /// The symbols that it sets.
    pub fn symbols(&self) -> impl Iterator<Item = &str> {
        [&self.setvar_vaddr, &self.setvar_size, &self.setvar_prefill_size].into_iter().flatten().map(String::as_str)
    }
}
