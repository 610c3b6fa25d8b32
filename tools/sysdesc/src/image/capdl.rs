//! The capDL that the Microkit tool writes with `--capdl-json`: every kernel object of an image and every capability
//! that exists when the domains start. What this does not know by name it refuses, so that no kind of object or
//! capability goes by unjudged; of what frames are filled with it looks at the kind only.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, de::IgnoredAny};

/// An object of a [`Spec`]. In a parsed one each is in range, and of the kind that its capability says.
pub type Id = usize;

/// A capDL file that is not understood.
#[derive(Debug, thiserror::Error)]
pub enum BadCapdl {
    #[error("not capDL: {0}")]
    Json(#[from] serde_json::Error),
    #[error("not capDL of a Microkit system: {0}")]
    Shape(String),
}

/// All objects.
#[derive(Debug)]
pub struct Spec {
    objects: Vec<Named>,
    pub irqs: Vec<IrqEntry>,
}

#[derive(Debug)]
struct Named {
    name: String,
    object: Object,
}

#[derive(Debug, Deserialize)]
pub enum Object {
    Endpoint,
    Notification,
    Reply,
    CNode(CNode),
    Tcb(Tcb),
    Frame(Frame),
    PageTable(PageTable),
    SchedContext(SchedContext),
    ArmIrq(ArmIrq),
    RiscvIrq(RiscvIrq),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CNode {
    pub size_bits: u8,
    pub slots: Slots,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tcb {
    pub slots: Slots,
    pub extra: TcbExtra,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TcbExtra {
    pub ipc_buffer_addr: u64,
    pub affinity: u64,
    pub prio: u64,
    pub max_prio: u64,
    pub fpu_disabled: bool,
    #[serde(rename = "resume")]
    _resume: bool,
    #[serde(rename = "domain")]
    _domain: Option<u8>,
    #[serde(rename = "ip")]
    _ip: u64,
    #[serde(rename = "sp")]
    _sp: u64,
    #[serde(rename = "gprs")]
    _gprs: Vec<u64>,
    /// Must be there, and null: fault endpoints stand in slots.
    #[serde(rename = "master_fault_ep")]
    _master_fault_ep: (),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frame {
    pub size_bits: u8,
    pub paddr: Option<u64>,
    pub init: Fill,
}

/// What is copied into a frame before the domains start.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fill {
    pub entries: Vec<FillEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FillEntry {
    /// Not judged, nor is which bytes of a program or file.
    #[serde(rename = "range")]
    _range: IgnoredAny,
    pub content: FillContent,
}

#[derive(Debug, Deserialize)]
pub enum FillContent {
    Data(FillData),
}

#[derive(Debug, Deserialize)]
pub enum FillData {
    /// Of a domain's program.
    ElfContent(IgnoredAny),
    /// Of a file with which a region is prefilled.
    BytesContent(IgnoredAny),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageTable {
    /// Must be false.
    pub x86_ept: bool,
    pub is_root: bool,
    pub level: u8,
    pub slots: Slots,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SchedContext {
    #[serde(rename = "size_bits")]
    _size_bits: u8,
    pub extra: SchedExtra,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SchedExtra {
    pub period: u64,
    pub budget: u64,
    #[serde(rename = "badge")]
    _badge: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArmIrq {
    pub slots: Slots,
    pub extra: ArmIrqExtra,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArmIrqExtra {
    pub trigger: u8,
    #[serde(rename = "target")]
    _target: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RiscvIrq {
    pub slots: Slots,
    pub extra: RiscvIrqExtra,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RiscvIrqExtra {
    pub trigger: u8,
}

/// By slot; a slot that is filled twice is refused.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Vec<Entry>")]
pub struct Slots(BTreeMap<u32, Cap>);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    slot: u32,
    cap: Cap,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Cap {
    Endpoint(BadgedCap),
    Notification(BadgedCap),
    CNode(CNodeCap),
    Tcb(PlainCap),
    Frame(FrameCap),
    PageTable(PlainCap),
    SchedContext(PlainCap),
    Reply(PlainCap),
    ArmIrqHandler(PlainCap),
    RiscvIrqHandler(PlainCap),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlainCap {
    pub object: Id,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BadgedCap {
    pub object: Id,
    pub badge: u64,
    pub rights: Rights,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CNodeCap {
    pub object: Id,
    pub guard: u64,
    pub guard_size: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrameCap {
    pub object: Id,
    pub rights: Rights,
    pub cached: bool,
    pub executable: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rights {
    pub read: bool,
    pub write: bool,
    pub grant: bool,
    pub grant_reply: bool,
}

/// Which object stands for an interrupt.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IrqEntry {
    pub irq: u64,
    pub handler: Id,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSpec {
    objects: Vec<RawNamed>,
    irqs: Vec<IrqEntry>,
    root_objects: Range,
    asid_slots: Vec<IgnoredAny>,
    untyped_covers: Vec<IgnoredAny>,
    #[serde(rename = "domain_schedule")]
    _domain_schedule: (),
    #[serde(rename = "domain_set_start")]
    _domain_set_start: (),
    #[serde(rename = "domain_idx_shift")]
    _domain_idx_shift: (),
    #[serde(rename = "cached_orig_cap_slots")]
    _cached_orig_cap_slots: (),
    #[serde(rename = "log_level")]
    _log_level: IgnoredAny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNamed {
    name: String,
    object: Object,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Range {
    start: usize,
    end: usize,
}

impl Spec {
    pub fn parse(text: &str) -> Result<Self, BadCapdl> {
        let raw: RawSpec = serde_json::from_str(text)?;
        let shape = |what: String| Err(BadCapdl::Shape(what));
        let count = raw.objects.len();
        if (raw.root_objects.start, raw.root_objects.end) != (0, count) {
            return shape("root_objects are not all objects".into());
        }
        if !raw.asid_slots.is_empty() || !raw.untyped_covers.is_empty() {
            return shape("it has ASID slots or untyped covers".into());
        }
        let objects: Vec<_> = raw.objects.into_iter().map(|RawNamed { name, object }| Named { name, object }).collect();
        let mut names = BTreeSet::new();
        if let Some(twice) = objects.iter().find(|named| !names.insert(named.name.as_str())) {
            return shape(format!("two objects are called {}", twice.name));
        }
        let spec = Self { objects, irqs: raw.irqs };
        for (_, name, object) in spec.all() {
            for (slot, cap) in object.slots().into_iter().flat_map(Slots::iter) {
                match spec.objects.get(cap.object()) {
                    Some(target) if cap.fits(&target.object) => {}
                    Some(target) => {
                        return shape(format!("slot {slot} of {name} holds {cap}, and {} is none", target.name));
                    }
                    None => return shape(format!("slot {slot} of {name} holds {cap} of no object")),
                }
            }
            if let Object::PageTable(PageTable { x86_ept: true, .. }) = object {
                return shape(format!("{name} is a page table for x86"));
            }
        }
        for entry in &spec.irqs {
            if !matches!(spec.objects.get(entry.handler), Some(named) if named.object.is_irq()) {
                return shape(format!("interrupt {} has no handler", entry.irq));
            }
        }
        Ok(spec)
    }

    pub fn all(&self) -> impl Iterator<Item = (Id, &str, &Object)> {
        self.objects.iter().enumerate().map(|(id, named)| (id, named.name.as_str(), &named.object))
    }

    pub fn name(&self, id: Id) -> &str {
        self.objects.get(id).map_or("nothing", |named| &named.name)
    }

    pub fn named(&self, name: &str) -> Option<Id> {
        self.objects.iter().position(|named| named.name == name)
    }

    fn get(&self, id: Id) -> Option<&Object> {
        self.objects.get(id).map(|named| &named.object)
    }

    pub fn cnode(&self, id: Id) -> Option<&CNode> {
        if let Some(Object::CNode(cnode)) = self.get(id) { Some(cnode) } else { None }
    }

    pub fn tcb(&self, id: Id) -> Option<&Tcb> {
        if let Some(Object::Tcb(tcb)) = self.get(id) { Some(tcb) } else { None }
    }

    pub fn frame(&self, id: Id) -> Option<&Frame> {
        if let Some(Object::Frame(frame)) = self.get(id) { Some(frame) } else { None }
    }

    pub fn page_table(&self, id: Id) -> Option<&PageTable> {
        if let Some(Object::PageTable(table)) = self.get(id) { Some(table) } else { None }
    }

    pub fn sched_context(&self, id: Id) -> Option<&SchedContext> {
        if let Some(Object::SchedContext(context)) = self.get(id) { Some(context) } else { None }
    }

    /// The slots and the trigger of an interrupt's object.
    pub fn irq(&self, id: Id) -> Option<(&Slots, u8)> {
        match self.get(id)? {
            Object::ArmIrq(irq) => Some((&irq.slots, irq.extra.trigger)),
            Object::RiscvIrq(irq) => Some((&irq.slots, irq.extra.trigger)),
            _ => None,
        }
    }
}

impl Slots {
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Cap)> {
        self.0.iter().map(|(slot, cap)| (*slot, cap))
    }

    pub fn get(&self, slot: u32) -> Option<&Cap> {
        self.0.get(&slot)
    }
}

impl TryFrom<Vec<Entry>> for Slots {
    type Error = String;

    fn try_from(entries: Vec<Entry>) -> Result<Self, String> {
        let mut slots = BTreeMap::new();
        for Entry { slot, cap } in entries {
            if slots.insert(slot, cap).is_some() {
                return Err(format!("slot {slot} is filled twice"));
            }
        }
        Ok(Self(slots))
    }
}

impl Object {
    fn slots(&self) -> Option<&Slots> {
        match self {
            Self::CNode(CNode { slots, .. })
            | Self::Tcb(Tcb { slots, .. })
            | Self::PageTable(PageTable { slots, .. })
            | Self::ArmIrq(ArmIrq { slots, .. })
            | Self::RiscvIrq(RiscvIrq { slots, .. }) => Some(slots),
            Self::Endpoint | Self::Notification | Self::Reply | Self::Frame(_) | Self::SchedContext(_) => None,
        }
    }

    pub const fn is_irq(&self) -> bool {
        matches!(self, Self::ArmIrq(_) | Self::RiscvIrq(_))
    }
}

impl Cap {
    pub const fn object(&self) -> Id {
        match self {
            Self::Endpoint(cap) | Self::Notification(cap) => cap.object,
            Self::CNode(cap) => cap.object,
            Self::Frame(cap) => cap.object,
            Self::Tcb(cap)
            | Self::PageTable(cap)
            | Self::SchedContext(cap)
            | Self::Reply(cap)
            | Self::ArmIrqHandler(cap)
            | Self::RiscvIrqHandler(cap) => cap.object,
        }
    }

    const fn fits(&self, object: &Object) -> bool {
        matches!(
            (self, object),
            (Self::Endpoint(_), Object::Endpoint)
                | (Self::Notification(_), Object::Notification)
                | (Self::CNode(_), Object::CNode(_))
                | (Self::Tcb(_), Object::Tcb(_))
                | (Self::Frame(_), Object::Frame(_))
                | (Self::PageTable(_), Object::PageTable(_))
                | (Self::SchedContext(_), Object::SchedContext(_))
                | (Self::Reply(_), Object::Reply)
                | (Self::ArmIrqHandler(_), Object::ArmIrq(_))
                | (Self::RiscvIrqHandler(_), Object::RiscvIrq(_))
        )
    }
}

impl fmt::Display for Cap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Endpoint(_) => "an endpoint",
            Self::Notification(_) => "a notification",
            Self::CNode(_) => "a CNode",
            Self::Tcb(_) => "a TCB",
            Self::Frame(_) => "a frame",
            Self::PageTable(_) => "a page table",
            Self::SchedContext(_) => "a scheduling context",
            Self::Reply(_) => "a reply object",
            Self::ArmIrqHandler(_) | Self::RiscvIrqHandler(_) => "an interrupt",
        })
    }
}
